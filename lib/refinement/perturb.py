"""Rough masks made from an expert's, for when few real ones were collected: drawn once with a seed, then replayable.

Everything happens slice by slice, as people draw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from lib.metrics.masks import joint_box, slice_axis
from lib.metrics.overlap import dice_over_structures
from lib.volume import Array

LARGEST_CORNER = 0.3
"""How far a corner of a structure's box moves at strength 1, in edges of the box."""

LARGEST_GROWTH = 0.3
"""How far its outline moves at strength 1, in its inner radius."""

LARGEST_SHIFT = 0.2
"""How far a single slice moves at strength 1, in edges of the box."""

DROPPED = 0.1
SHIFTED = 0.2
"""Share of the slices that are dropped and shifted at strength 1."""

MERGED = 0.5
"""How often holes are filled and gaps closed, whatever the strength."""

STRONGEST = 2.0
HALVINGS = 6
"""Between no perturbation and the strongest the wanted strength is looked for, to 0.03."""

ENOUGH_MASKS = 24
"""A strength is looked for with so many masks at most: each is made rough ``HALVINGS`` times."""

LARGEST_BOX = 250_000
"""Voxels around the structures of a mask; in larger ones a strength is looked for in steps of several voxels, since all
that is done goes by the structure's own size."""

FAR_MM = 1e6
"""Distance of neighbouring slices where only distances within a slice matter."""

CORNERS = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float64)
"""Of a structure's box in the plane of the slices, in its own edges."""


@dataclass(frozen=True)
class Perturbation:
    """All that a rough hand does to one structure, in the order in which it is done.

    Attributes:
        gap_mm: holes are filled and gaps up to this wide closed; 0: nothing of that.
        growth_mm: how far the outline moves outwards; negative: inwards.
        corners: how far each of ``CORNERS`` moves along both axes of the plane, in edges of the box; what is between
            moves along in perspective.
        shifts: by slice, counted from the structure's first one: voxels moved along both axes of the plane.
        dropped: slices that stay empty, counted likewise.
    """

    gap_mm: float = 0.0
    growth_mm: float = 0.0
    corners: tuple[tuple[float, float], ...] = ((0.0, 0.0),) * 4
    shifts: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    dropped: frozenset[int] = frozenset()


def random_perturbations(
    mask: Array, spacing_mm: tuple[float, float, float], seed: int, strength: float = 1.0
) -> dict[int, Perturbation]:
    """What a rough hand might do to each structure, by label value.

    Args:
        mask: uint8 (I, J, K) of label values.
        spacing_mm: voxel edge lengths along I, J, K.
        seed: equal seeds give equal perturbations of equal masks.
        strength: of everything, from 0.
    """
    generator = np.random.default_rng(seed)
    planes, plane_mm = _as_planes(mask, spacing_mm)
    return {int(value): _drawn(planes == value, plane_mm, generator, strength) for value in _values(mask)}


def perturbed(mask: Array, spacing_mm: tuple[float, float, float], by_value: Mapping[int, Perturbation]) -> Array:
    """The rough mask on the same grid; equal arguments give equal masks.

    Structures that are not named stay as they are. Where two meet afterwards, the larger label value is seen.

    Args:
        mask: uint8 (I, J, K) of label values.
        spacing_mm: voxel edge lengths along I, J, K.
        by_value: what is done to each structure.
    """
    planes, plane_mm = _as_planes(mask, spacing_mm)
    rough = np.zeros_like(planes)
    for value in _values(mask):
        marked = planes == value
        if value not in by_value:
            rough[marked] = value
            continue
        window = _window(marked, plane_mm, by_value[value])
        rough[window][_roughened(marked[window], plane_mm, by_value[value])] = value
    return np.ascontiguousarray(np.moveaxis(rough, 0, slice_axis(mask.shape, spacing_mm)))


