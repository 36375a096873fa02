"""Agreement by the distance between surfaces."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from lib.metrics.overlap import refuse_other_shape
from lib.volume import Array


def hd95_mm(truth: Array, prediction: Array, spacing_mm: tuple[float, float, float]) -> float:
    """Distance in millimetres that 95 % of each surface keeps to the other one.

    The larger of the two directed 95th percentiles, each over the distances from all surface voxels of one mask to
    the nearest surface voxel of the other, between voxel centres. A surface voxel has a face neighbour outside the
    mask or lies at the border of the image. In an image of one slice the surface is the outline.

    Args:
        truth: bool (I, J, K), the expert's mask of one structure.
        prediction: bool (I, J, K), on the same grid as ``truth``.
        spacing_mm: voxel edge lengths along I, J, K.

    Returns:
        Millimetres. ``inf`` if one mask is empty, ``nan`` if both are.

    Raises:
        GridMismatch: if the shapes differ.

    Reference:
        Maier-Hein et al., "Metrics reloaded: recommendations for image analysis validation", Nature Methods 2024.
    """
    refuse_other_shape(truth, prediction)
    truth, prediction = truth.astype(bool, copy=False), prediction.astype(bool, copy=False)
    if not truth.any() or not prediction.any():
        return math.nan if truth.any() == prediction.any() else math.inf
    box = _joint_box(truth, prediction)
    from_truth = _surface_mm(truth[box], truth.shape, spacing_mm)
    from_prediction = _surface_mm(prediction[box], truth.shape, spacing_mm)
    there, _ = cKDTree(from_prediction).query(from_truth)
    back, _ = cKDTree(from_truth).query(from_prediction)
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))


def _joint_box(truth: Array, prediction: Array) -> tuple[slice, ...]:
    """The smallest box that holds both masks; both have voxels."""
    either = truth | prediction
    spans = (np.flatnonzero(either.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3))
    return tuple(slice(int(span[0]), int(span[-1]) + 1) for span in spans)


def _surface_mm(mask: Array, image_shape: tuple[int, ...], spacing_mm: tuple[float, float, float]) -> Array:
    """Float (N, 3): centres of the surface voxels in millimetres.

    Args:
        mask: bool (I, J, K), cropped to the joint box; outside of it nothing is set.
        image_shape: voxels of the whole image, to tell axes of a single slice.
        spacing_mm: voxel edge lengths along I, J, K.
    """
    cross = ndimage.generate_binary_structure(3, 1)
    for axis, size in enumerate(image_shape):
        if size == 1:
            cross &= np.indices(cross.shape)[axis] == 1
    surface = mask & ~ndimage.binary_erosion(mask, cross)
    return np.argwhere(surface) * np.asarray(spacing_mm, np.float64)
