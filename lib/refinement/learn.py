"""Training a refiner on pairs: an image, a draft of its mask, and what the expert made of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import torch
from torch import Tensor

from lib.losses.discrepancy import DICE_SHARE, DiscrepancyLoss
from lib.metrics.overlap import dice_over_structures
from lib.networks.checkpoint import Checkpoint, NetworkPlan
from lib.networks.refiner import as_channels
from lib.refinement.keep import estimated_dice, least_quality, votes_for
from lib.refinement.plan import Depth, refiner_plan
from lib.task import Task
from lib.training.cases import TrainingCase, body_grids
from lib.training.finetune import PLANNED_FROM, FinetuneOptions, Progress, Run, Stopped
from lib.training.patches import Batch

ESTIMATED_FROM = 0.8
"""From this share of a training on, when its masks are nearly those of its end, it is noted how sure they are."""


class Feedback(StrEnum):
    """What the next stage sees of the last one."""

    HARD = "hard"
    """The mask: each voxel's most probable class."""

    SOFT = "soft"
    """The probabilities; the weight of a voxel then grows with their distance from the truth."""


class Steps(StrEnum):
    """When the optimiser makes a step."""

    STAGE = "stage"
    """After every stage, whose starting mask is a constant."""

    SUMMED = "summed"
    """Once for the sum of all stages; with soft feedback the gradient flows through them."""


class StageWeights(StrEnum):
    """What the loss of stage k of K is multiplied with."""

    DOUBLING = "doubling"
    """``2**k / 2**K``: the last stage counts fully, each earlier one half of the next."""

    EQUAL = "equal"
    """1."""

    FLOORED = "floored"
    """``max(1, 2**k)``, as the source writes it, though 2**k is never below 1."""


@dataclass(frozen=True)
class RefineOptions(FinetuneOptions):
    """How to train a refiner; each point that the source leaves open is one of these.

    Attributes:
        stages: K, how often a mask is refined in training; 5 in the source, 1 here: in equal time one
            stage with more batches did better.
        blind: share of the training from scratch, its first part, in which drafts are hidden. Who sees them from the
            start learns to copy before learning to look at the image; the source has nothing of the kind.
        warm_up: share of the training in which only the Dice is minimised, with all stages.
        emphasis: lambda, what a voxel weighs more where the mask before the stage was wrong; 10 in the
            source, 0 here, since it did not pay.
        dice_share: alpha.
        is_mean: the discrepancy is a mean over voxels, not their sum.
        feedback: what the next stage sees.
        steps: when the optimiser makes a step.
        stage_weights: how much each stage counts.
        depth: what a new refiner sees of a volume at once.
    """

    stages: int = 1
    blind: float = 0.5
    warm_up: float = 0.2
    emphasis: float = 0.0
    dice_share: float = DICE_SHARE
    is_mean: bool = True
    feedback: Feedback = Feedback.HARD
    steps: Steps = Steps.STAGE
    stage_weights: StageWeights = StageWeights.DOUBLING
    depth: Depth = Depth.VOLUME

    def weight_of(self, stage: int) -> float:
        """What the loss of a stage, 1 to ``stages``, is multiplied with."""
        weights = {
            StageWeights.DOUBLING: 2.0 ** (stage - self.stages),
            StageWeights.EQUAL: 1.0,
            StageWeights.FLOORED: max(1.0, 2.0**stage),
        }
        return weights[self.stage_weights]


