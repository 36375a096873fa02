"""What viewers are told of an image when they search: to which patient, study and series it belongs.

A row is made after its image: ``Images`` forgets that an image is listed whenever its files are read anew, and whoever
answers viewers lists first what is not listed yet. So a search opens no file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, insert, select, update

from lib.store import schema
from lib.store.database import Database
from lib.store.images import Images, ImageState

PAGE = 200
"""Studies that are fetched at once."""


@dataclass(frozen=True)
class Listing:
    """One image as a viewer lists it.

    Attributes:
        image: its id.
        study_uid: StudyInstanceUID (0020,000D).
        series_uid: SeriesInstanceUID (0020,000E).
        instance_uid: SOPInstanceUID (0008,0018) of a radiograph, whose series may hold others; else empty.
        study_date: as DICOM writes it.
        patient_id: PatientID (0010,0020).
        patient_name: PatientName (0010,0010), without regard to case.
        accession_number: AccessionNumber (0008,0050).
        modality: Modality (0008,0060).
        instances: how many the series has, of this image.
        attributes: of study and series, as DICOM JSON.
    """

    image: str
    study_uid: str
    series_uid: str
    instance_uid: str
    study_date: str
    patient_id: str
    patient_name: str
    accession_number: str
    modality: str
    instances: int
    attributes: dict[str, Any]

    @property
    def source_name(self) -> str:
        """What ``lib.dicom.source.SourceSeries.name`` is for this image."""
        return f"{self.series_uid}/{self.instance_uid}" if self.instance_uid else self.series_uid


@dataclass(frozen=True)
class Listed:
    """A listing, and the version of the image's current annotation."""

    listing: Listing
    current: int | None


@dataclass(frozen=True)
class StudyCount:
    """How much a study holds.

    Attributes:
        study_uid: StudyInstanceUID.
        series: of images.
        annotated: images with a current annotation; if one has several objects, it is counted for each.
        stored: objects that people stored as current annotations.
    """

    study_uid: str
    series: int
    annotated: int
    stored: int


COLUMNS = tuple(field.name for field in fields(Listing))

OF_STUDY = ("study_date", "patient_id", "patient_name", "accession_number")
"""What all images of a study share; it is that of the first one listed."""


class Listings:
    """The listing of one task's images."""

    def __init__(self, database: Database, task: str, images: Images) -> None:
        self.database = database
        self.task = task
        self.images = images

    def missing(self, most: int) -> list[str]:
        """Ids of readable images that are not listed yet."""
        image = schema.image.c
        query = select(image.id).where(image.task == self.task, image.listed.is_(None), image.state == ImageState.OK)
        with self.database.reading() as connection:
            return list(connection.scalars(query.limit(most)))

    def put(self, image_id: str, listing: Listing | None) -> None:
        """Lists an image; ``None``: viewers can do nothing with it. One that was erased meanwhile is not listed."""
        column = schema.listing.c
        with self.database.transaction() as connection:
            if self.images.erased_among([image_id]):
                listing = None
            connection.execute(delete(schema.listing).where(column.task == self.task, column.image == image_id))
            if listing is not None:
                values = {name: getattr(listing, name) for name in COLUMNS}
                first = select(schema.listing).where(column.task == self.task, column.study_uid == listing.study_uid)
                if known := connection.execute(first.limit(1)).mappings().one_or_none():
                    values |= {name: known[name] for name in OF_STUDY}
                connection.execute(insert(schema.listing).values(task=self.task, **values))
            connection.execute(update(schema.image).where(self.images.is_one(image_id)).values(listed=True))

    def studies(self, *conditions: ColumnElement[bool], skipped: int = 0) -> Iterator[list[Listed]]:
        """The images of each study of which one meets the conditions, newest study first.

        Args:
            conditions: on the tables ``listing`` and ``image``.
            skipped: studies to leave out at the begin.
        """
        column = schema.listing.c
        keys = select(column.study_date, column.study_uid).distinct().where(*conditions)
        # The index of dates is in this order, so that a page is read without sorting all studies.
        joined = keys.join(schema.image, self._is_shown).order_by(column.study_date.desc(), column.study_uid.desc())
        start = skipped
        while True:
            with self.database.reading() as connection:
                uids = [row.study_uid for row in connection.execute(joined.limit(PAGE).offset(start))]
                found = self._listed(column.study_uid.in_(uids)) if uids else []
            by_study: dict[str, list[Listed]] = {uid: [] for uid in uids}
            for one in found:
                by_study[one.listing.study_uid].append(one)
            yield from by_study.values()
            if len(uids) < PAGE:
                return
            start += PAGE

    def counted(self) -> list[StudyCount]:
        """How many series each study has, in the order of ``studies``."""
        column, stored = schema.listing.c, schema.segmentation
        is_current = and_(
            stored.c.task == column.task,
            stored.c.image == column.image,
            stored.c.version == schema.image.c.current,
        )
        query = (
            select(
                column.study_uid,
                func.count(column.series_uid.distinct()),
                func.count(schema.image.c.current),
                func.count(stored.c.instance_uid),
            )
            .join(schema.image, self._is_shown)
            .outerjoin(stored, is_current)
            .group_by(column.study_date, column.study_uid)
            .order_by(column.study_date.desc(), column.study_uid.desc())
        )
        with self.database.reading() as connection:
            return [StudyCount(*row) for row in connection.execute(query)]

    def of_study(self, study_uid: str) -> list[Listed]:
        """The images of a study."""
        return self._listed(schema.listing.c.study_uid == study_uid)

    def of_series(self, series_uid: str) -> list[Listed]:
        """The images of a series: one, but for radiographs."""
        return self._listed(schema.listing.c.series_uid == series_uid)

    def of_image(self, image_id: str) -> Listing | None:
        """How viewers find an image; ``None`` if they cannot show it, or it is not listed yet."""
        found = self._listed(schema.listing.c.image == image_id)
        return found[0].listing if found else None

    def of_images(self, ids: Sequence[str]) -> dict[str, Listing]:
        """How viewers find each of these images, as far as they do."""
        return {one.listing.image: one.listing for one in self._listed(schema.listing.c.image.in_(ids))}

    def _listed(self, condition: ColumnElement[bool]) -> list[Listed]:
        column = schema.listing.c
        query = select(schema.listing, schema.image.c.current).join(schema.image, self._is_shown).where(condition)
        with self.database.reading() as connection:
            rows: Sequence[Any] = connection.execute(query.order_by(column.series_uid, column.image)).all()
        return [Listed(Listing(*(getattr(row, name) for name in COLUMNS)), row.current) for row in rows]

    @property
    def _is_shown(self) -> ColumnElement[bool]:
        image, column = schema.image.c, schema.listing.c
        return and_(
            column.task == self.task,
            image.task == column.task,
            image.id == column.image,
            image.state == ImageState.OK,
            image.listed.is_(True),
        )
