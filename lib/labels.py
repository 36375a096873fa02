"""Masks as they come from clients, turned into masks with the task's label values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lib.errors import GridMismatch, InvalidRequest, LabelRefineryError, UnknownStructure, UnreadableImage
from lib.label_table import NamedValue, Segment, nifti_table, nrrd_segments
from lib.nrrd import read_nrrd_header, read_nrrd_layers
from lib.opened import OpenFile, Source, opened
from lib.overlaps import Claims, Remark, nobody
from lib.task import BACKGROUND, MAX_STRUCTURES, NO_STRUCTURES, Structure, Task, listed, name_key
from lib.volume import (
    NRRD_SUFFIXES,
    Array,
    Grid,
    Volume,
    apart_mm,
    onto_grid,
    read_grid,
    read_volume,
    refuse_off_grid,
    sitk_of_volume,
    suffix_of,
)

MASK_SUFFIXES = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".bin")
"""File names under which a mask is accepted."""

LARGEST_VALUE = 2**32
"""No voxel of a mask holds a number beyond it."""

NO_VOXELS = (1, 1, 1)
"""Size of what 3D Slicer writes where there is nothing to write."""

MOST_VALUES = 1 << 16
"""As many as two bytes can hold."""

ROUNDED = 1e-3
"""How far a voxel of a mask may be from a whole number: a program's arithmetic leaves less, a picture more."""

CONVERSION, REFERENCE = "Segmentation_ConversionParameters", "Reference image geometry"
"""The header's key and the parameter in it by which 3D Slicer tells on which image it was drawn."""


@dataclass(frozen=True)
class Said:
    """What is said of the numbers and names in a mask file, by whoever brings it.

    Attributes:
        task: the structures to choose from.
        label_info: what the numbers mean; ``None``: nothing is said.
        names: what names in the file are to be read as, by ``name_key``.
    """

    task: Task
    label_info: Sequence[NamedValue] | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    def known(self, in_file: Sequence[NamedValue]) -> tuple[NamedValue, ...]:
        """What the numbers mean by what the file says itself and by what is said of it.

        Names of the file win where the task has them: they belong to the voxels, while 3D Slicer counts positions.

        Args:
            in_file: numbers that the file names.

        Raises:
            UnknownStructure: if the file calls one number by two names.
        """
        meant: dict[int, NamedValue] = {}
        for entry in in_file:
            entry = NamedValue(self.names.get(name_key(entry.name), entry.name), entry.value)
            other = meant.setdefault(entry.value, entry)
            if name_key(other.name) != name_key(entry.name):
                raise UnknownStructure(
                    f"The mask calls the value {entry.value} {other.name!r} and {entry.name!r}. Give each segment a "
                    "value of its own and export it again."
                )
        values = {number: _task_value(entry.name, self.task) for number, entry in meant.items()}
        by_file = {number: entry for number, entry in meant.items() if values[number] is not None}
        # Whom the file names itself is not what stands at the same position in the client's list.
        taken = {values[number] for number in by_file}
        others = [entry for entry in self.label_info or () if _task_value(entry.name, self.task) not in taken]
        return tuple({**meant, **{entry.value: entry for entry in others}, **by_file}.values())

    def refuse_contradiction(self, table: Sequence[NamedValue]) -> None:
        """Refuses a table of names in a file that calls a number otherwise than ``label_info`` does.

        Raises:
            UnknownStructure: with both names.
        """
        by_client = {entry.value: entry.name for entry in self.label_info or ()}
        for entry in table:
            name, other = self.names.get(name_key(entry.name), entry.name), by_client.get(entry.value)
            structures = {_task_value(each, self.task) for each in (name, other) if each is not None}
            if None not in structures and len(structures) > 1:
                raise UnknownStructure(
                    f"The value {entry.value} is said to be {other!r}, but the table of names in the file calls it "
                    f"{entry.name!r}. Say the same, or save the file without its table."
                )