def learn_to_refine(
    pairs: Sequence[TrainingCase],
    start: Checkpoint | None,
    task: Task,
    options: RefineOptions,
    report: Callable[[Progress], None],
    should_stop: Callable[[], bool],
) -> Checkpoint:
    """A refiner that learned from all pairs.

    Args:
        pairs: the expert's mask is the mask, what the expert started from the draft. A pair that cannot be read is
            skipped and reported.
        start: an earlier refiner to go on from, or ``None`` for fresh weights.
        task: names the structures.
        options: how long and how.
        report: called about once a second.
        should_stop: asked before every batch.

    Raises:
        NoAnnotationsYet: if no pair can be used.
        Stopped: if ``should_stop`` says so.
        UnacceptableFile: if the start's weights do not fit its plan.
        ValueError: if a pair has no draft, or the options ask for no stage.
    """

    def check() -> None:
        if should_stop():
            raise Stopped(f"The training of the refiner of {task.name} was stopped; the one that serves stays.")

    if options.stages < 1:
        raise ValueError(f"A refiner is trained with at least 1 stage, found {options.stages}.")
    without = [pair.image_id for pair in pairs if pair.load_draft is None]
    if without:
        raise ValueError(f"A refiner learns from pairs; there is no draft with the mask of {', '.join(without[:3])}.")
    check()
    plan = (
        refiner_plan(task, body_grids(pairs, task, PLANNED_FROM), options.depth)
        if start is None
        else replace(start.plan, structures=task.values)
    )
    refining = _Refining(pairs, start, plan, options, check)
    learned = refining.train(report)
    noted = replace(
        plan,
        draft_votes=votes_for(refining.agreements),
        least_quality=least_quality(refining.estimates),
        cleared=tuple(name for name in plan.structures if name in {*plan.cleared, *refining.cleared()}),
    )
    return replace(learned, plan=noted)


class _Refining(Run):
    """A training in which each batch is refined stage by stage."""

    def __init__(
        self,
        pairs: Sequence[TrainingCase],
        start: Checkpoint | None,
        plan: NetworkPlan,
        options: RefineOptions,
        check: Callable[[], None],
    ) -> None:
        super().__init__(pairs, start, plan, options, check)
        self._how = options
        self._loss = DiscrepancyLoss(options.emphasis, options.dice_share, options.is_mean)
        self._blind = options.blind if start is None else 0.0
        self.agreements: list[float] = []
        """Dice of drafts and expert masks in the patches of each batch that shows a structure."""
        self.estimates: list[float] = []
        """Estimated Dice of the structures in the masks of the training's last part."""

    def cleared(self) -> set[str]:
        """The structures of which an expert has left nothing in a draft."""
        found = set()
        for case in self._cases:
            truth, draft = (set(mask.unique().tolist()) for mask in case.target)
            found |= {channel for channel in draft - truth - {0} if case.looked_at[channel]}
        return {list(self._plan.structures)[channel - 1] for channel in found}

    def _learn(self, batch: Batch, fraction: float) -> tuple[Tensor, Tensor]:
        image, looked_at = batch.image.to(self._device), batch.looked_at.to(self._device)
        target, draft = batch.target.to(self._device).split(1, dim=1)
        truth, rough = (_looked_at(batch.target[:, one], batch.looked_at).numpy() for one in (0, 1))
        if not math.isnan(agreement := dice_over_structures(truth, rough)):
            self.agreements.append(agreement)
        previous = as_channels(draft, looked_at.shape[1] - 1) * (fraction >= self._blind)
        summed = torch.zeros((), device=self._device)
        for stage in range(1, self._how.stages + 1):
            logits = self._logits(torch.cat([image, previous], dim=1))
            loss, dice = self._loss.of_stage(
                logits, target, looked_at, previous.detach(), dice_only=fraction < self._how.warm_up
            )
            previous = self._fed_back(logits)
            if self._how.steps is Steps.STAGE:
                self._step(self._how.weight_of(stage) * loss)
                previous = previous.detach()
            else:
                summed = summed + self._how.weight_of(stage) * loss
        if self._how.steps is Steps.SUMMED:
            self._step(summed)
        if fraction >= ESTIMATED_FROM:
            self._estimate(logits.detach())
        return loss, dice

    def _estimate(self, logits: Tensor) -> None:
        """Notes how sure the network is of the masks (B, C, I, J, K) that it just made."""
        for probabilities in logits.float().softmax(dim=1):
            mask = probabilities.argmax(dim=0)
            self.estimates += [one for one in estimated_dice(probabilities, mask) if one > 0]

    def _fed_back(self, logits: Tensor) -> Tensor:
        """What the next stage sees, (B, C - 1, I, J, K)."""
        if self._how.feedback is Feedback.SOFT:
            return logits.softmax(dim=1)[:, 1:]
        return as_channels(logits.argmax(dim=1, keepdim=True), logits.shape[1] - 1)


def _looked_at(masks: Tensor, looked_at: Tensor) -> Tensor:
    """Masks (B, I, J, K) of channel numbers without the structures that were not looked at; ``looked_at`` is (B, C)."""
    return masks * looked_at.gather(1, masks.flatten(1)).view_as(masks)
