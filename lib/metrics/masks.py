"""What all metrics ask of masks."""

from __future__ import annotations

import numpy as np

from lib.errors import GridMismatch
from lib.volume import Array


def as_masks(truth: Array, prediction: Array) -> tuple[Array, Array]:
    """Both as bool (I, J, K); every voxel that is not 0 is set.

    Raises:
        GridMismatch: if the shapes differ.
    """
    if truth.shape != prediction.shape:
        raise GridMismatch(
            f"The true mask is {_written(truth)} voxels, the predicted one {_written(prediction)}. "
            "Put both on the image's grid before comparing them."
        )
    return truth.astype(bool, copy=False), prediction.astype(bool, copy=False)


def joint_box(truth: Array, prediction: Array) -> tuple[slice, ...]:
    """The smallest box (I, J, K) that holds all voxels of two bool masks; empty if there are none."""
    either = truth | prediction
    spans = [np.flatnonzero(either.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return tuple(slice(int(span[0]), int(span[-1]) + 1) if span.size else slice(0, 0) for span in spans)


def slice_axis(shape: tuple[int, ...], spacing_mm: tuple[float, float, float]) -> int:
    """The axis across the slices in which people draw: that of a single voxel, else that of the longest voxels.

    The last of several.

    Args:
        shape: voxels along I, J, K.
        spacing_mm: voxel edge lengths along I, J, K.
    """
    return max(range(3), key=lambda axis: (shape[axis] == 1, round(spacing_mm[axis], 3), axis))


def _written(mask: Array) -> str:
    return "x".join(map(str, mask.shape))
