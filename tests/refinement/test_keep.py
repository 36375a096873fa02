"""When the draft is safer than what a refiner made of it."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from lib.networks.checkpoint import MOST_DRAFT_VOTES
from lib.refinement.keep import estimated_dice, least_quality, reasons_to_keep, votes_for, with_draft

CELL = ["cell"]


def square(edge: int, at: int = 5, value: int = 1) -> np.ndarray:
    """A square in 30x30 pixels."""
    mask = np.zeros((30, 30, 1), np.uint8)
    mask[at : at + edge, at : at + edge] = value
    return mask


@pytest.mark.parametrize(
    ("draft_dice", "votes"), [([], 0.6), ([0.9], 0.6), ([0.8, 0.6], 0.3), ([0.7], 0.3), ([0.5], 0.0)]
)
def test_better_drafts_have_more_votes(draft_dice, votes):
    assert votes_for(draft_dice) == pytest.approx(votes)


def test_a_small_change_takes_the_place_of_the_draft():
    assert reasons_to_keep([square(10), square(9), square(9)], CELL) == {}


@pytest.mark.parametrize(
    ("stages", "reason"),
    [([square(0)], "nothing would be left of it"),
     ([square(16)], r"its volume would be 2\.56 times as large"),
     ([square(6)], r"its volume would be 0\.36 times as large"),
     ([square(10, at=11)], r"the refined mask has a Dice of only 0\.16 with the draft"),
     ([square(7), square(12)], r"the last two stages have a Dice of only 0\.51 with each other")],
)  # fmt: skip
def test_an_implausible_change_is_refused_with_its_reason(stages, reason):
    assert re.fullmatch(reason, reasons_to_keep([square(10), *stages], CELL)["cell"])


@pytest.mark.parametrize("refined", [square(16), square(6), square(10, at=11)])
def test_drafts_without_a_vote_may_change_however_much(refined):
    assert reasons_to_keep([square(10), refined], CELL, votes=0.0) == {}


def test_drafts_with_half_of_the_votes_may_change_twice_as_much():
    assert reasons_to_keep([square(10), square(22)], CELL, votes=0.3) == {}
    assert reasons_to_keep([square(10), square(23)], CELL, votes=0.3) == {
        "cell": "its volume would be 5.29 times as large"
    }


def test_a_structure_vanishes_only_if_experts_left_nothing_of_it_in_other_drafts():
    assert reasons_to_keep([square(10), square(0)], CELL, cleared=["cell"]) == {}
    assert reasons_to_keep([square(10), square(0)], CELL, votes=0.0) == {"cell": "nothing would be left of it"}


@pytest.mark.parametrize(("votes", "is_kept"), [(0.6, True), (0.3, False), (0.0, False)])
def test_a_mask_that_the_refiner_is_unusually_unsure_of_is_refused_unless_drafts_are_poor(votes, is_kept):
    reasons = reasons_to_keep([square(10), square(9)], CELL, votes, estimates=[0.80], least=0.92)

    assert reasons == (
        {"cell": "the refiner is less sure of it than it nearly always was (0.80, 0.92)"} if is_kept else {}
    )


def test_a_mask_that_the_refiner_is_as_sure_of_as_usual_takes_the_place_of_the_draft():
    assert reasons_to_keep([square(10), square(9)], CELL, estimates=[0.93], least=0.92) == {}


@pytest.mark.parametrize("votes", [0.6, 0.0])
def test_what_the_draft_lacks_appears_only_if_the_refiner_is_as_sure_as_usual_however_poor_drafts_are(votes):
    masks = [square(0), square(5)]

    assert reasons_to_keep(masks, CELL, votes, estimates=[0.93], least=0.92) == {}
    assert reasons_to_keep(masks, CELL, votes, estimates=[0.60], least=0.92) == {
        "cell": "the refiner is less sure of it than it nearly always was (0.60, 0.92)"
    }


def test_the_estimated_dice_is_that_of_the_mask_with_the_probabilities():
    # 4 pixels of liver at 0.9, 2 of them marked; 2 of spleen at 0.5, marked with 1 more; a haze that does not count.
    liver = torch.tensor([0.9, 0.9, 0.9, 0.9, 0.0, 0.0, 0.0, 0.04])
    spleen = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.0, 0.04])
    probabilities = torch.stack([1 - liver - spleen, liver, spleen])[:, :, None, None]
    mask = torch.tensor([1, 1, 0, 0, 2, 2, 2, 0])[:, None, None]

    assert estimated_dice(probabilities, mask) == pytest.approx([2 * 1.8 / (3.6 + 2), 2 * 1.0 / (1.0 + 3)])


def test_the_estimated_dice_of_what_is_not_there_is_zero():
    nothing = torch.stack([torch.ones(4), torch.zeros(4)])[:, :, None, None]

    assert estimated_dice(nothing, torch.zeros((4, 1, 1))) == [0.0]


def test_a_hundredth_of_the_masks_of_a_training_falls_below_the_limit():
    assert least_quality([one / 100 for one in range(101)]) == pytest.approx(0.01)
    assert least_quality([]) == 0.0


def test_on_easy_images_no_more_is_asked_for_than_ninety_percent():
    assert least_quality([0.99, 0.98]) == 0.9


def test_only_the_structure_that_went_wrong_is_named():
    draft, refined = square(5) + square(5, at=20, value=2), square(5)

    assert reasons_to_keep([draft, refined], ["liver", "spleen"]) == {"spleen": "nothing would be left of it"}


def test_a_structure_that_the_draft_lacks_may_appear():
    assert reasons_to_keep([square(5), square(5) + square(5, at=20, value=2)], ["liver", "spleen"]) == {}


@pytest.mark.parametrize(("probability", "is_marked"), [(0.75, False), (0.85, True)])
def test_a_voxel_of_background_becomes_a_structure_from_80_percent(probability, is_marked):
    probabilities = torch.tensor([1 - probability, probability])[:, None, None, None]

    averaged = with_draft(probabilities, torch.tensor([[[0]]], dtype=torch.uint8), MOST_DRAFT_VOTES)

    assert bool(averaged.argmax(dim=0).item()) is is_marked and averaged.sum().item() == pytest.approx(1)


@pytest.mark.parametrize(("probability", "is_marked"), [(0.25, True), (0.15, False)])
def test_a_marked_voxel_is_given_up_from_80_percent(probability, is_marked):
    probabilities = torch.tensor([1 - probability, probability])[:, None, None, None]

    assert bool(with_draft(probabilities, torch.tensor([[[1]]]), MOST_DRAFT_VOTES).argmax(dim=0).item()) is is_marked
