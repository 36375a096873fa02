"""Masks that a person brings along become annotations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from lib.errors import InvalidRequest, SetupError, StageConflict, UnacceptableFile, UnknownImage, UnreadableImage
from lib.labels_folder import Masks, Meaning, Placed, find_masks, place
from lib.serving.annotator import Annotator
from lib.serving.requests import Submission
from lib.serving.saving import covered_voxels, save_mask
from lib.stages import in_force
from lib.store.files import digest_of
from lib.store.images import Image, ImageKind, ImageState
from lib.store.record import Record
from lib.volume import Grid, Volume, nifti_bytes

OF_ONE_IMAGE = (UnacceptableFile, InvalidRequest, StageConflict, UnknownImage, OSError)
"""Errors that say something about a single image or mask; others end the import."""


class Fate(StrEnum):
    """What became of the masks of an image, or of a file that belongs to none."""

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
class MaskFolder:
    """Where masks lie and whose they are.

    Attributes:
        path: the folder.
        annotator: author and role of all of them.
        meaning: what numbers and file names stand for.
    """

    path: Path
    annotator: Annotator
    meaning: Meaning


def import_masks(
    record: Record,
    source: MaskFolder,
    report: Callable[[int, int], None] = lambda done, total: None,
    *,
    is_trial: bool = False,
) -> list[Outcome]:
    """Appends each mask of a folder to the history of its image; what cannot be taken stops nothing.

    Each is checked as a client's mask is and becomes a version without a parent. A mask that its author has stored
    already is skipped, so an import that was interrupted can be done again.

    Args:
        record: knows the images.
        source: the folder.
        report: is told how many images are done, and how many there are.
        is_trial: nothing is stored.

    Raises:
        SetupError: if there is no such folder, or no mask in it.
        StorageFull, RecordAway: as the words say; what was imported before stays.
    """
    if not source.path.is_dir():
        raise SetupError(f"{source.path} is no folder; name the one that holds the masks.")
    images = {image.id: image for image in record.images.every(ImageState.OK, ImageState.QUARANTINED)}
    paths = [path.relative_to(source.path) for path in source.path.rglob("*") if path.is_file()]
    found = find_masks(paths, _names(images), record.task, source.meaning)
    if not found.masks and not found.left:
        raise SetupError(f"{source.path} holds no mask. Wanted are IMAGE.nii.gz or IMAGE/STRUCTURE.nii.gz.")
    outcomes = []
    for done, masks in enumerate(found.masks, start=1):
        outcomes.append(_outcome(record, images[masks.image_id], masks, source, is_trial))
        report(done, len(found.masks))
    return outcomes + [Outcome(path.as_posix(), Fate.REFUSED, reason) for path, reason in found.left]


def _names(images: dict[str, Image]) -> dict[str, str]:
    """Image by its id, and by the folder of its series if no other image has that name."""
    sources = Counter(image.source for image in images.values() if image.kind is ImageKind.SERIES)
    by_source = {
        image.source: image.id
        for image in images.values()
        if image.kind is ImageKind.SERIES and sources[image.source] == 1
    }
    return {**by_source, **{image_id: image_id for image_id in images}}


def _outcome(record: Record, image: Image, masks: Masks, source: MaskFolder, is_trial: bool) -> Outcome:
    try:
        if image.state is not ImageState.OK or image.grid is None:
            raise UnreadableImage(f"The image is quarantined: {image.reason}")
        placed = place(masks, source.path, image.grid, record.task, source.meaning)
        covered_voxels(placed.mask, record.task, placed.looked_at)
        if _is_known(record, image.id, placed, image.grid, source.annotator.name):
            return Outcome(image.id, Fate.SKIPPED, f"{source.annotator.name} has stored the same already")
        if not is_trial:
            submission = Submission(
                image_id=image.id,
                tag="",
                label_info=(),
                looked_at=placed.looked_at,
                parent=None,
                seconds=None,
                client_id=source.annotator.name,
                info={"imported_from": [path.as_posix() for path in masks.paths]},
            )
            save_mask(record, placed.mask, image.grid, submission, source.annotator, is_from_scratch=True)
    except OF_ONE_IMAGE as error:
        return Outcome(image.id, Fate.REFUSED, str(error))
    return Outcome(image.id, Fate.IMPORTED, "; ".join(placed.overlaps))


def _is_known(record: Record, image_id: str, placed: Placed, grid: Grid, author: str) -> bool:
    """Whether the author has stored this very mask, about the same structures, and not withdrawn it."""
    digest = digest_of(nifti_bytes(Volume(placed.mask, grid.affine)))
    return any(
        annotation.mask == digest and annotation.author == author and annotation.looked_at == placed.looked_at
        for annotation in in_force(record.annotations.history(image_id))
    )
