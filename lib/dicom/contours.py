"""Contours of radiotherapy (RTSTRUCT, PS3.3 section A.19) as masks."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.path import Path as Outline
from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage

from lib.dataset import reason_of
from lib.dicom.provenance import LONGEST_TEXT
from lib.dicom.source import SourceSeries, dataset_of
from lib.errors import GridMismatch, LabelRefineryError, UnknownStructure, UnreadableImage
from lib.geometry import LPS_FROM_RAS
from lib.opened import Source
from lib.overlaps import Claims, Remark, nobody
from lib.task import Structure, Task, listed, name_key
from lib.volume import Array

PLANE_TOLERANCE_MM = 0.1
"""How far the points of a contour may lie off a slice; planning systems round them."""

OUTLINE_VOXELS = 1e-3
"""How near to the outline the centre of a voxel lies on it."""

EXCLUSIVE = "CLOSEDPLANAR_XOR"

CLOSED = ("CLOSED_PLANAR", EXCLUSIVE)
"""ContourGeometricType (3006,0042) of contours that enclose something."""


@dataclass(frozen=True)
class Contour:
    """One closed contour on one slice.

    Attributes:
        k: index of the slice.
        corners: (n, 2), indices along I and J.
        is_exclusive: whether what several of its slice enclose is told by exclusive or (CLOSEDPLANAR_XOR).
    """

    k: int
    corners: Array
    is_exclusive: bool = False


def read_contours(
    source: Dataset | Source | bytes,
    series: SourceSeries,
    task: Task,
    leave_out: Collection[str] = (),
    remark: Remark = nobody,
) -> tuple[Array, tuple[str, ...]]:
    """The contours of a structure set as the task's mask on the image's grid.

    A voxel belongs to a structure if its centre lies inside the contours or on one. Contours within contours are holes,
    and islands in them; contours that overlap otherwise, or come twice, are united. What lies beside the image is cut
    off. Where regions overlap, the structure with the larger label value has the voxels.

    Args:
        source: the object, its file or its bytes.
        series: the image.
        task: the structures to choose from; regions are matched by their names.
        leave_out: names of regions that are no structures of the task, such as the outline of the body.
        remark: is told how many voxels a structure lost to another one.

    Returns:
        uint8 (I, J, K), and the names of the structures that have a region, in the order of the task.

    Raises:
        UnknownStructure: if a region is neither a structure of the task nor left out.
        GridMismatch: if the contours lie in another frame of reference or between the slices.
        UnreadableImage: if it is no structure set, or a damaged one.
        UnacceptableFile: if nothing is left of a region where others overlap it.
    """
    try:
        dataset: Any = dataset_of(source)
        if dataset.get("SOPClassUID") != RTStructureSetStorage:
            found = dataset.get("SOPClassUID")
            raise UnreadableImage(f"A DICOM structure set is wanted, found {getattr(found, 'name', found)}.")
        return _read(dataset, series, task, {name_key(name) for name in leave_out}, remark)
    except LabelRefineryError:
        raise
    # The reader raises whatever a damaged object makes it stumble over.
    except Exception as error:
        raise UnreadableImage(f"The structure set cannot be read: {reason_of(error)}. Export it again.") from error


def _read(
    dataset: Any, series: SourceSeries, task: Task, left_out: set[str], remark: Remark
) -> tuple[Array, tuple[str, ...]]:
    regions = sorted(
        (one for one in dataset.StructureSetROISequence if name_key(str(one.ROIName)) not in left_out),
        key=lambda one: int(one.ROINumber),
    )
    structures = _matched([str(one.ROIName) for one in regions], task)
    contours = {int(one.ReferencedROINumber): one.get("ContourSequence") or () for one in dataset.ROIContourSequence}
    _refuse_other_numbers(dataset)
    mask, claims = np.zeros(series.grid.shape, np.uint8), Claims.of(task)
    for region, structure in zip(regions, structures, strict=True):
        what = f"The region {str(region.ROIName)!r}"
        series.refuse_other_frame_of_reference(str(region.get("ReferencedFrameOfReferenceUID") or ""), what)
        items = contours.get(int(region.ROINumber), ())
        claims.put(mask, _filled([_contour(item, series, what) for item in items], series.grid.shape), structure.value)
    claims.settle(mask, remark)
    seen = {structure.name for structure in structures}
    return mask, tuple(one.name for one in task.structures if one.name in seen)


def _refuse_other_numbers(dataset: Any) -> None:
    """Refuses what does not say for each contour to which region it belongs."""
    described = [int(one.ROINumber) for one in dataset.StructureSetROISequence]
    drawn = [int(one.ReferencedROINumber) for one in dataset.ROIContourSequence]
    if len({*described}) < len(described) or len({*drawn}) < len(drawn) or not {*drawn} <= {*described}:
        raise UnreadableImage(
            f"The structure set numbers its regions {described} and has contours of the regions {drawn}, wanted are "
            "the same numbers, each once. Export it again."
        )


def _matched(names: list[str], task: Task) -> list[Structure]:
    structures = [task.structure(name) for name in names]
    unknown = [name for name, structure in zip(names, structures, strict=True) if structure is None]
    if unknown:
        told = ", ".join(repr(name[:LONGEST_TEXT]) for name in unknown)
        raise UnknownStructure(
            f"The structure set has the regions {told}, the task has {listed(task.structures)}. Rename them, or say "
            "that they are to be left out."
        )
    return [structure for structure in structures if structure]


def _contour(item: Any, series: SourceSeries, what: str) -> Contour:
    if item.ContourGeometricType not in CLOSED:
        raise UnreadableImage(
            f"{what} has a contour of the type {item.ContourGeometricType}, wanted is {' or '.join(CLOSED)}. "
            "Leave the region out."
        )
    points_mm = np.array(item.ContourData, float)
    if points_mm.size % 3 or not points_mm.size or not np.isfinite(points_mm).all():
        raise UnreadableImage(
            f"{what} has a contour of {points_mm.size} numbers, wanted are three finite ones for each corner. Export "
            "it again."
        )
    points_mm = points_mm.reshape(-1, 3)
    k = series.nearest(points_mm.mean(axis=0))
    slice_ = series.slices[k]
    off_mm = np.abs(points_mm @ slice_.normal - slice_.position_mm).max()
    if off_mm > PLANE_TOLERANCE_MM:
        raise GridMismatch(
            f"{what} has a contour from {_told(points_mm.min(axis=0))} to {_told(points_mm.max(axis=0))} mm that lies "
            f"up to {off_mm:.2f} mm off the nearest slice of {series.name} ({series.grid}). Export the contours on "
            "this series."
        )
    affine = LPS_FROM_RAS @ series.slice_grid(k).affine
    indices = np.linalg.solve(affine[:3, :3], (points_mm - affine[:3, 3]).T).T
    return Contour(k, indices[:, :2], item.ContourGeometricType == EXCLUSIVE)


def _told(point_mm: Array) -> str:
    return f"({', '.join(f'{value:.1f}' for value in point_mm)})"


def _filled(contours: list[Contour], shape: tuple[int, int, int]) -> Array:
    """Bool (I, J, K): what the contours of each slice enclose, and the voxels on one of them."""
    filled, outline = np.zeros(shape, bool), np.zeros(shape, bool)
    for k in sorted({contour.k for contour in contours}):
        of_slice = [contour for contour in contours if contour.k == k]
        enclosed = []
        for contour in of_slice:
            inside = np.zeros(shape[:2], bool)
            for where, is_inside, is_outline in _rasterised(contour.corners, shape):
                inside[where] = is_inside
                outline[(*where, k)] |= is_outline
            enclosed.append(inside)
        is_exclusive = any(contour.is_exclusive for contour in of_slice)
        filled[:, :, k] = np.logical_xor.reduce(enclosed) if is_exclusive else _enclosed(enclosed)
    return filled | outline


def _enclosed(areas: list[Array]) -> Array:
    """Bool (I, J): areas within another one are holes in it, and islands in these; all others are united.

    What is given twice, or drawn in two parts that overlap, leaves no hole.
    """
    distinct: list[Array] = []
    for area in sorted(areas, key=np.count_nonzero, reverse=True):
        if not any(np.array_equal(area, other) for other in distinct):
            distinct.append(area)
    filled = np.zeros_like(areas[0])
    for number, area in enumerate(distinct):
        around = sum(not (area & ~other).any() for other in distinct[:number])
        filled = filled & ~area if around % 2 else filled | area
    return filled


def _rasterised(corners: Array, shape: tuple[int, int, int]) -> Iterator[tuple[tuple[slice, slice], Array, Array]]:
    """The voxels around one contour, which of them it encloses and which it touches; nothing beside the image."""
    low = np.maximum(np.ceil(corners.min(axis=0) - OUTLINE_VOXELS), 0).astype(int)
    high = np.minimum(np.floor(corners.max(axis=0) + OUTLINE_VOXELS) + 1, shape[:2]).astype(int)
    if (low >= high).any():
        return
    columns, rows = np.mgrid[low[0] : high[0], low[1] : high[1]]
    centres = np.column_stack([columns.ravel(), rows.ravel()])
    # A positive radius widens an outline that runs anticlockwise, and makes one that runs clockwise narrower.
    one, other = (Outline(corners).contains_points(centres, radius=by) for by in (OUTLINE_VOXELS, -OUTLINE_VOXELS))
    is_inside = (one & other).reshape(columns.shape)
    is_touched = (one | other).reshape(columns.shape)
    # A contour of one voxel or one row of voxels, as some programs write it, has no area: its corners count.
    nearest = np.rint(corners)
    is_centre = (np.abs(corners - nearest) < OUTLINE_VOXELS) & (nearest >= low) & (nearest < high)
    i, j = (nearest[is_centre.all(axis=1)].astype(int) - low).T
    is_touched[i, j] = True
    yield (slice(low[0], high[0]), slice(low[1], high[1])), is_inside, is_touched & ~is_inside
