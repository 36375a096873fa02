"""Images: what is there to label, where each stands, whose turn it is."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import ColumnElement, Connection, Row, Select, and_, delete, exists, func, insert, or_, select, update

from lib.errors import UnknownImage
from lib.split import ENOUGH, Split, split_of
from lib.stages import PEOPLE, Role, Stage, Standing
from lib.store import schema
from lib.store.assignments import is_taken_by_others
from lib.store.database import Database
from lib.store.notes import shown
from lib.volume import Grid


class ImageState(StrEnum):
    """Whether an image takes part."""

    OK = "ok"
    QUARANTINED = "quarantined"
    NO_IMAGE = "no_image"
    HIDDEN = "hidden"
    ERASED = "erased"


UNREAD = (ImageState.QUARANTINED, ImageState.NO_IMAGE)
"""States of files that gave no image: damaged ones, and what lies beside images and is none of the task."""


TRIED_AGAIN = " It is tried again at each look."
"""End of the reason of an image whose files the system did not give; whoever looks at the folder keeps this promise."""


class ImageKind(StrEnum):
    """What an image is made of."""

    FILE = "file"
    SERIES = "series"


@dataclass(frozen=True)
class Image:
    """One row of the image table.

    Attributes:
        id: given at first sight and kept.
        kind: one file, or a DICOM series.
        source: path of the file, or of the folder of the series, below its root.
        grid: ``None`` if the file never was read.
        modality: DICOM modality where the file tells it.
        patient: key that all images of one person share.
        split: side of the patient, ``None`` before the first offer.
        state: whether it takes part.
        reason: why it does not; of one that does, what other programs read otherwise of its file.
        standing: by the current annotation.
        current: version of the current annotation.
        info: what clients noted about it.
        added: when it was first seen, in UTC.
    """

    id: str
    kind: ImageKind
    source: str
    grid: Grid | None
    modality: str
    patient: str
    split: Split | None
    state: ImageState
    reason: str
    standing: Standing
    current: int | None
    info: dict[str, Any]
    added: datetime


@dataclass(frozen=True)
class NewImage:
    """What the indexer found out about a file or series; a reason says why it does not take part.

    A doubt says what other programs read otherwise of one that does.
    """

    id: str
    kind: ImageKind
    source: str
    grid: Grid | None
    modality: str
    patient: str
    reason: str = ""
    is_image: bool = True
    doubt: str = ""

    @property
    def state(self) -> ImageState:
        """Where it stands at first."""
        if not self.is_image:
            return ImageState.NO_IMAGE
        return ImageState.QUARANTINED if self.reason else ImageState.OK


@dataclass(frozen=True)
class Place:
    """Where images can stand, for counting them."""

    state: ImageState
    standing: Standing
    split: Split | None


class State(NamedTuple):
    """What changes when a file of an image is exchanged.

    Attributes:
        files: how many there are.
        size: of all together, in bytes.
        modified: of their times, a sum of remainders.
        inodes: of their inodes, such a sum.
    """

    files: int = 0
    size: int = 0
    modified: int = 0
    inodes: int = 0


REMAINDER = 1_000_000_007


class Images:
    """The images of one task."""

    def __init__(self, database: Database, task: str) -> None:
        self.database = database
        self.task = task

    def put(self, new: NewImage) -> None:
        """Adds an image, or renews what is known of one; ids, split, annotations and being hidden stay."""
        found = _found(new)
        with self.database.transaction() as connection, self.tallied(connection, self.is_one(new.id)):
            known = connection.execute(self._one(new.id)).one_or_none()
            if known is None:
                split = self._splits(connection, {new.patient}).get(new.patient)
                connection.execute(insert(schema.image).values(**self._first_values(new, split), **found))
                return
            if known.state == ImageState.ERASED:
                return
            if known.state == ImageState.HIDDEN:
                found["state"] = ImageState.HIDDEN
            # What cannot be read does not say whose it is.
            if known.split is None and not new.reason:
                split = self._splits(connection, {new.patient}).get(new.patient)
                found |= {"patient": new.patient, "split": split}
            connection.execute(self._update(new.id).values(**found))

    def put_new(self, several: Sequence[NewImage]) -> None:
        """Adds images of which none is known yet, in a few statements for all of them."""
        if not several:
            return
        with self.database.transaction() as connection:
            splits = self._splits(connection, {new.patient for new in several})
            rows = [{**self._first_values(new, splits.get(new.patient)), **_found(new)} for new in several]
            connection.execute(insert(schema.image), rows)
            for place, images in Counter(_place(row["state"], row["standing"], row["split"]) for row in rows).items():
                self._add_to_tally(connection, place, images)

    def known(self, ids: Collection[str]) -> set[str]:
        """Those of the ids that are taken, in whatever state."""
        with self.database.reading() as connection:
            return set(connection.scalars(select(schema.image.c.id).where(self._is_mine, schema.image.c.id.in_(ids))))

    def _first_values(self, new: NewImage, split: str | None) -> dict[str, Any]:
        # The order of random offers is drawn here, once, from the id alone, so that it can be replayed.
        draw = int.from_bytes(hashlib.sha256(new.id.encode()).digest()[:6]) / 2**48
        return {
            "task": self.task,
            "id": new.id,
            "patient": new.patient,
            "split": split,
            "standing": Standing.UNTOUCHED,
            "draw": draw,
            "info": {},
            "added": schema.now(),
        }

    def _splits(self, connection: Connection, patients: Collection[str]) -> dict[str, str]:
        """The sides of those patients of whom another image has one."""
        image = schema.image.c
        sides = select(image.patient, image.split).distinct()
        # Named one by one, so that the index of sides is used: there are few rows in it at first.
        rows = connection.execute(sides.where(self._is_mine, image.split.in_(Split), image.patient.in_(patients)))
        return {row.patient: row.split for row in rows}

    def get(self, image_id: str) -> Image:
        """The image with this id.

        Raises:
            UnknownImage: if there is none, or it was removed.
        """
        with self.database.reading() as connection:
            row = connection.execute(self._one(image_id)).one_or_none()
        if row is None or row.state in (ImageState.HIDDEN, ImageState.ERASED):
            raise UnknownImage(f"There is no image {image_id!r}. GET /datastore/?output=all lists all ids.")
        return _image(row)

    def find(self, image_id: str) -> Image | None:
        """The image with this id in whatever state, or ``None``."""
        with self.database.reading() as connection:
            row = connection.execute(self._one(image_id)).one_or_none()
        return _image(row) if row is not None else None

    def every(self, *states: ImageState) -> Iterator[Image]:
        """All images in one of these states, by id."""
        with self.database.reading() as connection:
            rows = connection.execute(
                select(schema.image).where(self._is_mine, schema.image.c.state.in_(states)).order_by(schema.image.c.id)
            ).all()
        return (_image(row) for row in rows)

    def ids(self, *standings: Standing) -> list[str]:
        """Ids of readable images with one of these standings (all, if none is named), sorted."""
        query = select(schema.image.c.id).where(self._is_mine, schema.image.c.state == ImageState.OK)
        if standings:
            query = query.where(schema.image.c.standing.in_(standings))
        with self.database.reading() as connection:
            return list(connection.scalars(query.order_by(schema.image.c.id)))

    def page(self, offset: int, limit: int) -> list[tuple[str, Standing]]:
        """Ids of readable images and where each stands, sorted by id."""
        image = schema.image.c
        query = select(image.id, image.standing).where(self._is_mine, image.state == ImageState.OK).order_by(image.id)
        with self.database.reading() as connection:
            rows = connection.execute(query.offset(offset).limit(limit)).all()
        return [(row.id, Standing(row.standing)) for row in rows]

    def patients(self) -> tuple[int, int]:
        """How many patients the readable images are of, and how many of them are of the one who has most."""
        image = schema.image.c
        each = select(func.count().label("images")).where(self._is_mine, image.state == ImageState.OK)
        counted = each.group_by(image.patient).subquery().c.images
        with self.database.reading() as connection:
            patients, most = connection.execute(select(func.count(counted), func.max(counted))).one()
        return patients, most or 0

    def files(self, image_id: str) -> list[tuple[str, str]]:
        """Root and path below it of each file of an image, sorted."""
        file = schema.file.c
        query = select(file.root, file.path).where(file.task == self.task, file.image == image_id)
        # Sorted here: asked for this order, SQLite reads the files of all images along their primary key.
        with self.database.reading() as connection:
            return sorted((root, path) for root, path in connection.execute(query))

    def file_states(self, image_id: str | None = None) -> dict[str, State]:
        """By image what changes when one of its files is exchanged; of one image, or of all that have files."""
        file = schema.file.c
        # The remainders, since the sum of a thousand times in nanoseconds is no number of 64 bits.
        query = (
            select(
                file.image,
                func.count(),
                func.sum(file.size),
                func.sum(file.modified_ns % REMAINDER),
                func.sum(file.inode % REMAINDER),
            )
            .where(file.task == self.task)
            .group_by(file.image)
        )
        if image_id is not None:
            query = query.where(file.image == image_id)
        with self.database.reading() as connection:
            return {row[0]: State(*map(int, row[1:])) for row in connection.execute(query)}

    def erased_among(self, ids: Collection[str]) -> list[str]:
        """Those of the images whose patient was erased, sorted."""
        wanted = set(ids)
        erased = select(schema.image.c.id).where(self._is_mine, schema.image.c.state == ImageState.ERASED)
        with self.database.reading() as connection:
            return sorted(wanted.intersection(connection.scalars(erased)))

    def has_files(self, root: str) -> bool:
        """Whether any image has a file below a root."""
        file = schema.file.c
        with self.database.reading() as connection:
            return bool(connection.scalar(select(exists().where(file.task == self.task, file.root == root))))

    def counts(self) -> Counter[Place]:
        """How many images stand where; read from the running tally, so it costs the same for any number of images."""
        tally = schema.tally.c
        with self.database.reading() as connection:
            rows = connection.execute(
                select(tally.state, tally.standing, tally.split, tally.images).where(tally.task == self.task)
            ).all()
        return Counter({_place(state, standing, split): images for state, standing, split, images in rows if images})

    def recounted(self) -> Counter[Place]:
        """The same, counted image by image."""
        with self.database.reading() as connection:
            return self._counted(connection, self._is_mine)

    def _counted(self, connection: Connection, which: ColumnElement[bool]) -> Counter[Place]:
        # Counted here and not by GROUP BY, for which SQLite reads the whole index instead of the few rows meant.
        image = schema.image.c
        rows = connection.execute(select(image.state, image.standing, image.split).where(which))
        return Counter(_place(*row) for row in rows)

    @contextmanager
    def tallied(self, connection: Connection, which: ColumnElement[bool]) -> Iterator[None]:
        """A block that changes the images of a condition and keeps the tally in step."""
        before = self._counted(connection, which)
        yield
        after = self._counted(connection, which)
        for place in before.keys() | after.keys():
            if difference := after[place] - before[place]:
                self._add_to_tally(connection, place, difference)

    def _add_to_tally(self, connection: Connection, place: Place, difference: int) -> None:
        tally = schema.tally.c
        key = {"state": place.state, "standing": place.standing, "split": place.split or ""}
        changed = connection.execute(
            update(schema.tally)
            .where(tally.task == self.task, *(tally[name] == value for name, value in key.items()))
            .values(images=tally.images + difference)
        )
        if changed.rowcount == 0:
            connection.execute(insert(schema.tally).values(task=self.task, **key, images=difference))

    def set_state(self, image_id: str, state: ImageState, reason: str = "") -> None:
        """Hides, quarantines or takes back in."""
        with self.database.transaction() as connection, self.tallied(connection, self.is_one(image_id)):
            connection.execute(self._update(image_id).values(state=state, reason=reason))

    def series_in(self, state: ImageState, modalities: Collection[str], *, others: bool) -> list[tuple[str, str]]:
        """Id and modality of the DICOM images in a state that have one of these modalities, or another one."""
        image = schema.image.c
        is_one = image.modality.in_(modalities)
        query = select(image.id, image.modality).where(self._is_mine, image.kind == ImageKind.SERIES)
        query = query.where(image.state == state, image.modality != "", ~is_one if others else is_one)
        with self.database.reading() as connection:
            return [(row.id, row.modality) for row in connection.execute(query.order_by(image.id))]

    def tried_again(self) -> list[Image]:
        """The images in quarantine only because the system did not give their files, by id."""
        image = schema.image.c
        promised = image.reason.endswith(TRIED_AGAIN, autoescape=True)
        query = select(schema.image).where(self._is_mine, image.state == ImageState.QUARANTINED, promised)
        with self.database.reading() as connection:
            return [_image(row) for row in connection.execute(query.order_by(image.id))]

    def forget_files(self, image_id: str) -> None:
        """Lets the next look take the files of an image for new ones."""
        file = schema.file.c
        with self.database.transaction() as connection:
            connection.execute(delete(schema.file).where(file.task == self.task, file.image == image_id))

    def forget_unread(self, image_id: str) -> bool:
        """Deletes an image that was never more than a file nobody could read; tells whether it was one."""
        column, image = schema.image.c, self.is_one(image_id)
        is_used = [
            exists().where(table.c.task == column.task, table.c.image == column.id)
            for table in (schema.file, schema.annotation, schema.score, schema.assignment, schema.opening)
        ]
        unread = and_(image, column.state.in_(UNREAD), column.offered.is_(None), ~or_(*is_used))
        with self.database.transaction() as connection:
            if not (known := connection.execute(select(schema.image).where(unread)).one_or_none()) or known.shape:
                return False
            listing = schema.listing.c
            connection.execute(delete(schema.listing).where(listing.task == self.task, listing.image == image_id))
            with self.tallied(connection, image):
                connection.execute(delete(schema.image).where(image))
            return True

    def note(self, image_id: str, info: dict[str, Any]) -> None:
        """Adds a client's remarks to the image, over those of the same name.

        Raises:
            UnknownImage: if there is no such image.
        """
        with self.database.transaction() as connection:
            row = self._known(connection, image_id)
            connection.execute(self._update(image_id).values(info={**row.info, **info}))

    def candidates(self, author: str, role: Role, *, by_id: bool) -> Iterator[Image]:
        """The images that somebody may label next, best first; an expert gets what waits for one before all others.

        An image takes part if it is readable, no expert has labelled it, this author has not, nobody else works on
        it, and it does not wait for an expert (unless one asks).

        Args:
            author: who asks.
            role: what that person may do.
            by_id: in alphabetical order; else those never offered first, in the recorded random order, then those
                offered longest ago.
        """
        image, annotation = schema.image.c, schema.annotation.c
        withdrawal = schema.annotation.alias("withdrawal").c
        taken_back = exists().where(
            withdrawal.task == self.task,
            withdrawal.image == annotation.image,
            withdrawal.stage == Stage.WITHDRAWN,
            withdrawal.parent == annotation.version,
        )
        already = exists().where(
            annotation.task == self.task,
            annotation.image == image.id,
            annotation.author == author,
            annotation.role.in_(PEOPLE),
            annotation.stage != Stage.WITHDRAWN,
            ~taken_back,
        )
        order = [image.id] if by_id else [image.offered.asc().nulls_first(), image.draw]
        behind = _behind_by_id if by_id else _behind_by_offer
        free = ~is_taken_by_others(author, schema.now())
        mine = select(schema.image).where(self._is_mine, image.state == ImageState.OK, ~already, free).order_by(*order)
        # One index range for each standing, merged here: the database would sort all images instead.
        waiting, *unlabelled = (
            self._pages(mine.where(image.standing == standing), behind)
            for standing in (Standing.WAITING, Standing.UNTOUCHED, Standing.DRAFTED)
        )
        if role in (Role.EXPERT, Role.ADMIN):
            yield from map(_image, waiting)
        yield from map(_image, heapq.merge(*unlabelled, key=_by_id if by_id else _by_offer))

    def _pages(self, query: Select[Any], behind: Callable[[Row[Any]], ColumnElement[bool]]) -> Iterator[Row[Any]]:
        """The rows of a query, fetched a few at a time.

        The caller may quarantine what it is given: a page starts behind the last row, wherever that stands by now.
        """
        page, rest = 20, query
        while True:
            with self.database.reading() as connection:
                rows = connection.execute(rest.limit(page)).all()
            yield from rows
            if len(rows) < page:
                return
            rest = query.where(behind(rows[-1]))

    def offer(self, image_id: str) -> Split:
        """Notes that an image was offered for labelling and gives its patient a side if it has none.

        Raises:
            UnknownImage: if there is no such image.
        """
        with self.database.transaction() as connection:
            row = self._known(connection, image_id)
            connection.execute(self._update(image_id).values(offered=schema.now()))
            if row.split is not None:
                return Split(row.split)
            split = self._next_split(connection)
            patient = and_(self._is_mine, schema.image.c.patient == row.patient)
            with self.tallied(connection, patient):
                connection.execute(update(schema.image).where(patient).values(split=split))
            return split

    def _next_split(self, connection: Connection) -> Split:
        labelled = self._labelled_validation(connection)
        if labelled >= ENOUGH:
            return Split.TRAINING
        patients = func.count(schema.image.c.patient.distinct())
        offered = connection.scalar(select(patients).where(self._is_mine, schema.image.c.split.is_not(None))) or 0
        return split_of(offered, labelled)

    def _labelled_validation(self, connection: Connection) -> int:
        patients = func.count(schema.image.c.patient.distinct())
        return (
            connection.scalar(
                select(patients).where(
                    self._is_mine,
                    schema.image.c.split == Split.VALIDATION,
                    schema.image.c.standing == Standing.LABELLED,
                )
            )
            or 0
        )

    def is_one(self, image_id: str) -> ColumnElement[bool]:
        """The condition that picks one image."""
        return and_(self._is_mine, schema.image.c.id == image_id)

    @property
    def _is_mine(self) -> ColumnElement[bool]:
        return schema.image.c.task == self.task

    def _one(self, image_id: str) -> Select[Any]:
        return select(schema.image).where(self.is_one(image_id))

    def _known(self, connection: Connection, image_id: str) -> Row[Any]:
        row = connection.execute(self._one(image_id)).one_or_none()
        if row is None:
            raise UnknownImage(f"There is no image {image_id!r}.")
        return row

    def _update(self, image_id: str) -> Any:
        return update(schema.image).where(self.is_one(image_id))


def _found(new: NewImage) -> dict[str, Any]:
    """What each reading of an image renews; of another content neither digest nor listing are known yet."""
    return {
        "kind": new.kind,
        "source": new.source,
        "shape": list(new.grid.shape) if new.grid else None,
        "affine": np.asarray(new.grid.affine).tolist() if new.grid else None,
        "modality": new.modality,
        "reason": new.reason or new.doubt,
        "state": new.state,
        "size": None,
        "content": None,
        "listed": None,
    }


def _place(state: str, standing: str, split: str | None) -> Place:
    return Place(ImageState(state), Standing(standing), Split(split) if split else None)


def _by_id(row: Row[Any]) -> Any:
    return row.id


def _behind_by_id(last: Row[Any]) -> ColumnElement[bool]:
    return schema.image.c.id > last.id


def _behind_by_offer(last: Row[Any]) -> ColumnElement[bool]:
    image = schema.image.c
    if last.offered is None:
        return or_(image.offered.is_not(None), image.draw > last.draw)
    return or_(image.offered > last.offered, and_(image.offered == last.offered, image.draw > last.draw))


def _by_offer(row: Row[Any]) -> Any:
    return row.offered is not None, row.offered and row.offered.timestamp(), row.draw


def _image(row: Row[Any]) -> Image:
    return Image(
        id=row.id,
        kind=ImageKind(row.kind),
        source=row.source,
        grid=Grid(tuple(row.shape), np.array(row.affine)) if row.shape else None,
        modality=row.modality,
        patient=row.patient,
        split=Split(row.split) if row.split else None,
        state=ImageState(row.state),
        reason=row.reason,
        standing=Standing(row.standing),
        current=row.current,
        info=shown(row.info),
        added=row.added,
    )
