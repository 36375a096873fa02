"""Masks as they come from clients, turned into masks with the task's label values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from lib.errors import GridMismatch, InvalidRequest, UnknownStructure, UnreadableImage
from lib.task import BACKGROUND, MAX_STRUCTURES, Structure, Task, listed
from lib.volume import (
    Array,
    Grid,
    Volume,
    nrrd_fields,
    onto_grid,
    read_volume,
    refuse_detached,
    sitk_of_volume,
    suffix_of,
    volume_of_sitk,
)

MASK_SUFFIXES = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".bin")
"""File names under which a mask is accepted."""

LARGEST_VALUE = 2**32
"""No voxel of a mask holds a number beyond it."""

CONVERSION, REFERENCE = "Segmentation_ConversionParameters", "Reference image geometry"
"""The header's key and the parameter in it by which 3D Slicer tells on which image it was drawn."""


@dataclass(frozen=True)
class NamedValue:
    """What a client says about one number in its mask: which structure it means."""

    name: str
    value: int


@dataclass(frozen=True)
class MaskFile:
    """A mask as its file holds it.

    Attributes:
        volume: on its own grid.
        named: the segments that a Slicer segmentation names itself.
        may_be_part: it is a Slicer segmentation, which ends where its segments end.
        drawn_on: the grid of the image on which it was drawn, where a Slicer segmentation tells it.
    """

    volume: Volume
    named: tuple[NamedValue, ...] = ()
    may_be_part: bool = False
    drawn_on: Grid | None = None

    def on(self, grid: Grid, name: str) -> Array:
        """The voxels on the grid of the image called ``name``.

        Raises:
            GridMismatch: as ``onto_grid``, and if a part of another image comes. What covers the whole grid needs no
                word on it: programs that copy a header from case to case leave the words of another case in it.
        """
        is_part = self.volume.voxels.size < np.prod(grid.shape)
        if is_part and self.drawn_on is not None and not self.drawn_on.has_the_voxels_of(grid):
            raise GridMismatch(
                f"The segmentation of {name} was drawn on another image: its header tells of {self.drawn_on} from "
                f"{_corner(self.drawn_on)} on, this image is {grid} from {_corner(grid)} on. Send it to the image that "
                "it was drawn on, or draw on this one and export with it as reference volume."
            )
        return onto_grid(self.volume, grid, name, may_be_part=self.may_be_part)


def read_label_info(entries: object) -> tuple[NamedValue, ...]:
    """Reads MONAI Label's ``label_info``, a list of ``{"name": "liver", "idx": 1}``.

    Raises:
        InvalidRequest: if it has another form, or gives one number two names.
    """
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise InvalidRequest(f'params.label_info must be a list of {{"name", "idx"}}, found {entries!r}.')
    named = tuple(_named_value(entry) for entry in entries)
    if len({entry.value for entry in named}) < len(named):
        raise InvalidRequest(f"params.label_info names one idx twice: {[(e.name, e.value) for e in named]}.")
    return named


def _named_value(entry: object) -> NamedValue:
    if isinstance(entry, Mapping):
        name, value = entry.get("name"), entry.get("idx")
        # Compared before it is converted: JSON as Python reads it may hold NaN, Infinity and numbers of any length.
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST_VALUE
        if isinstance(name, str) and isinstance(value, int | float) and is_number and value == int(value):
            return NamedValue(name, int(value))
    raise InvalidRequest(f'Each entry of params.label_info must be {{"name": text, "idx": number}}, found {entry!r}.')


def read_mask(path: Path, grid: Grid, name: str) -> MaskFile:
    """Reads a mask file.

    Args:
        path: a NIfTI, NRRD or Slicer segmentation file, or OHIF's raw buffer ``.bin``: one byte or two bytes a
            voxel, first image axis fastest.
        grid: the lattice of the image, needed for the raw buffer, which carries none.
        name: the image's id, for messages.

    Raises:
        UnreadableImage: if the file is damaged or of a kind that is not read here.
    """
    if path.name.lower().endswith(".bin"):
        return MaskFile(_raw_buffer(path, grid, name))
    if suffix_of(path.name) not in MASK_SUFFIXES:
        raise UnreadableImage(f"A mask must be one of {', '.join(MASK_SUFFIXES)}; found {path.name!r}.")
    if path.stat().st_size == 0:
        raise UnreadableImage(f"The mask {path.name} is empty (0 bytes). Send it again.")
    if suffix_of(path.name) in (".seg.nrrd", ".nrrd"):
        return _slicer_segmentation(path)
    return MaskFile(read_volume(path))


