"""How images come in: by the studies, which are looked at again and again, or by upload."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path, PurePosixPath

from lib.decoder import foreign
from lib.errors import InvalidRequest, NoImage, StageConflict, UnreadableImage
from lib.patients import PATIENTS_FILE
from lib.series import NO_IMAGES
from lib.serving.annotator import system_user
from lib.serving.folder import SEGMENTATION_SUFFIX, STUDIES, FolderReader
from lib.serving.library import Library
from lib.serving.polling import Polling
from lib.serving.settings import TASK_FILE
from lib.store.files import full_disk_told
from lib.store.folder import Skipped
from lib.store.images import Image, ImageKind, ImageState
from lib.store.indexer import Indexer
from lib.store.layout import UPLOADS
from lib.store.patients import renew_patients
from lib.suitability import refuse_other_modality
from lib.volume import IMAGE_SUFFIXES, suffix_of

LOG = logging.getLogger(__name__)

LONGEST_PART, LONGEST_ID = 200, 1000
"""Bytes in UTF-8 of one part of an uploaded image's id, and of all of it; file systems end at 255 and 4096."""


class Intake:
    """Brings the image table in step with what is there."""

    def __init__(self, library: Library, reader: FolderReader, ignored: tuple[str, ...] = ()) -> None:
        self.images = library.record.images
        self.library = library
        self.reader = reader
        self._is_by_settings = False
        library.folders[UPLOADS].mkdir(parents=True, exist_ok=True)
        skipped = Skipped(frozenset((TASK_FILE, PATIENTS_FILE)), ignored)
        self.studies = (
            Indexer(self.images, STUDIES, library.folders[STUDIES], reader, skipped)
            if library.fetched is None
            else Polling(library.record, library.fetched, reader)
        )
        # Nobody looks after what clients send: not even headers are read in this process.
        foreigners = replace(reader, grid_of=foreign.grid, doubt_of=foreign.doubt)
        self.uploads = Indexer(self.images, UPLOADS, library.folders[UPLOADS], foreigners)

    def look(self, report: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Brings the record in step with the studies and the folder of uploads, and at first with the settings.

        Raises:
            SetupError: if by that rule a patient would be learned from and measured on.
            StudiesAway, StudiesRefused: if the server of the studies does not tell what it has.
        """
        if not self._is_by_settings:
            self._renew_patients()
            self._sort_by_modality()
            self._is_by_settings = True
        self.studies.look(report)
        self.uploads.look()

    def _renew_patients(self) -> None:
        """The rule is read once, at the start; images that came under another one get their patients by it."""
        renewed = renew_patients(self.library.record, self.library.data, self.reader.patient_of, system_user())
        if renewed.images:
            LOG.warning(
                "By the present rule %d images are of other patients, %d in all.", renewed.images, renewed.patients
            )

    def _sort_by_modality(self) -> None:
        """Leaves out known series of modalities that the task no longer works on; has those read that it works on now.

        NO_IMAGES are read as such whatever the task.
        """
        task, left_out = self.reader.task, 0
        if task.modalities:
            for image_id, modality in self.images.series_in(ImageState.OK, task.modalities, others=True):
                try:
                    refuse_other_modality(f"Series {image_id}", modality, task)
                except NoImage as error:
                    self.images.set_state(image_id, ImageState.NO_IMAGE, str(error))
                    left_out += 1
        wanted, others = (task.modalities, False) if task.modalities else (tuple(NO_IMAGES), True)
        for image_id, _ in self.images.series_in(ImageState.NO_IMAGE, wanted, others=others):
            self.images.forget_files(image_id)
        if left_out:
            LOG.warning("By the present settings %d known series are of another modality and left out.", left_out)

    @property
    def are_studies_away(self) -> bool:
        """Whether the folder of studies as a whole cannot be seen."""
        return isinstance(self.studies, Indexer) and self.studies.is_away

    @property
    def fault(self) -> str:
        """What of the studies and uploads could not be seen at the last look; empty if all could."""
        places = [place for place in (self.studies, self.uploads) if isinstance(place, Indexer)]
        return " ".join(place.fault for place in places if place.fault)

    def look_at(self, paths: Collection[str]) -> None:
        """Does so for some files and folders of the studies, where they are a folder."""
        if isinstance(self.studies, Indexer):
            self.studies.look(paths=paths)

    def digest_some(self, seconds: float) -> int:
        """Digests files of the folder of studies for about this long, and tells how many it could."""
        return self.studies.digest_some(seconds) if isinstance(self.studies, Indexer) else 0

    def upload(self, image_id: str, received: Path, name: str) -> Image:
        """Takes in an image that a client sent.

        Args:
            image_id: what it shall be called.
            received: the file, already below the data folder.
            name: the file's name on the client's side, which tells the format.

        Raises:
            InvalidRequest: if the id cannot be the name of a file.
            StageConflict: if there is such an image.
            UnreadableImage: if the file is no image; nothing is kept.
        """
        suffix = suffix_of(name)
        if not suffix or suffix == SEGMENTATION_SUFFIX:
            raise UnreadableImage(f"An image must be one of {', '.join(IMAGE_SUFFIXES)}; found {name!r}.")
        image_id = checked_id(image_id)
        known = self.images.find(image_id)
        if known is not None and known.state is ImageState.NO_IMAGE and known.kind is ImageKind.FILE:
            # Notes that lie beside the studies give the id away.
            known = None
        if known is not None and known.state is not ImageState.QUARANTINED:
            raise StageConflict(f"There is an image {image_id!r} already. Choose another id.")
        if known is not None and known.source != f"{image_id}{suffix}":
            raise StageConflict(f"{known.source} is image {image_id!r} already, quarantined: {known.reason}")
        # The readers tell the format by the name.
        named = received if suffix_of(received.name) == suffix else received.rename(f"{received}{suffix}")
        target = self.uploads.folder / f"{image_id}{suffix}"
        try:
            self.uploads.reader.describe_file(named, image_id)
            with full_disk_told(self.uploads.folder):
                target.parent.mkdir(parents=True, exist_ok=True)
                named.replace(target)
        finally:
            named.unlink(missing_ok=True)
        return self.images.get(self.uploads.add(target.relative_to(self.uploads.folder).as_posix()))


def checked_id(image_id: str) -> str:
    """An id for an uploaded image: a relative path without steps upwards, in Unicode NFC.

    Raises:
        InvalidRequest: if it is anything else.
    """
    image_id = unicodedata.normalize("NFC", image_id)
    parts = PurePosixPath(image_id).parts
    is_plain = all(
        not part.startswith(".") and 0 < len(part.encode(errors="replace")) <= LONGEST_PART for part in parts
    )
    is_plain &= len(image_id.encode(errors="replace")) <= LONGEST_ID
    is_text = not any(unicodedata.category(letter).startswith("C") or letter == "\\" for letter in image_id)
    if not parts or image_id.startswith("/") or image_id != "/".join(parts) or not is_plain or not is_text:
        raise InvalidRequest(
            f"{image_id[:100]!r} cannot be an image id. Use letters, digits and signs other than control characters, "
            f"with / between folders; no part may start with a dot or be longer than {LONGEST_PART} bytes, "
            f"and all together not longer than {LONGEST_ID}."
        )
    return image_id
