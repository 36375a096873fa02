"""Laws that every loss a task may name obeys."""

from __future__ import annotations

import pytest
import torch

from lib.losses import LOSSES
from lib.serving.settings import LOSS_NAMES

ALL, ONLY_FIRST = torch.tensor([[True, True, True]]), torch.tensor([[True, True, False]])
NAMES = sorted(LOSSES)


def target_of(channels: list[int]) -> torch.Tensor:
    return torch.tensor(channels).reshape(1, 1, -1, 1, 1)


def sure_of(channels: list[int]) -> torch.Tensor:
    """Logits (1, 3, N, 1, 1) that give almost all probability to one channel per voxel."""
    logits = torch.full((1, 3, len(channels), 1, 1), -20.0)
    logits.scatter_(1, target_of(channels), 20.0)
    return logits


def loss_of(name, logits, target, looked_at) -> float:
    return float(sum(LOSSES[name]().parts(logits, target, looked_at)))


def test_the_setting_knows_every_loss():
    assert sorted(LOSS_NAMES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_right_answer_costs_nothing_and_a_wrong_one_does(name):
    assert loss_of(name, sure_of([0, 1, 2]), target_of([0, 1, 2]), ALL) == pytest.approx(0, abs=1e-4)
    assert loss_of(name, sure_of([0, 2, 2]), target_of([0, 1, 2]), ALL) > 1


@pytest.mark.parametrize("name", NAMES)
def test_a_structure_nobody_looked_at_may_be_anywhere_in_the_background(name):
    assert loss_of(name, sure_of([2, 1, 2]), target_of([0, 1, 0]), ONLY_FIRST) == pytest.approx(0, abs=1e-4)
    assert loss_of(name, sure_of([2, 1, 2]), target_of([0, 1, 0]), ALL) > 1


@pytest.mark.parametrize("name", NAMES)
def test_nothing_looked_at_teaches_nothing(name):
    logits = torch.randn(1, 3, 4, 1, 1, generator=torch.Generator().manual_seed(0), requires_grad=True)

    sum(LOSSES[name]().parts(logits, target_of([0] * 4), torch.tensor([[True, False, False]]))).backward()

    assert torch.allclose(logits.grad, torch.zeros_like(logits), atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_true_negative_punishes_every_find(name):
    quiet, find = (loss_of(name, sure_of(found), target_of([0] * 3), ALL) for found in ([0, 0, 0], [0, 2, 0]))

    assert quiet == pytest.approx(0, abs=1e-4) and find > 0.3
