"""Agreement by the distance between surfaces."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from lib.metrics.masks import as_masks, joint_box
from lib.volume import Array


@dataclass(frozen=True)
class SurfaceDistances:
    """From each surface voxel of one mask to the nearest surface voxel of the other, between voxel centres.

    A mask without voxels has no distances; those of the other one are infinite then.

    Attributes:
        from_truth_mm: float (N,), one for each surface voxel of the truth.
        from_prediction_mm: float (M,), one for each surface voxel of the prediction.
    """

    from_truth_mm: Array
    from_prediction_mm: Array

    @property
    def assd_mm(self) -> float:
        """Average symmetric surface distance; see the function of this name."""
        both = np.concatenate([self.from_truth_mm, self.from_prediction_mm])
        return float(both.mean()) if both.size else math.nan

    @property
    def hd95_mm(self) -> float:
        """Robust Hausdorff distance; see the function of this name."""
        if not math.isfinite(self.assd_mm):
            return self.assd_mm
        return float(max(np.percentile(self.from_truth_mm, 95), np.percentile(self.from_prediction_mm, 95)))


def hd95_mm(truth: Array, prediction: Array, spacing_mm: tuple[float, float, float]) -> float:
    """Distance in millimetres that 95 % of each surface keeps to the other one.

    The larger of the two directed 95th percentiles, not the percentile of all distances together.

    Arguments and errors as for ``surface_distances``.

    Returns:
        Millimetres. ``inf`` if one mask is empty, ``nan`` if both are.

    Reference:
        Maier-Hein et al., "Metrics reloaded: recommendations for image analysis validation", Nature Methods 2024.
    """
    return surface_distances(truth, prediction, spacing_mm).hd95_mm


def assd_mm(truth: Array, prediction: Array, spacing_mm: tuple[float, float, float]) -> float:
    """Average symmetric surface distance: the mean over the surface voxels of both masks together.

    Arguments and errors as for ``surface_distances``.

    Returns:
        Millimetres. ``inf`` if one mask is empty, ``nan`` if both are.

    Reference:
        Heimann et al., "Comparison and evaluation of methods for liver segmentation from CT datasets",
        IEEE Transactions on Medical Imaging 28 (2009).
    """
    return surface_distances(truth, prediction, spacing_mm).assd_mm


def surface_distances(truth: Array, prediction: Array, spacing_mm: tuple[float, float, float]) -> SurfaceDistances:
    """The distances between two surfaces, both ways.

    A surface voxel has a face neighbour outside the mask or lies at the border of the image. In an image of one
    slice the surface is the outline.

    Args:
        truth: bool (I, J, K), the expert's mask of one structure.
        prediction: bool (I, J, K), on the same grid as ``truth``.
        spacing_mm: voxel edge lengths along I, J, K.

    Raises:
        GridMismatch: if the shapes differ.
    """
    truth, prediction = as_masks(truth, prediction)
    box = joint_box(truth, prediction)
    from_truth = _surface_mm(truth[box], truth.shape, spacing_mm)
    from_prediction = _surface_mm(prediction[box], truth.shape, spacing_mm)
    return SurfaceDistances(_nearest_mm(from_truth, from_prediction), _nearest_mm(from_prediction, from_truth))


def signed_distances_mm(reference: Array, mask: Array, spacing_mm: tuple[float, float, float]) -> Array:
    """From each surface voxel of a mask to the nearest one of a reference: positive outside the reference.

    Args:
        reference: bool (I, J, K).
        mask: bool (I, J, K), on the same grid.
        spacing_mm: voxel edge lengths along I, J, K.

    Returns:
        Float (N,) in mm, between voxel centres; negative inside the reference, 0 on its surface. ``inf`` everywhere if
        the reference is empty; of length 0 if the mask is.

    Raises:
        GridMismatch: if the shapes differ.
    """
    reference, mask = as_masks(reference, mask)
    box = joint_box(reference, mask)
    points_mm = _surface_mm(mask[box], mask.shape, spacing_mm)
    is_inside = reference[box][tuple(np.rint(points_mm / spacing_mm).astype(int).T)]
    return _nearest_mm(points_mm, _surface_mm(reference[box], mask.shape, spacing_mm)) * np.where(is_inside, -1, 1)


def _nearest_mm(points_mm: Array, others_mm: Array) -> Array:
    """Float (N,): from each of (N, 3) points to the nearest of (M, 3) others; ``inf`` if there is none."""
    if not len(others_mm):
        return np.full(len(points_mm), np.inf)
    distances, _ = cKDTree(others_mm).query(points_mm)
    return np.asarray(distances)


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
