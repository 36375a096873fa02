"""Training a network on all annotated cases, from scratch or from the model that serves."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from lib.losses import LOSSES, Loss
from lib.networks.checkpoint import Checkpoint, NetworkPlan
from lib.networks.precision import Precision, computing_in, layout_of
from lib.networks.segmenter import carried_over, seeded_network
from lib.preprocessing import MAX_VOXELS, plan_for
from lib.task import Task
from lib.training.budget import Budget, learning_rate_at
from lib.training.cases import TrainingCase, body_grids, prepared_cases
from lib.training.pace import affordable, pace
from lib.training.patches import Batch, Patches, independent_seeds
from lib.volume import Grid

REPORT_EVERY_SECONDS = 1.0

PLANNED_FROM = 12
"""Images whose grids decide spacing and patch of a first network."""

BETAS = (0.9, 0.98)
"""The optimiser forgets squared gradients within some 50 steps: a training has few hundred, and the first are large."""

GRADIENT_NORM = 5.0
"""Longer gradients are shortened to this."""


class Stopped(Exception):
    """Somebody asked the training to stop; nothing was produced."""


@dataclass(frozen=True)
class FinetuneOptions:
    """How to train.

    Attributes:
        seconds: of computing after the cases are prepared; by the clock up to three times as long on busy CPUs.
            ``inf`` with ``max_epochs``: the same seed gives the same weights on the same machine.
        max_epochs: ends earlier; ``None``: only the time decides. In an epoch every case comes once on average.
        batch_size: patches per step.
        learning_rate: the largest one, from scratch.
        finetune_learning_rate: the largest one, from a start.
        seed: draws the order of the cases, fresh weights, patches and augmentations.
        device: of PyTorch.
        precision: by default bfloat16 where the machine has units for it.
    """

    seconds: float = 120.0
    max_epochs: int | None = None
    batch_size: int = 2
    learning_rate: float = 4e-3
    finetune_learning_rate: float = 2e-3
    seed: int = 0
    device: str = "cpu"
    precision: Precision = Precision.AUTO


@dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Attributes:
        epoch: epochs finished; one has as many patches as there are cases.
        total_epochs: expected at this pace.
        loss: running mean, ``nan`` before the first step.
        dice: running mean over the training patches of the overlap (Dice, or what the task's loss has instead) that the
            loss saw, 0 to 1; ``None`` before the first step.
        seconds_left: of computing.
        steps: batches learned from so far.
        skipped: reason by image id for each case that is not learned from.
    """

    epoch: int
    total_epochs: int
    loss: float
    dice: float | None
    seconds_left: float
    steps: int = 0
    skipped: dict[str, str] = field(default_factory=dict)


def finetune(
    cases: Sequence[TrainingCase],
    start: Checkpoint | None,
    task: Task,
    options: FinetuneOptions,
    report: Callable[[Progress], None],
    should_stop: Callable[[], bool],
) -> Checkpoint:
    """A network that learned from all cases.

    From a start, its plan stays (spacing, window, patch), so that weights keep their meaning; structures that the
    task has in addition are appended.

    Args:
        cases: a case that cannot be read is skipped and reported.
        start: where to go on, or ``None`` for fresh weights.
        task: names the structures.
        options: how long and how.
        report: called about once a second.
        should_stop: asked before every step.

    Raises:
        NoAnnotationsYet: if no case can be used.
        Stopped: if ``should_stop`` says so.
        UnacceptableFile: if the start's weights do not fit its plan.
    """

    def check() -> None:
        if should_stop():
            raise Stopped(f"The training of {task.name} was stopped; the model that serves stays.")

    check()
    plan = (
        first_plan(task, body_grids(cases, task, PLANNED_FROM), options)
        if start is None
        else replace(start.plan, structures=task.values, ignored=())
    )
    return _Finetuning(cases, start, plan, options, check, LOSSES[task.loss]()).train(report)


def first_plan(task: Task, grids: Sequence[Grid], options: FinetuneOptions) -> NetworkPlan:
    """The plan of a first network: as fine as can be learned in the time on this machine.

    An image that one patch shows as it is stays so: what is coarser is learned no better there. So does a task that
    says how large its patches are: its structures are too small for a coarse image.

    Args:
        task: a spacing of its own stays.
        grids: lattices of what is left of the images without surrounding air, along right, anterior, superior.
        options: how long, and on what.
    """
    largest = plan_for(task, grids)
    extent_mm = np.median([np.multiply(grid.shape, grid.spacing_mm) for grid in grids], axis=0)
    is_one_patch = bool((np.rint(extent_mm / largest.spacing_mm) <= largest.patch).all())
    if is_one_patch or task.patch_voxels or 1 in largest.patch or math.isinf(options.seconds):
        return largest
    speed = pace(largest, options.batch_size, torch.device(options.device), options.precision)
    limits = affordable(speed, options.seconds, options.batch_size, math.prod(largest.patch))
    return plan_for(task, grids, limits.patch_voxels, min(limits.image_voxels, MAX_VOXELS))


