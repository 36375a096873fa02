"""The record of one server: its tables and its files below one data folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL

from lib.store.annotations import Annotations
from lib.store.audit import Audit
from lib.store.database import Database
from lib.store.files import FileStore
from lib.store.images import Images
from lib.store.jobs import Jobs
from lib.store.models import Models
from lib.store.tasks import open_task
from lib.task import Task


@dataclass(frozen=True)
class Record:
    """Everything that one task has stored.

    Attributes:
        task: with all structures that the record knows.
        database: for blocks that write to several tables at once.
        masks: gzipped NIfTI masks (uint8, on the grid of their image).
        weights: checkpoints.
    """

    task: Task
    database: Database
    images: Images
    annotations: Annotations
    models: Models
    jobs: Jobs
    audit: Audit
    masks: FileStore
    weights: FileStore

    def close(self) -> None:
        """Gives the connections back."""
        self.database.close()


def default_url(data: Path) -> URL:
    """Where the record lies unless the settings say otherwise."""
    return URL.create("sqlite", database=str(data / "record.sqlite"))


def open_record(task: Task, data: Path, url: str = "") -> Record:
    """Opens the record, makes or migrates its tables, and notes the structures of the task.

    Raises:
        TaskMismatch: if the record was made with other label values.
    """
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = Database(url or default_url(data))
    database.migrate()
    opened = open_task(database, task)
    images = Images(database, task.name)
    return Record(
        task=opened,
        database=database,
        images=images,
        annotations=Annotations(database, task.name, images),
        models=Models(database, task.name),
        jobs=Jobs(database, task.name),
        audit=Audit(database, task.name),
        masks=FileStore(data / "masks", ".nii.gz"),
        weights=FileStore(data / "weights", ".pt"),
    )
