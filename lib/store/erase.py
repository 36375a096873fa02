"""Takes a patient out of the record: pixels and masks go, a tombstone stays."""

from __future__ import annotations

import glob
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import delete, select, update

from lib.errors import UnknownImage
from lib.store import layout, schema
from lib.store.images import ImageState
from lib.store.record import Record


@dataclass(frozen=True)
class Erased:
    """What was taken out.

    Attributes:
        images: ids that are tombstones now.
        masks: mask files and DICOM segmentations that were deleted.
        files: uploaded and cached files, and cached series, that were deleted.
        models: versions that learned from one of the images and still hold what they learned, by the name that
            annotations call them.
        studies: files in the folder of studies, or series at the server of the studies, which are never changed from
            here: delete them yourself.
    """

    images: list[str]
    masks: int
    files: int
    models: list[str]
    studies: list[str]


def erase_patient(record: Record, data: Path, keys: Sequence[str]) -> Erased:
    """Erases all images of a patient; a second call completes one that was interrupted.

    The files go before the rows that name them are committed: whatever interrupts it, nothing stays on the disk of
    which the record no longer knows. The rows of files in the folder of studies stay until those are deleted, so that
    not even a renamed one comes back as a new image.

    Args:
        record: where from.
        data: its data folder.
        keys: patient keys of the images; one person may have several.

    Raises:
        UnknownImage: if no image has such a key.
    """
    with record.database.transaction() as connection:
        image, annotation, file = schema.image.c, schema.annotation.c, schema.file.c
        mine = (image.task == record.task.name) & image.patient.in_(keys)
        ids = list(connection.scalars(select(image.id).where(mine).order_by(image.id)))
        if not ids:
            raise UnknownImage(f"No image belongs to the patient {keys[0]!r}; nothing was erased.")
        files = [(root, path) for image_id in ids for root, path in record.images.files(image_id)]
        of_patient = (annotation.task == record.task.name) & annotation.image.in_(ids)
        digests = set(connection.scalars(select(annotation.mask).where(of_patient, annotation.mask.is_not(None))))
        connection.execute(update(schema.annotation).where(of_patient).values(mask=None, info={}, voxels={}))
        for image_id in ids:
            record.images.set_state(image_id, ImageState.ERASED, "erased")
            connection.execute(
                update(schema.image)
                .where(record.images.is_one(image_id))
                .values(info={}, shape=None, affine=None, uncompared=None)
            )
        of_uploads = (file.task == record.task.name) & file.image.in_(ids) & (file.root == layout.UPLOADS)
        connection.execute(delete(schema.file).where(of_uploads))
        deleted_masks = record.delete_unused_masks(digests)
        stored = schema.segmentation.c
        objects = (stored.task == record.task.name) & stored.image.in_(ids)
        contents = set(connection.scalars(select(stored.content).where(objects)))
        connection.execute(delete(schema.segmentation).where(objects))
        listed = (schema.listing.c.task == record.task.name) & schema.listing.c.image.in_(ids)
        connection.execute(delete(schema.listing).where(listed))
        compared = (schema.comparison.c.task == record.task.name) & schema.comparison.c.image.in_(ids)
        connection.execute(delete(schema.comparison).where(compared))
        record.openings.forget(ids)
        deleted_masks += record.segmentations.delete_unused(contents)
        kept = [data / root / path for root, path in files if root in (layout.UPLOADS, layout.FETCHED)]
        deleted_files = delete_paths([*kept, *cached(data, ids)])
    record.database.empty_log()
    models = [
        kind.author(model.version)
        for kind in (record.models, record.refiners)
        for model in kind.every()
        if any(image_id in ids for image_id, _ in model.training)
    ]
    studies = [path for root, path in files if root != layout.UPLOADS]
    return Erased(ids, deleted_masks, deleted_files, models, studies)


def cached(data: Path, ids: Sequence[str]) -> list[Path]:
    """Files and folders that were written for viewers of these images, or made from them otherwise."""
    # Earlier versions named them by the id itself.
    patterns = [name for one in ids for name in (layout.cached_name(one, "*"), f"{glob.escape(one)}-*")]
    return [path for pattern in patterns for path in (data / layout.CACHE).glob(pattern)]


def delete_paths(paths: Sequence[Path]) -> int:
    """Deletes those that are there, and tells how many."""
    there = [path for path in paths if path.exists()]
    for path in there:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return len(there)