class Run(ABC):
    """One training.

    Args:
        cases: to learn from.
        start: where to go on, or ``None`` for fresh weights.
        plan: of the network; that of the start but for its structures.
        options: how long and how.
        check: called before each case and each step; may raise to stop.

    Raises:
        NoAnnotationsYet: if no case can be used.
        UnacceptableFile: if the start's weights do not fit the plan.
    """

    def __init__(
        self,
        cases: Sequence[TrainingCase],
        start: Checkpoint | None,
        plan: NetworkPlan,
        options: FinetuneOptions,
        check: Callable[[], None],
    ) -> None:
        self._plan = plan
        self._options = options
        self._check = check
        self._skipped: dict[str, str] = {}
        of_cases, of_patches, of_weights = independent_seeds(options.seed, 3)
        self._cases = prepared_cases(cases, plan, np.random.default_rng(of_cases), self._skipped, check)
        self._patches = Patches(self._cases, plan, options.batch_size, of_patches)
        self._device = torch.device(options.device)
        network = seeded_network(plan, of_weights) if start is None else carried_over(start, plan, of_weights)
        self._layout = layout_of(network)
        self._network = network.to(self._device).to(memory_format=self._layout).train()
        self._peak = options.learning_rate if start is None else options.finetune_learning_rate
        self._optimizer = torch.optim.AdamW(network.parameters(), lr=self._peak, betas=BETAS, weight_decay=1e-4)
        self._steps = 0
        self._mean_loss = self._mean_dice = float("nan")

    @abstractmethod
    def _learn(self, batch: Batch, fraction: float) -> tuple[Tensor, Tensor]:
        """Loss and overlap loss of a batch after a step on it; ``fraction`` of the training is over."""

    def train(self, report: Callable[[Progress], None]) -> Checkpoint:
        """Learns until time or epochs are used up."""
        budget, reported = Budget(self._options.seconds, self._options.device), 0.0
        while (fraction := self._fraction(budget)) < 1:
            self._check()
            for group in self._optimizer.param_groups:
                group["lr"] = learning_rate_at(fraction, self._peak)
            self._note(*self._learn(self._patches.batch(), fraction))
            if budget.spent - reported >= REPORT_EVERY_SECONDS:
                reported = budget.spent
                report(self._progress(budget))
        report(self._progress(budget))
        weights = {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in self._network.state_dict().items()
        }
        return Checkpoint(self._plan, weights)

    @property
    def _epochs(self) -> float:
        return self._steps * self._options.batch_size / self._patches.cases

    def _fraction(self, budget: Budget) -> float:
        """Share of the training that is over, by time or by epochs, whichever ends first."""
        limit = self._options.max_epochs
        return max(budget.fraction, 0.0 if limit is None else self._epochs / limit)

    def _logits(self, seen: Tensor) -> Tensor:
        """Float32 (B, C, I, J, K), computed as the options say."""
        with computing_in(self._options.precision, self._device):
            logits: Tensor = self._network(seen.to(memory_format=self._layout))
        return logits.float()

    def _step(self, loss: Tensor) -> None:
        """One step of the optimiser."""
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._network.parameters(), GRADIENT_NORM)
        self._optimizer.step()

    def _note(self, loss: Tensor, overlap_loss: Tensor) -> None:
        """Takes a batch into the running means."""
        self._steps += 1
        self._mean_loss = _running(self._mean_loss, float(loss.detach()), self._steps)
        self._mean_dice = _running(self._mean_dice, 1 - float(overlap_loss.detach()), self._steps)

    def _progress(self, budget: Budget) -> Progress:
        fraction = self._fraction(budget)
        return Progress(
            epoch=int(self._epochs),
            total_epochs=max(round(self._epochs / max(fraction, 1e-6)), 1),
            loss=self._mean_loss,
            dice=self._mean_dice if self._steps else None,
            seconds_left=max(budget.spent / max(fraction, 1e-6) - budget.spent, 0.0),
            steps=self._steps,
            skipped=dict(self._skipped),
        )


class _Finetuning(Run):
    """A training that minimises a task's loss."""

    def __init__(
        self,
        cases: Sequence[TrainingCase],
        start: Checkpoint | None,
        plan: NetworkPlan,
        options: FinetuneOptions,
        check: Callable[[], None],
        loss: Loss,
    ) -> None:
        super().__init__(cases, start, plan, options, check)
        self._loss = loss

    def _learn(self, batch: Batch, fraction: float) -> tuple[Tensor, Tensor]:
        logits = self._logits(batch.image.to(self._device))
        target, looked_at = batch.target.to(self._device), batch.looked_at.to(self._device)
        cross_entropy, overlap_loss = self._loss.parts(logits, target, looked_at)
        loss = cross_entropy + overlap_loss
        self._step(loss)
        return loss, overlap_loss


def _running(mean: float, value: float, steps: int) -> float:
    """The running mean after one more value."""
    return value if steps == 1 else 0.95 * mean + 0.05 * value
