"""Segmentations and contours that other programs stored at the server of the studies become annotations."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib.dicom.drawn import UNNAMED
from lib.errors import LabelRefineryError, NotFound, RecordAway, StorageFull, StudiesAway, StudiesRefused
from lib.serving.annotator import Annotator
from lib.serving.dicom_json import count_of
from lib.serving.dicomweb import Json, value_of
from lib.serving.relay import Relay
from lib.serving.settings import Settings
from lib.serving.stow import Received, Refused, Storing, received_object
from lib.serving.studies import SEG, STRUCTURE_SET
from lib.stages import Role
from lib.store.annotations import Annotation
from lib.store.images import ImageKind, ImageState, NewImage
from lib.store.schema import LONGEST_NAME
from lib.uids import USABLE_UID

LOG = logging.getLogger(__name__)

DRAWN = (SEG, STRUCTURE_SET)
"""Modalities of what people draw."""

MADE_AT = ("SeriesDate", "SeriesTime")


class ForeignDrawings:
    """Finds and takes in what is not known yet.

    What does not fit is noted among the things that are no images, with its reason, and not tried again. What belongs
    to a series that is no image here, or could not be fetched, is tried again when its study has got more images.
    """

    def __init__(self, relay: Relay, settings: Settings) -> None:
        self.remote = relay.remote
        self.dicom = relay.dicom
        self.record = relay.dicom.record
        self.settings = settings
        self._unsettled: set[tuple[str, int]] = set()

    def take(self, on_taken: Callable[[Annotation], Any]) -> None:
        """Takes in all new ones.

        Args:
            on_taken: is told what each became.

        Raises:
            StudiesAway, StudiesRefused: if the server does not tell or send them.
        """
        known = Counter(stored.series_uid for stored in self.record.segmentations.every())
        known += Counter(image.id.partition("/")[0] for image in self.record.images.every(ImageState.NO_IMAGE))
        found = [one for modality in DRAWN for one in self.remote.every("series", MADE_AT, Modality=modality)]
        # Of several of one image the newest shall be its current annotation.
        for series in sorted(found, key=lambda one: [str(value_of(one, keyword)) for keyword in MADE_AT]):
            self._take_series(series, known, on_taken)

    def _take_series(self, series: Json, known: Counter[str], on_taken: Callable[[Annotation], Any]) -> None:
        study_uid, series_uid = (str(value_of(series, f"{level}InstanceUID")) for level in ("Study", "Series"))
        if not (USABLE_UID.fullmatch(study_uid) and USABLE_UID.fullmatch(series_uid)):
            return
        instances, modality = count_of(series, "NumberOfSeriesRelatedInstances") or 1, value_of(series, "Modality")
        images = self.record.listings.of_study(study_uid)
        is_known = known[series_uid] >= instances or (series_uid, len(images)) in self._unsettled
        if is_known or not images or modality not in DRAWN:
            return
        if any(self.dicom.is_written_here(one.listing, series_uid) for one in images):
            return
        address = f"studies/{study_uid}/series/{series_uid}"
        patient = self.record.images.get(images[0].listing.image).patient
        for instance in self.remote.search(f"{address}/instances"):
            uid = str(value_of(instance, "SOPInstanceUID"))
            if not USABLE_UID.fullmatch(uid):
                continue
            if self.record.segmentations.find(uid) or self.record.images.find(f"{series_uid}/{uid}"):
                continue
            if not self._taken(f"{address}/instances/{uid}", modality, patient, on_taken):
                self._unsettled.add((series_uid, len(images)))

    def _taken(self, address: str, modality: str, patient: str, on_taken: Callable[[Annotation], Any]) -> bool:
        """Takes one in, or notes why not; tells whether this is settled."""
        # Somebody who stores it here just now is its author, and no name that it carries.
        with self.dicom.storing, tempfile.TemporaryDirectory() as folder:
            try:
                received = received_object(self._fetched(address, Path(folder)))
                stored = Storing(self.dicom).store([received], "", self._author(received))
            except Refused as refused:
                return self._is_noted(address, modality, patient, refused.error)
            except LabelRefineryError as error:
                return self._is_noted(address, modality, patient, error)
        for each in stored:
            if each.annotation is not None and each.is_new:
                LOG.info("Version %s of %s comes from %s.", each.annotation.version, each.annotation.image, address)
                on_taken(each.annotation)
        return True

    def _fetched(self, address: str, folder: Path) -> Path:
        paths = self.remote.retrieve(address, folder)
        if len(paths) != 1:
            raise StudiesRefused(f"The server of the studies sent {len(paths)} objects at {address}, wanted is one.")
        return paths[0]

    def _is_noted(self, address: str, modality: str, patient: str, error: LabelRefineryError) -> bool:
        """Writes down why something does not fit, unless it may fit another time."""
        if isinstance(error, StorageFull | RecordAway | StudiesAway):
            raise error
        LOG.warning("The object at %s is not taken in: %s", address, error)
        if isinstance(error, NotFound | StudiesRefused):
            return False
        _, _, _, series_uid, _, instance_uid = address.split("/")
        self.record.images.put(
            NewImage(
                id=f"{series_uid}/{instance_uid}",
                kind=ImageKind.SERIES,
                source=address,
                grid=None,
                modality=modality,
                patient=patient,
                reason=str(error),
                is_image=False,
            )
        )
        return True

    def _author(self, received: Received) -> Annotator:
        """Who drew it, as far as it says; what a program drew by itself is a draft, whoever sent it there."""
        drawing, client = received.drawing, self.remote.address[:LONGEST_NAME]
        program = drawing.program
        if program is not None:
            return Annotator(
                f"model:{program if program.isprintable() else UNNAMED}"[:LONGEST_NAME], Role.MODEL, client
            )
        names = (drawing.creator, drawing.operator)
        plain = (" ".join(name.replace("^", " ").split()) for name in names)
        name = next((name for name in plain if name and name.isprintable()), self.settings.studies_author)
        return Annotator(name[:LONGEST_NAME], self.settings.role, client)
