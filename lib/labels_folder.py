"""Existing masks in a folder: which file shows which structure of which image, told by names and folders alone.

Three layouts are understood, also mixed: ``IMAGE.nii.gz`` with all structures in one file, ``IMAGE/STRUCTURE.nii.gz``
and ``STRUCTURE/IMAGE.nii.gz`` with one file for each structure. A folder ``segmentations`` between image and structure
(TotalSegmentator's data set, whose image lies beside it as ``CASE/ct.nii.gz``) is passed over.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from lib.errors import InvalidRequest, UnknownStructure
from lib.labels import MASK_SUFFIXES, NamedValue, mask_on_image, read_mask, values_of
from lib.overlaps import Claims, Remark
from lib.task import NO_STRUCTURES, Structure, Task, listed, name_key
from lib.volume import Array, Grid

PASSED_OVER = "segmentations"
"""TotalSegmentator's folder between the case and its structures."""


@dataclass(frozen=True)
class Meaning:
    """What the numbers and file names of a data set stand for, where they are not the task's.

    Attributes:
        values: the structure behind a number in a file of several structures.
        names: the structure behind a number or name, such as that of a file, by ``name_key``.
    """

    values: tuple[NamedValue, ...] = ()
    names: Mapping[str, Structure] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str, task: Task) -> Meaning:
        """Reads ``1=liver,2=spleen,3=background,kidney_left=kidney``.

        Where values are named, these are all that a file may hold; those called background are left out.

        Raises:
            InvalidRequest: if it has another form.
            UnknownStructure: if a structure is none of the task's.
        """
        values: list[NamedValue] = []
        names: dict[str, Structure] = {}
        for entry in filter(None, (part.strip() for part in text.split(","))):
            found, equals, name = (part.strip() for part in entry.partition("="))
            if not (found and equals and name):
                raise InvalidRequest(f"A label map is 1=liver,kidney_left=kidney, found {entry!r} in {text!r}.")
            structure = task.structure(name)
            is_left_out = structure is None and found.isdecimal() and name_key(name) in NO_STRUCTURES
            if structure is None and not is_left_out:
                raise UnknownStructure(
                    f"{entry!r}: this task has {listed(task.structures)}; a value to be left out is background."
                )
            if structure is not None:
                names[name_key(found)] = structure
            if found.isdecimal():
                values.append(NamedValue(structure.name if structure is not None else name, int(found)))
        return cls(tuple(values), names)


@dataclass(frozen=True)
class Masks:
    """The mask files of one image.

    Attributes:
        image_id: the image.
        whole: a file of all structures, if that is how it lies there.
        parts: else each file of one structure with that structure.
    """

    image_id: str
    whole: Path | None = None
    parts: tuple[tuple[Structure, Path], ...] = ()

    @property
    def paths(self) -> list[Path]:
        """All its files."""
        return [self.whole] if self.whole is not None else [path for _, path in self.parts]


@dataclass(frozen=True)
class Finding:
    """What a folder holds.

    Attributes:
        masks: by image, in the order of their ids.
        left: files that belong to no image or no structure, with the reason.
    """

    masks: list[Masks]
    left: list[tuple[Path, str]]


@dataclass(frozen=True)
class Placed:
    """A mask on its image's grid.

    Attributes:
        mask: uint8 (I, J, K) of the task's label values.
        looked_at: names of the structures that its files speak about.
        notes: sentences for people, as about voxels that several structures claim.
    """

    mask: Array
    looked_at: tuple[str, ...]
    notes: tuple[str, ...] = ()


