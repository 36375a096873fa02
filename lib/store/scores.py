"""Numbers about an image and a model version."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, insert, select

from lib.store import schema
from lib.store.database import Database


@dataclass(frozen=True)
class Score:
    """One number about an image.

    Attributes:
        kind: what it is, such as ``dice:liver``.
        value: ``None`` where it is undefined for this image.
        model_version: that it is about.
        created: when it was kept, in UTC.
    """

    kind: str
    value: float | None
    model_version: int
    created: datetime


class Scores:
    """The scores of one task."""

    def __init__(self, database: Database, task: str) -> None:
        self.database = database
        self.task = task

    def put(self, model_version: int, kind: str, values: Mapping[str, float | None]) -> None:
        """Keeps one number per image, in place of earlier ones of the same kind and version.

        Args:
            model_version: that the numbers are about.
            kind: what they are, such as ``dice:liver``.
            values: by image id; ``None`` or ``nan`` where undefined.
        """
        column = schema.score.c
        with self.database.transaction() as connection:
            for image_id in values:
                connection.execute(
                    delete(schema.score).where(
                        column.task == self.task,
                        column.image == image_id,
                        column.model_version == model_version,
                        column.kind == kind,
                    )
                )
            rows = [
                {"task": self.task, "image": image_id, "model_version": model_version, "kind": kind,
                 "value": None if value is None or math.isnan(value) else value, "created": schema.now()}
                for image_id, value in values.items()
            ]  # fmt: skip
            if rows:
                connection.execute(insert(schema.score), rows)

    def of(self, model_version: int, kind: str) -> dict[str, float | None]:
        """The numbers of one kind by image id."""
        column = schema.score.c
        query = select(column.image, column.value).where(
            column.task == self.task, column.model_version == model_version, column.kind == kind
        )
        with self.database.reading() as connection:
            return {image: value for image, value in connection.execute(query)}

    def of_image(self, image_id: str) -> list[Score]:
        """All numbers about an image, newest model version first, then by kind."""
        column = schema.score.c
        query = (
            select(column.kind, column.value, column.model_version, column.created)
            .where(column.task == self.task, column.image == image_id)
            .order_by(column.model_version.desc(), column.kind)
        )
        with self.database.reading() as connection:
            return [Score(*row) for row in connection.execute(query)]
