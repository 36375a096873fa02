"""The weight of what was wrong before, and the loss of a stage."""

from __future__ import annotations

import math

import pytest
import torch

from lib.losses.discrepancy import DiscrepancyLoss, discrepancy_weight
from lib.networks.refiner import as_channels

ALL = torch.tensor([[True, True]])


def mask_of(values: list[int]) -> torch.Tensor:
    """A target (1, 1, N, 1, 1) of channel numbers."""
    return torch.tensor(values)[None, None, :, None, None]


def logits_of(probability: float, voxels: int) -> torch.Tensor:
    """Logits (1, 2, N, 1, 1) of a structure that is equally probable everywhere."""
    odds = math.log(probability / (1 - probability))
    return torch.stack([torch.zeros(voxels), torch.full((voxels,), odds)])[None, :, :, None, None]


def test_where_the_earlier_mask_was_right_a_voxel_weighs_one():
    mask = as_channels(mask_of([0, 1, 1]), 1)

    assert discrepancy_weight(mask, mask).tolist() == torch.ones_like(mask).tolist()


@pytest.mark.parametrize(("before", "truth"), [([0, 0, 1], [0, 1, 1]), ([0, 1, 1], [0, 0, 1])])
def test_a_voxel_that_was_missed_or_invented_weighs_eleven(before, truth):
    weight = discrepancy_weight(as_channels(mask_of(before), 1), as_channels(mask_of(truth), 1))

    assert weight.flatten().tolist() == [1, 11, 1]


def test_a_voxel_with_the_wrong_structure_weighs_eleven_for_both():
    weight = discrepancy_weight(as_channels(mask_of([1]), 3), as_channels(mask_of([2]), 3))

    assert weight.flatten().tolist() == [11, 11, 1]


def test_a_probability_weighs_by_its_distance_from_the_truth():
    assert discrepancy_weight(torch.tensor([0.25]), torch.tensor([1.0])).item() == 1 + 10 * 0.75


def test_the_discrepancy_is_the_weighted_mean_over_voxels():
    truth, before = mask_of([1, 1, 0, 0]), as_channels(mask_of([1, 0, 0, 0]), 1)
    loss = DiscrepancyLoss(dice_share=0.0)

    found, _ = loss.of_stage(logits_of(0.8, 4), truth, ALL, before)

    expected = -(math.log(0.8) + 11 * math.log(0.8) + 2 * math.log(0.2)) / 4
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_the_sum_is_as_many_times_the_mean_as_there_are_voxels():
    truth, before = mask_of([1, 1, 0, 0]), as_channels(mask_of([1, 0, 0, 0]), 1)

    mean, total = (
        DiscrepancyLoss(dice_share=0.0, is_mean=is_mean).of_stage(logits_of(0.8, 4), truth, ALL, before)[0]
        for is_mean in (True, False)
    )

    assert total.item() == pytest.approx(4 * mean.item(), rel=1e-5)


def test_the_dice_makes_four_fifths_of_the_loss_and_all_of_it_in_the_warm_up():
    truth, before = mask_of([1, 0]), as_channels(mask_of([1, 0]), 1)

    both, dice = DiscrepancyLoss().of_stage(logits_of(0.5, 2), truth, ALL, before)
    warm, _ = DiscrepancyLoss().of_stage(logits_of(0.5, 2), truth, ALL, before, dice_only=True)

    # Dice of a half everywhere: 2 * 0.5 / (1 + 1).
    assert dice.item() == pytest.approx(0.5, rel=1e-4) and warm.item() == dice.item()
    assert both.item() == pytest.approx(0.8 * 0.5 + 0.2 * math.log(2), rel=1e-4)


def test_what_nobody_looked_at_has_no_part_in_it():
    looked_at = torch.tensor([[True, False]])

    found, _ = DiscrepancyLoss().of_stage(logits_of(0.9, 2), mask_of([1, 0]), looked_at, torch.zeros(1, 1, 2, 1, 1))

    assert found.item() == 0


def test_two_empty_masks_cost_nothing():
    logits = torch.tensor([40.0, -40.0])[None, :, None, None, None].expand(1, 2, 3, 1, 1)

    found, _ = DiscrepancyLoss().of_stage(logits, mask_of([0, 0, 0]), ALL, torch.zeros(1, 1, 3, 1, 1))

    assert found.item() == pytest.approx(0, abs=1e-6)
