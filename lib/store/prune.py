"""Deletes mask files of drafts that nobody needs; their rows stay."""

from __future__ import annotations

from sqlalchemy import ColumnElement, select, update

from lib.stages import Role
from lib.store import schema
from lib.store.record import Record


def prune_drafts(record: Record) -> int:
    """Deletes the masks of model drafts that are nobody's parent and whose version no longer serves.

    Returns:
        Mask files deleted.
    """
    annotation, child = schema.annotation.c, schema.annotation.alias("child").c
    serving = record.models.serving()
    is_parent = (
        select(child.id)
        .where(child.task == annotation.task, child.image == annotation.image, child.parent == annotation.version)
        .exists()
    )
    unused = (
        (annotation.task == record.task.name)
        & (annotation.role == Role.MODEL)
        & annotation.mask.is_not(None)
        & (annotation.model_version != (serving.version if serving else -1))
        & ~is_parent
        & ~_is_current()
    )
    with record.database.transaction() as connection:
        digests = set(connection.scalars(select(annotation.mask).where(unused)))
        connection.execute(update(schema.annotation).where(unused).values(mask=None))
    # Only now that no row of these drafts asks for a file any more.
    return record.delete_unused_masks(digests)


def _is_current() -> ColumnElement[bool]:
    image, annotation = schema.image.c, schema.annotation.c
    return (
        select(image.id)
        .where(image.task == annotation.task, image.id == annotation.image, image.current == annotation.version)
        .exists()
    )