@dataclass(frozen=True)
class MaskFile:
    """A mask as its file holds it.

    Attributes:
        volume: on its own grid.
        named: the segments that a segmentation names itself.
        table: numbers that the header of a NIfTI file names, whether it uses them or not.
        may_be_part: it is a Slicer segmentation, which ends where its segments end.
        drawn_on: the grid of the image on which it was drawn, where a Slicer segmentation tells it.
        remarks: what of it is not as the file holds it.
    """

    volume: Volume
    named: tuple[NamedValue, ...] = ()
    may_be_part: bool = False
    drawn_on: Grid | None = None
    table: tuple[NamedValue, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether it is how 3D Slicer writes a segmentation without a voxel: one of value 0, which lies anywhere."""
        return self.may_be_part and self.volume.voxels.shape == NO_VOXELS and not self.volume.voxels.any()

    def on(self, grid: Grid, name: str, remark: Remark = nobody) -> Array:
        """The voxels on the grid of the image called ``name``.

        ``remark`` is told of a lattice that lies a little beside the image's.

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
        for one in self.remarks:
            remark(one)
        if self.is_empty:
            return np.zeros(grid.shape, self.volume.voxels.dtype)
        placed = onto_grid(self.volume, grid, name, may_be_part=self.may_be_part)
        beside_mm = apart_mm(self.volume.grid, grid)
        if beside_mm > grid.tolerance_mm:
            remark(
                f"The voxels of the mask lie up to {beside_mm:.2g} mm beside those of the image, less than a hundredth "
                "of a voxel; it was taken as drawn on these."
            )
        return placed


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


def read_mask(source: Source, grid: Grid | None, name: str, said: Said | None = None) -> MaskFile:
    """Reads a mask file; one that does not belong to the image is refused before its voxels are read.

    Args:
        source: a NIfTI, NRRD or Slicer segmentation file, or OHIF's raw buffer ``.bin``: one byte or two bytes a
            voxel, first image axis fastest.
        grid: the lattice of the image; ``None``: any will do, but then no raw buffer, which carries none.
        name: the image's id, for messages.
        said: what is said of its segments, and so which of those that overlap has the voxels; ``None``: nothing.

    Raises:
        UnreadableImage: if the file is damaged or of a kind that is not read here.
        GridMismatch: if it lies on another lattice than the image, or covers only a part and may not.
        UnknownStructure: if voxels belong to no segment, or a number has two names.
        UnacceptableFile: if nothing is left of a segment where others overlap it.
    """
    if suffix_of(source.name) not in MASK_SUFFIXES and not source.name.lower().endswith(".bin"):
        raise UnreadableImage(f"A mask must be one of {', '.join(MASK_SUFFIXES)}; found {source.name!r}.")
    with opened(source) as file:
        if source.name.lower().endswith(".bin"):
            return MaskFile(_raw_buffer(file, grid, name))
        if file.size == 0:
            raise UnreadableImage(f"The mask {file.name} is empty (0 bytes). Send it again.")
        if suffix_of(file.name) in NRRD_SUFFIXES:
            return _segmentation(file, grid, name, said)
        if grid is not None:
            refuse_off_grid(read_grid(file, is_whole=False), grid, name)
        return MaskFile(read_volume(file), table=nifti_table(file, suffix_of(file.name)))


def to_task_values(mask: Array, named: Sequence[NamedValue], task: Task, remark: Remark = nobody) -> Array:
    """Renumbers a mask so that every voxel holds the task's value of its structure.

    Args:
        mask: (I, J, K) of any numeric type with whole numbers, up to ``ROUNDED``.
        named: what its numbers mean, all of them but 0; without any they are the task's. Those of ``NO_STRUCTURES`` are
            left out; if nothing else is named, the other numbers are the task's.
        task: the structures to choose from.
        remark: is told of voxels that were rounded or left out.

    Returns:
        uint8 (I, J, K); the mask itself where nothing is to be changed.

    Raises:
        UnknownStructure: if a number is not named, or a name or number belongs to no structure of the task, or a voxel
            is no whole number.
    """
    meaning = _meaning(named, task)
    found = [int(value) for value in values_of(mask, remark)]
    if unknown := [value for value in found if value not in meaning]:
        raise UnknownStructure(_not_understood(unknown, named, task))
    _tell_left_out(mask, [entry for entry in named if not meaning[entry.value]], found, remark)
    if mask.dtype == np.uint8:
        if all(value == meaning[value] for value in found):
            return mask
        table = np.zeros(256, np.uint8)
        table[found] = [meaning[value] for value in found]
        return table[mask]
    renumbered = np.zeros(mask.shape, np.uint8)
    for pixels, wanted in zip(mask.T, renumbered.T, strict=True):
        whole = _whole(pixels)
        for value in found:
            wanted[whole == value] = meaning[value]
    return renumbered


def _not_understood(values: Sequence[int], named: Sequence[NamedValue], task: Task) -> str:
    told = [f"{value:.15g}" for value in map(float, values[:MAX_STRUCTURES])]
    said = ", ".join(f"{entry.name}={entry.value}" for entry in named)
    known = f"which are not among those that are named: {said}" if said else f"the task has {listed(task.structures)}"
    return (
        f"The mask holds the label values [{', '.join(told)}], {known}. Say in params.label_info which structure each "
        f"value is; one that is to be left out is called background. For scripts.import_labels that is --label-map "
        f"{told[0]}=NAME, or --leave-out {','.join(told)}."
    )


def _tell_left_out(mask: Array, named: Sequence[NamedValue], found: Sequence[int], remark: Remark) -> None:
    for entry in named:
        if entry.value != BACKGROUND and entry.value in found:
            voxels = sum(int(np.count_nonzero(_whole(pixels) == entry.value)) for pixels in mask.T)
            remark(f"{voxels} voxels of the value {entry.value} ({entry.name}) were left out; they are no structure.")


def numbered_by_position(mask: Array, task: Task) -> Array:
    """A mask of the task's label values with the numbers of ``Task.positions``; the same one where they are equal.

    Args:
        mask: uint8 of any shape.
        task: whose values it holds.
    """
    if task.positions == task.values:
        return mask
    table = np.zeros(256, np.uint8)
    for name, position in task.positions.items():
        table[task.values[name]] = position
    return table[mask]


def values_of(mask: Array, remark: Remark) -> Array:
    """The whole numbers that a mask holds, in order; slice by slice, since sorting all takes its room several times.

    Raises:
        UnknownStructure: if there are others, or more than a label map can have.
    """
    if mask.dtype == np.uint8:
        return np.flatnonzero(voxels_by_value(mask)).astype(np.uint8)
    found: Array = np.empty(0, mask.dtype)
    farthest, rounded = 0.0, 0
    for pixels in mask.T:
        whole = _whole(pixels)
        if whole is not pixels:
            # Infinite ones are no whole numbers either.
            with np.errstate(invalid="ignore"):
                off = np.abs(pixels - whole)
            if not (off <= ROUNDED).all():
                odd = [float(value) for value in np.unique(pixels[~(off <= ROUNDED)])[:5]]
                raise UnknownStructure(f"A mask holds whole numbers only, found {odd}. Export it as a label map.")
            farthest, rounded = max(farthest, float(off.max(initial=0))), rounded + int(np.count_nonzero(off))
        found = np.union1d(found, whole)
        if found.size > MOST_VALUES:
            raise UnknownStructure(
                f"A mask holds whole numbers only, at most {MOST_VALUES} of them; found are more, such as "
                f"{[float(value) for value in found[:5]]}. Export the mask, not the image."
            )
    if rounded:
        remark(f"{rounded} voxels of the mask were up to {farthest:.2g} away from whole numbers, and were rounded.")
    return found


def _whole(pixels: Array) -> Array:
    """The nearest whole numbers; integers are returned as they are."""
    return np.rint(pixels) if pixels.dtype.kind == "f" else pixels


def _meaning(named: Sequence[NamedValue], task: Task) -> dict[int, int]:
    """The task's value by the mask's number, for all numbers that it may hold."""
    said = ", ".join(f"{entry.name}={entry.value}" for entry in named)
    values = {entry.value: _task_value(entry.name, task) for entry in named}
    unknown = [entry.name for entry in named if values[entry.value] is None]
    if unknown:
        raise UnknownStructure(
            f"The mask or label_info names {said}; {unknown} are none of this task's structures "
            f"{listed(task.structures)}. Give them the name of one, or leave them out: background as name, or for "
            f"scripts.import_labels --leave-out {','.join(unknown)}."
        )
    if values.get(BACKGROUND):
        raise UnknownStructure(f"label_info names {said}; 0 is the background, and no structure is drawn with it.")
    if not any(values.values()):
        values = {**{value: value for value in task.values.values()}, **values}
    return {BACKGROUND: BACKGROUND, **{number: value for number, value in values.items() if value is not None}}


def _task_value(name: str, task: Task) -> int | None:
    structure = task.structure(name)
    if structure is not None:
        return structure.value
    return BACKGROUND if name_key(name) in NO_STRUCTURES else None


def mask_on_image(
    source: Source,
    grid: Grid,
    label_info: Sequence[NamedValue] | None,
    task: Task,
    name: str,
    remark: Remark = nobody,
    names: Mapping[str, str] | None = None,
) -> Array:
    """A client's mask file as the task's mask on the image's grid.

    Args:
        source: the file as it came.
        grid: the lattice of the image.
        label_info: what the client says about its numbers, see ``Said``. ``None``: a client says nothing, and may have
            its numbers from the task or from a mask that it was sent.
        task: the structures to choose from.
        name: the image's id, for messages.
        remark: is told what of the mask was not taken as it came.
        names: what names in the file are to be read as, by ``name_key``.

    Returns:
        uint8 (I, J, K) on ``grid``.

    Raises:
        GridMismatch, UnknownStructure, UnreadableImage: as the steps above.
    """
    said = Said(task, label_info, names or {})
    file = read_mask(source, grid, name, said)
    placed = file.on(grid, name, remark)
    named = file.named or said.known(_used(file.table, placed, said))
    names_a_structure = any(task.structure(entry.name) for entry in named)
    if not names_a_structure and (label_info is None or named):
        _refuse_two_meanings(placed, task, [entry.value for entry in named])
    return to_task_values(placed, named, task, remark)


def _used(table: Sequence[NamedValue], mask: Array, said: Said) -> list[NamedValue]:
    """The entries of a file's own table of names that its voxels use: others may name a hundred organs."""
    if not table:
        return []
    found = {int(value) for value in values_of(mask, nobody)}
    used = [entry for entry in table if entry.value in found]
    said.refuse_contradiction(used)
    return used


def _refuse_two_meanings(mask: Array, task: Task, left_out: Sequence[int]) -> None:
    """Refuses numbers that mean one thing by the task's label values and another one by ``Task.positions``.

    Also where a client names nothing but what is left out.
    """
    names = {value: name for name, value in task.values.items()}
    by_position = {position: name for name, position in task.positions.items()}
    found = [int(value) for value in values_of(mask, nobody) if value not in (BACKGROUND, *left_out)]
    if set(found) <= by_position.keys() and any(names.get(value) != by_position[value] for value in found):
        numbers = [{"name": name, "idx": position} for name, position in task.positions.items()]
        raise UnknownStructure(
            f"The mask holds the label values {found}: the task's are {listed(task.structures)}, but masks are sent to "
            "clients with the structures numbered from 1 on. Say in params.label_info what the values mean; in a mask "
            f"that came from here they are {json.dumps(numbers)}."
        )


def voxels_per_structure(mask: Array, structures: Sequence[Structure]) -> dict[str, int]:
    """How many voxels of a mask belong to each structure, zeros included."""
    counts = voxels_by_value(mask)
    return {structure.name: int(counts[structure.value]) for structure in structures}


def voxels_by_value(mask: Array) -> Array:
    """How many voxels of a uint8 mask have each value, int64 (256,); slice by slice, since numpy counts in 8 bytes."""
    counts = np.zeros(256, np.int64)
    for pixels in mask.T:
        counts += np.bincount(pixels.ravel(), minlength=256)
    return counts


def _raw_buffer(file: OpenFile, grid: Grid | None, name: str) -> Volume:
    if grid is None:
        raise UnreadableImage(f"{file.name} is a raw buffer, which does not say where it lies. Export it as NIfTI.")
    voxels = math.prod(grid.shape)
    types: dict[int, np.dtype[Any]] = {voxels: np.dtype("u1"), 2 * voxels: np.dtype("<u2")}
    if file.size not in types:
        raise UnreadableImage(
            f"The buffer for {name} has {file.size} bytes; its image of {grid} needs {voxels} (one byte a voxel) "
            f"or {2 * voxels} (two)."
        )
    flat = np.frombuffer(file.file.read(2 * voxels), types[file.size])
    return Volume(flat.reshape(grid.shape, order="F"), grid.affine)


def _segmentation(file: OpenFile, grid: Grid | None, name: str, said: Said | None) -> MaskFile:
    """A label map, or a segmentation of 3D Slicer or MITK of one or more layers, with the segments that it names."""
    suffix = suffix_of(file.name)
    try:
        header = read_nrrd_header(file, suffix)
        segments = nrrd_segments(header, file.name)
        # The header tells, not the file's name: an empty segmentation has no segments, but speaks of itself.
        is_segmentation = any(key.startswith(("Segment0_", "Segmentation_")) for key in header.pairs)
        # A single voxel may be how an empty segmentation is written: its value will tell.
        if grid is not None and not (is_segmentation and header.shape == NO_VOXELS):
            refuse_off_grid(Grid(header.shape, header.affine), grid, name, may_be_part=is_segmentation)
        layers = read_nrrd_layers(file, suffix)[1]
    except (LabelRefineryError, MemoryError):
        raise
    # The unpacker raises whatever damaged bytes make it stumble over.
    except Exception as error:
        raise UnreadableImage(f"The mask {file.name} cannot be read as NRRD: {error}. Export it again.") from error
    drawn_on = _reference(header.pairs.get(CONVERSION, ""))
    if header.layers == 1:
        named = tuple(NamedValue(segment.name, segment.value) for segment in segments if segment.name)
        if said is not None and named:
            named = said.known(named)
        return MaskFile(Volume(layers[0], header.affine), named, is_segmentation, drawn_on)
    remarks: list[str] = []
    merged, named = _merged(layers, segments, said, remarks.append)
    return MaskFile(Volume(merged, header.affine), named, is_segmentation, drawn_on, remarks=tuple(remarks))


def _merged(
    layers: Array, segments: Sequence[Segment], said: Said | None, remark: Remark
) -> tuple[Array, tuple[NamedValue, ...]]:
    """Segments on layers of their own, each numbered from 1, in one mask, and what its numbers are called.

    The numbers are in the order of the task's label values, so that the larger one has what several claim.
    """
    _refuse_voxels_of_none(layers, segments)
    positions = [NamedValue(segment.name, position) for position, segment in enumerate(segments, start=1)]
    called = {entry.value: entry.name for entry in (said.known(positions) if said is not None else positions)}
    ranks = {name: (_task_value(name, said.task) or BACKGROUND) if said is not None else BACKGROUND
             for name in called.values()}  # fmt: skip
    # Two segments of one structure are one.
    keys = {position: (ranks[called[position]], "" if ranks[called[position]] else called[position])
            for position in range(1, len(segments) + 1)}  # fmt: skip
    numbers = {key: number for number, key in enumerate(sorted({*keys.values()}), start=1)}
    names = {numbers[key]: called[position] for position, key in keys.items()}
    mask, claims = np.zeros(layers.shape[1:], np.uint8, order="F"), Claims(names)
    is_none = {position: not ranks[name] and name_key(name) in NO_STRUCTURES for position, name in called.items()}
    for position, segment in enumerate(segments, start=1):
        if not is_none[position]:
            claims.put(mask, layers[segment.layer] == segment.value, numbers[keys[position]])
    claims.settle(mask, remark)
    # What is no structure takes nothing from any, and may be covered.
    for position, segment in enumerate(segments, start=1):
        if is_none[position]:
            mask[(layers[segment.layer] == segment.value) & (mask == BACKGROUND)] = numbers[keys[position]]
    return mask, tuple(NamedValue(name, number) for number, name in names.items())


def _refuse_voxels_of_none(layers: Array, segments: Sequence[Segment]) -> None:
    """Refuses layers with values that no segment has."""
    for number, layer in enumerate(layers):
        told = {BACKGROUND, *(segment.value for segment in segments if segment.layer == number)}
        if strange := [int(value) for value in values_of(layer, nobody) if int(value) not in told]:
            raise UnknownStructure(
                f"Layer {number} of the mask holds the values {strange[:20]}, which belong to none of its segments. "
                "Export it again with all of them."
            )


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
    # It takes its time to load, and readers need none of it.
    import SimpleITK as sitk

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
