"""How far predictions agree with the truth, over structures and cases; what is undefined stays out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lib.metrics.overlap import dice
from lib.metrics.surface import hd95_mm
from lib.volume import Array, Volume


@dataclass(frozen=True)
class CaseScore:
    """Agreement on one image, by structure; ``nan`` where truth and prediction are both empty.

    Attributes:
        dice: in [0, 1].
        hd95_mm: millimetres; ``inf`` where one of both is empty.
    """

    dice: Mapping[str, float]
    hd95_mm: Mapping[str, float]


def case_score(truth: Volume, prediction: Array, values: Mapping[str, int]) -> CaseScore:
    """Compares two masks.

    Args:
        truth: mask uint8 (I, J, K).
        prediction: uint8 (I, J, K) on the same grid.
        values: label value by structure name.
    """
    pairs = {name: (truth.voxels == value, prediction == value) for name, value in values.items()}
    return CaseScore(
        dice={name: dice(*pair) for name, pair in pairs.items()},
        hd95_mm={name: hd95_mm(*pair, truth.grid.spacing_mm) for name, pair in pairs.items()},
    )


def summary(scores: Sequence[CaseScore], names: Iterable[str]) -> dict[str, object]:
    """Means over cases, ready for JSON.

    Returns:
        ``cases``; ``dice_per_structure``, the mean over the cases where it is defined; ``dice``, the mean of these;
        ``hd95_mm``, the mean over all cases and structures where both masks have voxels; ``one_empty``, how many
        pairs that leaves out because only one mask has. ``None`` where there is nothing to average.
    """
    names = list(names)
    per_structure = {name: defined_mean(score.dice[name] for score in scores) for name in names}
    distances = [score.hd95_mm[name] for score in scores for name in names]
    return {
        "cases": len(scores),
        "dice": defined_mean(value for value in per_structure.values() if value is not None),
        "dice_per_structure": per_structure,
        "hd95_mm": defined_mean(distances),
        "one_empty": sum(math.isinf(distance) for distance in distances),
    }


def defined_mean(values: Iterable[float]) -> float | None:
    """Mean of the finite values to four digits, or ``None`` if there are none."""
    finite = [value for value in values if math.isfinite(value)]
    return round(math.fsum(finite) / len(finite), 4) if finite else None