def to_task_values(mask: Array, label_info: Sequence[NamedValue], task: Task) -> Array:
    """Renumbers a mask so that every voxel holds the task's value of its structure.

    Args:
        mask: (I, J, K) of any numeric type with whole numbers.
        label_info: what the client says about its numbers; a number that is not listed keeps the task's meaning.
        task: the structures to choose from.

    Returns:
        uint8 (I, J, K).

    Raises:
        UnknownStructure: if a name or a number belongs to no structure of the task, or a voxel is no whole number.
    """
    meaning = _meaning(label_info, task)
    found = np.unique(mask)
    if not np.isfinite(found).all() or (found != np.rint(found)).any():
        odd = [float(value) for value in found if not np.isfinite(value) or value != np.rint(value)][:5]
        raise UnknownStructure(f"A mask holds whole numbers only, found {odd}. Export it as a label map.")
    accepted = {BACKGROUND, *task.values.values()}
    unknown = [int(value) for value in found if meaning.get(int(value), int(value)) not in accepted]
    if unknown:
        raise UnknownStructure(
            f"The mask holds the label values {unknown[:20]}, the task has {listed(task.structures)}. "
            "Say in params.label_info which structure each value is."
        )
    renumbered = np.zeros(mask.shape, np.uint8)
    for value in found:
        renumbered[mask == value] = meaning.get(int(value), int(value))
    return renumbered


def _meaning(named: Sequence[NamedValue], task: Task) -> dict[int, int]:
    """The task's value by the client's number."""
    known = {entry.value: _task_value(entry.name, task) for entry in named}
    unknown = [entry.name for entry in named if known[entry.value] is None]
    if unknown:
        raise UnknownStructure(
            f"label_info names {', '.join(f'{entry.name}={entry.value}' for entry in named)}; {unknown} are none of "
            f"this task's structures {listed(task.structures)}."
        )
    return {number: value for number, value in known.items() if value is not None}


def _task_value(name: str, task: Task) -> int | None:
    structure = task.structure(name)
    if structure is not None:
        return structure.value
    return BACKGROUND if name.strip().casefold() == "background" else None


def mask_on_image(path: Path, grid: Grid, label_info: Sequence[NamedValue], task: Task, name: str) -> Array:
    """A client's mask file as the task's mask on the image's grid.

    Args:
        path: the file as it came.
        grid: the lattice of the image.
        label_info: what the client says about its numbers. Names that the file itself gives its segments win, where
            the task has them: they belong to the voxels, while 3D Slicer's ``label_info`` counts positions.
        task: the structures to choose from.
        name: the image's id, for messages.

    Returns:
        uint8 (I, J, K) on ``grid``.

    Raises:
        GridMismatch, UnknownStructure, UnreadableImage: as the steps above.
    """
    file = read_mask(path, grid, name)
    placed = file.on(grid, name)
    if not label_info:
        return to_task_values(placed, file.named, task)
    in_file = [entry for entry in file.named if task.structure(entry.name) is not None]
    by_value = {entry.value: entry for entry in (*label_info, *in_file)}
    return to_task_values(placed, tuple(by_value.values()), task)


def voxels_per_structure(mask: Array, structures: Sequence[Structure]) -> dict[str, int]:
    """How many voxels of a mask belong to each structure, zeros included."""
    counts = np.bincount(mask.ravel(), minlength=256)
    return {structure.name: int(counts[structure.value]) for structure in structures}


def _raw_buffer(path: Path, grid: Grid, name: str) -> Volume:
    content = path.read_bytes()
    voxels = int(np.prod(grid.shape))
    types: dict[int, np.dtype[Any]] = {voxels: np.dtype("u1"), 2 * voxels: np.dtype("<u2")}
    if len(content) not in types:
        raise UnreadableImage(
            f"The buffer for {name} has {len(content)} bytes; its image of {grid} needs {voxels} (one byte a voxel) "
            f"or {2 * voxels} (two)."
        )
    flat = np.frombuffer(content, types[len(content)])
    return Volume(flat.reshape(grid.shape, order="F"), grid.affine)


