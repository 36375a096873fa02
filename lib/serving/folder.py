"""What the indexer asks about a file: reads headers of NIfTI, NRRD, pictures and DICOM."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lib.errors import NoImage, UnreadableImage
from lib.patients import PatientRule
from lib.picture import PICTURE_SUFFIXES
from lib.series import (
    DICOM_SUFFIXES,
    NO_PREAMBLE,
    SliceHeader,
    lacks_preamble,
    looks_like_dicom,
    read_header,
    read_headers,
    series_grid,
)
from lib.store.indexer import Described, Part
from lib.suitability import refuse_other_modality, refuse_other_shape
from lib.task import Task
from lib.volume import IMAGE_SUFFIXES, Grid, read_doubt, read_grid, suffix_of

LOG = logging.getLogger(__name__)

STUDIES = "studies"
"""Root, in the file table, of the folder of studies."""


SEGMENTATION_SUFFIX = ".seg.nrrd"
"""What 3D Slicer stores beside the image."""


@dataclass(frozen=True)
class FolderReader:
    """Reads headers; every image gets the modality of the task unless its file names one.

    Attributes:
        patients: whose image is whose.
        task: what the images are for.
        grid_of: reads the header of a file that is no DICOM.
        doubt_of: reads in it what other programs read otherwise.
    """

    patients: PatientRule
    task: Task
    grid_of: Callable[[Path], Grid] = read_grid
    doubt_of: Callable[[Path], str] = read_doubt

    def id_of(self, relative: str) -> str:
        """The path without its extension, in Unicode NFC."""
        suffix = suffix_of(relative) or Path(relative).suffix
        return unicodedata.normalize("NFC", relative.removesuffix(relative[len(relative) - len(suffix) :]))

    def patient_of(self, image_id: str) -> str:
        """Key by the list, the pattern, the folder or the image itself."""
        return self.patients.of_file(image_id)

    def describe_file(self, path: Path, image_id: str) -> Described | Part:
        """Describes a NIfTI, NRRD or picture file, or tells of which DICOM image a file is a part.

        Raises:
            NoImage: if it is none and does not claim to be one, or the task works on something else.
            UnreadableImage: if it is damaged.
        """
        if path.name.lower().endswith(SEGMENTATION_SUFFIX):
            raise NoImage(f"{path.name} is no image but a segmentation.")
        if suffix_of(path.name) in PICTURE_SUFFIXES and not self.task.is_flat:
            raise NoImage(f"{path.name} is a picture; the task {self.task.name} works on volumes.")
        if suffix_of(path.name):
            grid = self.grid_of(path)
            refuse_other_shape(path.name, grid, self.task)
            doubt = self.doubt_of(path)
            if doubt:
                LOG.warning("%s", doubt)
            return Described(grid, self.task.modality, self.patient_of(image_id), doubt=doubt)
        if looks_like_dicom(path):
            return Part(read_header(path).image_id)
        if lacks_preamble(path):
            raise UnreadableImage(f"{path.name} {NO_PREAMBLE}")
        suffix, is_empty = path.suffix.lower(), path.stat().st_size == 0
        if suffix in DICOM_SUFFIXES and (suffix or is_empty):
            raise UnreadableImage(f"{path.name} {'is empty (0 bytes)' if is_empty else 'has no DICOM preamble'}.")
        wanted = ", ".join([*IMAGE_SUFFIXES, *(suffix for suffix in DICOM_SUFFIXES if suffix)])
        raise NoImage(f"{path.name} is no image: neither DICOM nor one of {wanted}.")

    def describe_series(self, paths: list[Path]) -> Described:
        """Describes the slices of one series.

        Raises:
            NoImage: if the task works on something else.
            UnreadableImage: if they do not make one evenly spaced volume.
        """
        return self.describe_slices(read_headers(paths))

    def describe_slices(self, slices: list[SliceHeader]) -> Described:
        """Describes a series by the headers of its slices; raises as ``describe_series``."""
        first = slices[0]
        name = f"Series {first.series_uid}"
        refuse_other_modality(name, first.modality, self.task)
        grid = series_grid(slices)
        refuse_other_shape(name, grid, self.task)
        is_single = len(slices) == 1 and not first.is_projection
        stack = first.stack_key if is_single else ""
        return Described(grid, first.modality, self.patients.of_series(first.patient), stack)
