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
from lib.errors import GridMismatch, LabelRefineryError, UnacceptableFile, UnknownStructure, UnreadableImage
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
        UnacceptableFile: if nothing is left of a region where others overlap it, or it encloses no voxel's centre.
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
        drawn = [_contour(item, series, what) for item in contours.get(int(region.ROINumber), ())]
        filled = _filled(drawn, series.grid.shape)
        if drawn and not filled.any():
            _tell_or_refuse_nothing(drawn, series, what, remark)
        claims.put(mask, filled, structure.value)
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


def _tell_or_refuse_nothing(contours: list[Contour], series: SourceSeries, what: str, remark: Remark) -> None:
    """Of a region that has contours, but no voxel: beside the image it is absent, within it would get lost."""
    edge = np.array(series.grid.shape[:2]) - 0.5
    if any((one.corners.min(axis=0) < edge).all() and (one.corners.max(axis=0) > -0.5).all() for one in contours):
        raise UnacceptableFile(
            f"{what} has {len(contours)} contours, but none encloses the centre of a voxel, so it would count as "
            "looked for and absent. Draw it larger, or leave the region out."
        )
    remark(f"{what} lies wholly beside the image, and counts as looked for and absent.")


Window = tuple[slice, slice]


@dataclass(frozen=True)
class _Area:
    """The voxels of a slice that a contour encloses.

    Attributes:
        window: the smallest one that holds them.
        inside: bool, of the shape of the window.
    """

    window: Window
    inside: Array

    @classmethod
    def of(cls, window: Window, inside: Array) -> _Area | None:
        """Cut to its window; ``None`` if nothing is inside."""
        if not inside.any():
            return None
        cut: list[slice] = []
        for axis in (0, 1):
            first, last = np.flatnonzero(inside.any(axis=1 - axis))[[0, -1]].tolist()
            cut.append(slice(first, last + 1))
        rows, columns = (slice(w.start + c.start, w.start + c.stop) for w, c in zip(window, cut, strict=True))
        return cls((rows, columns), inside[tuple(cut)])

    def lies_in(self, other: _Area) -> bool:
        """Whether another one has all its voxels."""
        pairs = list(zip(self.window, other.window, strict=True))
        if any(mine.start < theirs.start or mine.stop > theirs.stop for mine, theirs in pairs):
            return False
        part = other.inside[tuple(slice(m.start - t.start, m.stop - t.start) for m, t in pairs)]
        return not (self.inside & ~part).any()


def _filled(contours: list[Contour], shape: tuple[int, int, int]) -> Array:
    """Bool (I, J, K): what the contours of each slice enclose, and the voxels on one of them."""
    filled, outline = np.zeros(shape, bool), np.zeros(shape, bool)
    by_slice: dict[int, list[Contour]] = {}
    for contour in contours:
        by_slice.setdefault(contour.k, []).append(contour)
    for k, of_slice in by_slice.items():
        areas = []
        for contour in of_slice:
            for where, is_inside, is_outline in _rasterised(contour.corners, shape):
                areas.append(_Area.of(where, is_inside))
                outline[(*where, k)] |= is_outline
        found = [area for area in areas if area is not None]
        if any(contour.is_exclusive for contour in of_slice):
            for area in found:
                filled[(*area.window, k)] ^= area.inside
        else:
            _draw_enclosed(found, filled[:, :, k])
    return filled | outline


def _draw_enclosed(areas: list[_Area], plane: Array) -> None:
    """Draws what contours enclose: areas within another one are holes in it, and islands in these; others are united.

    What is given twice, or drawn in two parts that overlap, leaves no hole. Slices may have hundreds of contours, most
    of them apart, so they are compared by their windows first.

    Args:
        areas: of one slice.
        plane: bool (I, J), is drawn into.
    """
    distinct: list[_Area] = []
    for area in sorted(areas, key=lambda one: int(np.count_nonzero(one.inside)), reverse=True):
        around = [other for other in distinct if area.lies_in(other)]
        if any(other.lies_in(area) for other in around):
            continue
        distinct.append(area)
        if len(around) % 2:
            plane[area.window] &= ~area.inside
        else:
            plane[area.window] |= area.inside


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
