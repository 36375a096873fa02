"""Existing masks in a folder: which file shows which structure of which image, told by names and folders alone.

Three layouts are understood, also mixed: ``IMAGE.nii.gz`` with all structures in one file, ``IMAGE/STRUCTURE.nii.gz``
and ``STRUCTURE/IMAGE.nii.gz`` with one file for each structure. A folder ``segmentations`` between image and structure
(TotalSegmentator's data set, whose image lies beside it as ``CASE/ct.nii.gz``) is passed over. Fixed words in which the
name of a mask differs from that of its image are known to ``lib.label_names``.

Masks may lie among the images. There a file is a mask only if its name says so: an image is never its own mask.
"""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from lib.errors import InvalidRequest, UnknownImage, UnknownStructure
from lib.label_names import MASK_FOLDERS, ImageNames, Match, is_named_as_mask, word_behind
from lib.label_table import NamedValue
from lib.labels import MASK_SUFFIXES, mask_on_image, read_mask, values_of, voxels_per_structure
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

        Where values are named, these are all that a file may hold; those called background are left out. If nothing
        else is named, the others are the task's.

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
        if values and not any(task.structure(entry.name) for entry in values):
            left_out = {entry.value for entry in values}
            values += [NamedValue(name, value) for name, value in task.values.items() if value not in left_out]
        return cls(tuple(values), names)


@dataclass(frozen=True)
class Masks:
    """The mask files of one image.

    Attributes:
        image_id: the image.
        whole: a file of all structures, if that is how it lies there.
        parts: else each file of one structure with that structure.
        notes: sentences for people on how the files were found.
    """

    image_id: str
    whole: Path | None = None
    parts: tuple[tuple[Structure, Path], ...] = ()
    notes: tuple[str, ...] = ()

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


def find_masks(
    paths: Iterable[Path],
    names: Mapping[str, str],
    task: Task,
    meaning: Meaning,
    leave_out: Collection[str] = (),
    own: Mapping[Path, str] | None = None,
) -> Finding:
    """Sorts mask files by image.

    Args:
        paths: relative to the folder of masks; other files than masks are passed over.
        names: image id by each name that an image goes by: its id, and the folder of a DICOM series.
        task: the structures.
        meaning: what other names stand for.
        leave_out: names of files of one structure that are passed over.
        own: image id by path, of files that are listed as images themselves.
    """
    search = _Search(names, task, meaning, leave_out, own or {})
    for path in sorted(paths):
        # macOS leaves files such as ._IMAGE.nii.gz beside those that it copies.
        if _suffix(path) and not path.name.startswith("."):
            search.add(path)
    return search.finding()


