"""Which version of an image each person was given last: what they save without a word about it was made from that."""

from __future__ import annotations

from sqlalchemy import delete, insert, select, update

from lib.store import schema
from lib.store.database import Database


class Openings:
    """The versions that the people of one task have in front of them, as far as the server has sent them."""

    def __init__(self, database: Database, task: str) -> None:
        self.database = database
        self.task = task

    def note(self, image_id: str, person: str, version: int) -> None:
        """Somebody was given a version, or has just stored it."""
        # Most are asked for again and again: only what is new takes a turn among the writers.
        if self.last(image_id, person) == version:
            return
        row = {"task": self.task, "image": image_id, "person": person}
        with self.database.transaction() as connection:
            known = connection.execute(update(schema.opening).filter_by(**row).values(version=version))
            if known.rowcount == 0:
                connection.execute(insert(schema.opening).values(**row, version=version))

    def last(self, image_id: str, person: str) -> int | None:
        """The version that somebody was given last; ``None``: none so far."""
        query = select(schema.opening.c.version).filter_by(task=self.task, image=image_id, person=person)
        with self.database.reading() as connection:
            return connection.scalar(query)

    def forget(self, image_ids: list[str]) -> None:
        """Deletes who had which version of some images."""
        column = schema.opening.c
        with self.database.transaction() as connection:
            connection.execute(delete(schema.opening).where(column.task == self.task, column.image.in_(image_ids)))
