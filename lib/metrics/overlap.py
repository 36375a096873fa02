"""Agreement by shared volume.

All figures count voxels, so they need no spacing. What they say when a mask is empty:

=============================  ======  ======  ===========  =========  =====================
truth, prediction              dice    iou     sensitivity  precision  relative_volume_error
=============================  ======  ======  ===========  =========  =====================
both empty                     nan     nan     nan          nan        nan
only the truth is empty        0       0       nan          0          inf
only the prediction is empty   0       0       0            nan        -100 %
=============================  ======  ======  ===========  =========  =====================
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lib.metrics.masks import as_masks
from lib.volume import Array


def dice(truth: Array, prediction: Array) -> float:
    """Twice the shared voxels over the voxels of both masks.

    Args:
        truth: bool (I, J, K), the expert's mask of one structure.
        prediction: bool (I, J, K), on the same grid as ``truth``.

    Returns:
        Value in [0, 1]. 0.0 if one mask is empty, ``nan`` if both are.

    Raises:
        GridMismatch: if the shapes differ.

    Reference:
        Dice, "Measures of the amount of ecologic association between species", Ecology 26 (1945).
    """
    voxels = _counted(truth, prediction)
    return _share(2 * voxels.shared, voxels.truth + voxels.prediction)


def dice_over_structures(truth: Array, prediction: Array) -> float:
    """The mean of the Dice of all structures that are in the truth.

    Args:
        truth: uint8 (I, J, K) of label values.
        prediction: uint8 (I, J, K) of label values, on the same grid.

    Returns:
        Value in [0, 1]; ``nan`` if the truth is empty.

    Raises:
        GridMismatch: if the shapes differ.
    """
    found = [dice(truth == value, prediction == value) for value in np.unique(truth) if value]
    return float(np.mean(found)) if found else math.nan


def iou(truth: Array, prediction: Array) -> float:
    """Shared voxels over the voxels that are in either mask; also called Jaccard index.

    Arguments, errors and empty masks as for ``dice``, of which it is the function D / (2 - D).
    """
    voxels = _counted(truth, prediction)
    return _share(voxels.shared, voxels.truth + voxels.prediction - voxels.shared)


def sensitivity(truth: Array, prediction: Array) -> float:
    """Share of the true voxels that were predicted: low where a structure is drawn too small.

    Arguments and errors as for ``dice``; ``nan`` if the truth is empty, for nothing could be found.
    """
    voxels = _counted(truth, prediction)
    return _share(voxels.shared, voxels.truth)


def precision(truth: Array, prediction: Array) -> float:
    """Share of the predicted voxels that are true: low where a structure is drawn too large.

    Arguments and errors as for ``dice``; ``nan`` if the prediction is empty, for nothing was claimed.
    """
    voxels = _counted(truth, prediction)
    return _share(voxels.shared, voxels.prediction)


def relative_volume_error(truth: Array, prediction: Array) -> float:
    """How much larger than the true volume the predicted one is, in percent of the true one.

    Says nothing about the place: two masks of one size that do not meet have an error of 0.

    Args:
        truth: bool (I, J, K), the expert's mask of one structure.
        prediction: bool (I, J, K), on the same grid as ``truth``.

    Returns:
        Percent, at least -100 (nothing predicted); 100 for twice the volume. ``inf`` if only the truth is empty,
        ``nan`` if both are.

    Raises:
        GridMismatch: if the shapes differ.
    """
    voxels = _counted(truth, prediction)
    if not voxels.truth:
        return math.inf if voxels.prediction else math.nan
    return 100 * (voxels.prediction - voxels.truth) / voxels.truth


@dataclass(frozen=True)
class _Voxels:
    """How many voxels are in the truth, in the prediction and in both."""

    truth: int
    prediction: int
    shared: int


def _counted(truth: Array, prediction: Array) -> _Voxels:
    truth, prediction = as_masks(truth, prediction)
    return _Voxels(*(int(np.count_nonzero(mask)) for mask in (truth, prediction, truth & prediction)))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
