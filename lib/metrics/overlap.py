"""Agreement by shared volume."""

from __future__ import annotations

import math

import numpy as np

from lib.errors import GridMismatch
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
    refuse_other_shape(truth, prediction)
    truth, prediction = truth.astype(bool, copy=False), prediction.astype(bool, copy=False)
    voxels = int(np.count_nonzero(truth)) + int(np.count_nonzero(prediction))
    return 2 * int(np.count_nonzero(truth & prediction)) / voxels if voxels else math.nan


def refuse_other_shape(truth: Array, prediction: Array) -> None:
    """Raises if two masks cannot lie on one grid."""
    if truth.shape != prediction.shape:
        raise GridMismatch(
            f"The true mask is {_written(truth)} voxels, the predicted one {_written(prediction)}. "
            "Put both on the image's grid before comparing them."
        )


def _written(mask: Array) -> str:
    return "x".join(map(str, mask.shape))
