"""Storing a DICOM segmentation or a set of contours is submitting a correction (STOW-RS, PS3.18 section 10.5).

The objects of a request lie in files; one at a time is read as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import UID

from lib.decoder import foreign
from lib.dicom.drawn import DRAWN, Drawing
from lib.errors import (
    InvalidRequest,
    LabelRefineryError,
    SavedMeanwhile,
    StageConflict,
    StorageFull,
    StudiesRefused,
    UnacceptableFile,
    UnknownImage,
    UnreadableImage,
)
from lib.serving.annotator import Annotator
from lib.serving.dicom_files import on_grid
from lib.serving.dicomweb import Json, attribute, tag_of
from lib.serving.parts import LARGEST_PART_MIB
from lib.serving.problem import STATUS, status_of
from lib.serving.remote import Remote
from lib.serving.requests import Submission
from lib.serving.saving import PackedMask, packed, refuse_what_is_behind, save_packed
from lib.serving.studies import Studies
from lib.store.annotations import TAG_FINAL, Annotation
from lib.store.files import digest_of
from lib.store.listings import Listing
from lib.store.segmentations import StoredSegmentation
from lib.uids import USABLE_UID

OTHER_CLASS, NOT_UNDERSTOOD, NO_ROOM, NOT_PROCESSED = 0x0122, 0xC000, 0xA700, 0x0110
"""FailureReason (0008,1197), PS3.18 table I.2-2."""


@dataclass(frozen=True)
class Received:
    """One object as it came.

    Attributes:
        path: its file, as long as the request lasts.
        drawing: what it says of itself.
        digest: SHA-256 of its bytes.
    """

    path: Path
    drawing: Drawing
    digest: str

    @property
    def content(self) -> bytes:
        """Its bytes, read anew: up to ``LARGEST_PART_MIB``, so not while others wait for their turn to write."""
        return self.path.read_bytes()

    @property
    def instance_uid(self) -> str:
        """SOPInstanceUID."""
        return self.drawing.instance_uid

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID."""
        return self.drawing.series_uid

    @property
    def told(self) -> Json:
        """By what the reply names it."""
        about = self.drawing
        return attribute("ReferencedSOPClassUID", about.class_uid) | attribute(
            "ReferencedSOPInstanceUID", about.instance_uid
        )


@dataclass(frozen=True)
class Correction:
    """An object that may be stored.

    Attributes:
        received: the object.
        listing: how viewers find what it shows.
        mask: on the image's grid; others of the request are checked before it is stored.
        looked_at: names of the structures that have a segment.
        remarks: what of it was not taken as it came.
    """

    received: Received
    listing: Listing
    mask: PackedMask
    looked_at: tuple[str, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Origin:
    """What a client says of how the objects of a request came about.

    Attributes:
        parent: version that was corrected; 0: none; ``None``: it does not say.
        anyway: whether they are stored also where somebody has saved after that version.
        seconds: time that the person spent.
    """

    parent: int | None = None
    anyway: bool = False
    seconds: float | None = None


UNTOLD = Origin()
"""Of a client that says nothing."""


@dataclass(frozen=True)
class Stored:
    """What came of one object.

    Attributes:
        received: the object.
        study_uid: of its study.
        series_uid: of its series.
        annotation: what it became; ``None``: it was there already.
        is_new: whether it became a new version.
        note: what the person should know of it beside; mostly empty.
    """

    received: Received
    study_uid: str
    series_uid: str
    annotation: Annotation | None
    is_new: bool = False
    note: str = ""


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
            received.told | attribute("FailureReason", _reason(received, why)) | _comment(str(why))
            for received, why in failures
        ]
        self.told = {tag_of("FailedSOPSequence"): {"vr": "SQ", "Value": items}}


def _comment(text: str) -> Json:
    return {"00000902": {"vr": "LO", "Value": [text]}}


def _reason(received: Received, error: LabelRefineryError) -> int:
    if isinstance(error, StorageFull):
        return NO_ROOM
    if received.drawing.class_uid not in DRAWN:
        return OTHER_CLASS
    return NOT_UNDERSTOOD if isinstance(error, UnacceptableFile) else NOT_PROCESSED


