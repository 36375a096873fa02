"""The margin and the focus of rare structures, on tiny drawn cases."""

from __future__ import annotations

import math

import pytest
import torch

from lib.losses.asymmetric import AsymmetricDiceCrossEntropy
from lib.losses.marginal import MarginalDiceCrossEntropy

ALL = torch.tensor([[True, True, True]])
ONLY_FIRST = torch.tensor([[True, True, False]])


def drawn_logits(voxels: int = 6) -> torch.Tensor:
    return torch.randn(1, 3, voxels, 1, 1, generator=torch.Generator().manual_seed(0))


def target_of(channels: list[int]) -> torch.Tensor:
    return torch.tensor(channels).reshape(1, 1, -1, 1, 1)


def gradient(loss, target, looked_at=ALL) -> torch.Tensor:
    logits = drawn_logits(target.numel()).requires_grad_()
    loss(logits, target, looked_at).backward()
    assert logits.grad is not None
    return logits.grad


@pytest.mark.parametrize("looked_at", [ALL, ONLY_FIRST])
def test_without_margin_and_focus_it_is_the_marginal_loss(looked_at):
    target = target_of([0, 1, 2, 0, 0, 1])
    arguments = drawn_logits(), target, looked_at

    found, wanted = AsymmetricDiceCrossEntropy().parts(*arguments), MarginalDiceCrossEntropy().parts(*arguments)

    assert [float(part) for part in found] == [float(part) for part in wanted]
    assert torch.equal(
        gradient(AsymmetricDiceCrossEntropy(), target, looked_at),
        gradient(MarginalDiceCrossEntropy(), target, looked_at),
    )


def test_a_margin_asks_a_structure_to_win_by_as_much():
    """With all logits equal the true structure of three classes has exp(-1) / (exp(-1) + 2)."""
    cross_entropy, dice_loss = AsymmetricDiceCrossEntropy(margin=1.0).parts(
        torch.zeros(1, 3, 2, 1, 1), target_of([1, 2]), ALL
    )

    probability = math.exp(-1) / (math.exp(-1) + 2)
    elsewhere = 1 / (math.exp(-1) + 2)
    assert float(cross_entropy) == pytest.approx(-math.log(probability))
    assert float(dice_loss) == pytest.approx(1 - 2 * probability / (probability + elsewhere + 1), abs=1e-4)


def test_a_margin_does_not_change_a_patch_of_background():
    target = target_of([0] * 6)

    found = AsymmetricDiceCrossEntropy(margin=1.0)(drawn_logits(), target, ALL)

    assert float(found) == float(MarginalDiceCrossEntropy()(drawn_logits(), target, ALL))


def test_a_margin_pulls_harder_at_a_rare_voxel_and_leaves_the_background_alone():
    target = target_of([0, 0, 0, 0, 0, 2])

    def pull(margin):
        logits = drawn_logits().requires_grad_()
        AsymmetricDiceCrossEntropy(margin).parts(logits, target, ALL)[0].backward()
        return logits.grad[0, :, :, 0, 0]

    assert float(pull(1.0)[2, 5]) < float(pull(0.0)[2, 5]) < 0
    assert torch.equal(pull(1.0)[:, :5], pull(0.0)[:, :5])


def test_a_mark_that_was_not_looked_at_gets_no_margin():
    """Structure 2 was not looked at: its mark counts as background."""
    found, wanted = (
        float(AsymmetricDiceCrossEntropy(margin=2.0)(drawn_logits(2), target_of(marks), ONLY_FIRST))
        for marks in ([1, 2], [1, 0])
    )

    assert found == wanted


def test_a_focus_makes_easy_background_count_less_and_rare_voxels_as_before():
    """Background of probability 3/4 counts (1/4)² of its cross entropy, the structure's voxel all of it."""
    logits = torch.tensor([[math.log(3), 0.0], [math.log(3), 0.0]]).T.reshape(1, 2, 2, 1, 1)

    found = AsymmetricDiceCrossEntropy(focus=2.0).parts(logits, target_of([0, 1]), torch.tensor([[True, True]]))[0]

    assert float(found) == pytest.approx((-math.log(3 / 4) / 16 - math.log(1 / 4)) / 2)


def test_a_focus_leaves_the_dice_as_it_is():
    target = target_of([0, 1, 2, 0, 0, 1])

    found = AsymmetricDiceCrossEntropy(focus=2.0).parts(drawn_logits(), target, ALL)[1]

    assert float(found) == float(MarginalDiceCrossEntropy().parts(drawn_logits(), target, ALL)[1])


def test_background_that_may_hide_what_was_not_looked_at_is_easy_too():
    """All probability lies on structure 2, which nobody looked at: as good as background."""
    logits = torch.zeros(1, 3, 1, 1, 1)
    logits[0, 2] = 20.0

    found = AsymmetricDiceCrossEntropy(focus=2.0).parts(logits, target_of([0]), ONLY_FIRST)[0]

    assert float(found) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("focus", [0.5, 2.0])
def test_a_voxel_without_any_doubt_has_a_finite_gradient(focus):
    logits = torch.tensor([200.0, 0.0]).reshape(1, 2, 1, 1, 1).requires_grad_()

    AsymmetricDiceCrossEntropy(focus=focus)(logits, target_of([0]), torch.tensor([[True, True]])).backward()

    assert logits.grad is not None and bool(logits.grad.isfinite().all())
