"""Compares the rows of the record with its files and with each other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import delete, insert, select, update

from lib.stages import current, standing
from lib.store import schema
from lib.store.files import UNFINISHED, FileStore
from lib.store.leftovers import OLD_SECONDS, delete_unfinished, unfinished
from lib.store.record import Record


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        what: a sentence for people.
        can_be_repaired: whether ``repair`` mends it; a lost file only a backup brings back.
    """

    what: str
    can_be_repaired: bool


def verify(record: Record) -> list[Finding]:
    """Looks at everything and changes nothing; an empty list means that all is well."""
    # One state of all tables, since a server may be writing.
    with record.database.reading():
        masks = _mask_digests(record)
        weights = {model.weights for models in (record.models, record.refiners) for model in models.every()}
        objects = {stored.content for stored in record.segmentations.every()}
        rows = [
            *(Finding(f"Image {image_id!r}: {what}", can_be_repaired=repairable)
              for image_id, what, repairable in _histories(record)),
            *_tally(record),
        ]  # fmt: skip
    return [
        *_files(record.masks, masks, "mask"),
        *_files(record.weights, weights, "weights"),
        *_files(record.segmentations.files, objects, "segmentation"),
        *_strays(record),
        *rows,
    ]


def repair(record: Record) -> list[Finding]:
    """Mends what can be mended: leftovers are deleted, what is derived is derived anew.

    Returns:
        What was found, as ``verify`` before.
    """
    found = verify(record)
    for store in (record.masks, record.weights, record.segmentations.files):
        for path in _leftovers(store):
            path.unlink()
    delete_unfinished(record.masks.folder.parent)
    with record.database.transaction() as connection:
        for image_id, history in record.annotations.all_histories().items():
            now_current = current(history)
            connection.execute(
                update(schema.image)
                .where(record.images.is_one(image_id))
                .values(standing=standing(now_current), current=now_current.version if now_current else None)
            )
        connection.execute(delete(schema.tally).where(schema.tally.c.task == record.task.name))
        for place, images in record.images.recounted().items():
            connection.execute(
                insert(schema.tally).values(
                    task=record.task.name,
                    state=place.state,
                    standing=place.standing,
                    split=place.split or "",
                    images=images,
                )
            )
    return found


def _mask_digests(record: Record) -> set[str]:
    column = schema.annotation.c
    with record.database.reading() as connection:
        # The masks of another task in the same PostgreSQL lie below another data folder.
        mine = select(column.mask).where(column.task == record.task.name, column.mask.is_not(None))
        return set(connection.scalars(mine.distinct()))


def _files(store: FileStore, wanted: set[str], what: str) -> Iterator[Finding]:
    for digest in sorted(wanted):
        path = store.path(digest)
        if not path.is_file():
            yield Finding(f"The {what} file {digest} is missing. Restore it from a backup.", can_be_repaired=False)
        elif _digest(path) != digest:
            yield Finding(f"The {what} file {digest} is damaged. Restore it from a backup.", can_be_repaired=False)
    for path in _leftovers(store):
        yield Finding(f"{path.name} was left behind by an interrupted write.", can_be_repaired=True)


def _strays(record: Record) -> Iterator[Finding]:
    """Copies of images that nobody finishes; what a server has in work just now is none."""
    data = record.masks.folder.parent
    for path in unfinished(data, older_than=OLD_SECONDS):
        what = path.relative_to(data)
        yield Finding(f"{what} was left behind by a killed process; it may show a patient.", can_be_repaired=True)


def _leftovers(store: FileStore) -> list[Path]:
    return sorted(store.folder.glob(f"*/{UNFINISHED}*"))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _histories(record: Record) -> Iterator[tuple[str, str, bool]]:
    for image_id, history in record.annotations.all_histories().items():
        versions = [annotation.version for annotation in history]
        if versions != list(range(1, len(history) + 1)):
            yield image_id, f"its versions are {versions}, with gaps.", False
        image, now_current = record.images.find(image_id), current(history)
        wanted = (standing(now_current), now_current.version if now_current else None)
        if image is not None and (image.standing, image.current) != wanted:
            yield image_id, f"stands at {image.standing}, version {image.current}; its history says {wanted}.", True


def _tally(record: Record) -> Iterator[Finding]:
    kept, counted = record.images.counts(), record.images.recounted()
    if kept != counted:
        yield Finding(f"The running count says {dict(kept)}, the images are {dict(counted)}.", can_be_repaired=True)
