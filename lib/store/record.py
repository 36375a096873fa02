"""The record of one server: its tables and its files below one data folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic.util import CommandError
from sqlalchemy import URL, ColumnElement, exists, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from lib.errors import LabelRefineryError, SetupError, UnknownAnnotation
from lib.store import layout, schema
from lib.store.annotations import Annotation, Annotations
from lib.store.assignments import Assignments
from lib.store.audit import Audit
from lib.store.comparisons import Comparisons
from lib.store.database import Database
from lib.store.disk import refuse_network_disk
from lib.store.files import FileStore
from lib.store.images import Images
from lib.store.jobs import Jobs
from lib.store.listings import Listings
from lib.store.models import ModelKind, Models
from lib.store.openings import Openings
from lib.store.private import make_private
from lib.store.queue import Queue
from lib.store.scores import Scores
from lib.store.segmentations import Segmentations
from lib.store.tasks import open_task, recorded_task
from lib.task import Task


@dataclass(frozen=True)
class Record:
    """Everything that one task has stored.

    Attributes:
        task: with all structures that the record knows.
        database: for blocks that write to several tables at once.
        models: the segmenters.
        refiners: the models that refine masks.
        masks: gzipped NIfTI masks (uint8, on the grid of their image).
        weights: checkpoints.
    """

    task: Task
    database: Database
    images: Images
    annotations: Annotations
    models: Models
    refiners: Models
    jobs: Jobs
    scores: Scores
    comparisons: Comparisons
    assignments: Assignments
    openings: Openings
    queue: Queue
    audit: Audit
    listings: Listings
    segmentations: Segmentations
    masks: FileStore
    weights: FileStore

    def has_mask(self, annotation: Annotation) -> bool:
        """Whether its mask is there, as it was stored; that of a draft may be pruned, and a withdrawal has none."""
        return annotation.mask is not None and self.masks.is_sound(annotation.mask)

    def kept_mask(self, annotation: Annotation) -> str:
        """The digest of its mask, which is there as it was stored: the door to all uses of a mask.

        Raises:
            UnknownAnnotation: if that is no longer kept.
            DamagedFile: if it is not what was stored.
        """
        if annotation.mask is None or not self.masks.path(annotation.mask).exists():
            raise UnknownAnnotation(
                f"The mask of version {annotation.version} of {annotation.image!r} is no longer kept; its row is."
            )
        self.masks.get(annotation.mask)
        return annotation.mask

    def mask_file(self, annotation: Annotation) -> Path:
        """Where its mask lies; raises as ``kept_mask``."""
        return self.masks.path(self.kept_mask(annotation))

    @contextmanager
    def storing_mask(self, content: bytes) -> Iterator[str]:
        """A transaction that stores a row with a mask, whose digest it gives; a refused one leaves no file either.

        The file is on the disk before the transaction begins, so that nobody waits for the disk while it holds the
        writers' lock.

        Raises:
            StorageFull: if there is no room for the file.
        """
        with self._storing(self.masks, content, self.delete_unused_masks) as digest:
            yield digest

    @contextmanager
    def storing_weights(self, content: bytes) -> Iterator[str]:
        """The same for a row with a checkpoint."""
        with self._storing(self.weights, content, self.delete_unused_weights) as digest:
            yield digest

    @contextmanager
    def _storing(
        self, files: FileStore, content: bytes, delete_unused: Callable[[Iterable[str]], int]
    ) -> Iterator[str]:
        digest = files.put(content)
        try:
            with self.database.transaction():
                # Erasing, pruning or somebody else's refusal may have deleted an equal one meanwhile.
                files.keep(digest, content)
                yield digest
        except BaseException:
            # What refused the row may refuse this too: a file too many does no harm, the error must be told.
            with suppress(LabelRefineryError, OSError):
                delete_unused([digest])
            raise

    def delete_unused_masks(self, digests: Iterable[str]) -> int:
        """Deletes those of these mask files that no row names, and tells how many.

        It does so as a writer: whoever stores an equal mask at that moment looks for its file as a writer, too.
        """
        return self._delete_unused(self.masks, schema.annotation.c.mask, digests)

    def delete_unused_weights(self, digests: Iterable[str]) -> int:
        """The same for checkpoints."""
        return self._delete_unused(self.weights, schema.model.c.weights, digests)

    def delete_lost_weights(self) -> int:
        """Deletes checkpoints that no version names, and tells how many; only for whoever alone writes here.

        A process that was killed between file and row leaves one. A record that names none of the files is hardly
        theirs, such as a new one beside the files of another: then all stay.
        """
        there = set(self.weights.digests())
        with self.database.reading() as connection:
            named = set(connection.scalars(select(schema.model.c.weights)))
        return self.delete_unused_weights(there - named) if there & named else 0

    def _delete_unused(self, files: FileStore, column: ColumnElement[Any], digests: Iterable[str]) -> int:
        deleted = 0
        with self.database.transaction() as connection:
            for digest in digests:
                path = files.path(digest)
                if path.exists() and not connection.scalar(select(exists().where(column == digest))):
                    path.unlink()
                    deleted += 1
        return deleted

    def close(self) -> None:
        """Gives the connections back."""
        self.database.close()


def default_url(data: Path) -> URL:
    """Where the record lies unless the settings say otherwise."""
    return URL.create("sqlite", database=str(data / layout.RECORD))


def open_record(task: Task, data: Path, url: str = "") -> Record:
    """Opens the record, makes or migrates its tables, and notes the structures of the task.

    Raises:
        TaskMismatch: if the record was made with other label values.
        SetupError: if others at this machine may read the secrets in the data folder, see ``make_private``.
    """
    make_private(data)
    if not url:
        refuse_network_disk(data)
    database = _opened(url or default_url(data))
    return _record(open_task(database, task), database, data)


def open_existing(data: Path, url: str = "", name: str = "") -> Record:
    """Opens a record that a server made, for commands that do not know the task.

    Args:
        data: its data folder.
        url: address of the record, if it is not the SQLite file below ``data``.
        name: of the task; may be left out if there is only one.

    Raises:
        SetupError: if there is no record, or no such task.
    """
    if not url and not (data / layout.RECORD).is_file():
        raise SetupError(f"{data} holds no record. Name the folder that the server prints at its start as Data.")
    make_private(data)
    database = _opened(url or default_url(data))
    return _record(recorded_task(database, name), database, data)


def _opened(url: str | URL) -> Database:
    """The database with tables of the newest form.

    Raises:
        SetupError: if it cannot be had, in a sentence: what was found, and what to do.
    """
    try:
        place = make_url(url).render_as_string(hide_password=True)
        database = Database(url)
    except (ArgumentError, ValueError) as error:
        raise SetupError(
            "The address of the record is none. It is as in --conf store postgresql+psycopg://USER:PASSWORD@HOST/NAME."
        ) from error
    try:
        database.refuse_foreign()
        database.migrate()
    except CommandError as error:
        raise SetupError(
            f"The record {place} was written by another version, a newer one mostly: {error}. Start the server with "
            "that version, or restore a backup of this one."
        ) from error
    except (LabelRefineryError, DBAPIError, OSError) as error:
        if isinstance(error, SetupError):
            raise
        origin = error if isinstance(error, DBAPIError) else error.__cause__
        said = str(origin.orig).strip().splitlines()[0] if isinstance(origin, DBAPIError) else ""
        told = str(error) if isinstance(error, LabelRefineryError) else type(error).__name__
        raise SetupError(
            f"The record {place} cannot be opened. {told} {f'({said})' if said else ''}".strip()
        ) from error
    return database


def _record(task: Task, database: Database, data: Path) -> Record:
    images, assignments = Images(database, task.name), Assignments(database, task.name)
    annotations = Annotations(database, task.name, images)
    return Record(
        task=task,
        database=database,
        images=images,
        annotations=annotations,
        models=Models(database, task.name),
        refiners=Models(database, task.name, ModelKind.REFINER),
        jobs=Jobs(database, task.name),
        scores=Scores(database, task.name),
        comparisons=Comparisons(database, task.name, images),
        assignments=assignments,
        openings=Openings(database, task.name),
        queue=Queue(database, task.name, annotations),
        audit=Audit(database, task.name),
        listings=Listings(database, task.name, images),
        segmentations=Segmentations(database, task.name, FileStore(data / layout.SEGMENTATIONS, ".dcm")),
        masks=FileStore(data / layout.MASKS, ".nii.gz"),
        weights=FileStore(data / layout.WEIGHTS, ".pt"),
    )
