"""Images that are no DICOM, such as NIfTI files, as a DICOM series for viewers.

The series has the image's voxels, one file a slice along K, and its place in the patient. Whole numbers that fit into
16 bits are stored as they are; others are rounded to one of 65536 steps between the lowest and the highest.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)
from pydicom.valuerep import DSfloat

from lib import __version__
from lib.errors import UnreadableImage
from lib.series import PROJECTIONS
from lib.volume import LPS_FROM_RAS, Array, Grid, Volume

MAKER = "Label Refinery"

STORAGE = {"CT": CTImageStorage, "MR": MRImageStorage}
"""SOP classes by modality; everything else is a secondary capture."""

STEPS = 2**16 - 1
"""Between the lowest and the highest value of 16 bits."""

LARGEST_COSINE = 1e-4
"""Between columns and rows: DICOM knows right angles only."""

LONGEST_TEXT = 64
"""Letters of a long string or a component of a name (PS3.5 section 6.2)."""

IMPLEMENTATION_UID = generate_uid(entropy_srcs=[MAKER, "derived"])


@dataclass(frozen=True)
class DerivedSeries:
    """An image as the DICOM series that stands for it; its UIDs follow from the image's id.

    Attributes:
        image_id: the image.
        patient: what all images of one person share.
        modality: as the task or the file tells it.
        grid: the image's lattice.
        made_at: when the image came.
    """

    image_id: str
    patient: str
    modality: str
    grid: Grid
    made_at: dt.datetime

    @property
    def study_uid(self) -> str:
        """StudyInstanceUID: each image has a study of its own."""
        return self._uid("study")

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID."""
        return self._uid("series")

    @property
    def is_projection(self) -> bool:
        """Whether it is a radiograph, which has one slice."""
        return self.modality in PROJECTIONS and self.grid.shape[2] == 1

    def instance_uid(self, k: int) -> str:
        """SOPInstanceUID of one slice."""
        return self._uid(f"slice {k}")

    def _uid(self, what: str) -> str:
        return str(generate_uid(entropy_srcs=[MAKER, "derived", what, self.image_id]))

    def header(self) -> Dataset:
        """What all slices share of patient, study and series.

        Raises:
            UnreadableImage: if rows and columns are not at right angles.
        """
        columns, rows = self._directions()[:, :2].T
        if abs(columns @ rows) > LARGEST_COSINE:
            raise UnreadableImage(
                f"The rows and columns of {self.image_id} are not at right angles (cosine {columns @ rows:.4f}), "
                "which DICOM cannot say. Resample it to a rectangular grid."
            )
        is_other = self.modality in PROJECTIONS and not self.is_projection
        one, name = Dataset(), _text(self.image_id)
        one.SpecificCharacterSet = "ISO_IR 192"
        one.StudyDate = one.SeriesDate = one.ContentDate = self.made_at.strftime("%Y%m%d")
        one.StudyTime = one.SeriesTime = one.ContentTime = self.made_at.strftime("%H%M%S")
        one.AccessionNumber = one.ReferringPhysicianName = one.PatientBirthDate = one.PatientSex = one.StudyID = ""
        one.Modality = "OT" if is_other or not self.modality else self.modality
        one.Manufacturer, one.ManufacturerModelName, one.SoftwareVersions = MAKER, MAKER, __version__
        one.StudyDescription = one.SeriesDescription = name
        # All of it is the family name; without the sign that ends that, readers take it for an older notation.
        one.PatientName = f"{name[-LONGEST_TEXT + 1 :].replace('^', ' ').replace('=', ' ')}^"
        one.PatientID = _text(self.patient)
        one.StudyInstanceUID, one.SeriesInstanceUID = self.study_uid, self.series_uid
        one.FrameOfReferenceUID, one.PositionReferenceIndicator = self._uid("frame of reference"), ""
        one.SeriesNumber = 1
        return one

    def write(self, folder: Path, volume: Volume) -> None:
        """Writes one file a slice.

        Args:
            folder: is there; receives ``0000.dcm`` and so on, by K.
            volume: the voxels on ``grid``.

        Raises:
            UnreadableImage: if rows and columns are not at right angles.
        """
        shared = self.header()
        stored, slope, intercept = _in_16_bits(volume.voxels)
        self._describe_pixels(shared, volume.voxels)
        if (slope, intercept) != (1, 0) or shared.Modality == "CT":
            shared.RescaleSlope, shared.RescaleIntercept = _decimal(slope), _decimal(intercept)
            shared.RescaleType = "HU" if shared.Modality == "CT" else "US"
        lps = LPS_FROM_RAS @ self.grid.affine
        for k in range(stored.shape[2]):
            one = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
            one.update(shared)
            one.SOPInstanceUID, one.InstanceNumber = self.instance_uid(k), k + 1
            one.ImagePositionPatient = [_decimal(edge) for edge in (lps @ [0, 0, k, 1])[:3]]
            one.PixelData = np.ascontiguousarray(stored[:, :, k].T).tobytes()
            one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID
            one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
            one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            one.file_meta.ImplementationClassUID = IMPLEMENTATION_UID
            one.save_as(folder / f"{k:04d}.dcm", enforce_file_format=True)

    def _describe_pixels(self, shared: Dataset, voxels: Array) -> None:
        directions, edges_mm = self._directions(), np.linalg.norm(self.grid.affine[:3, :3], axis=0)
        shared.SOPClassUID = STORAGE.get(shared.Modality, SecondaryCaptureImageStorage)
        shared.ImageType = ["DERIVED", "SECONDARY", "AXIAL"] if shared.Modality == "CT" else ["DERIVED", "SECONDARY"]
        shared.ImageOrientationPatient = [_decimal(cosine) for cosine in directions[:, :2].T.ravel()]
        shared.PixelSpacing = [_decimal(edges_mm[1]), _decimal(edges_mm[0])]
        shared.SliceThickness = _decimal(edges_mm[2])
        shared.Columns, shared.Rows = (int(size) for size in self.grid.shape[:2])
        shared.SamplesPerPixel, shared.PhotometricInterpretation = 1, "MONOCHROME2"
        shared.BitsAllocated, shared.BitsStored, shared.HighBit, shared.PixelRepresentation = 16, 16, 15, 1
        low, high = np.percentile(voxels[np.isfinite(voxels)], (1, 99)) if np.isfinite(voxels).any() else (0, 1)
        shared.WindowCenter, shared.WindowWidth = _decimal((low + high) / 2), _decimal(max(high - low, 1))

    def _directions(self) -> Array:
        """Unit vectors along I, J and K in LPS, as columns."""
        axes = (LPS_FROM_RAS @ self.grid.affine)[:3, :3]
        return np.asarray(axes / np.linalg.norm(axes, axis=0))


def _in_16_bits(voxels: Array) -> tuple[Array, float, float]:
    """Int16 values of the same shape, and the slope and intercept that give back what they stand for."""
    finite = voxels[np.isfinite(voxels)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    filled = np.where(np.isfinite(voxels), voxels, low).astype(np.float64)
    bounds = np.iinfo(np.int16)
    if np.array_equal(filled, np.rint(filled)) and high - low <= STEPS:
        fits = bounds.min <= low and high <= bounds.max
        intercept = 0.0 if fits else low - bounds.min
        return (filled - intercept).astype("<i2"), 1.0, intercept
    slope = (high - low) / STEPS
    steps = np.rint((filled - low) / slope) + bounds.min
    return steps.astype("<i2"), slope, low - bounds.min * slope


def _text(text: str) -> str:
    """The end of a text, which tells more of a path than its begin."""
    return "".join(letter if letter.isprintable() and letter != "\\" else " " for letter in text)[-LONGEST_TEXT:]


def _decimal(value: float) -> DSfloat:
    """A number in the sixteen characters that DICOM allows for it."""
    return DSfloat(float(value) + 0.0, auto_format=True)
