"""Networks of MONAI by name: what is built, which channels stand for structures, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lib.errors import UnacceptableFile
from lib.networks.checkpoint import Checkpoint, NetworkPlan
from lib.networks.monai_network import class_axes, known_arguments, refuse_other_output
from lib.networks.segmenter import carried_over, network_of, seeded_network

PLANS = {
    "UNet": {"channels": [4, 8], "strides": [2], "num_res_units": 2, "norm": "batch"},
    "SegResNet": {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]},
    "SegResNetDS": {"init_filters": 8, "blocks_down": [1, 1], "dsdepth": 2},
    "BasicUNet": {"features": [4, 4, 4, 4, 4, 4]},
    "DynUNet": {"kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [4, 4, 4],
                "deep_supervision": True},
}  # fmt: skip


def plan(name, structures=("liver", "spleen")):
    return NetworkPlan(
        network=f"monai:{name}",
        structures={structure: value for value, structure in enumerate(structures, start=1)},
        spacing_mm=(1.0, 1.0, 1.0),
        window_hu=None,
        patch=(32, 32, 32),
        channels=(),
        strides=(),
        arguments=known_arguments(name, PLANS[name]),
    )


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("mode", [True, False])
def test_logits_are_one_tensor_in_training_and_at_work(name, mode):
    network = network_of(plan(name)).train(mode)

    assert network(torch.zeros(2, 1, 32, 32, 32)).shape == (2, 3, 32, 32, 32)


@pytest.mark.parametrize("name", PLANS)
def test_a_structure_that_is_appended_leaves_the_others_as_they_were(name):
    start, larger = plan(name), plan(name, ["kidney", "Liver", "spleen"])
    before = seeded_network(start, 1).state_dict()

    after = carried_over(Checkpoint(start, before), larger, seed=0).state_dict()

    axes = class_axes(larger)
    assert axes
    for tensor_name, counted in axes.items():
        found = after[tensor_name]
        for axis in counted:
            found = found.index_select(axis, torch.tensor([0, 2, 3]))
        assert torch.equal(found, before[tensor_name])
    assert all(torch.equal(after[other], before[other]) for other in before if other not in axes)


def test_a_class_that_the_task_lacks_is_left_out_when_training_goes_on():
    start = replace(plan("UNet", ["spleen"]), ignored=(1,))
    before = seeded_network(start, 1).state_dict()

    after = carried_over(Checkpoint(start, before), replace(plan("UNet", ["liver", "spleen"])), seed=0).state_dict()

    for name, counted in class_axes(start).items():
        both = [before[name], after[name]]
        for axis in counted:
            both = [tensor.index_select(axis, torch.tensor([0, 2])) for tensor in both]
        assert torch.equal(*both)


@pytest.mark.parametrize(("name", "ignored"), [("monai:UNet", (1, 1)), ("monai:UNet", (9,)), ("residual_unet", (1,))])
def test_channels_that_cannot_be_ignored_are_refused(name, ignored):
    with pytest.raises(UnacceptableFile, match=r"ignores the channels \[.*wanted are different channels"):
        network_of(replace(plan("UNet"), network=name, ignored=ignored))


def test_other_classes_are_refused():
    with pytest.raises(UnacceptableFile, match=r"MONAI's 'HoverNet'; known are AttentionUnet, BasicUNet"):
        known_arguments("HoverNet", {})


def test_arguments_that_do_not_go_together_are_refused():
    with pytest.raises(UnacceptableFile, match=r"MONAI's UNet cannot be built with .*colour"):
        network_of(replace(plan("UNet"), arguments={**plan("UNet").arguments, "colour": 3}))


def test_an_argument_of_an_earlier_version_is_passed_over():
    assert "img_size" not in known_arguments("SwinUNETR", {"img_size": [96, 96, 96], "feature_size": 12})


def test_a_patch_that_the_network_cannot_halve_is_refused():
    odd = replace(plan("SegResNetDS"), patch=(33, 32, 32))

    with pytest.raises(UnacceptableFile, match=r"fails on a patch of \(33, 32, 32\) voxels"):
        refuse_other_output(odd, network_of(odd))
