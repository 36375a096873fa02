"""Keeps the image table in step with a DICOMweb server, by asking it again and again.

One look lists the series of the task's modalities, page by page, and compares how many instances each has with what is
known. Only of new and changed ones the metadata are read, which say the lattice, whose image it is, and what viewers
list; pixels are fetched when they are needed. What makes no image is quarantined with its reason; it never stops the
others.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from sqlalchemy import delete, insert, or_, select

from lib.errors import NoImage, NotFound, StudiesRefused, UnreadableImage
from lib.series import NO_IMAGES, PROJECTIONS, SliceHeader, headers_of
from lib.serving.dicom_json import count_of
from lib.serving.dicomweb import Json, value_of
from lib.serving.fetched import Fetched, address_of
from lib.serving.folder import FolderReader
from lib.serving.remote import Remote, dataset_of_json
from lib.serving.studies import listing_of
from lib.store import schema
from lib.store.images import Image, ImageKind, ImageState, NewImage
from lib.store.indexer import Described
from lib.store.layout import FETCHED
from lib.store.listings import Listing
from lib.store.record import Record
from lib.store.scattered import Scattered
from lib.uids import USABLE_UID

LOG = logging.getLogger(__name__)

BATCH = 20
"""Series that are written in one transaction."""

ASKERS = 4
"""Metadata of so many series are asked for at once."""

FAILED = -1
"""Noted instead of the number of instances of a series that the server could not tell of: it is asked again."""


@dataclass(frozen=True)
class Told:
    """A series as the server lists it.

    Attributes:
        path: ``STUDY/SERIES``.
        modality: Modality (0008,0060).
        instances: how many it has; 0 if the server does not say.
        others: paths of series of other studies that have the same SeriesInstanceUID.
    """

    path: str
    modality: str
    instances: int
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """One image of a series.

    Attributes:
        image: as it will stand in the record.
        path: ``STUDY/SERIES``, or ``STUDY/SERIES/INSTANCE`` for a radiograph.
        instances: how many it is made of.
        told: how many its series had; what changes when the series does.
        listing: how viewers find it; ``None``: not at all.
        described: by its headers; ``None`` if it cannot be read.
    """

    image: NewImage
    path: str
    instances: int
    told: int
    listing: Listing | None = None
    described: Described | None = None


class Polling:
    """Looks after the images of one server."""

    def __init__(self, record: Record, fetched: Fetched, reader: FolderReader) -> None:
        self.record = record
        self.remote: Remote = fetched.remote
        self.fetched = fetched
        self.reader = reader
        self._scattered = Scattered(record.images, self._described_again)

    def look(self, report: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Compares the server with the record and brings the record up to date.

        Args:
            report: is told how many of the new and changed series are done, and how many there are.

        Raises:
            StudiesAway, StudiesRefused: if the server does not list its series; what is known stays as it is.
        """
        present = _told_once({told.path: told for told in self._present()})
        known = self._known()
        due = [told for path, told in present.items() if _is_due(told, known.get(path))]
        with ThreadPoolExecutor(ASKERS, "metadata") as askers:
            for start in range(0, len(due), BATCH):
                batch = due[start : start + BATCH]
                found = list(askers.map(self._read, batch))
                with self.record.database.transaction():
                    for told, images in zip(batch, found, strict=True):
                        self._put(told, images)
                for told in batch:
                    self._forget_pixels(told, known)
                report(start + len(batch), len(due))
        self._scattered.quarantine()
        self._forget([path for path in known if path not in present and self._is_gone(path)])

    def _present(self) -> Iterator[Told]:
        """The series that may be images of the task."""
        modalities = self.reader.task.modalities
        searches = [self.remote.every("series", Modality=one) for one in modalities] or [self.remote.every("series")]
        for one in itertools.chain.from_iterable(searches):
            study, series = (str(value_of(one, f"{level}InstanceUID")) for level in ("Study", "Series"))
            modality = str(value_of(one, "Modality"))
            if modality in NO_IMAGES or (modalities and modality not in modalities):
                continue
            if USABLE_UID.fullmatch(study) and USABLE_UID.fullmatch(series):
                yield Told(f"{study}/{series}", modality, count_of(one, "NumberOfSeriesRelatedInstances"))
            else:
                LOG.warning("A series has no usable UIDs: study %r, series %r.", study[:80], series[:80])

    def _known(self) -> dict[str, int]:
        """How many instances each known series had, by its path."""
        file = schema.file.c
        with self.record.database.reading() as connection:
            rows = connection.execute(select(file.path, file.modified_ns).where(*self._mine))
            return {_series_of(row.path): row.modified_ns for row in rows}

    def _read(self, told: Told) -> list[Found]:
        """The images of a series: one, but for radiographs."""
        if told.others:
            studies = [path.partition("/")[0] for path in (told.path, *told.others)]
            reason = (
                f"Series {told.path.partition('/')[2]} is there in {len(studies)} studies: {', '.join(studies[:5])}. "
                "Images that do not belong together have been given one SeriesInstanceUID: send each under its own."
            )
            return [self._unread(told, "", reason, FAILED)]
        try:
            metadata = self.remote.metadata(address_of(told.path)).told
        except (StudiesRefused, NotFound) as error:
            return [self._unread(told, "", str(error), FAILED)]
        count = told.instances or len(metadata)
        if told.modality not in PROJECTIONS:
            return [self._described(told, "", metadata, count)]
        return [self._described(told, str(value_of(one, "SOPInstanceUID")), [one], count) for one in metadata]

    def _described(self, told: Told, instance_uid: str, metadata: list[Json], count: int) -> Found:
        """One image by the metadata of its instances."""
        try:
            headers = [dataset_of_json(one) for one in metadata]
            slices: list[SliceHeader] = []
            for header in headers:
                slices += headers_of(header, Path(str(header.SOPInstanceUID)))
            if not slices:
                raise UnreadableImage(f"Series {told.path.partition('/')[2]} has no instances.")
            described, image_id = self.reader.describe_slices(slices), slices[0].image_id
            listing = listing_of(image_id, headers[0], instance_uid, len(metadata))
        except UnreadableImage as error:
            return self._unread(told, instance_uid, str(error), count, is_image=not isinstance(error, NoImage))
        # The reader raises whatever malformed metadata make it stumble over.
        except Exception as error:
            return self._unread(told, instance_uid, f"Its metadata cannot be read: {error}.", count)
        image = NewImage(image_id, ImageKind.SERIES, told.path, described.grid, described.modality, described.patient)
        path = f"{told.path}/{instance_uid}" if instance_uid else told.path
        return Found(image, path, len(metadata), count, listing, described)

    def _described_again(self, image: Image) -> Described | None:
        """A series that an earlier process described; ``None`` if it cannot be read."""
        return next((found.described for found in self._read(Told(image.source, image.modality, 1))), None)

    def _unread(self, told: Told, instance_uid: str, reason: str, count: int, *, is_image: bool = True) -> Found:
        is_named = USABLE_UID.fullmatch(instance_uid) is not None
        path = f"{told.path}/{instance_uid}" if is_named else told.path
        image_id = path.partition("/")[2]
        image = NewImage(image_id, ImageKind.SERIES, told.path, None, "", image_id, reason, is_image)
        return Found(image, path, 0, count)

    def _put(self, told: Told, images: list[Found]) -> None:
        """Writes down what a series is made of; images that it no longer holds are gone."""
        images = list({found.image.id: found for found in images}.values())
        gone = self._owners(told.path) - {found.image.id for found in images}
        self._delete_rows(told.path)
        for found in images:
            self.record.images.put(found.image)
            if found.described is not None:
                self._scattered.note(found.image.id, found.described)
            row = {"task": self.record.task.name, "root": FETCHED, "image": found.image.id, "path": found.path}
            with self.record.database.transaction() as connection:
                connection.execute(
                    insert(schema.file).values(size=found.instances, modified_ns=found.told, inode=0, **row)
                )
            known = self.record.images.find(found.image.id)
            if known is not None and known.state is not ImageState.ERASED:
                self.record.listings.put(found.image.id, found.listing)
        for image_id in gone:
            self._note_gone(image_id)

    def _forget_pixels(self, told: Told, known: dict[str, int]) -> None:
        if told.path in known and known[told.path] != FAILED:
            for path in (told.path, *self._paths(told.path)):
                self.fetched.forget(path)

    def _is_gone(self, path: str) -> bool:
        """Asks for a series that was not listed: pages shift while others store."""
        study, series = path.split("/")
        try:
            return not self.remote.search(f"studies/{study}/series", [("SeriesInstanceUID", series)])
        except NotFound:
            return True

    def _forget(self, gone: list[str]) -> None:
        for path in gone:
            with self.record.database.transaction():
                for image_id in self._owners(path):
                    if self._is_elsewhere(image_id, path):
                        self._delete_rows(path)
                    else:
                        self._note_gone(image_id)

    def _is_elsewhere(self, image_id: str, series_path: str) -> bool:
        """Whether a series of another study has the UID that this image is named by."""
        return any(
            root == FETCHED and _series_of(path) != series_path for root, path in self.record.images.files(image_id)
        )

    def _note_gone(self, image_id: str) -> None:
        """Quarantines an image that the server no longer has; the address of one that was erased is kept."""
        known = self.record.images.find(image_id)
        if known is None or known.state in (ImageState.HIDDEN, ImageState.ERASED):
            return
        for path in [path for root, path in self.record.images.files(image_id) if root == FETCHED]:
            self._delete_rows(path)
        reason = f"Series {image_id} is gone from the server of the studies. Send it there again, or remove the image."
        self.record.images.set_state(image_id, ImageState.QUARANTINED, reason)

    def _owners(self, series_path: str) -> set[str]:
        file = schema.file.c
        with self.record.database.reading() as connection:
            query = select(file.image).where(*self._mine, _at_or_below(series_path))
            return set(connection.scalars(query))

    def _paths(self, series_path: str) -> list[str]:
        file = schema.file.c
        with self.record.database.reading() as connection:
            return list(connection.scalars(select(file.path).where(*self._mine, _at_or_below(series_path))))

    def _delete_rows(self, path: str) -> None:
        with self.record.database.transaction() as connection:
            connection.execute(delete(schema.file).where(*self._mine, _at_or_below(path)))

    @property
    def _mine(self) -> tuple[Any, Any]:
        return schema.file.c.task == self.record.task.name, schema.file.c.root == FETCHED


def _told_once(present: dict[str, Told]) -> dict[str, Told]:
    """Lets each series know which others have its UID, by which both would be one image; radiographs have their own."""
    by_uid: dict[str, list[str]] = {}
    for path, told in present.items():
        if told.modality not in PROJECTIONS:
            by_uid.setdefault(path.partition("/")[2], []).append(path)
    several = {path: paths for paths in by_uid.values() if len(paths) > 1 for path in paths}
    return {
        path: replace(told, others=tuple(other for other in several.get(path, ()) if other != path))
        for path, told in present.items()
    }


def _is_due(told: Told, known: int | None) -> bool:
    """Whether a series is new, has changed as far as the server tells, or has the UID of another one."""
    is_changed = known is None or known == FAILED or (told.instances != 0 and told.instances != known)
    return is_changed or bool(told.others)


def _series_of(path: str) -> str:
    """``STUDY/SERIES`` of an image's path."""
    return "/".join(PurePosixPath(path).parts[:2])


def _at_or_below(path: str) -> Any:
    file = schema.file.c
    # "0" is what follows "/": one range of the index.
    return or_(file.path == path, (file.path > f"{path}/") & (file.path < f"{path}0"))
