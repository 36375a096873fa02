"""What a file says of its lattice, and whether there can be such a one: one rule for all formats."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.errors import UnreadableImage

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

EDGES_MM = (1e-6, 1e5)
"""The edge of a voxel lies between these: some programs count in micrometres or metres, none in light years."""

GRID_TOLERANCE_MM = 1e-3
"""How far the corners of two grids may lie apart and still be the same lattice."""

FARTHEST_MM = 1e7
"""How far the first voxel may lie from the origin: beyond that, the places of two voxels are no longer told apart."""

HALF_VOXEL = 0.5
"""Two lattices that lie closer together than this everywhere have the same voxels: the nearest one is the same."""

FLATTEST = 0.05
"""Volume of the smallest box of three unit vectors along the axes; 1 are right angles, a tilted gantry has 0.7."""


def three_axes(shape: tuple[int, ...], name: str) -> tuple[int, int, int]:
    """The shape with axes of one voxel added or dropped at the end.

    Raises:
        UnreadableImage: if there are more than three, or one has no voxel.
    """
    trimmed = list(shape)
    while len(trimmed) > 3 and trimmed[-1] == 1:
        trimmed.pop()
    trimmed += [1] * (3 - len(trimmed))
    if len(trimmed) > 3:
        raise UnreadableImage(
            f"{name} has {len(shape)} axes ({'x'.join(map(str, shape))}); wanted is one grey volume of 3 axes. "
            "Split the series into single volumes."
        )
    if min(trimmed) < 1:
        raise UnreadableImage(f"{name} holds no voxels (shape {'x'.join(map(str, shape))}).")
    return trimmed[0], trimmed[1], trimmed[2]


def plausible_affine(affine: NDArray[Any], name: str) -> NDArray[np.float64]:
    """The affine as float64 (4, 4), if voxels can lie like that.

    Args:
        affine: from voxel indices to millimetres.
        name: of the file or series, for messages.

    Raises:
        UnreadableImage: if a number is not finite, an edge is none of a voxel, the image lies too far away, or two
            axes run so nearly in one direction that places cannot be turned into voxels.
    """
    matrix = np.asarray(affine, np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise UnreadableImage(
            f"{name} has no usable voxel size or orientation in its header: not all of it are numbers. Export it again."
        )
    edges_mm = np.linalg.norm(matrix[:3, :3], axis=0)
    shortest, longest = EDGES_MM
    if edges_mm.min() < shortest or edges_mm.max() > longest:
        told = "x".join(f"{edge:.3g}" for edge in edges_mm)
        raise UnreadableImage(
            f"{name} has no usable voxel size or orientation in its header: its voxels are {told} mm large, wanted "
            f"are edges from {shortest:g} to {longest:g} mm. Export it again."
        )
    box = abs(float(np.linalg.det(matrix[:3, :3] / edges_mm)))
    if box < FLATTEST:
        raise UnreadableImage(
            f"{name} has no usable voxel size or orientation in its header: its axes lie nearly in one plane (three "
            f"unit vectors along them span {box:.2g}, wanted is at least {FLATTEST:g}). Export it again."
        )
    if np.abs(matrix[:3, 3]).max() > FARTHEST_MM:
        raise UnreadableImage(
            f"{name} lies {np.abs(matrix[:3, 3]).max():.3g} mm from the origin; wanted is at most {FARTHEST_MM:g} mm. "
            "Export it again."
        )
    return matrix


def at_right_angles(affine: NDArray[Any]) -> NDArray[np.float64]:
    """The affine with its axes at right angles, as near as can be: edges and first voxel stay, as ITK has it.

    Args:
        affine: plausible, (4, 4).
    """
    edges_mm = np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(affine[:3, :3] / edges_mm)
    straight = np.array(affine, np.float64)
    straight[:3, :3] = left @ right * edges_mm
    return straight


def corners_of(affine: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Float (8, 3): the outermost voxel centres in millimetres."""
    indices = np.array(list(itertools.product(*((0, size - 1) for size in shape))))
    return np.asarray(indices @ affine[:3, :3].T + affine[:3, 3], np.float64)


def farthest_mm(affine: NDArray[Any], other: NDArray[Any], shape: tuple[int, ...]) -> float:
    """How far a voxel lies from the same one of another lattice, at most."""
    return float(np.abs(corners_of(affine, shape) - corners_of(other, shape)).max())


def farthest_voxels(affine: NDArray[Any], other: NDArray[Any], shape: tuple[int, ...]) -> float:
    """The same in voxels along the axis along which it is most."""
    between = (corners_of(other, shape) - corners_of(affine, shape)).T
    return float(np.abs(np.linalg.solve(affine[:3, :3], between)).max())
