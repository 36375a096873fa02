"""Short ways to fill a record and to look at it from outside."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import insert

from lib.stages import PEOPLE, Role, Stage, current, stage_of
from lib.store import schema
from lib.store.annotations import Annotation, Annotations, NewAnnotation
from lib.store.comparisons import Comparisons
from lib.store.database import Database
from lib.store.folder import Seen
from lib.store.images import ImageKind, Images, NewImage
from lib.store.jobs import Jobs
from lib.store.models import Models
from lib.store.record import Record
from lib.task import Structure, Task
from lib.volume import Grid

TASK = Task(
    "hippocampus",
    "Two halves",
    (Structure("anterior", 1, (221, 130, 101)), Structure("posterior", 2, (128, 174, 128))),
)
GRID = Grid((4, 3, 2), np.eye(4))
MASK = "ab" * 32
"""Digest of a mask; the rows need no file."""

ONLY_SQLITE = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
"""For tests of what PostgreSQL does not have."""

ONLY_POSTGRESQL = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
"""For tests of what SQLite does not have."""


def new_image(image_id: str, patient: str = "", reason: str = "") -> NewImage:
    """An image of a patient, its own unless named; a reason quarantines it."""
    grid = None if reason else GRID
    return NewImage(image_id, ImageKind.FILE, f"{image_id}.nii", grid, "MR", patient or image_id, reason)


def put_image(record: Record, image_id: str, patient: str = "", reason: str = "") -> None:
    """Puts such an image."""
    record.images.put(new_image(image_id, patient, reason))


def put_file(record: Record, image_id: str, size: int = 7) -> Seen:
    """A file of an image that is there."""
    seen = Seen(f"{image_id}.nii", size, 1, 1)
    row = {"task": record.task.name, "root": "studies", "image": image_id, **asdict(seen)}
    with record.database.transaction() as connection:
        connection.execute(insert(schema.file).values(row))
    return seen


def new(image_id: str, role: Role, author: str = "", **more: Any) -> NewAnnotation:
    """A mask by somebody with this role, of the stage that the role gives."""
    made = NewAnnotation(image_id, stage_of(role), author or str(role), role, MASK, ("anterior",), {"anterior": 3})
    return replace(made, **more)


def add(record: Record, image_id: str, role: Role, author: str = "", **more: Any) -> Annotation:
    """Adds it; a person has corrected what is current, unless told otherwise."""
    if "parent" not in more and role in PEOPLE and (before := current(record.annotations.history(image_id))):
        more["parent"] = before.version
    return record.annotations.add(new(image_id, role, author, **more))


class Outside:
    """The same record through connections of its own."""

    def __init__(self, record: Record) -> None:
        self.database = Database(record.database.engine.url)
        name = record.task.name
        self.images = Images(self.database, name)
        self.annotations = Annotations(self.database, name, self.images)
        self.models = Models(self.database, name)
        self.jobs = Jobs(self.database, name)
        self.comparisons = Comparisons(self.database, name, self.images)

    def versions(self, image_id: str) -> list[tuple[int, Stage, str]]:
        """Version, stage and author of each annotation."""
        return [(a.version, a.stage, a.author) for a in self.annotations.history(image_id)]
