"""The room inside the skull on CT, by bone alone."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from lib.pieces import largest_piece
from lib.volume import Array

BONE_HU = 200.0
"""Twice as dense as blood, and less dense than the skull even where it fills a quarter of a voxel."""

TISSUE_HU = (-30.0, 300.0)
"""What can lie in the skull: no air, no fat, no bone."""

GAP_MM = 5.0
"""Half of the widest gap of the skull, such as a suture or a foramen, that is taken for bone."""

NECK_MM = 4.0
"""Half of the widest passage through which the inside of the skull is not followed, such as into an orbit."""

IN_PLANE = ndimage.generate_binary_structure(3, 1) & np.array([False, True, False])
"""Neighbours within an axial slice."""


def cranial_cavity(hu: Array, spacing_mm: tuple[float, float, float]) -> Array:
    """Where brain, fluid and blood are: bool (I, J, K).

    Bone is looked for slice by slice, so that single slices and scans that end below the vertex work too.

    Args:
        hu: float (I, J, K) along right, anterior, superior.
        spacing_mm: voxel edges.

    Returns:
        The largest piece of tissue that bone surrounds within its slice; empty where there is no such piece, for
        example in another body part or where much of the skull has been removed.
    """
    closed = _grown(hu > BONE_HU, GAP_MM, spacing_mm)
    outside, _ = ndimage.label(~closed, IN_PLANE)
    edges = np.concatenate([outside[[0, -1]].ravel(), outside[:, [0, -1]].ravel()])
    enclosed = ~closed & ~np.isin(outside, edges)
    # Bone was grown inwards too: growing back stops at it.
    tissue = (hu > TISSUE_HU[0]) & (hu < TISSUE_HU[1])
    core = largest_piece(~_grown(~(enclosed & tissue), NECK_MM, spacing_mm))
    if not core.any():
        return core
    return np.asarray(_grown(core, GAP_MM + NECK_MM + 1, spacing_mm) & tissue)


def _grown(mask: Array, margin_mm: float, spacing_mm: tuple[float, float, float]) -> Array:
    """All within a distance of a mask, within its slice."""
    return in_plane_distance_mm(~mask, spacing_mm) <= margin_mm


def in_plane_distance_mm(mask: Array, spacing_mm: tuple[float, float, float]) -> Array:
    """Distance float (I, J, K) of each voxel of a mask to the nearest one that is not in it, within its slice."""
    flat = [ndimage.distance_transform_edt(mask[:, :, k], sampling=spacing_mm[:2]) for k in range(mask.shape[2])]
    whole = np.stack(flat, axis=2)
    # In a slice that the mask fills there is nothing to measure to.
    whole[:, :, mask.all(axis=(0, 1))] = np.inf
    return np.asarray(whole)
