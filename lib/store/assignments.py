"""Who works on which image, so that no two people do the same work by accident."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, insert, select, update

from lib.store import schema
from lib.store.database import Database


class Purpose(StrEnum):
    """What somebody does with an image."""

    LABEL = "label"
    REVIEW = "review"
    SECOND_READING = "second_reading"


class AssignmentState(StrEnum):
    """Whether it is done."""

    OPEN = "open"
    DONE = "done"


@dataclass(frozen=True)
class Assignment:
    """One row of the assignment table; ``expires`` is in UTC."""

    image: str
    annotator: str
    purpose: Purpose
    state: AssignmentState
    expires: datetime


def is_taken_by_others(annotator: str, moment: datetime) -> ColumnElement[bool]:
    """The condition, for a query of images, that somebody else works on the image."""
    column = schema.assignment.c
    return (
        select(column.id)
        .where(
            column.task == schema.image.c.task,
            column.image == schema.image.c.id,
            column.state == AssignmentState.OPEN,
            column.annotator != annotator,
            column.purpose != Purpose.SECOND_READING,
            column.expires > moment,
        )
        .exists()
    )


class Assignments:
    """The assignments of one task."""

    def __init__(self, database: Database, task: str) -> None:
        self.database = database
        self.task = task

    def assign(self, image_id: str, annotator: str, purpose: Purpose, lasting: timedelta) -> Assignment:
        """Gives an image to somebody, or more time, and maybe another purpose, to whom it is given already."""
        with self.database.transaction() as connection:
            expires = schema.now() + lasting
            mine = self._open(image_id, annotator)
            renewed = connection.execute(update(schema.assignment).where(mine).values(expires=expires, purpose=purpose))
            if renewed.rowcount == 0:
                connection.execute(
                    insert(schema.assignment).values(
                        task=self.task,
                        image=image_id,
                        annotator=annotator,
                        purpose=purpose,
                        state=AssignmentState.OPEN,
                        expires=expires,
                        created=schema.now(),
                    )
                )
            return _assignment(connection.execute(select(schema.assignment).where(mine)).one())

    def finish(self, image_id: str, annotator: str) -> None:
        """Notes that somebody handed the image in."""
        with self.database.transaction() as connection:
            connection.execute(
                update(schema.assignment).where(self._open(image_id, annotator)).values(state=AssignmentState.DONE)
            )

    def of(self, image_id: str) -> list[Assignment]:
        """All assignments of an image, oldest first."""
        column = schema.assignment.c
        query = select(schema.assignment).where(column.task == self.task, column.image == image_id).order_by(column.id)
        with self.database.reading() as connection:
            return [_assignment(row) for row in connection.execute(query)]

    def _open(self, image_id: str, annotator: str) -> ColumnElement[bool]:
        column = schema.assignment.c
        return and_(
            column.task == self.task,
            column.image == image_id,
            column.annotator == annotator,
            column.state == AssignmentState.OPEN,
        )


def _assignment(row: Row[Any]) -> Assignment:
    return Assignment(row.image, row.annotator, Purpose(row.purpose), AssignmentState(row.state), row.expires)