def find_masks(paths: Iterable[Path], names: Mapping[str, str], task: Task, meaning: Meaning) -> Finding:
    """Sorts mask files by image.

    Args:
        paths: relative to the folder of masks; other files than masks are passed over.
        names: image id by each name that an image goes by: its id, and the folder of a DICOM series.
        task: the structures.
        meaning: what other names stand for.
    """
    folders = _only_image_below(names)
    wholes: dict[str, Path] = {}
    parts: dict[str, list[tuple[Structure, Path]]] = {}
    left: list[tuple[Path, str]] = []
    for path in sorted(paths):
        suffix = next((s for s in MASK_SUFFIXES if path.name.lower().endswith(s)), None)
        if suffix is None:
            continue
        stem = unicodedata.normalize("NFC", path.as_posix()[: -len(suffix)])
        if stem in names and names[stem] not in wholes:
            wholes[names[stem]] = path
            continue
        found = _part(stem, names, folders, task, meaning)
        if isinstance(found, str):
            left.append((path, f"it shows image {names[stem]!r} a second time" if stem in names else found))
        else:
            image_id, structure = found
            parts.setdefault(image_id, []).append((structure, path))
    masks = [Masks(image_id, whole) for image_id, whole in wholes.items()]
    masks += [Masks(image_id, None, tuple(files)) for image_id, files in parts.items() if image_id not in wholes]
    doubled = [path for image_id, files in parts.items() if image_id in wholes for _, path in files]
    left += [(path, "its image also has a file of all structures, which is taken") for path in doubled]
    return Finding(sorted(masks, key=lambda each: each.image_id), left)


def place(masks: Masks, folder: Path, grid: Grid, task: Task, meaning: Meaning) -> Placed:
    """Reads the files of one image and puts them on its grid.

    A file of all structures speaks about all of the task's; if its numbers are mapped, about those only. Files of one
    structure each speak about their structures. Where two of them claim a voxel, the larger label value has it, as a
    lesion has it that is drawn inside an organ; ``notes`` says so.

    Args:
        masks: paths relative to ``folder``.
        folder: of the masks.
        grid: lattice of the image.
        task: the structures.
        meaning: what other numbers stand for.

    Raises:
        GridMismatch, UnknownStructure, UnreadableImage: as in ``lib/labels.py``.
        UnacceptableFile: if nothing is left of a structure where others overlap it.
    """
    notes: list[str] = []
    if masks.whole is not None:
        mask = mask_on_image(folder / masks.whole, grid, meaning.values, task, masks.image_id, notes.append)
        named = {entry.name for entry in meaning.values if task.structure(entry.name)} or set(task.values)
        return Placed(mask, tuple(name for name in task.values if name in named), tuple(notes))
    mask, claims = np.zeros(grid.shape, np.uint8), Claims.of(task)
    for structure, path in masks.parts:
        claims.put(mask, _one_structure(folder / path, grid, masks.image_id, notes.append), structure.value)
    claims.settle(mask, notes.append)
    named = {structure.name for structure, _ in masks.parts}
    return Placed(mask, tuple(name for name in task.values if name in named), tuple(notes))


def _one_structure(path: Path, grid: Grid, image_id: str, remark: Remark) -> Array:
    """Bool (I, J, K) on the grid: the voxels that are not 0, which all have the same value."""
    voxels = read_mask(path, grid, image_id).on(grid, image_id, remark)
    values = [float(value) for value in values_of(voxels, remark) if value != 0]
    if len(values) > 1:
        raise UnknownStructure(
            f"{path.name} is to show one structure, but holds the values {values[:5]}. Give each a file of its own, or "
            "put all structures into one file named as the image."
        )
    return np.rint(voxels) != 0


def _only_image_below(names: Mapping[str, str]) -> dict[str, str]:
    """Image id by folder, for folders in which a single image lies."""
    below: dict[str, set[str]] = {}
    for name, image_id in names.items():
        if "/" in name:
            below.setdefault(name.rpartition("/")[0], set()).add(image_id)
    return {folder: ids.pop() for folder, ids in below.items() if len(ids) == 1}


def _part(
    stem: str, names: Mapping[str, str], folders: Mapping[str, str], task: Task, meaning: Meaning
) -> tuple[str, Structure] | str:
    """Image and structure that a path without its suffix names, or why it names none."""
    parts = [part for part in PurePosixPath(stem).parts if part != PASSED_OVER]
    if len(parts) < 2:
        return f"no image is called {stem!r}"
    outer, inner = "/".join(parts[:-1]), "/".join(parts[1:])
    image_id, name = names.get(outer) or folders.get(outer), parts[-1]
    if image_id is None:
        image_id, name = names.get(inner), parts[0]
    if image_id is None:
        return f"no image is called {outer!r} or {inner!r}"
    structure = meaning.names.get(name_key(name)) or task.structure(name)
    return (image_id, structure) if structure else f"{name!r} is none of the structures {listed(task.structures)}"
