"""One training of the refiner: from the pairs in the record to a version in the record."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

from lib.errors import NoAnnotationsYet
from lib.refinement.learn import RefineOptions, learn_to_refine
from lib.refinement.refine import Refiner
from lib.serving.inference import device
from lib.serving.learning import Reporter, checkpoint_of, publish, reporting, rounded, stopped
from lib.serving.library import Library
from lib.serving.pairs import Pair, mix_of, training_pairs, validation_pairs
from lib.store.jobs import Job
from lib.store.models import NewModel
from lib.store.record import Record
from lib.training.gate import Rival, verdict
from lib.training.validate import CaseScore, mean_dice, scores_of
from lib.volume import Array, Volume

WORSE = 0.01
"""A mask that loses more Dice than this was made worse."""


def train_refiner(record: Record, library: Library, job: Job, reporter: Reporter) -> None:
    """Learns from all pairs, and lets the refiner serve if it is no worse than the drafts and than what refines now.

    Raises:
        NoAnnotationsYet: if there is no pair, and no expert mask to make one from.
        LostLease: if the job was cancelled meanwhile; nothing is published.
    """
    begin = time.monotonic()
    learned, measured = training_pairs(record, library), validation_pairs(record, library)
    if not learned:
        raise NoAnnotationsYet("There is no pair to learn from: let a draft be made, correct it and submit it.")
    parent = record.refiners.start()
    start = checkpoint_of(record, parent) if parent is not None else None
    reporter.line(
        f"Training on {_told(learned)}, measuring on {_told(measured)}, "
        + (f"from version {parent.version}." if parent else "from scratch.")
    )
    checkpoint = learn_to_refine(
        [pair.case for pair in learned],
        start,
        record.task,
        _options(job),
        reporting(reporter),
        lambda: stopped(reporter),
    )
    scores = _scores(record, Refiner(checkpoint, device()), measured, reporter)
    untouched = Rival("the draft as it is", _measured(record, _untouched, measured, reporter), is_rule=True)
    rival = _better(untouched, _serving(record, measured, reporter))
    new = NewModel(
        parent=parent.version if parent is not None else None,
        weights=record.weights.put(checkpoint.to_bytes()),
        network=checkpoint.plan.to_json(),
        training=_versions(learned),
        validation=_versions(measured),
        metrics={
            "mean_dice": rounded(mean_dice(scores)),
            "rival": rival.name,
            "rival_mean_dice": rounded(mean_dice(rival.scores)),
            "draft_mean_dice": rounded(mean_dice(untouched.scores)),
            "share_worse": _share_worse(scores, untouched.scores),
            "pairs": mix_of(learned),
            "recorded_pairs": [
                {"image": pair.truth.image, "draft": pair.draft, "expert": pair.truth.version}
                for pair in learned
                if pair.draft is not None
            ],
            "validation_pairs": mix_of(measured),
            "cases": [asdict(score) for score in scores],
            "seconds": round(time.monotonic() - begin, 1),
        },
    )
    publish(record, record.refiners, new, verdict(scores, rival), job)


def _options(job: Job) -> RefineOptions:
    return RefineOptions(
        seconds=float(job.arguments["seconds"]), max_epochs=job.arguments.get("max_epochs"), device=device()
    )


def _told(pairs: Sequence[Pair]) -> str:
    mix = ", ".join(f"{count} {origin}" for origin, count in mix_of(pairs).items() if count)
    return f"{len(pairs)} pairs ({mix})" if pairs else "no pair"


def _untouched(_volume: Volume, draft: Array) -> Array:
    return draft


def _scores(record: Record, refiner: Refiner, pairs: Sequence[Pair], reporter: Reporter) -> list[CaseScore]:
    return _measured(record, lambda volume, draft: refiner.refine(volume, draft).mask, pairs, reporter)


def _measured(
    record: Record, refined: Callable[[Volume, Array], Array], pairs: Sequence[Pair], reporter: Reporter
) -> list[CaseScore]:
    """How the masks are that become of the drafts; each pair is of an image of its own."""
    found: list[CaseScore] = []
    for pair in pairs:
        load = pair.case.load_draft
        assert load is not None

        def refine(volume: Volume, load: Callable[[], Array] = load) -> Array:
            return refined(volume, load())

        found += scores_of(refine, record.task.values, [pair.case], reporter.check)
    return found


def _serving(record: Record, pairs: Sequence[Pair], reporter: Reporter) -> Rival | None:
    """What refines now, measured on the same pairs."""
    serving = record.refiners.serving()
    if serving is None:
        return None
    refiner = Refiner(checkpoint_of(record, serving), device())
    return Rival(f"version {serving.version}", _scores(record, refiner, pairs, reporter), is_rule=True)


def _better(untouched: Rival, serving: Rival | None) -> Rival:
    """What a new version must not be worse than; without a case to tell, what refines now."""
    if serving is None:
        return untouched
    return max(serving, untouched, key=lambda rival: mean_dice(rival.scores) or 0.0)


def _share_worse(scores: Sequence[CaseScore], before: Sequence[CaseScore]) -> float | None:
    """Share of the cases whose mean Dice fell."""
    drafts = {score.image_id: mean_dice([score]) for score in before}
    changes = [
        after - draft
        for score in scores
        if (after := mean_dice([score])) is not None and (draft := drafts.get(score.image_id)) is not None
    ]
    return rounded(sum(change < -WORSE for change in changes) / len(changes)) if changes else None


def _versions(pairs: Sequence[Pair]) -> list[tuple[str, int]]:
    """The expert annotations of the pairs, each once."""
    return list(dict.fromkeys((pair.truth.image, pair.truth.version) for pair in pairs))
