"""Pairs for the refiner: an image, a rough mask, and what an expert made of it."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import zip_longest
from statistics import fmean

import numpy as np

from lib.drafts import RULES, looked_for
from lib.errors import LabelRefineryError
from lib.metrics.overlap import dice_over_structures
from lib.predictor import Predictor
from lib.refinement.perturb import perturbed, random_perturbations, strength_for
from lib.serving.inference import device
from lib.serving.learning import case_of, checkpoint_of
from lib.serving.library import Library
from lib.split import Split
from lib.stages import Stage, in_force
from lib.store.annotations import Annotation
from lib.store.record import Record
from lib.training.cases import TrainingCase
from lib.volume import Array, Volume

LOG = logging.getLogger(__name__)

MOST_DRAFTS = 3
"""Of one image, the newest ones: with more, a single image would count too much."""

ENOUGH_PAIRS = 20
"""With fewer pairs in the record, more are made from expert masks, up to so many in all: preparing them takes time."""

FEWEST_TO_TELL = 3
"""Pairs in the record that tell how rough drafts are; with fewer, made-up ones are as rough as readers' masks are."""

MOST_TRIED = 5
"""Expert masks with which the strength is looked for: each is made rough several times."""


class Origin(StrEnum):
    """Where the rough mask of a pair comes from."""

    RECORDED = "recorded"
    PERTURBED = "perturbed"
    DRAFTED = "drafted"


@dataclass(frozen=True)
class Pair:
    """An expert's mask with a rough one of the same image.

    Attributes:
        truth: the expert's annotation.
        draft: version of the rough mask; ``None``: it was made up.
        origin: where that comes from.
        case: both masks, with the structures that both annotators looked at.
    """

    truth: Annotation
    draft: int | None
    origin: Origin
    case: TrainingCase


def usual_strength(record: Record, library: Library) -> float:
    """The strength at which expert masks that are made rough are as far from their source as the drafts in the record.

    Drafts that experts accepted as they were do not count: a copy of the truth teaches nothing. 1 if there are too few
    others.
    """
    recorded = [
        _pair(record, library, truth, draft)
        for truth in record.annotations.expert_labels(Split.TRAINING)
        for draft in _rough_before(record, truth, (Stage.DRAFT,))
        if draft.mask != truth.mask
    ]
    masks, agreement = {}, []
    for pair in recorded[-ENOUGH_PAIRS:]:
        try:
            truth, draft = _as_compared(pair)
            spacing_mm = library.readable_with_grid(pair.truth.image)[1].spacing_mm
            found = dice_over_structures(truth, draft)
        # One damaged file must not end a training.
        except (LabelRefineryError, OSError) as error:
            LOG.warning("The roughness of the draft of %s cannot be told: %s", pair.truth.image, error)
            continue
        if not math.isnan(found):
            masks[pair.truth.id] = (truth, spacing_mm)
            agreement.append(found)
    if len(agreement) < FEWEST_TO_TELL:
        return 1.0
    return strength_for(list(masks.values())[-MOST_TRIED:], fmean(agreement))


def _as_compared(pair: Pair) -> tuple[Array, Array]:
    """The expert's mask and the draft, without structures that only one of both annotators looked at."""
    assert pair.case.load_draft is not None
    looked_at = sorted(pair.case.looked_at)
    truth, draft = (
        np.where(np.isin(mask, looked_at), mask, 0) for mask in (pair.case.load_mask(), pair.case.load_draft())
    )
    return truth.astype(np.uint8), draft.astype(np.uint8)


def training_pairs(record: Record, library: Library, strength: float = 1.0) -> list[Pair]:
    """What a refiner learns from: all pairs in the record, and if these are few, more made from expert masks.

    Up to ``ENOUGH_PAIRS`` in all, of expert masks with something in them, in an order drawn by chance: in turn one is
    made rough, by moving its outlines with this strength, and an image that has no draft gets one by what drafts now.
    A draft of a case that the model learned from is better than others, which is why drafts in the record come first.
    """
    truths = record.annotations.expert_labels(Split.TRAINING)
    recorded = {truth.id: _recorded(record, library, truth) for truth in truths}
    pairs = [pair for each in recorded.values() for pair in each]
    if len(pairs) < ENOUGH_PAIRS:
        present = [truth for truth in truths if any(truth.voxels.values())]
        shown = [present[place] for place in np.random.default_rng(0).permutation(len(present))]
        rough = [_perturbed(record, library, truth, strength) for truth in shown]
        # From the other end, so that few images get both.
        drafted = _drafted(record, library, [truth for truth in reversed(shown) if not recorded[truth.id]])
        made = [pair for both in zip_longest(rough, drafted) for pair in both if pair is not None]
        pairs += made[: ENOUGH_PAIRS - len(pairs)]
    return pairs


