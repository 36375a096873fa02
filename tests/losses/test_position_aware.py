"""Weights at the rim, and what the weighted terms are worth on drawn masks."""

from __future__ import annotations

import math

import pytest
import torch

from lib.losses.position_aware import PositionAwareLoss, rim_weight

LOOKED_AT = torch.tensor([[True, True]])


def half(size: int = 80) -> torch.Tensor:
    """A mask (1, size, size, 1) whose second half along I is marked."""
    mask = torch.zeros(1, size, size, 1)
    mask[:, size // 2 :] = 1
    return mask


def test_a_mask_without_a_rim_weighs_one_everywhere():
    assert torch.equal(rim_weight(torch.ones(1, 40, 40, 1)), torch.ones(1, 40, 40, 1))
    assert torch.equal(rim_weight(torch.zeros(1, 40, 40, 1)), torch.ones(1, 40, 40, 1))


def test_a_straight_edge_weighs_three_and_a_half():
    """Beside the edge 15 of 31 rows of the neighbourhood are different."""
    weight = rim_weight(half())[0, :, 40, 0]

    assert weight[[39, 40]].tolist() == pytest.approx([1 + 5 * 15 / 31] * 2)
    assert weight[[38, 41]].tolist() == pytest.approx([1 + 5 * 14 / 31] * 2)
    assert weight[[10, 24, 55, 70]].tolist() == [1] * 4


def test_a_lone_voxel_weighs_nearly_six():
    mask = torch.zeros(1, 63, 63, 1)
    mask[0, 31, 31, 0] = 1

    weight = rim_weight(mask)

    assert float(weight[0, 31, 31, 0]) == pytest.approx(1 + 5 * (1 - 1 / 31**2))
    assert float(weight[0, 31, 30, 0]) == pytest.approx(1 + 5 / 31**2)


def test_the_neighbourhood_lies_in_the_plane():
    """In a volume the slices above and below do not count; a flat image may lie across any axis."""
    volume = torch.cat([half(), 1 - half(), half()], dim=3)

    assert torch.equal(rim_weight(volume)[..., [0]], rim_weight(half()))
    assert torch.equal(rim_weight(half().permute(0, 3, 1, 2)), rim_weight(half()).permute(0, 3, 1, 2))


def test_not_knowing_costs_the_logarithm_of_two_whatever_the_weights():
    target = half()[:, None].long()

    cross_entropy, overlap_loss = PositionAwareLoss().parts(torch.zeros(1, 2, 80, 80, 1), target, LOOKED_AT)

    weight = rim_weight(half())
    common, either = float((weight * half()).sum()) / 2, float(weight.sum()) / 2 + float((weight * half()).sum()) / 2
    assert float(cross_entropy) == pytest.approx(math.log(2))
    assert float(overlap_loss) == pytest.approx(1 - (common + 1) / (either + 1), abs=1e-5)


def test_a_mistake_at_the_rim_costs_more_than_one_far_away():
    target = half()[:, None].long()

    def cost(row: int) -> float:
        logits = torch.cat([-40 * (half() - 0.5), 40 * (half() - 0.5)]).reshape(1, 2, 80, 80, 1)
        logits[:, :, row] *= -1
        return float(PositionAwareLoss()(logits, target, LOOKED_AT))

    assert cost(39) > 2 * cost(2)


def test_each_structure_is_told_from_all_the_rest():
    """The odds of a structure are those against background and other structures together: 1 to 2 when all are equal."""
    looked_at = torch.tensor([[True, True, False]])

    cross_entropy, _ = PositionAwareLoss().parts(
        torch.zeros(1, 3, 4, 4, 1), torch.ones(1, 1, 4, 4, 1, dtype=torch.long), looked_at
    )

    assert float(cross_entropy) == pytest.approx(math.log(3))
