"""A first guess by intensity alone: what lies in a structure's range, in large connected pieces without holes."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from lib.task import Structure, Task
from lib.volume import Array, Volume, in_numbers

SMOOTHING_MM = 1.0
"""Standard deviation of the Gaussian that takes the noise away; at least half a voxel, where voxels are large."""

OPENING_MM = 4.5
"""Bridges to neighbours that are thinner than twice this are cut; so nothing thinner is found."""

SPECK_MM3 = 1000.0
"""Smaller pieces are noise or vessels; on a single slice its thickness counts."""

SHARE_OF_LARGEST = 0.3
"""Pieces of at least this share of the largest one are kept: an organ may be a pair."""

WORKING_MM = 2.0
"""Pieces are looked for on voxels of about this edge: finer ones cost minutes and show the same pieces."""


def threshold(volume: Volume, task: Task) -> Array:
    """A mask of every structure that has an intensity range.

    Where ranges overlap, the structure that the task names first has the voxel. A structure without a range stays
    empty, which says nothing about the image: see ``drafted_structures``.

    Args:
        volume: an image of any orientation and spacing; HU on CT. Voxels that are no number count as dark.
        task: its structures' ranges include both bounds.

    Returns:
        uint8 (I, J, K) of label values on the image's grid.
    """
    grey = in_numbers(volume.voxels).astype(np.float32, copy=False)
    width_mm = max(SMOOTHING_MM, min(volume.grid.spacing_mm) / 2)
    smooth = ndimage.gaussian_filter(grey, [width_mm / edge for edge in volume.grid.spacing_mm])
    steps = [max(1, round(WORKING_MM / edge)) for edge in volume.grid.spacing_mm]
    edges_mm = [edge * step for edge, step in zip(volume.grid.spacing_mm, steps, strict=True)]
    mask = np.zeros(smooth.shape, np.uint8)
    for structure in _with_range(task):
        low, high = structure.range or (np.inf, -np.inf)
        free = mask == 0
        within = (smooth >= low) & (smooth <= high) & free
        body = _filled(_large_pieces(_thinned(within, steps), edges_mm))
        # The coarse body decides what belongs together, the image's own voxels where it ends.
        inside = _thickened(ndimage.binary_erosion(body, border_value=1), steps, within.shape)
        around = _thickened(ndimage.binary_dilation(body, _neighbours(steps)), steps, within.shape)
        mask[(around & within | inside) & free] = structure.value
    return mask


def drafted_structures(task: Task) -> tuple[str, ...]:
    """Names of the structures that ``threshold`` looks for."""
    return tuple(structure.name for structure in _with_range(task))


def _with_range(task: Task) -> list[Structure]:
    return [structure for structure in task.structures if structure.range is not None]


def _thinned(voxels: Array, steps: list[int]) -> Array:
    """The voxels in the middle of blocks of so many voxels."""
    middles = [
        np.minimum(np.arange(0, size, step) + step // 2, size - 1)
        for size, step in zip(voxels.shape, steps, strict=True)
    ]
    return voxels[np.ix_(*middles)]


def _thickened(voxels: Array, steps: list[int], shape: tuple[int, ...]) -> Array:
    """The same blocks again, each filled with its voxel, cut to the shape."""
    for axis, (size, step) in enumerate(zip(shape, steps, strict=True)):
        voxels = np.repeat(voxels, step, axis).take(np.arange(size), axis)
    return voxels


def _neighbours(steps: list[int]) -> Array:
    """Bool (3, 3, 3): the blocks into which a coarse body may end too early."""
    neighbours = ndimage.generate_binary_structure(3, 1)
    for axis, step in enumerate(steps):
        if step == 1:
            neighbours[tuple([0, 2] if other == axis else slice(None) for other in range(3))] = False
    return neighbours


def _large_pieces(within: Array, edges_mm: list[float]) -> Array:
    """Bool (I, J, K): the pieces that are left when thin bridges are cut, without the small ones."""
    pieces, _ = ndimage.label(_opened(within, edges_mm))
    sizes_mm3 = np.bincount(pieces.ravel()) * np.prod(edges_mm)
    sizes_mm3[0] = 0
    return np.asarray((sizes_mm3 >= max(SPECK_MM3, SHARE_OF_LARGEST * sizes_mm3.max()))[pieces])


def _opened(within: Array, edges_mm: list[float]) -> Array:
    """What a ball of the opening's radius can reach inside; on a single slice the ball is a disc."""
    if within.all():
        return within
    # Beyond the edge of the image everything goes on as it is there, also above and below a single slice.
    wide = np.pad(within, [(1 + int(OPENING_MM / edge),) * 2 for edge in edges_mm], mode="edge")
    core = ndimage.distance_transform_edt(wide, edges_mm) > OPENING_MM
    if not core.any():
        return np.zeros_like(within)
    reached = ndimage.distance_transform_edt(~core, edges_mm) <= OPENING_MM
    inner = tuple(slice(1 + int(OPENING_MM / edge), -1 - int(OPENING_MM / edge)) for edge in edges_mm)
    return np.asarray(reached[inner] & within)


def _filled(body: Array) -> Array:
    """The mask without holes; on a single slice a hole is what it surrounds within the slice."""
    across = [axis for axis, size in enumerate(body.shape) if size == 1]
    flat = np.squeeze(body, axis=tuple(across))
    return np.asarray(ndimage.binary_fill_holes(flat)).reshape(body.shape) if flat.ndim else body
