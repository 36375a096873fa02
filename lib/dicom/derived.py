"""Images that are no DICOM, such as NIfTI files, as a DICOM series for viewers.

The series has the image's voxels, one file a slice along K, and its place in the patient. Slices are turned the way
readers look at them. Whole numbers that fit into 16 bits are stored as they are; others are rounded to one of 65536
steps between the lowest and the highest. Where a few wild voxels would leave no steps for the others, they are cut off,
and the description of the series says so.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from nibabel.orientations import inv_ornt_aff, io_orientation
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
from lib.geometry import LPS_FROM_RAS
from lib.series import PROJECTIONS
from lib.volume import Array, Grid, Volume, view_on

MAKER = "Label Refinery"

STORAGE = {"CT": CTImageStorage, "MR": MRImageStorage}
"""SOP classes by modality; everything else is a secondary capture."""

STEPS = 2**16 - 1
"""Between the lowest and the highest value of 16 bits."""

LOOKED_AT = 1 << 24
"""About so many voxels tell how bright an image is."""

MOST = (0.1, 99.9)
"""Percentiles between which most of an image lies."""

WILD = 64
"""An image that reaches over so many times the range of most of it has wild voxels: steps would be too coarse."""

KEPT = 4
"""So many times the range of most of it are kept at either side then."""

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

    @cached_property
    def shown(self) -> Grid:
        """The same lattice as the series has it: slices along K as the image counts them, turned as readers expect.

        Pixels run to the patient's left and back in axial slices, to the left and downwards in coronal ones, to the
        back and downwards in sagittal ones; in tilted ones, where these lie nearest. Radiographs are not turned: the
        place of a file's pixels in the patient is made up.
        """
        if self.is_projection:
            return self.grid
        towards, signs = io_orientation(self.grid.affine).T
        # Columns, then rows: left before back before downwards, all of which are negative in RAS.
        order = [*np.argsort(towards[:2]), 2]
        turned = np.column_stack([np.argsort(order), [*-signs[:2], 1]])
        i, j, k = (self.grid.shape[axis] for axis in order)
        return Grid((i, j, k), self.grid.affine @ inv_ornt_aff(turned, self.grid.shape))

    @property
    def orientation(self) -> Array:
        """ImageOrientationPatient (0020,0037): unit vectors along I and J of ``shown`` in LPS, six numbers."""
        return self._directions()[:, :2].T.ravel()

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

    def files(self, volume: Volume, window: tuple[float, float] | None = None) -> Iterator[FileDataset]:
        """One file a slice, by K; one exists at a time.

        Args:
            volume: the voxels on ``grid``.
            window: values that viewers shall show black and white at first; ``None``: the 1st and 99th percentile.

        Raises:
            UnreadableImage: if rows and columns are not at right angles.
        """
        shared = self.header()
        voxels = view_on(volume, self.shown, self.image_id)
        steps = Steps.of(voxels, window)
        self._describe_pixels(shared)
        if steps.is_cut:
            said = f"cut to {steps.low:.5g}..{steps.high:.5g} "
            shared.SeriesDescription = said + shared.SeriesDescription[len(said) - LONGEST_TEXT :]
        shared.WindowCenter, shared.WindowWidth = _center_and_width(*(window or _middle_values(voxels)))
        if (steps.slope, steps.intercept) != (1, 0) or shared.Modality == "CT":
            shared.RescaleSlope, shared.RescaleIntercept = _decimal(steps.slope), _decimal(steps.intercept)
            shared.RescaleType = "HU" if shared.Modality == "CT" else "US"
        lps = LPS_FROM_RAS @ self.shown.affine
        for k in range(voxels.shape[2]):
            one = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
            one.update(shared)
            one.SOPInstanceUID, one.InstanceNumber = self.instance_uid(k), k + 1
            one.ImagePositionPatient = [_decimal(edge) for edge in (lps @ [0, 0, k, 1])[:3]]
            one.PixelData = np.ascontiguousarray(steps.stored(voxels[:, :, k]).T).tobytes()
            one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID
            one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
            one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            one.file_meta.ImplementationClassUID = IMPLEMENTATION_UID
            yield one

    def write(self, folder: Path, volume: Volume, window: tuple[float, float] | None = None) -> None:
        """Writes them into a folder that is there, as ``0000.dcm`` and so on; raises as ``files``."""
        for k, one in enumerate(self.files(volume, window)):
            one.save_as(folder / f"{k:04d}.dcm", enforce_file_format=True)

    def _describe_pixels(self, shared: Dataset) -> None:
        edges_mm = self.shown.spacing_mm
        shared.SOPClassUID = STORAGE.get(shared.Modality, SecondaryCaptureImageStorage)
        shared.ImageType = ["DERIVED", "SECONDARY", "AXIAL"] if shared.Modality == "CT" else ["DERIVED", "SECONDARY"]
        shared.ImageOrientationPatient = [_decimal(cosine) for cosine in self.orientation]
        shared.PixelSpacing = [_decimal(edges_mm[1]), _decimal(edges_mm[0])]
        shared.SliceThickness = _decimal(edges_mm[2])
        shared.Columns, shared.Rows = self.shown.shape[:2]
        shared.SamplesPerPixel, shared.PhotometricInterpretation = 1, "MONOCHROME2"
        shared.BitsAllocated, shared.BitsStored, shared.HighBit, shared.PixelRepresentation = 16, 16, 15, 1

    def _directions(self) -> Array:
        """Unit vectors along I, J and K of ``shown`` in LPS, as columns."""
        axes = (LPS_FROM_RAS @ self.shown.affine)[:3, :3]
        return np.asarray(axes / np.linalg.norm(axes, axis=0))


@dataclass(frozen=True)
class Steps:
    """How values become 16 bit numbers: ``slope`` times the stored number and ``intercept`` are the value.

    Attributes:
        low: the lowest value, which also stands for what is no number.
        high: the highest value.
        slope: between two stored numbers.
        intercept: value of the stored number 0.
        is_cut: whether values lie beyond the lowest and the highest, which stand for them.
    """

    low: float
    high: float
    slope: float
    intercept: float
    is_cut: bool = False

    @classmethod
    def of(cls, voxels: Array, window: tuple[float, float] | None = None) -> Steps:
        """For voxels (I, J, K): whole numbers that fit stay as they are. One slice after the other is looked at.

        Args:
            voxels: of any numeric type.
            window: values that viewers show; they are kept.
        """
        lowest, highest, are_whole = _extent(voxels)
        low, high = lowest, highest
        if not (are_whole and high - low <= STEPS):
            low, high = _without_wild(voxels, lowest, highest, window)
        is_cut = (low, high) != (lowest, highest)
        bounds = np.iinfo(np.int16)
        if are_whole and high - low <= STEPS:
            low, high = float(np.floor(low)), float(np.ceil(high))
            fits = bounds.min <= low and high <= bounds.max
            return cls(low, high, 1.0, 0.0 if fits else low - bounds.min, is_cut)
        if low == high:
            return cls(low, high, 1.0, low, is_cut)
        slope = (high - low) / STEPS
        return cls(low, high, slope, low - bounds.min * slope, is_cut)

    def stored(self, pixels: Array) -> Array:
        """Int16 numbers of the same shape."""
        filled = np.where(np.isfinite(pixels), pixels, self.low).astype(np.float64)
        return np.rint((np.clip(filled, self.low, self.high) - self.intercept) / self.slope).astype("<i2")


def _extent(voxels: Array) -> tuple[float, float, bool]:
    """The lowest and the highest number, and whether all are whole; of none both are 0."""
    low, high, are_whole = np.inf, -np.inf, True
    for pixels in np.moveaxis(voxels, 2, 0):
        finite = pixels[np.isfinite(pixels)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
            are_whole = are_whole and (finite.dtype.kind in "iu" or np.array_equal(finite, np.rint(finite)))
    return (low, high, are_whole) if low <= high else (0.0, 0.0, True)


def _without_wild(
    voxels: Array, lowest: float, highest: float, window: tuple[float, float] | None
) -> tuple[float, float]:
    """The lowest and the highest value that are told apart: those of all voxels, unless some are wild."""
    low, high = _percentiles(_looked_at(voxels), window)
    reach = high - low
    if reach == 0 or highest - lowest <= WILD * reach:
        return lowest, highest
    return max(lowest, low - KEPT * reach), min(highest, high + KEPT * reach)


def _percentiles(numbers: Array, window: tuple[float, float] | None) -> tuple[float, float]:
    """Between which most numbers and the window lie; where most are alike, most of the others."""
    if not numbers.size:
        return 0.0, 0.0
    low, high = (float(np.percentile(numbers, share, method="nearest")) for share in MOST)
    others = numbers[numbers != low]
    if low == high and others.size:
        # Among few, the highest by far is one of the highest percent.
        low = min(low, float(np.percentile(others, 2, method="higher")))
        high = max(high, float(np.percentile(others, 98, method="lower")))
    return (low, high) if window is None else (min(low, window[0]), max(high, window[1]))


def _looked_at(voxels: Array) -> Array:
    """(N,): numbers of the image; of large images, of slices that lie evenly in them."""
    every = max(1, voxels.size // LOOKED_AT)
    some = voxels[:, :, every // 2 :: every]
    return some[np.isfinite(some)]


def _middle_values(voxels: Array) -> tuple[float, float]:
    """The 1st and 99th percentile of the numbers."""
    finite = _looked_at(voxels)
    low, high = np.percentile(finite, (1, 99)) if finite.size else (0, 1)
    return float(low), float(high)


def _center_and_width(low: float, high: float) -> tuple[DSfloat, DSfloat]:
    """A window as DICOM has it: both bounds count, and the center lies half a step higher (PS3.3 C.11.2.1.2.1)."""
    return _decimal((low + high + 1) / 2), _decimal(high - low + 1)


def _text(text: str) -> str:
    """The end of a text, which tells more of a path than its begin."""
    return "".join(letter if letter.isprintable() and letter != "\\" else " " for letter in text)[-LONGEST_TEXT:]


def _decimal(value: float) -> DSfloat:
    """A number in the sixteen characters that DICOM allows for it."""
    return DSfloat(float(value) + 0.0, auto_format=True)
