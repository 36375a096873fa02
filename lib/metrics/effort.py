"""How much a correction had to change."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lib.metrics.masks import as_masks, joint_box, slice_axis
from lib.metrics.surface import signed_distances_mm
from lib.volume import Array


@dataclass(frozen=True)
class Effort:
    """What changed from one mask of a structure to the next.

    Attributes:
        added_voxels: in the corrected mask only.
        removed_voxels: in the earlier mask only.
        moved_mm: mean over the corrected surface of the distance from the earlier one, positive where it was moved
            outwards. ``inf`` if there was no earlier mask, ``nan`` if nothing is left.
        added_path_mm: length of the outline that had to be drawn: outline pixels of the corrected mask, slice by slice,
            that are not on the earlier outline, each as long as a pixel. See ``slice_axis`` for what a slice is.
    """

    added_voxels: int
    removed_voxels: int
    moved_mm: float
    added_path_mm: float


def effort(earlier: Array, corrected: Array, spacing_mm: tuple[float, float, float]) -> Effort:
    """What a correction of one structure had to change.

    A pixel is on the outline if one of the four beside it in its slice is outside the mask or the image.

    Args:
        earlier: bool (I, J, K), the draft or refined mask.
        corrected: bool (I, J, K), what the expert made of it, on the same grid.
        spacing_mm: voxel edge lengths along I, J, K.

    Returns:
        All zero for equal masks with voxels.

    Raises:
        GridMismatch: if the shapes differ.

    Reference:
        Vaassen et al., "Evaluation of measures for assessing time-saving of automatic organ-at-risk segmentation in
        radiotherapy", Physics and Imaging in Radiation Oncology 13 (2020), for the added path length.
    """
    earlier, corrected = as_masks(earlier, corrected)
    box, across = joint_box(earlier, corrected), slice_axis(corrected.shape, spacing_mm)
    drawn = _outline(corrected[box], across) & ~_outline(earlier[box], across)
    moved_mm = signed_distances_mm(earlier, corrected, spacing_mm)
    pixel_mm = math.sqrt(math.prod(edge for axis, edge in enumerate(spacing_mm) if axis != across))
    return Effort(
        added_voxels=int(np.count_nonzero(corrected & ~earlier)),
        removed_voxels=int(np.count_nonzero(earlier & ~corrected)),
        moved_mm=float(moved_mm.mean()) if moved_mm.size else math.nan,
        added_path_mm=int(np.count_nonzero(drawn)) * pixel_mm,
    )


def _outline(mask: Array, across: int) -> Array:
    """Bool (I, J, K): voxels of a mask with a face neighbour in their slice that is outside."""
    cross = ndimage.generate_binary_structure(3, 1) & (np.indices((3, 3, 3))[across] == 1)
    return np.asarray(mask & ~ndimage.binary_erosion(mask, cross))
