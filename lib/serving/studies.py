"""The images and masks of a server as viewers see them: studies, series and instances of DICOM.

A DICOM image is the series that its files are. Any other image is offered as a derived series, and the current
annotation of each as a segmentation of its study (``dicom_files.py``). What a person stored as a segmentation is
offered as it came.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pydicom
from sqlalchemy import ColumnElement, or_

from lib.dataset import read_dataset
from lib.dicom.derived import LARGEST_COSINE
from lib.dicom.drawn import orientation_of
from lib.dicom.segmentation import SERIES_NUMBER, uids_of
from lib.dicom.structure_set import structure_set_uids
from lib.errors import NotFound, UnacceptableFile, UnknownImage, UnreadableImage
from lib.series import PROJECTIONS
from lib.serving.dicom_files import DicomFiles, derived_series, description_of, seed_of, series_uid_of
from lib.serving.dicomweb import (
    INSTANCE,
    SERIES,
    STUDY,
    InstanceHeader,
    Json,
    Part,
    Search,
    attribute,
    frames_of,
    header_of,
    selected,
    tag_of,
    value_of,
)
from lib.serving.kept_headers import KeptHeaders
from lib.serving.library import Library
from lib.store import schema
from lib.store.annotations import Annotation
from lib.store.images import ImageKind
from lib.store.listings import Listed, Listing
from lib.store.record import Record
from lib.store.segmentations import StoredSegmentation
from lib.task import Task

LOG = logging.getLogger(__name__)

SEG = "SEG"
STRUCTURE_SET = "RTSTRUCT"
"""Modality of contours."""

LONGEST_UID = 64
"""Letters of a UID (PS3.5 section 9.1)."""

BATCH = 100
"""Images that are listed in one transaction."""

PLACES = ("SharedFunctionalGroupsSequence",)
"""Attributes of a segmentation that say how its frames lie."""

REMEMBERED = 2048
"""Headers of the series that were asked for last, which are found by their UIDs without looking."""

SHOWN_SECONDS = 1.0
"""How long a series that was shown passes for shown: a viewer asks for its frames within moments."""


@dataclass(frozen=True)
class Series:
    """One series of a study.

    Attributes:
        study_uid: StudyInstanceUID.
        series_uid: SeriesInstanceUID.
        images: what it is or shows; several for the radiographs of one series.
        annotation: what a segmentation shows; ``None``: the series is an image.
        stored: the object as a person stored it.
    """

    study_uid: str
    series_uid: str
    images: tuple[Listing, ...]
    annotation: Annotation | None = None
    stored: StoredSegmentation | None = None


@dataclass
class Remembered:
    """A series that was asked for lately.

    Attributes:
        image: its image.
        headers: by SOPInstanceUID.
        asked: when the record said last that it is shown; of ``time.monotonic``.
    """

    image: str
    headers: dict[str, InstanceHeader]
    asked: float


class Studies:
    """What viewers can see."""

    def __init__(self, record: Record, library: Library) -> None:
        self.record = record
        self.library = library
        self.files = DicomFiles(record, library)
        self._listing = threading.Lock()
        # Held while a segmentation is stored at the server of the studies, which is not to be taken for another's.
        self.storing = threading.Lock()
        self._guard = threading.Lock()
        self._known: OrderedDict[tuple[str, str], Remembered] = OrderedDict()
        self._kept = KeptHeaders(library)

    # Listing.

    def list_new(self) -> None:
        """Lists the images that came or changed; reads the header of one file of each."""
        while not self._kept.is_stopping and self.record.listings.missing(1):
            with self._listing:
                # Asked anew in each turn: whoever had the one before may have listed them.
                missing = self.record.listings.missing(BATCH)
                listings = [(image_id, self._listing_of(image_id)) for image_id in missing]
                with self.record.database.transaction():
                    for image_id, listing in listings:
                        self.record.listings.put(image_id, listing)
            with self._guard:
                for uids in [uids for uids, known in self._known.items() if known.image in missing]:
                    del self._known[uids]
            self._kept.want(missing)

    def start(self) -> None:
        """Lets a thread list what is new and keep the headers of all series that lie here, before somebody asks."""
        if self.library.fetched is None:
            self._kept.start(self.list_new)

    def stop(self) -> None:
        """Ends it."""
        self._kept.stop()

    def _listing_of(self, image_id: str) -> Listing | None:
        """How viewers find an image; ``None`` if they cannot show it."""
        try:
            image = self.library.readable(image_id)
            if image.kind is ImageKind.FILE:
                derived = derived_series(image)
                instance_uid = derived.instance_uid(0) if derived.is_projection else ""
                return listing_of(image_id, derived.header(), instance_uid, derived.grid.shape[2])
            files = self.library.files(image)
            header = read_dataset(files[0], with_pixels=False)
            instance_uid = str(header.SOPInstanceUID) if header.get("Modality") in PROJECTIONS else ""
            return listing_of(image_id, header, instance_uid, len(files))
        # The reader raises whatever a damaged header makes it stumble over; one image must not hide the others.
        except Exception as error:
            LOG.info("Viewers do not see %s: %s", image_id, error)
            return None

    # Searching.

    def search_studies(self, search: Search) -> Iterator[Json]:
        """The studies that fit, newest first."""
        return self._told_studies(search)

    def _told_studies(self, search: Search, *conditions: ColumnElement[bool]) -> Iterator[Json]:
        """The studies that fit and meet conditions on the tables ``listing`` and ``image``."""
        # Where everything fits, the index counts: a late page costs no more than the first one.
        skipped = 0 if search.wanted else search.offset
        told = (self._told_study(images) for images in self._narrowed(search, skipped, *conditions))
        return islice(filter(search.fits, told), search.offset - skipped, None)

    def search_series(self, search: Search) -> Iterator[Json]:
        """The series that fit."""
        studies, series = (0, 0) if search.wanted or not search.offset else self._skipped(search.offset)
        return islice(self._fitting_series(search, studies), search.offset - series, None)

    def _skipped(self, offset: int) -> tuple[int, int]:
        """How many studies, and how many series they hold, come before the study with the series at this place."""
        self.list_new()
        skipped = 0
        counts = self.record.listings.counted()
        for number, count in enumerate(counts):
            series = count.series + count.annotated
            # What people stored as contours is offered as a segmentation too.
            if count.stored:
                series = len(list(self._shown_series(self.record.listings.of_study(count.study_uid))))
            if skipped + series > offset:
                return number, skipped
            skipped += series
        return len(counts), skipped

    def _fitting_series(self, search: Search, skipped: int = 0) -> Iterator[Json]:
        for images in self._narrowed(search, skipped):
            study = self._told_study(images)
            for series in self._found_series(images, search):
                told = study | self._told_series(series)
                if search.fits(told):
                    yield told

    def _found_series(self, images: list[Listed], search: Search) -> Iterator[Series]:
        """The series of one study that are shown, and the past masks that a search within it names by their UIDs."""
        shown = list(self._shown_series(images))
        yield from shown
        if search.texts("StudyInstanceUID"):
            for uid in set(search.texts("SeriesInstanceUID")) - {one.series_uid for one in shown}:
                yield from filter(None, (self.mask(one.listing, uid) for one in images))

    def search_instances(self, search: Search) -> Iterator[Json]:
        """The instances that fit."""
        return islice(self._fitting_instances(search), search.offset, None)

    def _fitting_instances(self, search: Search) -> Iterator[Json]:
        uids = search.texts("SeriesInstanceUID")
        for images in self._narrowed(search):
            study = self._told_study(images)
            for series in self._shown_series(images):
                if uids and series.series_uid not in uids:
                    continue
                shared = study | self._told_series(series)
                for header in self.headers(series):
                    told = shared | _told_instance(header, search)
                    if search.fits(told):
                        yield told

    def _narrowed(self, search: Search, skipped: int = 0, *conditions: ColumnElement[bool]) -> Iterator[list[Listed]]:
        """Images of each study that may fit, found by indexes; ``fits`` decides."""
        self.list_new()
        narrowing = (*_uid_conditions(search), *_other_conditions(search), *conditions)
        return self.record.listings.studies(*narrowing, skipped=skipped)

    def _shown_series(self, images: list[Listed]) -> Iterator[Series]:
        """The series of one study: its images, then the current masks of them."""
        by_uid: dict[str, list[Listing]] = {}
        for one in images:
            by_uid.setdefault(one.listing.series_uid, []).append(one.listing)
        for uid, listings in by_uid.items():
            yield Series(listings[0].study_uid, uid, tuple(listings))
        for one in images:
            if one.current is not None:
                stored = self._stored_now(one)
                annotation = self.record.annotations.get(one.listing.image, one.current)
                if stored is not None:
                    yield Series(one.listing.study_uid, stored.series_uid, (one.listing,), annotation, stored)
                # Contours cannot be gone over with a brush: they are offered as a segmentation too.
                if stored is None or self._is_structure_set(stored):
                    uid = series_uid_of(one.listing.source_name, annotation)
                    yield Series(one.listing.study_uid, uid, (one.listing,), annotation)

    def _stored_now(self, one: Listed) -> StoredSegmentation | None:
        """The object that a person stored as the current annotation, unless viewers could not show it."""
        stored = {each.version: each for each in self._stored(one.listing.image)}
        found = stored.get(one.current) if one.current is not None else None
        return found if found is not None and self._lies_as_its_series(found, one.listing) else None

    def _lies_as_its_series(self, stored: StoredSegmentation, listing: Listing) -> bool:
        """Whether rows and columns run as those of the image: OHIF opens no segmentation that was turned otherwise.

        Those of DICOM images do; derived series were not always turned for readers.
        """
        image = self.record.images.find(listing.image)
        if image is None or image.kind is ImageKind.SERIES or listing.instance_uid:
            return True
        drawn = orientation_of(self._stored_header(stored))
        return drawn is None or np.allclose(drawn, derived_series(image).orientation, atol=LARGEST_COSINE)

    def _is_structure_set(self, stored: StoredSegmentation) -> bool:
        return str(self._stored_header(stored).get("Modality", "")) == STRUCTURE_SET

    def _told_study(self, images: list[Listed]) -> Json:
        stored = [found for one in images if one.current is not None and (found := self._stored_now(one)) is not None]
        return _told_study(images, sum(map(self._is_structure_set, stored)))

    def _stored(self, image_id: str) -> list[StoredSegmentation]:
        """The objects of an image that people stored; for one whose file was lost ours stands in."""
        every = self.record.segmentations.of_image(image_id)
        return [each for each in every if self.record.segmentations.files.path(each.content).is_file()]

    def _told_series(self, series: Series) -> Json:
        listing, annotation = series.images[0], series.annotation
        told = {tag: listing.attributes[tag] for tag in map(tag_of, SERIES) if tag in listing.attributes}
        instances = sum(one.instances for one in series.images)
        if annotation is not None:
            instances = 1
            told = (
                selected(self._stored_header(series.stored), SERIES)
                if series.stored
                else _told_mask(series, annotation, self.record.task)
            )
            told |= {
                tag_of("ReferencedSeriesSequence"): {
                    "vr": "SQ",
                    "Value": [attribute("SeriesInstanceUID", listing.series_uid)],
                }
            }
        return told | attribute("NumberOfSeriesRelatedInstances", instances)

    def _stored_header(self, stored: StoredSegmentation) -> pydicom.Dataset:
        path = self.record.segmentations.files.path(stored.content)
        return read_dataset(path, with_pixels=False, tags=[*SERIES, *PLACES])

    # Retrieving.

    def series_of(self, study_uid: str) -> list[Series]:
        """All series of a study that searches show.

        Raises:
            NotFound: if there is no such study.
        """
        self.list_new()
        images = self.record.listings.of_study(study_uid)
        if not images:
            raise NotFound(f"There is no study {study_uid[:80]!r}. GET /dicomweb/studies lists all.")
        return list(self._shown_series(images))

    def series(self, study_uid: str, series_uid: str) -> Series:
        """One series, also of a mask that is no longer the current one.

        Raises:
            NotFound: if there is none.
        """
        self.list_new()
        if images := self.record.listings.of_series(series_uid):
            found = Series(images[0].listing.study_uid, series_uid, tuple(one.listing for one in images))
            if found.study_uid == study_uid:
                return found
        for one in self.record.listings.of_study(study_uid):
            if mask := self.mask(one.listing, series_uid):
                return mask
        raise NotFound(f"The study {study_uid[:80]!r} has no series {series_uid[:80]!r}.")

    def image_named_by(
        self, references: Mapping[str, Collection[str]], sources: Collection[str] = (), study_uid: str = ""
    ) -> Listing:
        """The image that a segmentation or a structure set refers to.

        Args:
            references: as ``referenced_images`` finds them in it.
            sources: as ``source_instances`` finds them; they count where it refers to no series.
            study_uid: of the object, in whose study these are looked for.

        Raises:
            UnknownImage: if it is none of this server.
            UnacceptableFile: if there are several.
        """
        found = [
            one.listing
            for series_uid, instances in references.items()
            for one in self.record.listings.of_series(series_uid)
            if not one.listing.instance_uid or one.listing.instance_uid in instances
        ]
        if not references and sources:
            listed = [one.listing for one in self.record.listings.of_study(study_uid)]
            found = [one for one in listed if not self._instances_of(one).isdisjoint(sources)]
        if not found:
            named = ", ".join(references) or "none"
            frames = f", and of the {len(sources)} images that its frames name none" if sources else ""
            raise UnknownImage(
                f"The object refers to no image of this server; the series that it names: {named}{frames}. "
                "Draw it on an image from here."
            )
        if len(found) > 1:
            raise UnacceptableFile(
                f"The object refers to {len(found)} images: {', '.join(one.image for one in found)}. "
                "Store one for each image."
            )
        return found[0]

    def _instances_of(self, listing: Listing) -> set[str]:
        """SOPInstanceUIDs of an image; of one that lies at a server, that one is asked, and sends no pixels."""
        if listing.instance_uid:
            return {listing.instance_uid}
        fetched, path = self.library.fetched, self.library.remote_path(listing.image)
        if fetched is not None and path is not None:
            told = fetched.remote.search(f"studies/{listing.study_uid}/series/{listing.series_uid}/instances")
            return {str(value_of(one, "SOPInstanceUID")) for one in told}
        return {
            header.instance_uid for header in self.headers(Series(listing.study_uid, listing.series_uid, (listing,)))
        }

    def mask(self, listing: Listing, series_uid: str) -> Series | None:
        """The mask of an image that this series is, in whatever version, or ``None``."""
        stored = {each.series_uid: each for each in self._stored(listing.image)}
        for annotation in self.record.annotations.history(listing.image):
            if series_uid in stored and stored[series_uid].version == annotation.version:
                return Series(listing.study_uid, series_uid, (listing,), annotation, stored[series_uid])
            if annotation.mask and series_uid_of(listing.source_name, annotation) == series_uid:
                return Series(listing.study_uid, series_uid, (listing,), annotation)
        return None

    def series_of_version(self, listing: Listing, annotation: Annotation) -> str:
        """SeriesInstanceUID under which a version of an image's mask can be had."""
        stored = {each.version: each for each in self._stored(listing.image)}
        found = stored.get(annotation.version)
        if found is not None and self._lies_as_its_series(found, listing) and not self._is_structure_set(found):
            return found.series_uid
        return series_uid_of(listing.source_name, annotation)

    def is_written_here(self, listing: Listing, series_uid: str) -> bool:
        """Whether a series is a mask of an image, in whatever version, as this server writes it."""
        return any(
            series_uid in (uids(listing.source_name, seed_of(annotation))[0] for uids in (uids_of, structure_set_uids))
            for annotation in self.record.annotations.history(listing.image)
            if annotation.mask
        )

    def headers(self, series: Series) -> list[InstanceHeader]:
        """The headers of a series' instances, by their numbers."""
        paths = self._files(series)
        is_one_image = series.annotation is None and len(series.images) == 1
        found = self._kept.of(series.images[0].image, paths) if is_one_image else map(header_of, paths)
        headers = sorted(found, key=lambda one: (int(value_of(one.told, "InstanceNumber") or 0), one.instance_uid))
        if is_one_image:
            self._remember(series, headers)
        return headers

    def _remember(self, series: Series, headers: list[InstanceHeader]) -> None:
        uids = (series.study_uid, series.series_uid)
        by_uid = {header.instance_uid: header for header in headers}
        with self._guard:
            self._known[uids] = Remembered(series.images[0].image, by_uid, time.monotonic())
            self._known.move_to_end(uids)
            while len(self._known) > 1 and sum(len(one.headers) for one in self._known.values()) > REMEMBERED:
                self._known.popitem(last=False)

    def instance(self, study_uid: str, series_uid: str, instance_uid: str) -> InstanceHeader:
        """The header of one instance.

        Raises:
            NotFound: if there is none.
        """
        if known := self._remembered(study_uid, series_uid, instance_uid):
            return known
        stored = self.record.segmentations.find(instance_uid)
        if stored is not None and stored.series_uid == series_uid:
            images = [one.listing.image for one in self.record.listings.of_study(study_uid)]
            if stored.image in images:
                return header_of(self.record.segmentations.files.sound(stored.content))
        headers = {header.instance_uid: header for header in self.headers(self.series(study_uid, series_uid))}
        if instance_uid not in headers:
            raise NotFound(f"The series {series_uid[:80]!r} has no instance {instance_uid[:80]!r}.")
        return headers[instance_uid]

    def frames(self, study_uid: str, series_uid: str, instance_uid: str, numbers: Iterable[int]) -> list[Part]:
        """Some frames of an instance as they are stored.

        Raises:
            NotFound: if there is no such instance or frame.
            UnreadableImage: if its file is damaged; the image is quarantined if its voxels cannot be read.
        """
        header = self.instance(study_uid, series_uid, instance_uid)
        try:
            return frames_of(header, numbers)
        except UnreadableImage:
            for image in self.record.listings.of_series(series_uid):
                self.library.volume(self.library.readable(image.listing.image))
            raise

    def _remembered(self, study_uid: str, series_uid: str, instance_uid: str) -> InstanceHeader | None:
        """The header of an instance whose image is shown as it was when its series was asked for."""
        with self._guard:
            known = self._known.get((study_uid, series_uid))
        if known is None or (header := known.headers.get(instance_uid)) is None or not header.is_current():
            return None
        if (now := time.monotonic()) - known.asked > SHOWN_SECONDS:
            images = [one.listing for one in self.record.listings.of_series(series_uid)]
            if [(one.study_uid, one.image) for one in images] != [(study_uid, known.image)]:
                return None
            known.asked = now
        return header

    def _files(self, series: Series) -> list[Path]:
        if series.annotation is None:
            return [path for one in series.images for path in self.files.of_image(self.library.readable(one.image))]
        if series.stored is not None:
            return [self.record.segmentations.files.sound(series.stored.content)]
        return [self.files.segmentation(series.annotation)]


