"""What the indexer asks about a file: reads headers of NIfTI, NRRD and DICOM."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path

from lib.errors import UnreadableImage
from lib.patients import PatientRule
from lib.series import DICOM_SUFFIXES, looks_like_dicom, read_header, read_series, series_grid
from lib.store.images import ImageKind
from lib.store.indexer import Described, Part
from lib.volume import VOLUME_SUFFIXES, Volume, read_grid, read_volume, suffix_of

STUDIES = "studies"
UPLOADS = "uploads"


@dataclass(frozen=True)
class FolderReader:
    """Reads headers; every image gets the modality of the task unless its file names one."""

    patients: PatientRule
    modality: str

    def id_of(self, relative: str) -> str:
        """The path without its extension, in Unicode NFC."""
        suffix = suffix_of(relative) or Path(relative).suffix
        return unicodedata.normalize("NFC", relative.removesuffix(relative[len(relative) - len(suffix) :]))

    def patient_of(self, image_id: str) -> str:
        """Key by the list, the pattern, the folder or the image itself."""
        return self.patients.of_file(image_id)

    def describe_file(self, path: Path, image_id: str) -> Described | Part:
        """Describes a NIfTI or NRRD file, or tells of which DICOM series a file is a slice.

        Raises:
            UnreadableImage: if the file is neither.
        """
        if suffix_of(path.name):
            return Described(read_grid(path), self.modality, self.patient_of(image_id))
        if path.stat().st_size == 0:
            raise UnreadableImage(f"{path.name} is empty (0 bytes).")
        if looks_like_dicom(path):
            return Part(read_header(path).series_uid)
        wanted = ", ".join([*VOLUME_SUFFIXES, *(suffix for suffix in DICOM_SUFFIXES if suffix)])
        raise UnreadableImage(f"{path.name} is no image: neither DICOM nor one of {wanted}.")

    def describe_series(self, paths: list[Path]) -> Described:
        """Describes the slices of one series.

        Raises:
            UnreadableImage: if they do not make one evenly spaced volume.
        """
        slices = [read_header(path) for path in paths]
        return Described(series_grid(slices), slices[0].modality, self.patients.of_series(slices[0].patient))


def read_image(kind: ImageKind, paths: list[Path]) -> Volume:
    """The voxels of an image.

    Raises:
        UnreadableImage: if its files are damaged, or do not make one volume.
    """
    return read_series(paths) if kind is ImageKind.SERIES else read_volume(paths[0])
