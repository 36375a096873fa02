"""Takes a patient out of the record: pixels and masks go, a tombstone stays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import delete, func, select, update

from lib.errors import UnknownImage
from lib.store import schema
from lib.store.images import ImageState
from lib.store.record import Record


@dataclass(frozen=True)
class Erased:
    """What was taken out.

    Attributes:
        images: ids that are tombstones now.
        masks: mask files that were deleted.
        files: uploaded and cached files that were deleted.
        models: versions that learned from one of the images and still hold what they learned.
        studies: files in the folder of studies, which this server never changes: delete them yourself.
    """

    images: list[str]
    masks: int
    files: int
    models: list[int]
    studies: list[str]


def erase_patient(record: Record, data: Path, patient: str) -> Erased:
    """Erases all images of a patient.

    Args:
        record: where from.
        data: its data folder.
        patient: the patient key of the images.

    Raises:
        UnknownImage: if no image has this key.
    """
    with record.database.transaction() as connection:
        image, annotation = schema.image.c, schema.annotation.c
        mine = image.task == record.task.name
        ids = list(connection.scalars(select(image.id).where(mine, image.patient == patient).order_by(image.id)))
        if not ids:
            raise UnknownImage(f"No image belongs to the patient {patient!r}; nothing was erased.")
        files = [(image_id, root, path) for image_id in ids for root, path in record.images.files(image_id)]
        of_patient = (annotation.task == record.task.name) & annotation.image.in_(ids)
        digests = set(connection.scalars(select(annotation.mask).where(of_patient, annotation.mask.is_not(None))))
        connection.execute(update(schema.annotation).where(of_patient).values(mask=None, info={}, voxels={}))
        for image_id in ids:
            record.images.set_state(image_id, ImageState.ERASED, "erased")
            connection.execute(
                update(schema.image).where(record.images.is_one(image_id)).values(info={}, shape=None, affine=None)
            )
            own = (schema.file.c.task == record.task.name) & (schema.file.c.image == image_id)
            connection.execute(delete(schema.file).where(own))
        shared = {
            digest for digest in digests if connection.scalar(select(func.count()).where(annotation.mask == digest))
        }
    for digest in digests - shared:
        record.masks.path(digest).unlink(missing_ok=True)
    gone = [data / "uploads" / path for _, root, path in files if root == "uploads"]
    gone += [path for image_id in ids for path in (data / "cache").glob(f"{image_id}-*")]
    for path in gone:
        path.unlink(missing_ok=True)
    models = [m.version for m in record.models.every() if any(image_id in ids for image_id, _ in m.training)]
    studies = [path for _, root, path in files if root == "studies"]
    return Erased(ids, len(digests - shared), len(gone), models, studies)