def strength_for(masks: Sequence[tuple[Array, tuple[float, float, float]]], wanted_dice: float, seed: int = 0) -> float:
    """The strength at which such masks, made rough, have about this mean Dice with their source.

    Args:
        masks: at least one, each uint8 (I, J, K) of label values, not empty, with its voxel edge lengths in mm.
        wanted_dice: mean over the structures of a mask, and over the masks.
        seed: of the first mask's perturbations; each further one has the next.

    Returns:
        Between 0 and ``STRONGEST``; one of these if no strength in between is mild or rough enough.
    """
    some = [_in_steps(*mask) for mask in masks[:: math.ceil(len(masks) / ENOUGH_MASKS)]]
    low, high = 0.0, STRONGEST
    for _ in range(HALVINGS):
        strength = (low + high) / 2
        agreement = [
            dice_over_structures(
                mask, perturbed(mask, spacing_mm, random_perturbations(mask, spacing_mm, seed + at, strength))
            )
            for at, (mask, spacing_mm) in enumerate(some)
        ]
        low, high = (strength, high) if np.mean(agreement) > wanted_dice else (low, strength)
    return (low + high) / 2


def _in_steps(mask: Array, spacing_mm: tuple[float, float, float]) -> tuple[Array, tuple[float, float, float]]:
    """A mask in so large steps that it is made rough within a second, and its voxel edges."""
    box = mask[joint_box(mask > 0, mask > 0)]
    axes = max(sum(size > 1 for size in box.shape), 1)
    step = math.ceil((box.size / LARGEST_BOX) ** (1 / axes))
    coarse = mask[::step, ::step, ::step]
    i, j, k = spacing_mm
    return (coarse, (step * i, step * j, step * k)) if step > 1 and coarse.any() else (mask, spacing_mm)


def _as_planes(mask: Array, spacing_mm: tuple[float, float, float]) -> tuple[Array, tuple[float, float]]:
    """The mask with its slices along the first axis, and the pixel edges in their plane."""
    axis = slice_axis(mask.shape, spacing_mm)
    first, second = (edge for other, edge in enumerate(spacing_mm) if other != axis)
    return np.moveaxis(mask, axis, 0), (first, second)


def _values(mask: Array) -> list[int]:
    return [int(value) for value in np.unique(mask) if value]


def _drawn(
    marked: Array, plane_mm: tuple[float, float], generator: np.random.Generator, strength: float
) -> Perturbation:
    """One perturbation of a structure, bool (slices, pixels, pixels)."""
    box = joint_box(marked, marked)
    slices, *sizes = marked[box].shape
    radius_mm = float(_depth_mm(marked[box], plane_mm).max())
    several = np.arange(slices) if slices > 1 else np.arange(0)
    dropped = several[generator.random(len(several)) < strength * DROPPED]
    shifted = several[generator.random(len(several)) < strength * SHIFTED]
    moves = generator.uniform(-1, 1, (len(shifted), 2)) * strength * LARGEST_SHIFT * sizes
    return Perturbation(
        gap_mm=float(generator.uniform(0, radius_mm)) if generator.random() < MERGED else 0.0,
        growth_mm=float(generator.uniform(-1, 1) * strength * LARGEST_GROWTH * radius_mm),
        corners=tuple((float(i), float(j)) for i, j in generator.uniform(-1, 1, (4, 2)) * strength * LARGEST_CORNER),
        shifts={int(at): (round(i), round(j)) for at, (i, j) in zip(shifted, moves.tolist(), strict=True)},
        # One slice is always left.
        dropped=frozenset(map(int, dropped[: slices - 1])),
    )


def _window(marked: Array, plane_mm: tuple[float, float], how: Perturbation) -> tuple[slice, slice, slice]:
    """What holds a structure before and after its perturbation: images are large and structures small.

    Args:
        marked: bool (slices, pixels, pixels) of the image.
        plane_mm: pixel edges.
        how: what will be done to the structure.
    """
    first, *spans = joint_box(marked, marked)
    box = np.array([(span.start, span.stop) for span in spans])
    edges, size = box[:, 1] - box[:, 0], np.array(marked.shape[1:])
    growth = np.ceil(max(how.growth_mm, 0.0) / np.array(plane_mm)) + 1
    grown = np.stack([box[:, 0] - growth, box[:, 1] + growth])
    corners = (grown[0] + CORNERS * (grown[1] - grown[0]) - box[:, 0]) / edges
    there = np.c_[corners, np.ones(4)] @ _homography(CORNERS, CORNERS + np.array(how.corners)).T
    if (there[:, 2] <= 0).any():
        # The corners moved past each other: the structure may be anywhere.
        return first, slice(0, int(size[0])), slice(0, int(size[1]))
    reached = np.concatenate([grown, there[:, :2] / there[:, 2:] * edges + box[:, 0]])
    shift = np.abs(list(how.shifts.values()) or [(0, 0)]).max(axis=0)
    low = np.clip(np.floor(reached.min(axis=0)) - shift, 0, size).astype(int)
    high = np.clip(np.ceil(reached.max(axis=0)) + shift, 0, size).astype(int)
    return first, slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))


