"""Storing a DICOM segmentation is submitting a correction (STOW-RS, PS3.18 section 10.5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from requests_toolbelt import MultipartDecoder, NonMultipartContentTypeException
from requests_toolbelt.multipart.decoder import ImproperBodyPartContentException

from lib.dicom.frames import SEGMENTATIONS
from lib.dicom.segmentation import read_segmentation, referenced_images
from lib.dicom.source import dataset_of
from lib.errors import (
    InvalidRequest,
    LabelRefineryError,
    StageConflict,
    StorageFull,
    UnacceptableFile,
    UnknownImage,
    UnreadableImage,
)
from lib.serving.annotator import Annotator
from lib.serving.dicomweb import Json, attribute, tag_of
from lib.serving.problem import STATUS, status_of
from lib.serving.requests import Submission
from lib.serving.saving import save_mask
from lib.serving.studies import LONGEST_UID, Studies, on_grid
from lib.store.annotations import TAG_FINAL, Annotation
from lib.store.files import digest_of
from lib.store.listings import Listing
from lib.store.segmentations import StoredSegmentation
from lib.volume import Array, Grid

OTHER_CLASS, NOT_UNDERSTOOD, NO_ROOM, NOT_PROCESSED = 0x0122, 0xC000, 0xA700, 0x0110
"""FailureReason (0008,1197), PS3.18 table I.2-2."""


@dataclass(frozen=True)
class Received:
    """One object as it came.

    Attributes:
        content: its bytes.
        dataset: read from them.
    """

    content: bytes
    dataset: Any

    @property
    def instance_uid(self) -> str:
        """SOPInstanceUID."""
        return str(self.dataset.get("SOPInstanceUID") or "")

    @property
    def told(self) -> Json:
        """By what the reply names it."""
        uid = str(self.dataset.get("SOPClassUID") or "")
        return attribute("ReferencedSOPClassUID", uid) | attribute("ReferencedSOPInstanceUID", self.instance_uid)


@dataclass(frozen=True)
class Correction:
    """An object that may be stored.

    Attributes:
        received: the object.
        listing: how viewers find what it shows.
        mask: uint8 (I, J, K) on the image's grid.
        grid: the image's lattice.
        looked_at: names of the structures that have a segment.
    """

    received: Received
    listing: Listing
    mask: Array
    grid: Grid
    looked_at: tuple[str, ...]


@dataclass(frozen=True)
class Stored:
    """What came of one object.

    Attributes:
        received: the object.
        study_uid: of its study.
        series_uid: of its series.
        annotation: what it became; ``None``: it was there already.
    """

    received: Received
    study_uid: str
    series_uid: str
    annotation: Annotation | None


class Refused(Exception):
    """Objects that do not fit; nothing was stored.

    Attributes:
        status: of the reply.
        told: the reply, as DICOM JSON.
    """

    def __init__(self, failures: Sequence[tuple[Received, LabelRefineryError]]) -> None:
        error = failures[0][1]
        super().__init__(str(error))
        self.error = error
        # 404 would say that nothing can be stored at this address.
        self.status = STATUS[StageConflict] if isinstance(error, UnknownImage) else status_of(error)
        items = [
            received.told
            | attribute("FailureReason", _reason(received, why))
            | {"00000902": {"vr": "LO", "Value": [str(why)]}}
            for received, why in failures
        ]
        self.told = {tag_of("FailedSOPSequence"): {"vr": "SQ", "Value": items}}


def _reason(received: Received, error: LabelRefineryError) -> int:
    if isinstance(error, StorageFull):
        return NO_ROOM
    if received.dataset.get("SOPClassUID") not in SEGMENTATIONS:
        return OTHER_CLASS
    return NOT_UNDERSTOOD if isinstance(error, UnacceptableFile) else NOT_PROCESSED


def received_objects(body: bytes, content_type: str) -> list[Received]:
    """Takes apart a body of the type ``multipart/related``.

    Raises:
        InvalidRequest: if it is none.
        UnreadableImage: if a part is no DICOM.
    """
    wanted = 'Send multipart/related; type="application/dicom"; boundary=… with one DICOM file a part.'
    try:
        parts = [part.content for part in MultipartDecoder(body, content_type).parts]
    except (NonMultipartContentTypeException, ImproperBodyPartContentException, AttributeError, ValueError) as error:
        raise InvalidRequest(
            f"The body cannot be taken apart (Content-Type {content_type[:80]!r}). {wanted}"
        ) from error
    if not parts:
        raise InvalidRequest(f"The body has no part. {wanted}")
    return [_received(part) for part in parts]


def _received(content: bytes) -> Received:
    try:
        dataset = dataset_of(content)
        is_named = all(dataset.get(keyword) for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"))
    # The reader raises whatever a damaged file makes it stumble over.
    except Exception as error:
        raise UnreadableImage(f"A part of the body is no DICOM file: {error}.") from error
    if not is_named or any(len(str(dataset[k].value)) > LONGEST_UID for k in ("SOPInstanceUID", "SeriesInstanceUID")):
        raise UnreadableImage("A part of the body names no study, series and instance, so it cannot be found again.")
    return Received(content, dataset)


class Storing:
    """Takes in segmentations."""

    def __init__(self, studies: Studies) -> None:
        self.studies = studies
        self.record = studies.record
        self.library = studies.library

    def store(self, objects: Sequence[Received], study_uid: str, annotator: Annotator) -> list[Stored]:
        """Stores all objects of a request or none.

        Args:
            objects: as they came.
            study_uid: to which all must belong; empty: any.
            annotator: who sent them.

        Raises:
            Refused: if one does not fit, with a sentence for each that does not.
        """
        self.studies.list_new()
        corrections: list[Correction | Stored] = []
        failures: list[tuple[Received, LabelRefineryError]] = []
        for received in objects:
            try:
                corrections.append(self._checked(received, study_uid))
            except LabelRefineryError as error:
                failures.append((received, error))
        if failures:
            raise Refused(failures)
        together = self.record.database.transaction() if len(corrections) > 1 else nullcontext()
        try:
            with together:
                return [self._kept(each, annotator) if isinstance(each, Correction) else each for each in corrections]
        except LabelRefineryError as error:
            self.record.segmentations.delete_unused(digest_of(received.content) for received in objects)
            raise Refused([(received, error) for received in objects]) from error

    def _checked(self, received: Received, study_uid: str) -> Correction | Stored:
        dataset = received.dataset
        if dataset.get("SOPClassUID") not in SEGMENTATIONS:
            found = dataset.get("SOPClassUID")
            raise UnreadableImage(
                f"Only DICOM segmentations are stored here, found {getattr(found, 'name', found)} (Modality "
                f"{dataset.get('Modality')})."
            )
        listing = self._listing(received)
        for wanted in filter(None, (study_uid, listing.study_uid)):
            if dataset.StudyInstanceUID != wanted:
                raise StageConflict(
                    f"The segmentation belongs to the study {dataset.StudyInstanceUID}, wanted is {wanted}. "
                    "Store it with the study of its images."
                )
        if known := self._known(received, listing):
            return known
        image, grid = self.library.readable_with_grid(listing.image)
        source = self.studies.source(image)
        mask, looked_at = read_segmentation(dataset, source, self.record.task)
        if not looked_at:
            raise UnacceptableFile("The segmentation has no segment but the background, so it says nothing.")
        return Correction(received, listing, on_grid(mask, source.grid, grid, image.id), grid, looked_at)

    def _listing(self, received: Received) -> Listing:
        """The image that an object refers to."""
        references = referenced_images(received.dataset)
        found = [
            one.listing
            for series_uid, instances in references.items()
            for one in self.record.listings.of_series(series_uid)
            if not one.listing.instance_uid or one.listing.instance_uid in instances
        ]
        if not found:
            named = ", ".join(references) or "none"
            raise UnknownImage(
                f"The segmentation refers to no image of this server; the series that it names: {named}. "
                "Draw it on an image from here."
            )
        if len(found) > 1:
            raise UnacceptableFile(
                f"The segmentation refers to {len(found)} images: {', '.join(one.image for one in found)}. "
                "Store one for each image."
            )
        return found[0]

    def _known(self, received: Received, listing: Listing) -> Stored | None:
        """The object if it is here already, as a person stored it or as we wrote it.

        Raises:
            StageConflict: if the one that is here has the same UID and other bytes.
        """
        series_uid, uid = str(received.dataset.SeriesInstanceUID), received.instance_uid
        stored = self.record.segmentations.find(uid)
        is_same = stored is not None and stored.content == digest_of(received.content)
        if stored is None:
            header = self._written_by_us(listing, series_uid, uid)
            if header is None:
                return None
            is_same = header == received.content
        if not is_same:
            raise StageConflict(
                f"There is another segmentation with the SOPInstanceUID {uid} already. Give a changed one a new UID."
            )
        return Stored(received, listing.study_uid, series_uid, None)

    def _written_by_us(self, listing: Listing, series_uid: str, instance_uid: str) -> bytes | None:
        mask = self.studies.mask(listing, series_uid)
        if mask is None or mask.annotation is None or mask.stored is not None:
            return None
        (header,) = self.studies.headers(mask)
        return header.path.read_bytes() if header.instance_uid == instance_uid else None

    def _kept(self, correction: Correction, annotator: Annotator) -> Stored:
        """Keeps the object and the annotation that it becomes."""
        received, listing = correction.received, correction.listing
        series_uid = str(received.dataset.SeriesInstanceUID)
        digest = self.record.segmentations.files.put(received.content)

        def keep(annotation: Annotation) -> None:
            # Somebody may have stored it since it was checked.
            if known := self._known(received, listing):
                raise _AlreadyHere(known)
            # Somebody else's refusal may have deleted an equal file.
            self.record.segmentations.files.keep(digest, received.content)
            self.record.segmentations.add(
                StoredSegmentation(received.instance_uid, series_uid, listing.image, annotation.version, digest)
            )

        try:
            annotation = save_mask(
                self.record, correction.mask, correction.grid, _submission(correction), annotator, and_then=keep
            )
        except _AlreadyHere as error:
            return error.stored
        return Stored(received, listing.study_uid, series_uid, annotation)


class _AlreadyHere(Exception):
    """Undoes a transaction whose work somebody else has done."""

    def __init__(self, stored: Stored) -> None:
        super().__init__()
        self.stored = stored


def _submission(correction: Correction) -> Submission:
    dataset: Dataset = correction.received.dataset
    about = {
        "sop_instance_uid": correction.received.instance_uid,
        "series_description": str(dataset.get("SeriesDescription") or ""),
        "content_creator": str(dataset.get("ContentCreatorName") or ""),
    }
    return Submission(
        image_id=correction.listing.image,
        tag=TAG_FINAL,
        label_info=(),
        looked_at=correction.looked_at,
        parent=None,
        seconds=None,
        client_id=None,
        info={name: text for name, text in about.items() if text},
    )


def told_stored(stored: Sequence[Stored], address: Callable[[Stored], str]) -> Json:
    """The reply to objects that are stored, as DICOM JSON."""
    items = [each.received.told | attribute("RetrieveURL", address(each)) for each in stored]
    return {tag_of("ReferencedSOPSequence"): {"vr": "SQ", "Value": items}}