def _uid_conditions(search: Search) -> Iterator[ColumnElement[bool]]:
    column, has_mask = schema.listing.c, schema.image.c.current.is_not(None)
    if uids := search.texts("StudyInstanceUID"):
        yield column.study_uid.in_(uids)
    if uids := search.texts("SeriesInstanceUID"):
        # It may be that of a mask, which is not listed.
        yield or_(column.series_uid.in_(uids), has_mask)
    for modalities in (search.texts("Modality"), search.texts("ModalitiesInStudy")):
        if modalities and not any(set("*?") & set(text) for text in modalities):
            is_one = column.modality.in_(modalities)
            yield or_(is_one, has_mask) if {SEG, STRUCTURE_SET} & set(modalities) else is_one


def _other_conditions(search: Search) -> Iterator[ColumnElement[bool]]:
    column = schema.listing.c
    for text in search.texts("StudyDate"):
        begin, dash, end = text.partition("-")
        yield column.study_date >= begin
        if not dash or end:
            yield column.study_date <= (end or begin)
    for text in search.texts("PatientID"):
        yield _like(column.patient_id, text)
    for text in search.texts("AccessionNumber"):
        yield _like(column.accession_number, text)
    for text in search.texts("PatientName"):
        yield _like(column.patient_name, text.casefold())