def received_object(path: Path) -> Received:
    """A part of a request as an object.

    Raises:
        UnreadableImage: if it is no DICOM, or says not what it is.
        TooLarge: if it is compressed as a whole, and larger than a part may be.
    """
    drawing = foreign.drawing(path, LARGEST_PART_MIB << 20, "A part of the body")
    names = [drawing.instance_uid, drawing.series_uid, drawing.study_uid]
    if not names[2] or not all(USABLE_UID.fullmatch(name) for name in names[:2]):
        raise UnreadableImage(
            f"A part of the body names instance, series and study {names[0][:80]!r}, {names[1][:80]!r} and "
            f"{names[2][:80]!r}; wanted are UIDs, by which it can be found again."
        )
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Received(path, drawing, digest)


class Storing:
    """Takes in segmentations.

    Attributes:
        warning: what the server of the studies remarked when it stored them (header ``Warning``); else empty.
    """

    def __init__(self, studies: Studies, remote: Remote | None = None) -> None:
        """Stores nothing yet.

        Args:
            studies: what the segmentations belong to.
            remote: where the studies are, if not here: what belongs to its images is stored there first.
        """
        self.studies = studies
        self.remote = remote
        self.warning = ""
        self.record = studies.record
        self.library = studies.library

    def store(
        self, objects: Sequence[Received], study_uid: str, annotator: Annotator, origin: Origin = UNTOLD
    ) -> list[Stored]:
        """Stores all objects of a request or none.

        Args:
            objects: as they came.
            study_uid: to which all must belong; empty: any.
            annotator: who sent them.
            origin: what the client says of how they came about.

        Raises:
            Refused: if one does not fit, with a sentence for each that does not.
            InvalidRequest: if the version that several were made from is named.
        """
        if origin.parent is not None and len(objects) > 1:
            raise InvalidRequest(
                f"parent={origin.parent} names a version of one image, but {len(objects)} objects came. Send one."
            )
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
        with self.studies.storing if self.remote is not None else nullcontext():
            return self._kept_everywhere(corrections, annotator, origin)

    def _kept_everywhere(
        self, corrections: Sequence[Correction | Stored], annotator: Annotator, origin: Origin
    ) -> list[Stored]:
        """Stores checked objects at the server of the studies, then here."""
        objects = [each.received for each in corrections]
        new = [each for each in corrections if isinstance(each, Correction)]
        if self.remote is not None:
            self._refuse_behind(new, origin)
        sent = self._sent(new)
        together = self.record.database.transaction() if len(corrections) > 1 else nullcontext()
        try:
            # The files lie on the disk before others must wait until all of this is written.
            for one in new:
                self.record.segmentations.files.put(one.received.content)
                self.record.masks.put(one.mask.content)
            with together:
                return [
                    self._kept(each, annotator, origin) if isinstance(each, Correction) else each
                    for each in corrections
                ]
        except LabelRefineryError as error:
            self.record.segmentations.delete_unused(received.digest for received in objects)
            self.record.delete_unused_masks(digest_of(one.mask.content) for one in new)
            if sent:
                error = type(error)(
                    f"{error} The server of the studies has stored it already: send it again, or the next look at that "
                    "server takes it in."
                )
            raise Refused([(received, error) for received in objects]) from error

    def _refuse_behind(self, corrections: Sequence[Correction], origin: Origin) -> None:
        """Refuses what somebody has saved after, before the server of the studies has stored it."""
        if origin.parent is None or origin.anyway:
            return
        for one in corrections:
            try:
                refuse_what_is_behind(self.record.annotations.history(one.listing.image), origin.parent)
            except SavedMeanwhile as error:
                raise Refused([(one.received, error)]) from error

    def _sent(self, corrections: Sequence[Correction]) -> bool:
        """Stores new objects at the server of the studies; tells whether there were any."""
        remote = self.remote
        theirs = [one for one in corrections if self.library.remote_path(one.listing.image) is not None]
        if remote is None or not theirs:
            return False
        received = [one.received for one in theirs]
        try:
            self.warning = remote.store([one.path for one in received], theirs[0].listing.study_uid)
            for one in received:
                if not remote.holds(one.drawing.study_uid, one.series_uid, one.instance_uid):
                    raise StudiesRefused(
                        f"The server of the studies, {remote.address}, says that it has stored {one.instance_uid}, but "
                        "does not have it. Its rules may leave segmentations out; nothing was recorded."
                    )
        except LabelRefineryError as error:
            raise Refused([(one, error) for one in received]) from error
        return True

    def _checked(self, received: Received, study_uid: str) -> Correction | Stored:
        drawing = received.drawing
        if drawing.class_uid not in DRAWN:
            raise UnreadableImage(
                f"Only DICOM segmentations and structure sets are stored here, found {UID(drawing.class_uid).name} "
                f"(Modality {drawing.modality or 'unknown'})."
            )
        listing = self.studies.image_named_by(drawing.references, drawing.sources, drawing.study_uid)
        for wanted in filter(None, (study_uid, listing.study_uid)):
            if drawing.study_uid != wanted:
                raise StageConflict(
                    f"The object belongs to the study {drawing.study_uid}, wanted is {wanted}. "
                    "Store it with the study of its images."
                )
        if known := self._known(received, listing):
            return known
        image, grid = self.library.readable_with_grid(listing.image)
        source = self.studies.files.source(image)
        mask, looked_at, remarks = foreign.drawn(received.path, source, self.record.task)
        if not looked_at:
            raise UnacceptableFile("The object has no segment but the background, so it says nothing.")
        placed = on_grid(mask, source.grid, grid, image.id)
        return Correction(received, listing, packed(placed, grid, self.record.task, looked_at), looked_at, remarks)

    def _known(self, received: Received, listing: Listing) -> Stored | None:
        """The object if it is here already, as a person stored it or as we wrote it.

        Raises:
            StageConflict: if the one that is here has the same UID and other bytes.
        """
        series_uid, uid = received.series_uid, received.instance_uid
        stored = self.record.segmentations.find(uid)
        is_same = stored is not None and stored.content == received.digest
        if stored is None:
            header = self._written_by_us(listing, series_uid, uid)
            if header is None:
                return None
            is_same = digest_of(header) == received.digest
        if not is_same:
            raise StageConflict(
                f"There is another object with the SOPInstanceUID {uid} already. Give a changed one a new UID."
            )
        return Stored(received, listing.study_uid, series_uid, None)

    def _written_by_us(self, listing: Listing, series_uid: str, instance_uid: str) -> bytes | None:
        mask = self.studies.mask(listing, series_uid)
        if mask is None or mask.annotation is None or mask.stored is not None:
            return None
        (header,) = self.studies.headers(mask)
        return header.path.read_bytes() if header.instance_uid == instance_uid else None

    def _kept(self, correction: Correction, annotator: Annotator, origin: Origin) -> Stored:
        """Keeps the object and the annotation that it becomes."""
        received, listing, series_uid = correction.received, correction.listing, correction.received.series_uid
        files, digest = self.record.segmentations.files, received.digest

        def keep(annotation: Annotation) -> None:
            # Somebody may have stored it since it was checked.
            if known := self._known(received, listing):
                raise _AlreadyHere(known)
            # Somebody else's refusal may have deleted an equal file.
            if not files.path(digest).exists():
                files.put(received.content)
            self.record.segmentations.add(
                StoredSegmentation(received.instance_uid, series_uid, listing.image, annotation.version, digest)
            )

        try:
            saved = save_packed(self.record, correction.mask, _submission(correction, origin), annotator, keep)
        except _AlreadyHere as error:
            return error.stored
        note = " ".join(filter(None, [*correction.remarks, saved.note]))
        return Stored(received, listing.study_uid, series_uid, saved.annotation, saved.is_new, note)


class _AlreadyHere(Exception):
    """Undoes a transaction whose work somebody else has done."""

    def __init__(self, stored: Stored) -> None:
        super().__init__()
        self.stored = stored


def _submission(correction: Correction, origin: Origin) -> Submission:
    drawing = correction.received.drawing
    about = {
        "sop_instance_uid": drawing.instance_uid,
        "series_description": drawing.description,
        "content_creator": drawing.creator,
    }
    return Submission(
        image_id=correction.listing.image,
        tag=TAG_FINAL,
        label_info=(),
        looked_at=correction.looked_at,
        parent=origin.parent,
        anyway=origin.anyway,
        seconds=origin.seconds,
        client_id=None,
        info={name: text for name, text in about.items() if text},
    )


def told_stored(stored: Sequence[Stored], address: Callable[[Stored], str]) -> Json:
    """The reply to objects that are stored, as DICOM JSON."""
    items = [
        each.received.told | attribute("RetrieveURL", address(each)) | (_comment(each.note) if each.note else {})
        for each in stored
    ]
    return {tag_of("ReferencedSOPSequence"): {"vr": "SQ", "Value": items}}
