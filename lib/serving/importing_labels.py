"""Labels that a person brings along become annotations: mask files, DICOM segmentations and sets of contours."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from lib.dataset import read_dataset
from lib.dicom.drawn import DRAWN, names_in, program_of, read_drawn, referenced_images, rename, source_instances
from lib.errors import (
    InvalidRequest,
    NotFound,
    SetupError,
    StageConflict,
    UnacceptableFile,
    UnknownImage,
    UnknownStructure,
    UnreadableImage,
)
from lib.labels import MASK_SUFFIXES
from lib.labels_folder import Masks, Meaning, Placed, find_masks, place
from lib.overlaps import Claims
from lib.series import NO_PREAMBLE, lacks_preamble, looks_like_dicom
from lib.serving.annotator import Annotator
from lib.serving.dicom_files import on_grid
from lib.serving.folder import STUDIES
from lib.serving.requests import Submission
from lib.serving.saving import covered_voxels, save_mask
from lib.serving.studies import Studies
from lib.stages import Stage, in_force, stage_of
from lib.store.files import digest_of
from lib.store.images import Image, ImageKind, ImageState
from lib.store.record import Record
from lib.task import Task, name_key
from lib.volume import Grid, Volume, nifti_bytes

OF_ONE_IMAGE = (UnacceptableFile, InvalidRequest, StageConflict, NotFound, OSError)
"""Errors that say something about a single image or label; others end the import."""

FILE_NAME_ENDS = (".seg", ".rtstruct")
"""What may stand between the name of the image and the suffix of a DICOM object."""


class Fate(StrEnum):
    """What became of the labels of an image, or of a file that belongs to none."""

    IMPORTED = "imported"
    SKIPPED = "skipped"
    REFUSED = "refused"


@dataclass(frozen=True)
class Outcome:
    """One line of the report.

    Attributes:
        name: the image, or a file below the folder that belongs to none.
        fate: what became of it.
        note: why, or what a person should know.
    """

    name: str
    fate: Fate
    note: str = ""


@dataclass(frozen=True)
class LabelFolder:
    """Where labels lie and whose they are.

    Attributes:
        path: the folder.
        annotator: author and role of all of them.
        meaning: what numbers, file names, segments and regions stand for.
        leave_out: names of segments and regions that are no structures of the task.
    """

    path: Path
    annotator: Annotator
    meaning: Meaning
    leave_out: Collection[str] = ()


@dataclass(frozen=True)
class Labels:
    """All labels of one image: mask files, or DICOM objects.

    Attributes:
        image_id: the image.
        masks: ``None`` if there are DICOM objects only.
        objects: their paths, relative to the folder.
    """

    image_id: str
    masks: Masks | None
    objects: tuple[Path, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """All its files."""
        return tuple(self.masks.paths) if self.masks is not None else self.objects


def import_labels(
    studies: Studies,
    source: LabelFolder,
    report: Callable[[int, int], None] = lambda done, total: None,
    *,
    is_trial: bool = False,
) -> list[Outcome]:
    """Appends the labels of a folder to the histories of their images; what cannot be taken stops nothing.

    DICOM objects belong to the image that they refer to, else to the one whose name they have; mask files to the one
    that their names and folders tell. Each is checked as a client's is and becomes a version without a parent; several
    objects of one image become one version. Labels that their author has stored already are skipped, so an import that
    was interrupted can be done again.

    Args:
        studies: know the images.
        source: the folder.
        report: is told how many images are done, and how many there are.
        is_trial: nothing is stored.

    Raises:
        SetupError: if there is no such folder, or no label in it.
        StorageFull, RecordAway: as the words say; what was imported before stays.
    """
    if not source.path.is_dir():
        raise SetupError(f"{source.path} is no folder; name the one that holds the labels.")
    record = studies.record
    images = {image.id: image for image in record.images.every(ImageState.OK, ImageState.QUARANTINED)}
    labels, left = _found(studies, images, source)
    if not labels and not left:
        raise SetupError(
            f"{source.path} holds no label. Wanted are IMAGE.nii.gz, IMAGE/STRUCTURE.nii.gz, DICOM segmentations "
            "or structure sets."
        )
    outcomes = []
    for done, each in enumerate(labels, start=1):
        outcomes.append(_outcome(studies, images[each.image_id], each, source, is_trial))
        report(done, len(labels))
    return outcomes + [Outcome(path.as_posix(), Fate.REFUSED, reason) for path, reason in left]


def _found(
    studies: Studies, images: Mapping[str, Image], source: LabelFolder
) -> tuple[list[Labels], list[tuple[Path, str]]]:
    """The labels by image, in the order of their ids, and the files that belong to none with the reason."""
    paths = [path.relative_to(source.path) for path in sorted(source.path.rglob("*")) if path.is_file()]
    names = _names(images)
    own = _own(paths, images.values(), studies, source.path)
    finding = find_masks(paths, names, studies.record.task, source.meaning, source.leave_out, own)
    by_image: dict[str, list[Path]] = {}
    left = list(finding.left)
    for path in paths:
        if path.name.lower().endswith(MASK_SUFFIXES) or path.name.startswith("."):
            continue
        try:
            if (image_id := _image_of(source.path, path, studies, names)) is not None:
                by_image.setdefault(image_id, []).append(path)
        except OF_ONE_IMAGE as error:
            left.append((path, str(error)))
    masks = {each.image_id: each for each in finding.masks}
    for image_id in masks.keys() & by_image.keys():
        left += [(path, "its image also has mask files, which are taken") for path in by_image.pop(image_id)]
    found = [Labels(each.image_id, each, ()) for each in finding.masks]
    found += [Labels(image_id, None, tuple(objects)) for image_id, objects in by_image.items()]
    return sorted(found, key=lambda each: each.image_id), left


def _own(paths: Iterable[Path], images: Iterable[Image], studies: Studies, folder: Path) -> dict[Path, str]:
    """Image by path below the folder of labels, of files there that are images themselves."""
    here, there = folder.resolve(), studies.library.folders[STUDIES].resolve()
    if not (here.is_relative_to(there) or there.is_relative_to(here)):
        return {}
    files = (image for image in images if image.kind is ImageKind.FILE)
    listed = {place.resolve(): image.id for image in files for place in studies.library.places(image)}
    return {path: listed[place] for path in paths if (place := (folder / path).resolve()) in listed}


def _names(images: Mapping[str, Image]) -> dict[str, str]:
    """Image by its id, and by the folder of its series if no other image has that name."""
    sources = Counter(image.source for image in images.values() if image.kind is ImageKind.SERIES)
    by_source = {
        image.source: image.id
        for image in images.values()
        if image.kind is ImageKind.SERIES and sources[image.source] == 1
    }
    return {**by_source, **{image_id: image_id for image_id in images}}


def _image_of(folder: Path, path: Path, studies: Studies, names: Mapping[str, str]) -> str | None:
    """The image of a DICOM object; ``None`` if the file is something else.

    Raises:
        UnreadableImage: if it is damaged.
        UnknownImage, UnacceptableFile: if it belongs to no image, or to several.
    """
    if not looks_like_dicom(folder / path):
        if lacks_preamble(folder / path):
            raise UnreadableImage(f"it {NO_PREAMBLE}")
        return None
    try:
        header = read_dataset(folder / path, with_pixels=False)
    # The reader raises whatever a damaged header makes it stumble over.
    except Exception as error:
        raise UnreadableImage(f"it is no readable DICOM file: {error}") from error
    # One that is cut off may still say what it is in front of all else.
    if (header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID")) not in DRAWN:
        return None
    studies.list_new()
    try:
        study_uid = str(header.get("StudyInstanceUID") or "")
        return studies.image_named_by(referenced_images(header), source_instances(header), study_uid).image
    except UnknownImage:
        named = _named_by_file(path, names)
        if named is None:
            raise
        return named


def _named_by_file(path: Path, names: Mapping[str, str]) -> str | None:
    """The image whose name a file has, without its suffix."""
    stem = path.with_suffix("") if path.suffix else path
    stems = [stem, *(stem.with_suffix("") for end in FILE_NAME_ENDS if stem.suffix.lower() == end)]
    return next((names[one.as_posix()] for one in stems if one.as_posix() in names), None)


def _outcome(studies: Studies, image: Image, labels: Labels, source: LabelFolder, is_trial: bool) -> Outcome:
    record = studies.record
    try:
        if image.state is not ImageState.OK or image.grid is None:
            raise UnreadableImage(f"The image is quarantined: {image.reason}")
        placed = _placed(studies, image, image.grid, labels, source)
        covered_voxels(placed.mask, record.task, placed.looked_at)
        if _is_known(record, image.id, placed, image.grid, source.annotator.name):
            return Outcome(image.id, Fate.SKIPPED, f"{source.annotator.name} has stored the same already")
        if not is_trial:
            submission = Submission(
                image_id=image.id,
                tag="",
                label_info=(),
                looked_at=placed.looked_at,
                # Whoever drew it had nothing of what is here.
                parent=0,
                anyway=True,
                seconds=None,
                client_id=source.annotator.name,
                info={"imported_from": [path.as_posix() for path in labels.paths]},
            )
            save_mask(record, placed.mask, image.grid, submission, source.annotator)
    except OF_ONE_IMAGE as error:
        return Outcome(image.id, Fate.REFUSED, str(error))
    return Outcome(image.id, Fate.IMPORTED, "; ".join(placed.notes))


def _placed(studies: Studies, image: Image, grid: Grid, labels: Labels, source: LabelFolder) -> Placed:
    task = studies.record.task
    if labels.masks is not None:
        return place(labels.masks, source.path, grid, task, source.meaning, source.leave_out)
    series = studies.files.source(image)
    names = {key: structure.name for key, structure in source.meaning.names.items()}
    mask, claims = np.zeros(grid.shape, np.uint8), Claims.of(task)
    notes: list[str] = []
    seen: set[str] = set()
    programs: list[str | None] = []
    for path in labels.objects:
        dataset: Any = read_dataset(source.path / path)
        programs.append(program_of(dataset))
        rename(dataset, names)
        try:
            drawn, looked_at = read_drawn(dataset, series, task, source.leave_out, notes.append)
        except UnknownStructure as error:
            raise UnknownStructure(f"{error} {_remedy(names_in(dataset), task, source.leave_out)}") from error
        drawn = on_grid(drawn, series.grid, grid, image.id)
        for name in looked_at:
            claims.put(mask, drawn == task.values[name], task.values[name])
        seen.update(looked_at)
    if not seen:
        raise UnacceptableFile("Nothing in it is a structure of the task but what is left out.")
    claims.settle(mask, notes.append)
    alone = sorted({program for program in programs if program})
    if alone and None not in programs and stage_of(source.annotator.role) is Stage.EXPERT:
        notes.append(f"drawn by {', '.join(alone)} alone; with --stage draft an expert would look at it first")
    return Placed(mask, tuple(one.name for one in task.structures if one.name in seen), tuple(notes))


def _remedy(names: Iterable[str], task: Task, leave_out: Collection[str]) -> str:
    """The options that would let segments or regions be taken, with the structure whose name is most alike."""
    known = {name_key(name) for name in (*task.values, *leave_out)}
    strange = next((name for name in names if name and name_key(name) not in known), "NAME")
    (alike,) = get_close_matches(strange, task.values, 1, cutoff=0)
    return (
        f"Here that is --label-map {shlex.quote(f'{strange}={alike}')} if it is one of these, or --leave-out "
        f"{shlex.quote(strange)}."
    )


def _is_known(record: Record, image_id: str, placed: Placed, grid: Grid, author: str) -> bool:
    """Whether the author has stored this very mask, about the same structures, and not withdrawn it."""
    digest = digest_of(nifti_bytes(Volume(placed.mask, grid.affine)))
    return any(
        annotation.mask == digest and annotation.author == author and annotation.looked_at == placed.looked_at
        for annotation in in_force(record.annotations.history(image_id))
    )