def _roughened(marked: Array, plane_mm: tuple[float, float], how: Perturbation) -> Array:
    """A structure after its perturbation, bool (slices, pixels, pixels), of the slices in which it lies."""
    _, *box = joint_box(marked, marked)
    rough = _merged(marked, plane_mm, how.gap_mm) if how.gap_mm else marked
    rough = _moved(rough, plane_mm, how.growth_mm)
    rough = _warped(rough, np.array([(span.start, span.stop) for span in box]), np.array(how.corners))
    for at, shift in how.shifts.items():
        rough[at] = ndimage.shift(rough[at], shift, order=0)
    rough[list(how.dropped)] = False
    return rough


def _moved(marked: Array, plane_mm: tuple[float, float], by_mm: float) -> Array:
    """The structure with its outline, which runs between pixels, so far outwards; inwards if negative."""
    if by_mm < 0:
        return np.asarray(_depth_mm(marked, plane_mm) > -by_mm)
    away_mm = ndimage.distance_transform_edt(~marked, (FAR_MM, *plane_mm)) - min(plane_mm) / 2
    return np.asarray(marked | (away_mm < by_mm))


def _depth_mm(marked: Array, plane_mm: tuple[float, float]) -> Array:
    """How far inside the outline of its slice each pixel is, negative outside; what lies around is outside."""
    wide = np.pad(marked, ((0, 0), (1, 1), (1, 1)))
    depth_mm = ndimage.distance_transform_edt(wide, (FAR_MM, *plane_mm)) - min(plane_mm) / 2
    return np.asarray(depth_mm[:, 1:-1, 1:-1])


def _merged(marked: Array, plane_mm: tuple[float, float], gap_mm: float) -> Array:
    """The structure with gaps closed and holes filled."""
    reach = int(np.ceil(gap_mm / min(plane_mm)))
    grown = _moved(np.pad(marked, ((0, 0), (reach, reach), (reach, reach))), plane_mm, gap_mm / 2)
    closed = _moved(grown, plane_mm, -gap_mm / 2)[:, reach:-reach, reach:-reach] | marked
    within_slice = ndimage.generate_binary_structure(3, 1) & (np.indices((3, 3, 3))[0] == 1)
    return np.asarray(ndimage.binary_fill_holes(closed, within_slice))


def _warped(marked: Array, box: Array, moves: Array) -> Array:
    """The structure seen in perspective.

    Args:
        marked: bool (slices, pixels, pixels).
        box: first and last + 1 pixel along both axes, (2, 2).
        moves: of the four corners, in edges of the box, (4, 2).
    """
    edges = box[:, 1] - box[:, 0]
    at = (np.indices(marked.shape[1:]).reshape(2, -1).T + 0.5 - box[:, 0]) / edges
    there = np.c_[at, np.ones(len(at))] @ _homography(CORNERS + moves, CORNERS).T
    ahead = there[:, 2] > 0
    source = np.zeros((len(at), 2), int)
    source[ahead] = np.floor(there[ahead, :2] / there[ahead, 2:] * edges + box[:, 0])
    is_seen = ahead & (source >= 0).all(1) & (source < marked.shape[1:]).all(1)
    warped = np.zeros((len(marked), len(at)), bool)
    warped[:, is_seen] = marked[:, source[is_seen, 0], source[is_seen, 1]]
    return warped.reshape(marked.shape)


def _homography(points: Array, onto: Array) -> Array:
    """The perspective map (3, 3) that takes four points (4, 2) onto four others."""
    rows = []
    for (i, j), (u, v) in zip(points, onto, strict=True):
        rows += [(i, j, 1, 0, 0, 0, -u * i, -u * j), (0, 0, 0, i, j, 1, -v * i, -v * j)]
    return np.append(np.linalg.solve(np.array(rows), onto.ravel()), 1.0).reshape(3, 3)
