"""One training of the refiner: from the pairs in the record to a version in the record."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial

from lib.errors import NoAnnotationsYet
from lib.refinement.learn import RefineOptions, learn_to_refine
from lib.refinement.refine import Refinement, Refiner
from lib.serving.inference import device
from lib.serving.learning import (
    Reporter,
    Trained,
    checkpoint_of,
    drawn_from,
    metrics_of,
    publish,
    reporting,
    rounded,
    stopped,
    without_erased,
)
from lib.serving.library import Library
from lib.serving.pairs import Pair, mix_of, training_pairs, usual_strength, validation_pairs
from lib.store.jobs import Job
from lib.store.record import Record
from lib.training.cases import TrainingCase
from lib.training.gate import Rival, verdict
from lib.training.validate import CaseScore, mean_dice, scores_of
from lib.volume import Array, Volume

Way = Callable[[Volume, Array], Refinement]
"""What becomes of a draft, uint8 (I, J, K) of label values on the volume's grid."""

WORSE = 0.01
"""A mask that loses more Dice than this was made worse."""


def train_refiner(record: Record, library: Library, job: Job, reporter: Reporter) -> None:
    """Learns from all pairs, and lets the refiner serve if it is no worse than the drafts and than what refines now.

    Raises:
        NoAnnotationsYet: if there is no pair, and no expert mask to make one from.
        LostLease: if the job was cancelled meanwhile; nothing is published.
    """
    without_erased(lambda: _train(record, library, job, reporter), reporter)


def _train(record: Record, library: Library, job: Job, reporter: Reporter) -> None:
    begin = time.monotonic()
    strength = usual_strength(record, library)
    learned, measured = training_pairs(record, library, strength), validation_pairs(record, library, strength)
    if not learned:
        raise NoAnnotationsYet("There is no pair to learn from: let a draft be made, correct it and submit it.")
    parent = record.refiners.start()
    start = checkpoint_of(record, parent) if parent is not None else None
    reporter.line(
        f"Training on {_told(learned)}, measuring on {_told(measured)}, "
        + (f"from version {parent.version}." if parent else "from scratch.")
    )
    reporter.line(drawn_from(job))
    checkpoint = learn_to_refine(
        [pair.case for pair in learned],
        start,
        record.task,
        _options(job),
        reporting(reporter),
        lambda: stopped(reporter),
    )
    serving = record.refiners.serving()
    ways: list[Way] = [Refiner(checkpoint, device()).refine, _untouched]
    if serving is not None:
        is_parent = parent is not None and parent.version == serving.version
        before = start if start is not None and is_parent else checkpoint_of(record, serving)
        ways.append(Refiner(before, device()).refine)
    scores, of_drafts, *of_serving = _measured(record, ways, measured, reporter)
    rival = Rival("the draft as it is", of_drafts, needs_proof=True)
    if serving is not None:
        rival = _better(rival, Rival(f"version {serving.version}", of_serving[0], needs_proof=True))
    new = Trained(
        parent=parent.version if parent is not None else None,
        content=checkpoint.to_bytes(),
        network=checkpoint.plan.to_json(),
        training=_versions(learned),
        validation=_versions(measured),
        metrics={
            **metrics_of(scores, rival, job, time.monotonic() - begin),
            "draft_mean_dice": rounded(mean_dice(of_drafts)),
            "share_worse": _share_worse(scores, of_drafts),
            "pairs": mix_of(learned),
            "perturbed_strength": rounded(strength),
            "recorded_pairs": [
                {"image": pair.truth.image, "draft": pair.draft, "expert": pair.truth.version}
                for pair in learned
                if pair.draft is not None
            ],
            "validation_pairs": mix_of(measured),
        },
    )
    learned_from = len({pair.truth.image for pair in learned})
    publish(record, record.refiners, new, verdict(scores, rival, learned_from), job)


def _options(job: Job) -> RefineOptions:
    return RefineOptions(
        seconds=float(job.arguments["seconds"]),
        max_epochs=job.arguments.get("max_epochs"),
        seed=job.number,
        device=device(),
    )


def _told(pairs: Sequence[Pair]) -> str:
    mix = ", ".join(f"{count} {origin}" for origin, count in mix_of(pairs).items() if count)
    return f"{len(pairs)} pairs ({mix})" if pairs else "no pair"


def _untouched(_volume: Volume, draft: Array) -> Refinement:
    return Refinement(draft)


def _measured(record: Record, ways: Sequence[Way], pairs: Sequence[Pair], reporter: Reporter) -> list[list[CaseScore]]:
    """How the masks are that each way makes of the drafts; each pair is of an image of its own, and read once."""
    found: list[list[CaseScore]] = [[] for _ in ways]
    for pair in pairs:
        case = _read_once(pair.case)
        for scores, way in zip(found, ways, strict=True):
            scores += scores_of(partial(_refined, way, case), record.task.values, [case], reporter.check)
    return found


def _read_once(case: TrainingCase) -> TrainingCase:
    """The same case, which keeps what it has read."""
    load_draft = cache(case.load_draft) if case.load_draft is not None else None
    return replace(case, load_volume=cache(case.load_volume), load_mask=cache(case.load_mask), load_draft=load_draft)


def _refined(way: Way, case: TrainingCase, volume: Volume) -> Array:
    assert case.load_draft is not None
    return way(volume, case.load_draft()).mask


def _better(untouched: Rival, serving: Rival) -> Rival:
    """What a new version must not be worse than; without a case to tell, what refines now."""
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
