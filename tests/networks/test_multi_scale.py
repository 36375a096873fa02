"""The blocks that look at several distances."""

from __future__ import annotations

import pytest
import torch

from lib.errors import UnacceptableFile
from lib.networks.checkpoint import NetworkPlan
from lib.networks.multi_scale import MultiScaleAdapter, ParallelDilations, UpBlock, flat_axis, plane_strides


def plan(patch, strides) -> NetworkPlan:
    return NetworkPlan("adapter_unet", {"mass": 1}, (1.0, 1.0, 1.0), None, patch, (8, 16), strides)


def test_a_new_adapter_changes_nothing():
    features = torch.randn(2, 32, 9, 7)

    assert torch.equal(MultiScaleAdapter(32)(features), features)


def test_a_step_changes_what_an_adapter_adds():
    adapter, features = MultiScaleAdapter(32), torch.randn(2, 32, 9, 7)

    adapter(features).square().sum().backward()
    torch.optim.SGD(adapter.parameters(), lr=0.01).step()

    assert adapter(features).shape == features.shape
    assert not torch.equal(adapter(features), features)


def test_an_adapter_is_narrow():
    """c to c/4, four branches of 3x3 from c/4 to c/16, c/4 to c; with biases and the norms' scale and shift."""
    convolutions = 64 * 16 + 16 + 4 * (9 * 16 * 4 + 4) + 16 * 64 + 64
    norms = 2 * 16 + 4 * 2 * 4

    assert sum(parameter.numel() for parameter in MultiScaleAdapter(64).parameters()) == convolutions + norms


def test_each_branch_reaches_as_far_as_its_dilation():
    dilations = ParallelDilations(1, 4)
    image = torch.zeros(1, 1, 11, 11)
    image[0, 0, 5, 5] = 1

    for number, branch in enumerate(dilations.branches, start=1):
        answer = branch.conv(image) - branch.conv(torch.zeros_like(image))
        rows = answer.abs().sum(dim=(0, 1, 3)).nonzero().flatten().tolist()
        assert rows == [5 - number, 5, 5 + number]


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_a_step_of_the_decoder_has_the_finer_grid(norm):
    alone, joined = UpBlock((16, 0, 8), (2, 2), norm), UpBlock((16, 4, 8), (2, 1), norm)

    assert alone(torch.zeros(2, 16, 5, 6)).shape == (2, 8, 10, 12)
    assert joined(torch.zeros(2, 16, 5, 6), torch.zeros(2, 4, 10, 6)).shape == (2, 8, 10, 6)


@pytest.mark.parametrize(
    ("patch", "strides", "axis", "plane"),
    [((16, 16, 1), ((2, 1, 1),), 2, [(2, 1)]), ((1, 16, 16), ((1, 2, 4),), 0, [(2, 4)])],
)
def test_the_plane_of_an_image_is_what_is_left_of_its_axes(patch, strides, axis, plane):
    assert (flat_axis(plan(patch, strides)), plane_strides(plan(patch, strides))) == (axis, plane)


@pytest.mark.parametrize("patch", [(16, 16, 16), (16, 1, 1)])
def test_a_plan_for_anything_but_images_of_one_slice_is_refused(patch):
    with pytest.raises(UnacceptableFile, match=r"for images of one slice; the plan's patch is 16x"):
        flat_axis(plan(patch, ((2, 2, 2),)))
