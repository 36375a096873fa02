"""What a mask shows, in numbers and one sentence, for people who look at a case."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from contourpy import contour_generator
from scipy import ndimage
from scipy.spatial import distance

from lib.task import Task
from lib.volume import Array, Grid

EIGHT_NEIGHBOURS = np.ones((3, 3), bool)
"""Pixels that touch at a corner belong to one lesion."""


@dataclass(frozen=True)
class Lesion:
    """One connected piece of a structure in an image of one slice.

    Attributes:
        structure: its name.
        area_mm2: of its pixels; in pixels, where the image does not tell their size.
        longest_diameter_mm: the longest straight line between two points of its outline; in pixels likewise.
        contour: its outer outline as [i, j] in pixels of the image, first and last point equal.
    """

    structure: str
    area_mm2: float
    longest_diameter_mm: float
    contour: list[list[float]]


@dataclass(frozen=True)
class Flag:
    """Whether a case should be looked at first.

    Attributes:
        positive: the volume of all structures together reaches the threshold.
        found_ml: that volume, to a millionth.
        threshold_ml: of the task.
    """

    positive: bool
    found_ml: float
    threshold_ml: float


@dataclass(frozen=True)
class Findings:
    """What a mask shows.

    Attributes:
        summary: one sentence; what a program did not find is told as that, not as absent.
        flag: ``None`` if the task flags no cases.
        lesions: largest first; only of images of one slice.
        lengths_in: ``mm``, or ``pixels`` where the image does not tell their size.
    """

    summary: str
    flag: Flag | None
    lesions: list[Lesion]
    lengths_in: str


def findings(mask: Array, grid: Grid, task: Task, maker: str, *, is_measured: bool = True) -> Findings:
    """What a mask shows.

    Args:
        mask: uint8 (I, J, K) of the task's label values.
        grid: of the mask.
        task: names the structures; a flat one is measured in mm2, others in ml.
        maker: what made the mask: ``rule``, ``model`` or ``refiner``.
        is_measured: the image tells the size of its pixels; else an edge is 1.
    """
    voxels = np.bincount(mask.ravel(), minlength=256)
    volume_ml = {s.name: int(voxels[s.value]) * grid.voxel_mm3 / 1000 for s in task.structures}
    found_ml = int(sum(voxels[s.value] for s in task.structures)) * grid.voxel_mm3 / 1000
    flag = None if task.flag_ml is None else _flag(found_ml, task.flag_ml)
    lengths_in = "mm" if is_measured else "pixels"
    if not task.is_flat:
        return Findings(_volumes_told(volume_ml, maker), flag, [], lengths_in)
    lesions = _lesions(mask[:, :, 0], grid.spacing_mm, task)
    told = _lesions_told(lesions, task, is_measured) if lesions else _nothing_told(task.values, maker)
    return Findings(told, flag, lesions, lengths_in)


def _flag(found_ml: float, threshold_ml: float) -> Flag:
    """Compares the volume itself, not what is shown of it; with room for the last digit of a product."""
    return Flag(found_ml >= threshold_ml * (1 - 1e-9), round(found_ml, 6), threshold_ml)


def _nothing_told(names: Iterable[str], maker: str) -> str:
    return f"The {maker} found nothing; it looked for {', '.join(names)}."


def _volumes_told(volume_ml: dict[str, float], maker: str) -> str:
    absent = [name for name, volume in volume_ml.items() if not volume]
    present = {name: volume for name, volume in volume_ml.items() if volume}
    if not present:
        return _nothing_told(absent, maker)
    told = ", ".join(f"{name} {volume:.1f} ml" for name, volume in present.items())
    return f"{told}; the {maker} found no {', '.join(absent)}." if absent else f"{told}."


def _lesions_told(lesions: list[Lesion], task: Task, is_measured: bool) -> str:
    counts = [(s.name, sum(lesion.structure == s.name for lesion in lesions)) for s in task.structures]
    told = ", ".join(f"{count} x {name}" for name, count in counts if count)
    largest = lesions[0]
    across, area = f"{largest.longest_diameter_mm:.0f}", f"{largest.area_mm2:.0f}"
    if is_measured:
        return f"{told}; the largest {across} mm across, {area} mm2."
    return f"{told}; the largest {across} pixels across, an area of {area} pixels, whose size the image does not tell."


def _lesions(mask: Array, spacing_mm: tuple[float, float, float], task: Task) -> list[Lesion]:
    """All lesions, the one with most pixels first: rounded areas of small pixels may be equal."""
    found: list[tuple[int, Lesion]] = []
    for structure in task.structures:
        pieces, _ = ndimage.label(mask == structure.value, EIGHT_NEIGHBOURS)
        for number, box in enumerate(ndimage.find_objects(pieces), start=1):
            piece = pieces[box] == number
            lesion = _lesion(structure.name, piece, (box[0].start, box[1].start), spacing_mm)
            found.append((int(np.count_nonzero(piece)), lesion))
    return [lesion for _, lesion in sorted(found, key=lambda counted: -counted[0])]


def _lesion(name: str, piece: Array, corner: tuple[int, int], spacing_mm: tuple[float, float, float]) -> Lesion:
    # A frame of background closes the outline of a lesion at the border of the image.
    lines: list[Array] = list(contour_generator(z=np.pad(piece.astype(float), 1)).lines(0.5))  # type: ignore[arg-type]
    # Each line is (x, y) = (j, i); the longest one goes around the outside.
    outline = max(lines, key=len)[:, ::-1] - 1 + corner
    points_mm = outline * spacing_mm[:2]
    return Lesion(
        structure=name,
        area_mm2=round(int(np.count_nonzero(piece)) * spacing_mm[0] * spacing_mm[1], 2),
        longest_diameter_mm=round(float(distance.pdist(_corners(points_mm)).max()), 2),
        contour=outline.round(1).tolist(),
    )


def _corners(points: Array) -> Array:
    """The extreme points in 180 directions: enough for the longest diameter to a thousandth."""
    angles = np.linspace(0, np.pi, 180, endpoint=False)
    along = points @ np.stack([np.cos(angles), np.sin(angles)])
    return points[np.unique([along.argmax(axis=0), along.argmin(axis=0)])]
