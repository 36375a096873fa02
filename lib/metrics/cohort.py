"""Figures of many cases: one row per case and structure, and what their means can be trusted for."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from lib.metrics.detection import (
    CaseCount,
    LesionCount,
    LesionRule,
    case_count,
    false_positive_ml,
    has_lesion,
    lesion_count,
    size_of_voxel,
)
from lib.metrics.overlap import dice, iou, precision, relative_volume_error, sensitivity
from lib.metrics.surface import surface_distances
from lib.volume import Array, Grid

ANY = "(any)"
"""Name of the row for all structures of a task taken together."""

FIGURES = ("dice", "iou", "sensitivity", "precision", "volume_error_percent", "hd95_mm", "assd_mm")
"""Fields of a row that are averaged over cases."""

CONFIDENCE = 0.95
"""How often an interval should hold the mean of all cases that there could be."""

RESAMPLES = 2000


@dataclass(frozen=True)
class StructureScore:
    """All figures of one structure in one case.

    ``nan`` and ``inf`` where ``lib.metrics`` says so: a figure that needs voxels has none without them.

    Attributes:
        case: name of the case.
        structure: name of the structure, or ``ANY``.
        true_ml: volume in the truth.
        predicted_ml: volume in the prediction.
        dice: see ``lib.metrics.overlap``, as the next four.
        iou: shared over joint volume.
        sensitivity: share of the true voxels that were predicted.
        precision: share of the predicted voxels that are true.
        volume_error_percent: signed.
        hd95_mm: see ``lib.metrics.surface``.
        assd_mm: see ``lib.metrics.surface``.
        true_lesions: see ``lib.metrics.detection``, as all that follow.
        found_lesions: true lesions that were found.
        false_lesions: predicted lesions where there is none.
        false_positive_ml: volume predicted outside the truth.
        is_positive: the truth has a voxel.
        is_predicted: the prediction has a lesion that is large enough to count.
    """

    case: str
    structure: str
    true_ml: float
    predicted_ml: float
    dice: float
    iou: float
    sensitivity: float
    precision: float
    volume_error_percent: float
    hd95_mm: float
    assd_mm: float
    true_lesions: int
    found_lesions: int
    false_lesions: int
    false_positive_ml: float
    is_positive: bool
    is_predicted: bool


@dataclass(frozen=True)
class Spread:
    """Mean of some cases and how sure it is.

    Attributes:
        mean: over the cases in which the figure is defined and finite.
        sd: standard deviation over them (n - 1); ``nan`` for fewer than two.
        interval: see ``mean_interval``.
        n: how many cases these are.
    """

    mean: float
    sd: float
    interval: tuple[float, float]
    n: int


@dataclass(frozen=True)
class StructureSummary:
    """One structure over all cases in which somebody looked at it.

    Attributes:
        cases: how many these are.
        figures: by the names in ``FIGURES``.
        lesions: summed over the cases.
        detection: of cases.
        false_positive_ml: over the cases that do not have the structure.
    """

    cases: int
    figures: dict[str, Spread]
    lesions: LesionCount
    detection: CaseCount
    false_positive_ml: Spread


def case_scores(
    case: str,
    truth: Array,
    prediction: Array,
    grid: Grid,
    values: Mapping[str, int],
    looked_at: Collection[str] | None = None,
    rule: LesionRule = LesionRule(),  # noqa: B008 - it cannot be changed
) -> list[StructureScore]:
    """Compares two masks structure by structure.

    Args:
        case: its name.
        truth: uint8 (I, J, K) on ``grid``.
        prediction: uint8 (I, J, K) on ``grid``.
        grid: the lattice of the image.
        values: label value by structure name; other values count as background.
        looked_at: names of the structures that the annotator of the truth looked at; the others get no row.
            ``None``: all.
        rule: what counts as a lesion.

    Returns:
        A row for each structure; for more than one also a row ``ANY``, unless some were not looked at.

    Raises:
        GridMismatch: if the shapes differ.
    """
    names = [name for name in values if looked_at is None or name in looked_at]
    rows = [
        _structure_score(case, name, (truth == values[name], prediction == values[name]), grid, rule) for name in names
    ]
    if len(names) == len(values) > 1:
        masks = np.isin(truth, list(values.values())), np.isin(prediction, list(values.values()))
        rows.append(_structure_score(case, ANY, masks, grid, rule))
    return rows


def _structure_score(
    case: str, structure: str, masks: tuple[Array, Array], grid: Grid, rule: LesionRule
) -> StructureScore:
    truth, prediction = masks
    distances = surface_distances(truth, prediction, grid.spacing_mm)
    lesions = lesion_count(truth, prediction, size_of_voxel(grid), rule)
    return StructureScore(
        case=case,
        structure=structure,
        true_ml=int(np.count_nonzero(truth)) * grid.voxel_mm3 / 1000,
        predicted_ml=int(np.count_nonzero(prediction)) * grid.voxel_mm3 / 1000,
        dice=dice(truth, prediction),
        iou=iou(truth, prediction),
        sensitivity=sensitivity(truth, prediction),
        precision=precision(truth, prediction),
        volume_error_percent=relative_volume_error(truth, prediction),
        hd95_mm=distances.hd95_mm,
        assd_mm=distances.assd_mm,
        true_lesions=lesions.true,
        found_lesions=lesions.found,
        false_lesions=lesions.false,
        false_positive_ml=false_positive_ml(truth, prediction, grid.voxel_mm3),
        is_positive=bool(truth.any()),
        is_predicted=has_lesion(prediction, size_of_voxel(grid), rule.least_size),
    )


def summaries(scores: Sequence[StructureScore], seed: int = 0) -> dict[str, StructureSummary]:
    """The summary of each structure by its name, in the order of the rows.

    Args:
        scores: rows of all cases.
        seed: decides the resamples of all intervals.
    """
    by_structure: dict[str, list[StructureScore]] = {}
    for score in scores:
        by_structure.setdefault(score.structure, []).append(score)
    return {
        name: StructureSummary(
            cases=len(rows),
            figures={figure: spread((getattr(row, figure) for row in rows), seed) for figure in FIGURES},
            lesions=LesionCount(
                sum(row.true_lesions for row in rows),
                sum(row.found_lesions for row in rows),
                sum(row.false_lesions for row in rows),
            ),
            detection=case_count((row.is_positive, row.is_predicted) for row in rows),
            false_positive_ml=spread((row.false_positive_ml for row in rows if not row.is_positive), seed),
        )
        for name, rows in by_structure.items()
    }


def spread(values: Iterable[float], seed: int = 0) -> Spread:
    """Mean, standard deviation and interval of what is finite among the values of some cases."""
    finite = [value for value in values if math.isfinite(value)]
    mean = math.fsum(finite) / len(finite) if finite else math.nan
    sd = float(np.std(finite, ddof=1)) if len(finite) > 1 else math.nan
    return Spread(mean, sd, mean_interval(finite, seed), len(finite))


def mean_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """95 % interval of a mean over cases, by bootstrap: percentiles of the means of cases drawn with replacement.

    To compare two models, give the differences case by case: that is the paired bootstrap, which sees through cases
    that are hard for both. Cases are taken to be independent; two images of one patient are not. Below about ten
    cases the interval is too narrow.

    Args:
        values: finite, one for each case.
        seed: decides the resamples; equal seeds give equal intervals.

    Returns:
        Lower and upper bound; ``nan`` for fewer than two values.

    Reference:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    if len(values) < 2:
        return math.nan, math.nan
    found = stats.bootstrap(
        (np.asarray(values, np.float64),),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def share_interval(count: int, of: int) -> tuple[float, float]:
    """95 % interval of a share of independent cases, which stays honest for none and for all of them (Wilson 1927).

    Returns:
        Lower and upper bound; ``nan`` for none of none.
    """
    if not of:
        return math.nan, math.nan
    found = stats.binomtest(count, of).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def worst_cases(scores: Iterable[StructureScore], count: int) -> list[str]:
    """Names of the cases with the lowest mean Dice over their structures, the worst first.

    Cases in which no Dice is defined agree, and are left out.
    """
    by_case: dict[str, list[float]] = {}
    for score in scores:
        if has_dice(score):
            by_case.setdefault(score.case, []).append(score.dice)
    return sorted(by_case, key=lambda case: math.fsum(by_case[case]) / len(by_case[case]))[:count]


def has_dice(score: StructureScore) -> bool:
    """Whether a row is of a single structure that is in either mask."""
    return score.structure != ANY and math.isfinite(score.dice)