def validation_pairs(record: Record, library: Library, strength: float = 1.0) -> list[Pair]:
    """One pair of each validation image: the newest unrefined draft, else the expert's mask made rough."""
    pairs = []
    for truth in record.annotations.expert_labels(Split.VALIDATION):
        recorded = _recorded(record, library, truth, (Stage.DRAFT,))
        pairs.append(recorded[-1] if recorded else _perturbed(record, library, truth, strength))
    return pairs


def mix_of(pairs: Sequence[Pair]) -> dict[str, int]:
    """How many pairs come from where."""
    counts = Counter(pair.origin for pair in pairs)
    return {str(origin): counts[origin] for origin in Origin}


def _recorded(
    record: Record, library: Library, truth: Annotation, stages: Sequence[Stage] = (Stage.DRAFT, Stage.REFINED)
) -> list[Pair]:
    """The pairs of an expert's annotation with what was there before it, oldest first."""
    pairs = [_pair(record, library, truth, draft) for draft in _rough_before(record, truth, stages)]
    return [pair for pair in pairs if pair.case.looked_at]


def _rough_before(record: Record, truth: Annotation, stages: Sequence[Stage]) -> list[Annotation]:
    """The newest versions of these stages from before an expert's, oldest first, whose masks are kept."""
    found = [
        draft
        for draft in in_force(record.annotations.history(truth.image))
        if draft.stage in stages and draft.version < truth.version and record.has_mask(draft)
    ]
    return found[-MOST_DRAFTS:]


def _pair(record: Record, library: Library, truth: Annotation, draft: Annotation) -> Pair:
    case = case_of(record, library, truth)
    looked_at = case.looked_at & case_of(record, library, draft).looked_at
    case = replace(case, looked_at=looked_at, load_draft=lambda: library.mask(draft))
    return Pair(truth, draft.version, Origin.RECORDED, case)


def _perturbed(record: Record, library: Library, truth: Annotation, strength: float) -> Pair:
    def rough() -> Array:
        grid, mask = library.readable_with_grid(truth.image)[1], library.mask(truth)
        # The number of the annotation as seed: the same expert mask is made rough in the same way again.
        return perturbed(mask, grid.spacing_mm, random_perturbations(mask, grid.spacing_mm, truth.id, strength))

    return Pair(truth, None, Origin.PERTURBED, replace(case_of(record, library, truth), load_draft=rough))


def _drafted(record: Record, library: Library, truths: Sequence[Annotation]) -> list[Pair]:
    """Pairs with a draft by the serving model, or by the task's rule; none if nothing drafts."""
    drafter = _drafter(record) if truths else None
    if drafter is None:
        return []
    pairs = []
    for truth in truths:
        case = case_of(record, library, truth)
        looked_at, draft = case.looked_at & drafter.looked_for, drafter.draft_of(case)
        pairs.append(Pair(truth, None, Origin.DRAFTED, replace(case, looked_at=looked_at, load_draft=draft)))
    return [pair for pair in pairs if pair.case.looked_at]


@dataclass(frozen=True)
class _Drafter:
    """What drafts now, and the label values that it looks for."""

    find: Callable[[Volume], Array]
    looked_for: frozenset[int]

    def draft_of(self, case: TrainingCase) -> Callable[[], Array]:
        return lambda: self.find(case.load_volume())


def _drafter(record: Record) -> _Drafter | None:
    serving, task = record.models.serving(), record.task
    if serving is not None:
        predictor = Predictor(checkpoint_of(record, serving), device())
        return _Drafter(predictor.mask, frozenset(predictor.plan.structures.values()))
    if task.draft_rule:
        rule = RULES[task.draft_rule]
        return _Drafter(lambda volume: rule(volume, task), frozenset(looked_for(task).values()))
    return None
