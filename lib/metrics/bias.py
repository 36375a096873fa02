"""What an annotator does differently from an expert, again and again.

Errors of people are no noise that averages out: one draws everything a little too large, another misses what is small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lib.metrics.cohort import Spread, spread
from lib.metrics.detection import LesionRule, lesion_count, size_of_voxel
from lib.metrics.overlap import dice, relative_volume_error
from lib.metrics.surface import signed_distances_mm
from lib.volume import Array, Grid

ANY_TOUCH = LesionRule(least_overlap=1e-9)
"""A component that the annotator touched at all was not missed: how well it is drawn is the other figures' matter."""


@dataclass(frozen=True)
class CaseBias:
    """One annotator against the expert, for one structure in one case.

    Attributes:
        dice: of both masks; ``nan`` if both are empty.
        volume_percent: how much larger than the expert's the annotator's volume is; see ``relative_volume_error``.
        shift_mm: mean distance of the annotator's surface from the expert's, positive where it lies outside. ``inf`` if
            only the expert's mask is empty, ``nan`` if the annotator's is.
        missed: components of the expert's mask that the annotator did not touch.
        invented: components of the annotator's mask that touch none of the expert's.
    """

    dice: float
    volume_percent: float
    shift_mm: float
    missed: int
    invented: int


@dataclass(frozen=True)
class AnnotatorBias:
    """One annotator against experts over many cases; spreads leave out cases in which a figure is not finite.

    Attributes:
        cases: how many there are.
        dice: see ``CaseBias``, as all others.
        volume_percent: its interval tells a bias from chance: it does not hold 0.
        shift_mm: likewise.
        missed: in all cases together.
        invented: in all cases together.
    """

    cases: int
    dice: Spread
    volume_percent: Spread
    shift_mm: Spread
    missed: int
    invented: int


def case_bias(expert: Array, annotator: Array, grid: Grid) -> CaseBias:
    """Compares an annotator's mask with the expert's version of it.

    Args:
        expert: bool (I, J, K), one structure.
        annotator: bool (I, J, K), the same structure.
        grid: of both.

    Raises:
        GridMismatch: if the shapes differ.
    """
    components = lesion_count(expert, annotator, size_of_voxel(grid), ANY_TOUCH)
    shift_mm = signed_distances_mm(expert, annotator, grid.spacing_mm)
    return CaseBias(
        dice=dice(expert, annotator),
        volume_percent=relative_volume_error(expert, annotator),
        shift_mm=float(shift_mm.mean()) if shift_mm.size else math.nan,
        missed=components.true - components.found,
        invented=components.false,
    )


def annotator_bias(cases: Sequence[CaseBias], seed: int = 0) -> AnnotatorBias:
    """All cases of one annotator and one structure together.

    Args:
        cases: of different images; the order does not matter.
        seed: decides the resamples of the intervals.
    """
    return AnnotatorBias(
        cases=len(cases),
        dice=spread((case.dice for case in cases), seed),
        volume_percent=spread((case.volume_percent for case in cases), seed),
        shift_mm=spread((case.shift_mm for case in cases), seed),
        missed=sum(case.missed for case in cases),
        invented=sum(case.invented for case in cases),
    )