def listing_of(image_id: str, header: Any, instance_uid: str, instances: int) -> Listing:
    """How viewers find an image.

    Args:
        image_id: its id.
        header: of one of its instances.
        instance_uid: SOPInstanceUID of a radiograph, else empty.
        instances: how many it has.

    Raises:
        UnreadableImage: if its StudyInstanceUID is too long.
    """
    told = selected(header, (*STUDY, *SERIES))
    if len(header.StudyInstanceUID) > LONGEST_UID:
        raise UnreadableImage(f"StudyInstanceUID has {len(header.StudyInstanceUID)} letters, at most {LONGEST_UID}.")
    name = value_of(told, "PatientName")
    return Listing(
        image=image_id,
        study_uid=str(header.StudyInstanceUID),
        series_uid=str(header.SeriesInstanceUID),
        instance_uid=instance_uid,
        study_date=str(value_of(told, "StudyDate"))[:64],
        patient_id=str(value_of(told, "PatientID")),
        patient_name=str(name.get("Alphabetic", "") if isinstance(name, dict) else name).casefold(),
        accession_number=str(value_of(told, "AccessionNumber")),
        modality=str(value_of(told, "Modality"))[:64],
        instances=instances,
        attributes=told,
    )


def _told_study(images: list[Listed], structure_sets: int) -> Json:
    first = images[0].listing
    told = {tag: first.attributes[tag] for tag in map(tag_of, STUDY) if tag in first.attributes}
    masks = structure_sets + sum(one.current is not None for one in images)
    modalities = {one.listing.modality for one in images} | ({SEG} if masks else set())
    modalities |= {STRUCTURE_SET} if structure_sets else set()
    return (
        told
        | attribute("ModalitiesInStudy", *sorted(modalities))
        | attribute("NumberOfStudyRelatedSeries", len({one.listing.series_uid for one in images}) + masks)
        | attribute("NumberOfStudyRelatedInstances", sum(one.listing.instances for one in images) + masks)
    )


