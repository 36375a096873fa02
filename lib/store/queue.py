"""The cases that wait for somebody, and since when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, exists, func, select

from lib.split import Split
from lib.stages import PEOPLE, Stage, Standing
from lib.store import schema
from lib.store.annotations import Annotation, Annotations
from lib.store.database import Database
from lib.store.images import ImageState

EXPERT_STANDINGS = (Standing.WAITING,)
"""Where the images stand that wait for an expert."""

ANNOTATOR_STANDINGS = (Standing.DRAFTED, Standing.UNTOUCHED)
"""Where those stand that wait for anybody: first those with a draft that can be corrected."""


@dataclass(frozen=True)
class Waiting:
    """One case.

    Attributes:
        image: its id.
        split: side of its patient, ``None`` before the first offer.
        since: when its current annotation was stored, or a person's mask that this one was refined from; else when the
            image was first seen; in UTC.
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
        counts = self.annotations.images.counts()
        return sum(
            images for place, images in counts.items() if place.state is ImageState.OK and place.standing in standings
        )

    def unrefined(self) -> list[tuple[str, int]]:
        """Image and version of each annotator's mask that waits for an expert and never was refined, oldest first."""
        image, annotation, refined = schema.image.c, schema.annotation.c, schema.annotation.alias("refined").c
        # Also what was withdrawn again: whoever did that does not want it.
        is_refined = exists().where(
            refined.task == annotation.task,
            refined.image == annotation.image,
            # Goes without saying, but else SQLite looks through all refined versions of the record for each mask.
            refined.version > annotation.version,
            refined.parent == annotation.version,
            refined.stage == Stage.REFINED,
        )
        query = (
            select(annotation.image, annotation.version)
            .select_from(schema.image)
            .join(schema.annotation, _is_current())
            .where(
                image.task == self.task,
                image.state == ImageState.OK,
                image.standing == Standing.WAITING,
                annotation.role.in_(PEOPLE),
                ~is_refined,
            )
            .order_by(annotation.id)
        )
        with self.database.reading() as connection:
            return [(image_id, version) for image_id, version in connection.execute(query)]

    def page(self, standings: Sequence[Standing], skipped: int, most: int) -> list[Waiting]:
        """Some of these images, one standing after the other: what waits for an expert the longest first, else by id.

        Only what waits for an expert is sorted by age: by id an index gives the page, however many images there are.
        """
        with self.database.reading() as connection:
            rows: list[Row[Any]] = []
            for standing in standings:
                found = self._standing(standing).offset(skipped).limit(most - len(rows))
                rows += connection.execute(found).all()
                skipped = max(skipped - self.count([standing]), 0)
            return [self._told(row) for row in rows]

    def _standing(self, standing: Standing) -> Select[Any]:
        """The images that stand there, in their order."""
        image = schema.image.c
        query = select(image.id, image.split, image.current, image.added).where(
            image.task == self.task, image.state == ImageState.OK, image.standing == standing
        )
        if standing is not Standing.WAITING:
            return query.add_columns(image.current.label("stored")).order_by(image.id)
        annotation, drawn = schema.annotation.c, schema.annotation.alias("drawn")
        # What was refined anew waits since somebody drew it.
        is_drawn = and_(
            drawn.c.task == annotation.task,
            drawn.c.image == annotation.image,
            drawn.c.version == annotation.parent,
            drawn.c.role.in_(PEOPLE),
            annotation.stage == Stage.REFINED,
        )
        return (
            query.add_columns(func.coalesce(drawn.c.version, annotation.version).label("stored"))
            .join(schema.annotation, _is_current())
            .outerjoin(drawn, is_drawn)
            .order_by(func.coalesce(drawn.c.id, annotation.id))
        )

    def _told(self, row: Row[Any]) -> Waiting:
        versions = self.annotations.history(row.id)
        return Waiting(
            image=row.id,
            split=Split(row.split) if row.split else None,
            since=next((version.created for version in versions if version.version == row.stored), row.added),
            current=row.current,
            versions=versions,
        )


def _is_current() -> ColumnElement[bool]:
    image, annotation = schema.image.c, schema.annotation.c
    return and_(annotation.task == image.task, annotation.image == image.id, annotation.version == image.current)