def _slicer_segmentation(path: Path) -> MaskFile:
    """A label map, or 3D Slicer's segmentation of one or more layers, with the segments that it names."""
    fields, _ = nrrd_fields(path)
    refuse_detached(fields, path.name)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise UnreadableImage(f"The mask {path.name} cannot be read as NRRD. Export it again.") from error
    layers = image.GetNumberOfComponentsPerPixel()
    numbers = [number for number in range(MAX_STRUCTURES) if f"Segment{number}_LabelValue" in fields]
    segments = [_segment(fields, number, layers, path.name) for number in numbers]
    # The header tells, not the file's name: an empty segmentation has no segments, but speaks of itself.
    is_segmentation = any(key.startswith(("Segment0_", "Segmentation_")) for key in fields)
    drawn_on = _reference(fields.get(CONVERSION, ""))
    if layers == 1:
        named = tuple(NamedValue(name, value) for name, value, _ in segments if name)
        return MaskFile(volume_of_sitk(image, path.name), named, is_segmentation, drawn_on)
    if not segments:
        raise UnreadableImage(f"{path.name} has {layers} layers and names no segments. Export it as a label map.")
    # Overlapping segments lie on layers of their own, each numbered from 1: give every segment its own number.
    first = volume_of_sitk(sitk.VectorIndexSelectionCast(image, 0), path.name)
    merged = np.zeros(first.voxels.shape, np.uint8)
    for position, (_, value, layer) in enumerate(segments, start=1):
        merged[volume_of_sitk(sitk.VectorIndexSelectionCast(image, layer), path.name).voxels == value] = position
    named = tuple(NamedValue(name, position) for position, (name, _, _) in enumerate(segments, start=1))
    return MaskFile(Volume(merged, first.affine), named, is_segmentation, drawn_on)


def _segment(fields: Mapping[str, str], number: int, layers: int, name: str) -> tuple[str, int, int]:
    """Name, label value and layer of one segment (3D Slicer, segmentation file format)."""
    prefix = f"Segment{number}_"
    value, layer = fields[f"{prefix}LabelValue"], fields.get(f"{prefix}Layer", "0")
    if not (value.isdecimal() and layer.isdecimal() and int(layer) < layers):
        raise UnreadableImage(
            f"{name}: segment {number} has the label value {value!r} in layer {layer!r} of {layers}. Export it again."
        )
    return fields.get(f"{prefix}Name", ""), int(value), int(layer)


def _reference(parameters: str) -> Grid | None:
    """The grid in 3D Slicer's conversion parameters; ``None`` if they tell of none.

    Each parameter is ``name|value|description&``. The value is a matrix from voxel indices to RAS millimetres, whatever
    the space of the file, row by row, then the first and last index along I, J and K (vtkSegmentationConverter).
    """
    by_name = dict(parameter.split("|")[:2] for parameter in parameters.split("&") if "|" in parameter)
    try:
        numbers = np.array([float(number) for number in by_name.get(REFERENCE, "").rstrip(";").split(";")])
    except ValueError:
        return None
    if numbers.size != 22 or not np.isfinite(numbers).all():
        return None
    affine, first, last = numbers[:16].reshape(4, 4), numbers[16::2], numbers[17::2]
    if (last < first).any() or abs(np.linalg.det(affine)) < 1e-12:
        return None
    affine[:3, 3] += affine[:3, :3] @ first
    i, j, k = (last - first + 1).astype(int)
    return Grid((int(i), int(j), int(k)), affine)


def _reference_text(grid: Grid) -> str:
    """A grid as 3D Slicer's conversion parameter."""
    numbers = [*(f"{number:.17g}" for number in grid.affine.ravel()), *(f"0;{size - 1}" for size in grid.shape)]
    return f"{REFERENCE}|{';'.join(numbers)};|&"


def _corner(grid: Grid) -> str:
    """The place of the first voxel, for messages."""
    return f"({', '.join(f'{place:.1f}' for place in grid.affine[:3, 3])})"


def write_segments(path: Path, mask: Volume, structures: Sequence[Structure]) -> None:
    """Writes a mask as 3D Slicer's segmentation (``.seg.nrrd``): a label map that names and colours its segments.

    Args:
        path: ends with ``.seg.nrrd``.
        mask: uint8 voxels of the task's label values.
        structures: those that were looked for; one without a voxel is an empty segment.
    """
    image = sitk_of_volume(mask)
    fields = {"Segmentation_MasterRepresentation": "Binary labelmap",
              CONVERSION: _reference_text(mask.grid),
              "Segmentation_ReferenceImageExtentOffset": "0 0 0"}  # fmt: skip
    extent = " ".join(f"0 {size - 1}" for size in mask.voxels.shape)
    for number, structure in enumerate(structures):
        colour = " ".join(f"{part / 255:.6f}" for part in structure.colour)
        about = {"ID": f"Segment_{structure.value}", "Name": structure.name, "Color": colour,
                 "LabelValue": str(structure.value), "Layer": "0", "Extent": extent, "Tags": "|"}  # fmt: skip
        fields |= {f"Segment{number}_{key}": value for key, value in about.items()}
    for key, value in fields.items():
        image.SetMetaData(key, value)
    sitk.WriteImage(image, str(path), useCompression=True)
