"""The loss on tiny drawn cases."""

from __future__ import annotations

import math

import pytest
import torch

from lib.losses.marginal import MarginalDiceCrossEntropy

ALL = torch.tensor([[True, True, True]])
ONLY_FIRST = torch.tensor([[True, True, False]])


def sure_of(channels: list[int], classes: int = 3) -> torch.Tensor:
    """Logits (1, C, N, 1, 1) that give almost all probability to one channel per voxel."""
    logits = torch.full((1, classes, len(channels), 1, 1), -20.0)
    for voxel, channel in enumerate(channels):
        logits[0, channel, voxel] = 20.0
    return logits


def target_of(channels: list[int]) -> torch.Tensor:
    return torch.tensor(channels).reshape(1, 1, -1, 1, 1)


def loss_of(logits, target, looked_at) -> float:
    return float(MarginalDiceCrossEntropy()(logits, target, looked_at))


def test_a_right_answer_costs_nothing():
    assert loss_of(sure_of([0, 1, 2]), target_of([0, 1, 2]), ALL) == pytest.approx(0, abs=1e-4)


def test_not_knowing_costs_the_logarithm_and_the_missed_overlap():
    """Three equal probabilities: -log 1/3; Dice of each structure 2 * 1/3 / (3 * 1/3 + 1) = 1/3."""
    assert loss_of(torch.zeros(1, 3, 3, 1, 1), target_of([0, 1, 2]), ALL) == pytest.approx(math.log(3) + 2 / 3, 1e-4)


def test_a_structure_nobody_looked_at_may_be_anywhere_in_the_background():
    assert loss_of(sure_of([2, 1, 2]), target_of([0, 1, 0]), ONLY_FIRST) == pytest.approx(0, abs=1e-4)


def test_the_same_answer_is_wrong_when_it_was_looked_at():
    assert loss_of(sure_of([2, 1, 2]), target_of([0, 1, 0]), ALL) > 10


def test_what_was_looked_at_is_still_learned_in_a_partly_annotated_case():
    assert loss_of(sure_of([0, 0, 0]), target_of([0, 1, 0]), ONLY_FIRST) > 10


def test_nothing_pushes_a_structure_that_was_not_looked_at_against_the_background():
    logits = torch.zeros(1, 3, 4, 1, 1, requires_grad=True)

    MarginalDiceCrossEntropy()(logits, target_of([0, 1, 0, 0]), ONLY_FIRST).backward()

    assert logits.grad is not None
    assert torch.allclose(logits.grad[:, 0], logits.grad[:, 2])
    assert (logits.grad[:, 0, [0, 2, 3]] < 0).all()


def test_marks_of_a_structure_that_was_not_looked_at_do_not_count():
    """A left-over draft of structure 2 in the mask is treated as if it were not there."""
    logits = torch.randn(1, 3, 4, 1, 1, generator=torch.Generator().manual_seed(0))

    assert loss_of(logits, target_of([0, 1, 2, 2]), ONLY_FIRST) == loss_of(logits, target_of([0, 1, 0, 0]), ONLY_FIRST)


def test_a_true_negative_punishes_every_find():
    assert loss_of(sure_of([0, 0, 0]), target_of([0, 0, 0]), ALL) < loss_of(sure_of([0, 2, 0]), target_of([0] * 3), ALL)


def test_a_case_in_which_nothing_was_looked_at_gives_no_gradient_towards_any_class():
    logits = torch.randn(1, 3, 4, 1, 1, requires_grad=True)

    MarginalDiceCrossEntropy()(logits, target_of([0] * 4), torch.tensor([[True, False, False]])).backward()

    assert logits.grad is not None and torch.allclose(logits.grad, torch.zeros_like(logits.grad), atol=1e-6)


def test_each_case_of_a_batch_keeps_its_own_structures():
    logits = torch.cat([sure_of([2, 1]), sure_of([0, 2])])
    target = torch.cat([target_of([0, 1]), target_of([0, 2])])

    loss = MarginalDiceCrossEntropy()(logits, target, torch.cat([ONLY_FIRST, ALL]))

    assert float(loss) == pytest.approx(0, abs=1e-4)


def test_the_callers_masks_are_left_as_they_were():
    looked_at, target = torch.tensor([[False, True, False]]), target_of([0, 1, 2])

    MarginalDiceCrossEntropy()(torch.zeros(1, 3, 3, 1, 1), target, looked_at)

    assert looked_at.tolist() == [[False, True, False]] and target.flatten().tolist() == [0, 1, 2]
