"""Where the breast is on a mammogram: without the bare detector, film markers and the pectoral muscle."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import binary_fill_holes, binary_opening, gaussian_filter

from lib.pieces import largest_piece
from lib.volume import Array

MARKER_MM = 3.0
"""Half the width below which a bright thing is cut off from the breast: letters, scratches, film borders."""

MUSCLE_ACROSS_MM = np.arange(20.0, 81.0, 5.0)
MUSCLE_DOWN_MM = np.arange(40.0, 191.0, 10.0)
"""Legs of the triangles in a corner that are tried as the pectoral muscle."""

MUSCLE_MARGIN_MM = 2.0
"""The border of the muscle counts as muscle this far outside."""


def breast_region(plane: Array, pixel_mm: float) -> Array:
    """The breast without the pectoral muscle.

    Args:
        plane: (I, J), bright is dense, whichever way the breast lies.
        pixel_mm: edge of a pixel.

    Returns:
        bool (I, J); empty if the image has one value only.
    """
    smooth = gaussian_filter(np.asarray(plane, np.float32), 0.8 / pixel_mm)
    breast = _largest_bright(smooth, pixel_mm)
    return np.asarray(breast & ~pectoral_muscle(smooth, breast, pixel_mm)) if breast.any() else breast


def _largest_bright(smooth: Array, pixel_mm: float) -> Array:
    """The largest connected thing that stands out from the bare detector, without holes."""
    if smooth.min() == smooth.max():
        return np.zeros(smooth.shape, bool)
    # Li's threshold lies closer to the dark background than Otsu's, which may part dense from fatty tissue.
    bright = sitk.GetArrayFromImage(sitk.LiThreshold(sitk.GetImageFromArray(smooth), 0, 1)).astype(bool)
    return np.asarray(binary_fill_holes(largest_piece(_opened(bright, MARKER_MM / pixel_mm))))


def _opened(bright: Array, radius: float) -> Array:
    """Without what a disc does not fit into; beyond the border of the image all is as at the border."""
    width = int(np.ceil(radius))
    place = np.arange(-width, width + 1)
    disc = np.hypot(*np.meshgrid(place, place)) <= radius
    padded = np.pad(bright, 2 * width, mode="edge")
    inner = slice(2 * width, -2 * width or None)
    return np.asarray(binary_opening(padded, disc)[inner, inner])


def pectoral_muscle(smooth: Array, breast: Array, pixel_mm: float) -> Array:
    """The pectoral muscle of an oblique view as a triangle in a corner of the breast's box.

    All triangles in all four corners are tried; the best has the greatest step from its hypotenuse inwards, as a
    share of the spread of the breast's grey values, all along the line.

    Args:
        smooth: float (I, J), the image without its grain.
        breast: bool (I, J), the breast with the muscle.
        pixel_mm: edge of a pixel.

    Returns:
        bool (I, J); empty if no triangle is bright against what lies beside it.
    """
    (i0, i1), (j0, j1) = ((int(places.min()), int(places.max()) + 1) for places in np.nonzero(breast))
    inside, values = breast[i0:i1, j0:j1], smooth[i0:i1, j0:j1]
    spread = float(np.std(values[inside])) or 1.0
    found = np.zeros(inside.shape, bool)
    best = 0.35
    for flips in ((), (0,), (1,), (0, 1)):
        grey, allowed = np.flip(values, flips) / spread, np.flip(inside, flips)
        for legs_mm in _legs(allowed, pixel_mm):
            legs = (legs_mm[0] / pixel_mm, legs_mm[1] / pixel_mm)
            step = _step(grey, allowed, legs, pixel_mm)
            if step > best:
                best, found = step, np.flip(_triangle(inside.shape, legs, MUSCLE_MARGIN_MM / pixel_mm), flips)
    muscle = np.zeros(breast.shape, bool)
    muscle[i0:i1, j0:j1] = found
    return muscle & breast


def _legs(allowed: Array, pixel_mm: float) -> list[tuple[float, float]]:
    """Lengths along I and J of the triangles that may lie in the first corner: long down, short across."""
    if not allowed[: int(10 / pixel_mm), : int(10 / pixel_mm)].mean() > 0.5:
        return []
    pairs = [(float(across), float(down)) for across in MUSCLE_ACROSS_MM for down in MUSCLE_DOWN_MM if down > across]
    size_mm = np.array(allowed.shape) * pixel_mm
    both = pairs + [(down, across) for across, down in pairs]
    return [legs for legs in both if legs[0] < 0.9 * size_mm[0] and legs[1] < 0.9 * size_mm[1]]


def _triangle(shape: tuple[int, ...], legs: tuple[float, float], margin: float) -> Array:
    """The triangle (I, J) with these legs in the first corner, grown by a margin; all in pixels."""
    i, j = np.ogrid[: shape[0], : shape[1]]
    height = 1 / np.hypot(1 / legs[0], 1 / legs[1])
    return np.asarray((1 - i / legs[0] - j / legs[1]) * height > -margin)


def _step(grey: Array, allowed: Array, legs: tuple[float, float], pixel_mm: float) -> float:
    """How much brighter it is 3 mm inside the hypotenuse than 3 mm outside, in the darkest quarter of its length."""
    way = np.linspace(0.08, 0.92, 60)
    normal = np.array([1 / legs[0], 1 / legs[1]])
    normal /= np.linalg.norm(normal)
    line = np.array([way * legs[0], (1 - way) * legs[1]])
    sides = []
    for offset_mm in (-3.0, 3.0):
        i, j = np.rint(line + normal[:, None] * offset_mm / pixel_mm).astype(int)
        i, j = np.clip(i, 0, grey.shape[0] - 1), np.clip(j, 0, grey.shape[1] - 1)
        if allowed[i, j].mean() < 0.85:
            return 0.0
        sides.append(grey[i, j])
    return float(np.percentile(sides[0] - sides[1], 25))
