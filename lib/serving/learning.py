"""One training: from the expert annotations in the record to a model version in the record."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lib.drafts import RULES, looked_for
from lib.errors import NoAnnotationsYet
from lib.networks.checkpoint import Checkpoint, NetworkPlan
from lib.serving.inference import device
from lib.serving.library import Library
from lib.split import Split
from lib.store.annotations import Annotation
from lib.store.jobs import Job, JobState
from lib.store.models import Model, Models, ModelState, NewModel
from lib.store.record import Record
from lib.training.cases import TrainingCase
from lib.training.finetune import FinetuneOptions, Progress, finetune
from lib.training.gate import NO_RIVAL, Rival, Verdict, verdict
from lib.training.validate import CaseScore, mean_dice, scores_of, validate

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reporter:
    """How a job tells the record what it does.

    Attributes:
        progress: newest numbers; replaces the earlier ones.
        line: one more line for the log.
        check: raises if the job was cancelled or its server is gone.
    """

    progress: Callable[[dict[str, Any]], None]
    line: Callable[[str], None]
    check: Callable[[], None]


class CasesErased(Exception):
    """What was learned must not be published: a patient among its cases was erased meanwhile."""


@dataclass(frozen=True)
class Trained:
    """A version that is not in the record yet; see ``NewModel``.

    Attributes:
        content: its checkpoint.
    """

    parent: int | None
    content: bytes
    network: dict[str, Any]
    training: list[tuple[str, int]]
    validation: list[tuple[str, int]]
    metrics: dict[str, Any]

    def with_weights(self, digest: str) -> NewModel:
        """As the record takes it, once its checkpoint is on the disk."""
        return NewModel(self.parent, digest, self.network, self.training, self.validation, self.metrics)


def train(record: Record, library: Library, job: Job, reporter: Reporter) -> None:
    """Fine-tunes on all expert annotations, measures the result and what drafts now, and lets the better one serve.

    What drafts now is the serving version, or the task's rule until there is one.

    Raises:
        NoAnnotationsYet: if there is no training case.
        LostLease: if the job was cancelled meanwhile; nothing is published.
    """
    without_erased(lambda: _train(record, library, job, reporter), reporter)


def without_erased(learn: Callable[[], None], reporter: Reporter) -> None:
    """Learns, and does so anew for as long as a patient is erased meanwhile of whom the result would have learned."""
    while True:
        try:
            learn()
            return
        except CasesErased as error:
            reporter.line(f"{error} The training starts over without them.")


def _train(record: Record, library: Library, job: Job, reporter: Reporter) -> None:
    begin = time.monotonic()
    learned = record.annotations.expert_labels(Split.TRAINING)
    measured = record.annotations.expert_labels(Split.VALIDATION)
    if not learned:
        raise NoAnnotationsYet("There is no expert annotation to learn from. Submit a corrected mask first.")
    parent = record.models.start()
    start = checkpoint_of(record, parent) if parent is not None else None
    reporter.line(
        f"Training on {len(learned)} cases, measuring on {len(measured)}, "
        + (f"from version {parent.version}." if parent else "from scratch.")
    )
    reporter.line(drawn_from(job))
    checkpoint = finetune(
        [case_of(record, library, annotation) for annotation in learned],
        start,
        record.task,
        _options(job),
        reporting(reporter),
        lambda: stopped(reporter),
    )
    reporter.line(_described(checkpoint.plan))
    cases = [case_of(record, library, annotation) for annotation in measured]
    reporter.line(f"Measuring on {len(cases)} validation cases.")
    scores = validate(checkpoint, cases, device(), reporter.check)
    rival = _rival(record, parent, start, cases, reporter)
    decision = verdict(scores, rival, len(learned))
    new = Trained(
        parent=parent.version if parent is not None else None,
        content=checkpoint.to_bytes(),
        network=checkpoint.plan.to_json(),
        training=versions_of(learned),
        validation=versions_of(measured),
        metrics=metrics_of(scores, rival, job, time.monotonic() - begin),
    )
    publish(record, record.models, new, decision, job)


def publish(record: Record, models: Models, new: Trained, decision: Verdict, job: Job) -> None:
    """Adds a version and ends the job that made it, both or neither; if neither, no weights stay either.

    Raises:
        LostLease: if the job was cancelled meanwhile.
        CasesErased: if a patient was erased meanwhile of whom it learned, or on whom it was measured.
    """
    with record.storing_weights(new.content) as digest:
        # Here, where erasing must wait: it either names the version or is seen.
        if erased := record.images.erased_among({image for image, _ in (*new.training, *new.validation)}):
            raise CasesErased(f"{len(erased)} of the images were erased meanwhile.")
        model = models.add(new.with_weights(digest), ModelState(decision.state), decision.reason)
        line = f"Version {model.version} is {model.state}: {decision.reason}."
        record.jobs.finish(job, JobState.DONE, {"model_version": model.version, "reason": decision.reason}, line)


def _rival(
    record: Record,
    parent: Model | None,
    start: Checkpoint | None,
    cases: Sequence[TrainingCase],
    reporter: Reporter,
) -> Rival:
    """What drafts now, measured on the cases; it may be what the training started from."""
    serving, task = record.models.serving(), record.task
    if serving is not None:
        is_parent = parent is not None and parent.version == serving.version
        checkpoint = start if start is not None and is_parent else checkpoint_of(record, serving)
        return Rival(f"version {serving.version}", validate(checkpoint, cases, device(), reporter.check))
    if task.draft_rule:
        rule = RULES[task.draft_rule]
        scores = scores_of(lambda volume: rule(volume, task), looked_for(task), cases, reporter.check)
        return Rival(f"the rule {task.draft_rule}", scores, needs_proof=True)
    return NO_RIVAL


def checkpoint_of(record: Record, model: Model) -> Checkpoint:
    """Plan and weights of a version."""
    return Checkpoint.from_bytes(record.weights.get(model.weights))


def _described(plan: NetworkPlan) -> str:
    """How the network sees images, for people: what is thinner than a voxel or two it cannot find."""
    edges, voxels = (" x ".join(f"{value:g}" for value in found) for found in (plan.spacing_mm, plan.patch))
    return f"The network sees voxels of {edges} mm, {voxels} of them at once."


def _options(job: Job) -> FinetuneOptions:
    # A seed of its own: a training that goes on from the last one would see the same patches in the same order again.
    return FinetuneOptions(
        seconds=float(job.arguments["seconds"]),
        max_epochs=job.arguments.get("max_epochs"),
        seed=job.number,
        device=device(),
    )


def case_of(record: Record, library: Library, annotation: Annotation) -> TrainingCase:
    """An image with an annotation, to learn from or to measure with."""
    values = record.task.values
    return TrainingCase(
        image_id=annotation.image,
        load_volume=lambda: library.volume(record.images.get(annotation.image)),
        load_mask=lambda: library.mask(annotation),
        looked_at=frozenset(values[name] for name in annotation.looked_at if name in values),
    )


def reporting(reporter: Reporter) -> Callable[[Progress], None]:
    """Writes the progress of a training, and once why a case is left out."""
    told: set[str] = set()

    def report(progress: Progress) -> None:
        for image_id, reason in progress.skipped.items():
            if image_id not in told:
                told.add(image_id)
                reporter.line(f"{image_id} is left out: {reason}")
        reporter.progress(
            {
                "epoch": progress.epoch,
                "total_epochs": progress.total_epochs,
                "loss": rounded(progress.loss),
                "dice": rounded(progress.dice),
                "seconds_left": rounded(progress.seconds_left, 1),
            }
        )

    return report


def drawn_from(job: Job) -> str:
    """What the log says of a training's seed, which is the number of its job."""
    return f"Patches, their augmentation and fresh weights are drawn from seed {job.number}."


def stopped(reporter: Reporter) -> bool:
    """Never true: whoever must stop is told so by what the reporter raises."""
    reporter.check()
    return False


def metrics_of(scores: Sequence[CaseScore], rival: Rival, job: Job, seconds: float) -> dict[str, Any]:
    """What a model keeps of its measuring and of its making."""
    return {
        "mean_dice": rounded(mean_dice(scores)),
        "rival": rival.name,
        "rival_mean_dice": rounded(mean_dice(rival.scores)),
        "cases": [asdict(score) for score in scores],
        "seconds": round(seconds, 1),
        "seed": job.number,
    }


def versions_of(annotations: Sequence[Annotation]) -> list[tuple[str, int]]:
    """Image and version of each annotation, as a model keeps them."""
    return [(annotation.image, annotation.version) for annotation in annotations]


def rounded(value: float | None, digits: int = 4) -> float | None:
    """A number for the record, ``None`` if it is none."""
    return round(value, digits) if value is not None and math.isfinite(value) else None
