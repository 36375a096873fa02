"""The network that sees a mask beside the image."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lib.networks.checkpoint import Checkpoint, NetworkPlan
from lib.networks.refiner import as_channels
from lib.networks.segmenter import carried_over, network_of, seeded_network

PLAN = NetworkPlan(
    network="refiner",
    structures={"liver": 1, "spleen": 2},
    spacing_mm=(1.0, 1.0, 1.0),
    window_hu=None,
    patch=(8, 8, 8),
    channels=(4, 8),
    strides=((2, 2, 2),),
    features=4,
)
FLAT = replace(PLAN, patch=(8, 8, 1), strides=((2, 2, 1),), kernel=(3, 3, 1))
WITH_NEIGHBOURS = replace(FLAT, patch=(8, 8, 8), neighbours=1)


@pytest.mark.parametrize("plan", [PLAN, FLAT, WITH_NEIGHBOURS])
def test_image_and_a_channel_for_each_structure_give_logits_of_all_classes(plan):
    assert network_of(plan)(torch.zeros(2, 3, 8, 8, 4)).shape == (2, 3, 8, 8, 4)


def test_a_plan_without_a_kernel_along_an_axis_sees_each_slice_by_itself():
    network = seeded_network(FLAT, 0).eval()
    seen = torch.rand(1, 3, 8, 8, 2, generator=torch.Generator().manual_seed(0))

    together = network(seen)

    assert torch.allclose(together[..., 1:], network(seen[..., 1:]), atol=1e-5)


@pytest.mark.parametrize("channel", [0, 2], ids=["image", "mask"])
def test_with_neighbours_a_slice_sees_those_beside_it_and_no_others(channel):
    network = seeded_network(WITH_NEIGHBOURS, 0).eval()
    seen = torch.rand(1, 3, 8, 8, 7, generator=torch.Generator().manual_seed(0))
    other = seen.clone()
    other[:, channel, 3, 3, 2] += 1

    differ = (network(seen) - network(other)).abs().amax(dim=(0, 1, 2, 3)) > 1e-4

    assert differ.tolist() == [False, True, True, True, False, False, False]


def test_the_last_slice_is_its_own_neighbour():
    network = seeded_network(WITH_NEIGHBOURS, 0).eval()
    seen = torch.rand(1, 3, 8, 8, 3, generator=torch.Generator().manual_seed(0))

    repeated = network(torch.cat([seen, seen[..., -1:]], dim=-1))

    assert torch.allclose(network(seen), repeated[..., :3], atol=1e-5)


@pytest.mark.parametrize("neighbours", [0, 1])
def test_the_flat_axis_may_be_any(neighbours):
    axial = replace(FLAT, neighbours=neighbours)
    sagittal = replace(axial, patch=(1, 8, 8), strides=((1, 2, 2),), kernel=(1, 3, 3))
    upright, lying = network_of(axial).eval(), network_of(sagittal).eval()
    weights = upright.state_dict()
    if neighbours:
        weights["entrance.conv.weight"] = weights["entrance.conv.weight"].movedim(-1, 2)
    lying.load_state_dict(weights)
    seen = torch.rand(1, 3, 8, 8, 2, generator=torch.Generator().manual_seed(0))

    assert torch.allclose(upright(seen).movedim(-1, 2), lying(seen.movedim(-1, 2)), atol=1e-5)


def test_a_mask_becomes_a_channel_for_each_structure():
    mask = torch.tensor([0, 2, 1])[None, None, :, None, None]

    assert as_channels(mask, 2).flatten(2).tolist() == [[[0, 0, 1], [0, 1, 0]]]


@pytest.mark.parametrize("plan", [PLAN, FLAT, WITH_NEIGHBOURS])
def test_a_new_structure_leaves_what_was_learned_of_the_others(plan):
    start = Checkpoint(plan, seeded_network(plan, 0).state_dict())
    more = replace(plan, structures={"kidney": 7, "spleen": 2, "liver": 1})

    weights = carried_over(start, more, 1).state_dict()

    # Channels of the entrance: the image, kidney, spleen, liver; of the classifier: the background and the same.
    for name, axis in (("entrance.conv.weight", 1), ("classifier.conv.weight", 0)):
        kept = weights[name].index_select(axis, torch.tensor([0, 3, 2]))
        assert torch.equal(kept, start.weights[name])