def _told_mask(series: Series, annotation: Annotation, task: Task) -> Json:
    """What is told of a segmentation that need not be written for that."""
    return (
        attribute("Modality", SEG)
        | attribute("SeriesInstanceUID", series.series_uid)
        | attribute("SeriesNumber", SERIES_NUMBER)
        | attribute("SeriesDescription", description_of(annotation, task))
        | attribute("SeriesDate", annotation.created.strftime("%Y%m%d"))
        | attribute("SeriesTime", annotation.created.strftime("%H%M%S"))
    )


def _told_instance(header: InstanceHeader, search: Search) -> Json:
    tags = {tag_of(keyword) for keyword in INSTANCE} | search.more | search.wanted.keys()
    return {tag: told for tag, told in header.told.items() if tag in tags or "all" in search.more}


def _like(column: Any, text: str) -> ColumnElement[bool]:
    """The condition that a text is the one wanted, or like the pattern with ``*`` and ``?``.

    Files may hold either Unicode form.
    """
    return or_(*(_like_form(column, form) for form in {normalize(form, text) for form in ("NFC", "NFD")}))


def _like_form(column: Any, text: str) -> ColumnElement[bool]:
    if not set("*?") & set(text):
        return column == text
    escaped = "".join(f"\\{letter}" if letter in "\\%_" else letter for letter in text)
    return column.like(escaped.replace("*", "%").replace("?", "_"), escape="\\")
