"""Training on small drawn cases."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from lib import preprocessing
from lib.errors import NoAnnotationsYet, UnacceptableFile
from lib.networks.checkpoint import Checkpoint
from lib.networks.precision import Precision
from lib.networks.segmenter import seeded_network
from lib.preprocessing import plan_for
from lib.task import Task, numbered
from lib.training import finetune as finetune_module
from lib.training.budget import learning_rate_at
from lib.training.cases import TrainingCase
from lib.training.finetune import FinetuneOptions, Progress, Stopped, finetune
from lib.training.validate import mean_dice, validate
from tests.training.shapes import BOTH, TASK, case, drawn

QUICK = FinetuneOptions(
    seconds=math.inf, max_epochs=1, batch_size=2, learning_rate=1e-2, seed=1, precision=Precision.FLOAT32
)


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch) -> None:
    """Few features: these tests are about the rules, not about quality."""
    monkeypatch.setattr(preprocessing, "CHANNELS", (8, 16, 32))


def trained(cases, options=QUICK, start=None, task=TASK, reports=None) -> Checkpoint:
    return finetune(cases, start, task, options, (reports if reports is not None else []).append, lambda: False)


def test_a_network_learns_a_drawn_case_by_heart_in_seconds():
    cases = [case(0)]

    checkpoint = trained(cases, replace(QUICK, max_epochs=80))

    assert (mean_dice(validate(checkpoint, cases)) or 0) > 0.9


def test_the_time_ends_a_training():
    reports: list[Progress] = []

    trained([case(0)], replace(QUICK, seconds=0.5, max_epochs=None), reports=reports)

    assert reports[-1].steps >= 1 and reports[-1].seconds_left == 0


def test_progress_tells_epochs_loss_and_dice():
    reports: list[Progress] = []

    trained([case(seed) for seed in range(4)], replace(QUICK, max_epochs=3), reports=reports)

    last = reports[-1]
    assert (last.epoch, last.total_epochs, last.steps) == (3, 3, 6)
    assert last.loss > 0 and last.dice is not None and 0 <= last.dice <= 1 and last.skipped == {}


def test_no_time_gives_the_start_back():
    reports: list[Progress] = []
    plan = plan_for(TASK, [drawn(0)[0].grid])
    start = Checkpoint(plan, seeded_network(plan, 3).state_dict())

    found = trained([case(0)], replace(QUICK, seconds=0), start=start, reports=reports)

    assert all(torch.equal(found.weights[name], tensor) for name, tensor in start.weights.items())
    assert reports[-1].dice is None and reports[-1].total_epochs == 1


def test_the_same_seed_gives_the_same_weights():
    first, second = (trained([case(0), case(1)]) for _ in range(2))

    assert all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)


def test_training_leaves_the_global_generator_alone():
    torch.manual_seed(4)
    expected = torch.rand(1)
    torch.manual_seed(4)

    trained([case(0)])

    assert torch.equal(torch.rand(1), expected)


@pytest.fixture
def steps(monkeypatch) -> list[tuple[float, float]]:
    """Learning rate and length of the gradient of every step of the optimiser."""
    taken: list[tuple[float, float]] = []

    class Noting(torch.optim.AdamW):
        def step(self, *more):
            (group,) = self.param_groups
            gradients = [parameter.grad.flatten() for parameter in group["params"] if parameter.grad is not None]
            taken.append((group["lr"], float(torch.cat(gradients).norm())))
            return super().step(*more)

    monkeypatch.setattr(finetune_module.torch.optim, "AdamW", Noting)
    return taken


@pytest.mark.parametrize(("is_from_scratch", "peak"), [(True, 1e-2), (False, 3e-3)])
def test_every_step_has_the_learning_rate_of_its_place_in_the_training(steps, is_from_scratch, peak):
    """Twenty steps of two patches from two cases; a training that goes on has a smaller peak."""
    plan = plan_for(TASK, [drawn(0)[0].grid])
    start = None if is_from_scratch else Checkpoint(plan, seeded_network(plan, 3).state_dict())

    trained([case(0), case(1)], replace(QUICK, max_epochs=20, finetune_learning_rate=3e-3), start=start)

    assert [rate for rate, _ in steps] == pytest.approx([learning_rate_at(step / 20, peak) for step in range(20)])


def test_no_gradient_is_longer_than_allowed(steps, monkeypatch):
    monkeypatch.setattr(finetune_module, "GRADIENT_NORM", 1e-3)

    trained([case(0)], replace(QUICK, max_epochs=6))

    assert [length for _, length in steps] == pytest.approx([1e-3] * 3, rel=1e-2)


def test_a_start_keeps_its_plan():
    plan = replace(plan_for(TASK, [drawn(0)[0].grid]), spacing_mm=(2.0, 2.0, 2.0), window_hu=(10.0, 90.0))
    start = Checkpoint(plan, seeded_network(plan, 3).state_dict())

    assert trained([case(0)], start=start).plan == plan


def test_an_appended_structure_goes_on_from_the_earlier_weights():
    before = Task("blocks", "", numbered(["bright"]), window_hu=TASK.window_hu)
    start = trained([case(0)], task=before)

    found = trained([case(0)], replace(QUICK, seconds=0), start=start)

    assert list(found.plan.structures) == ["bright", "dark"]
    assert torch.equal(found.weights["classifier.bias"][:2], start.weights["classifier.bias"])
    assert all(
        torch.equal(found.weights[name], tensor)
        for name, tensor in start.weights.items()
        if not name.startswith("classifier")
    )


def test_a_start_with_foreign_weights_is_refused():
    plan = plan_for(TASK, [drawn(0)[0].grid])

    with pytest.raises(UnacceptableFile, match="do not fit the network"):
        trained([case(0)], start=Checkpoint(plan, {"a": torch.zeros(1)}))


def test_structures_nobody_looked_at_are_not_unlearned():
    """One case shows both blocks, the other only the bright one, with the dark one unmarked: both are learned."""
    cases = [case(0), case(1, frozenset({1}))]

    checkpoint = trained(cases, replace(QUICK, max_epochs=50))

    (score,) = validate(checkpoint, [case(1)])
    assert (score.dice["dark"] or 0) > 0.8


def test_true_negatives_alone_can_be_learned_from():
    nothing = TrainingCase("healthy", lambda: drawn(0)[0], lambda: drawn(0)[1] * 0, BOTH)

    checkpoint = trained([nothing], replace(QUICK, max_epochs=60))

    (score,) = validate(checkpoint, [nothing])
    assert score.dice == {"bright": None, "dark": None}


def test_a_damaged_case_is_reported_and_the_others_are_learned_from():
    def fails():
        raise OSError("the disk is gone")

    reports: list[Progress] = []

    trained([TrainingCase("broken", fails, fails, BOTH), case(0)], reports=reports)

    assert reports[-1].skipped == {"broken": "the disk is gone"}


def test_without_cases_there_is_nothing_to_learn_from():
    with pytest.raises(NoAnnotationsYet):
        trained([])


@pytest.mark.parametrize("asked", [1, 3, 6])
def test_a_stop_is_honoured_before_every_step(asked):
    """Asked at the start, while cases are prepared, and while learning."""
    answers = iter([False] * (asked - 1) + [True])

    with pytest.raises(Stopped, match="training of blocks was stopped"):
        finetune([case(0), case(1)], None, TASK, replace(QUICK, max_epochs=50), lambda progress: None, answers.__next__)
