"""Who asked for which change, when and from where."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import insert, select

from lib.store import schema
from lib.store.database import Database


@dataclass(frozen=True)
class Change:
    """One request that changed something.

    Attributes:
        author, role: the person.
        client: program that sent it.
        address: of the machine that sent it.
        method, path, query: the request.
        status: HTTP status of the reply.
    """

    author: str
    role: str
    client: str
    address: str
    method: str
    path: str
    query: str
    status: int


class Audit:
    """The changes of one task; rows are only ever added."""

    def __init__(self, database: Database, task: str) -> None:
        self.database = database
        self.task = task

    def add(self, change: Change) -> None:
        """Writes a change down."""
        with self.database.transaction() as connection:
            connection.execute(insert(schema.audit).values(task=self.task, time=schema.now(), **asdict(change)))

    def newest(self, count: int) -> list[tuple[datetime, Change]]:
        """The last changes with their moment in UTC, newest first."""
        column = schema.audit.c
        query = select(schema.audit).where(column.task == self.task).order_by(column.id.desc()).limit(count)
        with self.database.reading() as connection:
            rows = connection.execute(query).all()
        return [
            (
                row.time,
                Change(row.author, row.role, row.client, row.address, row.method, row.path, row.query, row.status),
            )
            for row in rows
        ]
