"""The loss for rare lesions of several types, on tiny drawn cases."""

from __future__ import annotations

import math

import pytest
import torch

from lib.losses.asymmetric import AsymmetricDiceCrossEntropy
from lib.losses.typed import TOLERATED, TypedDiceCrossEntropy

ALL = torch.tensor([[True, True, True]])
ONLY_FIRST = torch.tensor([[True, True, False]])
TYPED = TypedDiceCrossEntropy()


def sure_of(channels: list[int]) -> torch.Tensor:
    """Logits (1, 3, N, 1, 1) that give almost all probability to one channel per voxel."""
    logits = torch.full((1, 3, len(channels), 1, 1), -20.0)
    for voxel, channel in enumerate(channels):
        logits[0, channel, voxel] = 20.0
    return logits


def target_of(channels: list[int]) -> torch.Tensor:
    return torch.tensor(channels).reshape(1, 1, -1, 1, 1)


def parts_of(logits, target, looked_at=ALL, loss=TYPED) -> list[float]:
    return [float(part) for part in loss.parts(logits, target, looked_at)]


def test_a_right_answer_costs_nothing():
    assert parts_of(sure_of([0, 1, 2]), target_of([0, 1, 2])) == pytest.approx([0, 0], abs=1e-4)


def test_the_type_of_a_lesion_counts_as_much_in_a_large_patch_as_in_a_small_one():
    """The only voxel of structure 1 is as likely structure 2: -log 1/2 of all voxels' mean, and -log 1/2 by itself.

    Structure 2 is there as well, so that nothing is a false find.
    """

    def cost(background: int) -> float:
        marks = [1, 2] + [0] * background
        logits = sure_of(marks)
        logits[0, 2, 0] = 20.0
        return parts_of(logits, target_of(marks))[0]

    assert cost(0) == pytest.approx(math.log(2) / 2 + math.log(2) / 2, 1e-4)
    assert cost(98) == pytest.approx(math.log(2) / 100 + math.log(2) / 2, 1e-4)


def test_a_lesion_is_not_told_from_types_that_nobody_looked_at():
    """Structure 1 is as likely structure 2, which only counts as what may be background."""
    logits = sure_of([0, 1])
    logits[0, 2, 1] = 20.0

    assert parts_of(logits, target_of([0, 1]), ONLY_FIRST)[0] == pytest.approx(math.log(2) / 2, 1e-4)


def test_the_overlap_of_a_structure_that_is_absent_does_not_dilute_that_of_one_that_is_there():
    """Structure 1 has Dice 2/3; of structure 2 there is nothing, and nothing is found."""
    assert parts_of(sure_of([0, 1, 1]), target_of([0, 0, 1]))[1] == pytest.approx(1 / 3, abs=1e-4)


@pytest.mark.parametrize("share", [TOLERATED, 3 * TOLERATED])
def test_finding_an_absent_structure_costs_by_how_much_is_found(share):
    """Both structures are absent; one is found in that share of 128 voxels, beside what voxels cost one by one."""
    found = round(share * 128)
    wrong, right = [1] * found + [0] * (128 - found), [0] * 128

    one_by_one = parts_of(sure_of(wrong), target_of(right), loss=AsymmetricDiceCrossEntropy())[0]

    cost = parts_of(sure_of(wrong), target_of(right))[0] - one_by_one
    assert cost == pytest.approx(share / (share + TOLERATED) / 2, abs=1e-4)


def test_a_structure_that_nobody_looked_at_is_no_false_find():
    assert parts_of(sure_of([2] * 8), target_of([0] * 8), ONLY_FIRST)[0] == pytest.approx(0, abs=1e-4)


def test_a_case_in_which_nothing_was_looked_at_gives_no_gradient_towards_any_class():
    logits = torch.randn(1, 3, 4, 1, 1, generator=torch.Generator().manual_seed(0)).requires_grad_()

    TYPED(logits, target_of([0, 1, 2, 0]), torch.tensor([[True, False, False]])).backward()

    assert logits.grad is not None and torch.allclose(logits.grad, torch.zeros_like(logits.grad), atol=1e-6)


def test_with_a_margin_a_type_has_to_win_by_as_much():
    """With all logits equal the true one of three has exp(-1) / (exp(-1) + 2),
    of both structures alone exp(-1) / (exp(-1) + 1).
    """
    logits = torch.zeros(1, 3, 2, 1, 1)

    cost = parts_of(logits, target_of([1, 2]), loss=TypedDiceCrossEntropy(margin=1.0))[0]

    true, other = math.exp(-1), 1.0
    assert cost == pytest.approx(-math.log(true / (true + 2 * other)) - math.log(true / (true + other)))