class _Search:
    """Masks that are found so far."""

    def __init__(
        self,
        names: Mapping[str, str],
        task: Task,
        meaning: Meaning,
        leave_out: Collection[str],
        own: Mapping[Path, str],
    ) -> None:
        self._task, self._meaning, self._own = task, meaning, own
        self._left_out = {name_key(name) for name in leave_out}
        masks = {image_id for path, image_id in own.items() if self._is_named_as_mask(path)}
        self._exact = {name: image_id for name, image_id in names.items() if image_id not in masks}
        self._alike, self._folders = ImageNames(self._exact), _only_image_below(self._exact)
        self._wholes: dict[str, Path] = {}
        self._alike_wholes: dict[str, list[tuple[Path, Match]]] = {}
        self._parts: dict[str, list[tuple[Structure, Path]]] = {}
        self._notes: dict[str, dict[str, None]] = {}
        self._left: list[tuple[Path, str]] = []

    def add(self, path: Path) -> None:
        """Sorts in one file."""
        if path in self._own and not self._is_named_as_mask(path):
            return
        stem = _stem(path)
        try:
            found, reason = self._exactly(stem) or self._nearly(stem), ""
        except UnknownImage as error:
            found, reason = None, str(error)
        if found is None:
            if not any(name_key(part) in self._left_out for part in PurePosixPath(stem).parts):
                self._left.append((path, reason or self._reason(stem)))
            return
        match, structure = found
        if structure is not None:
            self._parts.setdefault(match.image_id, []).append((structure, path))
            self._notes.setdefault(match.image_id, {}).update(dict.fromkeys(self._told(match, path)))
        elif match.left_out:
            self._alike_wholes.setdefault(match.image_id, []).append((path, match))
        else:
            self._take_whole(path, match)

    def _take_whole(self, path: Path, match: Match) -> None:
        if match.image_id in self._wholes:
            self._left.append((path, f"it shows image {match.image_id!r} a second time"))
            return
        self._wholes[match.image_id] = path
        self._notes.setdefault(match.image_id, {}).update(dict.fromkeys(self._told(match, path)))

    def finding(self) -> Finding:
        """What was sorted in."""
        for image_id, alike in self._alike_wholes.items():
            if image_id in self._wholes or len(alike) == 1:
                for path, match in alike:
                    self._take_whole(path, match)
            else:
                several = ", ".join(path.name for path, _ in alike)
                reason = f"several files may be the mask of {image_id!r} by their names: {several}; keep one of them"
                self._left += [(path, reason) for path, _ in alike]
        wholes, parts = self._wholes, self._parts
        masks = [Masks(image_id, whole, (), self._noted(image_id)) for image_id, whole in wholes.items()]
        masks += [
            Masks(image_id, None, tuple(files), self._noted(image_id))
            for image_id, files in parts.items()
            if image_id not in wholes
        ]
        doubled = [path for image_id, files in parts.items() if image_id in wholes for _, path in files]
        self._left += [(path, "its image also has a file of all structures, which is taken") for path in doubled]
        return Finding(sorted(masks, key=lambda each: each.image_id), self._left)

    def _noted(self, image_id: str) -> tuple[str, ...]:
        return tuple(self._notes.get(image_id, ()))

    def _structure(self, name: str) -> Structure | None:
        return self._meaning.names.get(name_key(name)) or self._task.structure(name)

    def _is_named_as_mask(self, path: Path) -> bool:
        """Whether the name of a file that is listed as an image says that it is a mask."""
        stem = _stem(path)
        first, *others = PurePosixPath(stem).parts
        is_structure = bool(others) and any(self._structure(name) for name in (first, others[-1]))
        return is_structure or is_named_as_mask(stem)

    def _exactly(self, stem: str) -> tuple[Match, Structure | None] | None:
        """What a path means where images are called as it says."""
        if stem in self._exact:
            return Match(self._exact[stem]), None
        return self._part(stem, lambda name: Match(self._exact[name]) if name in self._exact else None)

    def _nearly(self, stem: str) -> tuple[Match, Structure | None] | None:
        """What a path means where fixed words are left out of names.

        Raises:
            UnknownImage: if it may mean several images.
        """
        match = self._alike.find(stem)
        return (match, None) if match is not None else self._part(stem, self._alike.find)

    def _part(self, stem: str, find: Callable[[str], Match | None]) -> tuple[Match, Structure] | None:
        """Image and structure of a path that names both."""
        parts = [part for part in PurePosixPath(stem).parts if part != PASSED_OVER]
        if len(parts) < 2:
            return None
        outer, inner = "/".join(parts[:-1]), "/".join(parts[1:])
        if structure := self._structure(parts[-1]):
            below = Match(self._folders[outer]) if outer in self._folders else None
            if match := find(outer) or below:
                return match, structure
        if (structure := self._structure(parts[0])) and (match := find(inner)):
            return match, structure
        return None

    def _reason(self, stem: str) -> str:
        """Why a path means nothing."""
        parts = [part for part in PurePosixPath(stem).parts if part != PASSED_OVER]
        if len(parts) < 2:
            return f"no image is called {stem!r}"
        outer, inner = "/".join(parts[:-1]), "/".join(parts[1:])
        if outer in self._exact or outer in self._folders:
            return self._no_structure(parts[-1])
        if inner in self._exact:
            return self._no_structure(parts[0])
        return f"no image is called {outer!r} or {inner!r}"

    def _no_structure(self, name: str) -> str:
        return (
            f"{name!r} is none of the structures {listed(self._task.structures)}; --label-map {name}=NAME says which "
            f"one it is, --leave-out {name} that it is none"
        )

    def _told(self, match: Match, path: Path) -> Iterator[str]:
        """Sentences on how a file was found."""
        if match.left_out:
            words = " and ".join(map(repr, match.left_out))
            yield f"found by its name without {words}"
        if path in self._own:
            folder = next((part for part in path.parts[:-1] if part.casefold() in MASK_FOLDERS), "")
            pattern = folder or (f"*{word_behind(_stem(path))}{_suffix(path)}")
            yield f"the file of the mask is listed as an image too; --conf ignore {shlex.quote(pattern)} keeps it out"


def _suffix(path: Path) -> str:
    return next((suffix for suffix in MASK_SUFFIXES if path.name.lower().endswith(suffix)), "")


def _stem(path: Path) -> str:
    return unicodedata.normalize("NFC", path.as_posix()[: len(path.as_posix()) - len(_suffix(path))])


def place(
    masks: Masks, folder: Path, grid: Grid, task: Task, meaning: Meaning, leave_out: Collection[str] = ()
) -> Placed:
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
        leave_out: names of segments in a file that are no structures of the task.

    Raises:
        GridMismatch, UnknownStructure, UnreadableImage: as in ``lib/labels.py``.
        UnacceptableFile: if nothing is left of a structure where others overlap it.
    """
    notes = list(masks.notes)
    if masks.whole is not None:
        names = {key: structure.name for key, structure in meaning.names.items()}
        names |= {name_key(name): NO_STRUCTURES[0] for name in leave_out}
        mask = mask_on_image(folder / masks.whole, grid, meaning.values, task, masks.image_id, notes.append, names)
        named = {entry.name for entry in meaning.values if task.structure(entry.name)} or set(task.values)
        # Names in the file itself may tell of more than are mapped.
        named |= {name for name, voxels in voxels_per_structure(mask, task.structures).items() if voxels}
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
