"""The cases that wait for somebody, and since when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, and_, func, select

from lib.split import Split
from lib.stages import Standing
from lib.store import schema
from lib.store.annotations import Annotation, Annotations
from lib.store.database import Database
from lib.store.images import ImageState

EXPERT_STANDINGS = (Standing.WAITING,)
"""Where the images stand that wait for an expert."""

ANNOTATOR_STANDINGS = (Standing.UNTOUCHED, Standing.DRAFTED)
"""Where those stand that wait for anybody."""


@dataclass(frozen=True)
class Waiting:
    """One case.

    Attributes:
        image: its id.
        split: side of its patient, ``None`` before the first offer.
        since: when its current annotation was stored, or the image was first seen, in UTC.
        current: version of the current annotation, ``None`` if there is none.
        versions: all that is there, oldest first.
    """

    image: str
    split: Split | None
    since: datetime
    current: int | None
    versions: list[Annotation]


class Queue:
    """The waiting cases of one task."""

    def __init__(self, database: Database, task: str, annotations: Annotations) -> None:
        self.database = database
        self.task = task
        self.annotations = annotations

    def count(self, standings: Sequence[Standing]) -> int:
        """How many readable images stand there."""
        with self.database.reading() as connection:
            return connection.scalar(self._waiting(standings, func.count())) or 0

    def page(self, standings: Sequence[Standing], skipped: int, most: int) -> list[Waiting]:
        """Some of these images: first those whose current annotation is oldest, then those without one, by id."""
        image, annotation = schema.image.c, schema.annotation.c
        of_current = and_(
            annotation.task == image.task, annotation.image == image.id, annotation.version == image.current
        )
        query = self._waiting(standings, image.id, image.split, image.current, image.added, annotation.created)
        ordered = query.outerjoin(schema.annotation, of_current).order_by(annotation.id.asc().nulls_last(), image.id)
        with self.database.reading() as connection:
            rows = connection.execute(ordered.offset(skipped).limit(most)).all()
            return [
                Waiting(
                    image=row.id,
                    split=Split(row.split) if row.split else None,
                    since=row.created or row.added,
                    current=row.current,
                    versions=self.annotations.history(row.id),
                )
                for row in rows
            ]

    def _waiting(self, standings: Sequence[Standing], *columns: Any) -> Select[Any]:
        image = schema.image.c
        which = (image.task == self.task, image.state == ImageState.OK, image.standing.in_(standings))
        return select(*columns).select_from(schema.image).where(*which)
