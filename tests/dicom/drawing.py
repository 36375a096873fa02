"""Small series, and masks drawn on them."""

from __future__ import annotations

import datetime as dt
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from lib.dicom.derived import DerivedSeries
from lib.dicom.provenance import Algorithm, Provenance
from lib.dicom.source import SourceSeries, read_source
from lib.phantoms.dicom_series import write_dicom_series, write_enhanced_series
from lib.phantoms.scanner import oriented_grid
from lib.task import Structure, Task
from lib.volume import Grid

SHAPE = (7, 5, 4)
"""35 pixels a slice, so that frames of single bits begin within bytes."""

TASK = Task(
    "abdomen",
    "Organs",
    (
        Structure("liver", 1, (221, 130, 101), code="10200004"),
        Structure("spleen", 3, (128, 174, 128), code="78961009"),
        Structure("höcker", 7, (255, 0, 0)),
    ),
)

DRAFT = Provenance(
    "DRAFT model segmentation v3",
    "model:segmentation@v3",
    dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
    "ct_017 v1",
    Algorithm("segmentation", "v3"),
)


class Unturned(DerivedSeries):
    """A derived series as it was before slices were turned for readers: rows and columns as the file has them."""

    @property
    def shown(self) -> Grid:  # type: ignore[override]
        """The grid of the file."""
        return self.grid


def stack(
    folder: Path,
    orientation: str = "LPS",
    tilt_deg: tuple[float, float, float] = (0.0, 0.0, 0.0),
    shape: tuple[int, int, int] = SHAPE,
    **attributes: object,
) -> list[Path]:
    """The files of a CT of zeros, with other attributes in each; ``None`` takes one out."""
    shape, affine = oriented_grid(orientation, shape, (0.7, 1.3, 5.0), (12.0, -34.0, 567.8), tilt_deg)
    write_dicom_series(folder, np.zeros(shape, np.int16), affine, patient_id="p1", seed=1)
    paths = sorted(folder.iterdir())
    for path in paths:
        change(path, **attributes)
    return paths


def enhanced(folder: Path, orientation: str = "LPS", tilt_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Path:
    """The same CT as one file, whose frames lie in another order than their places."""
    shape, affine = oriented_grid(orientation, SHAPE, (0.7, 1.3, 5.0), (12.0, -34.0, 567.8), tilt_deg)
    path = folder / "frames.dcm"
    write_enhanced_series(path, np.zeros(shape, np.int16), affine, patient_id="p1", seed=1)
    one = pydicom.dcmread(path)
    frames = one.PerFrameFunctionalGroupsSequence
    one.PerFrameFunctionalGroupsSequence = Sequence([*frames[1::2], *frames[::2]])
    one.save_as(path)
    return path


def change(path: Path, **attributes: object) -> None:
    """Rewrites a file with other attributes; ``None`` takes one out."""
    one = pydicom.dcmread(path)
    for name, value in attributes.items():
        if value is None:
            del one[name]
        else:
            setattr(one, name, value)
    one.save_as(path)


def leaning(folder: Path, places_mm: list[tuple[float, float, float]]) -> SourceSeries:
    """A stack whose slices begin at these places, in LPS mm."""
    paths = stack(folder, shape=(7, 5, len(places_mm)))
    for path, place in zip(paths, places_mm, strict=True):
        change(path, ImagePositionPatient=list(place))
    return read_source(paths)


def mammogram(folder: Path, number: int = 1) -> SourceSeries:
    """One radiograph of 7x5 pixels of 0.2x0.1 mm, without a place in the patient."""
    path = stack(folder, shape=(7, 5, 1), ImagePositionPatient=None, ImageOrientationPatient=None, PixelSpacing=None,
                 SliceThickness=None, FrameOfReferenceUID=None, PositionReferenceIndicator=None, Modality="MG",
                 SOPClassUID=pydicom.uid.DigitalMammographyXRayImageStorageForPresentation,
                 ImagerPixelSpacing=[0.1, 0.2], SOPInstanceUID=f"1.2.{number}")[0]  # fmt: skip
    return read_source([path])


def organs(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """A liver in the lower half of the slices, a spleen of two voxels, a höcker of one."""
    mask = np.zeros(shape, np.uint8)
    mask[1:4, 1:, : max(1, shape[2] // 2)] = 1
    mask[-2, 2:4, -1] = 3
    mask[0, 0, 0] = 7
    return mask


def stored(dataset: Dataset) -> bytes:
    """The file of an object."""
    buffer = BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def reread(dataset: Dataset) -> Dataset:
    """An object after it was stored, all of it plain."""
    return pydicom.dcmread(BytesIO(stored(dataset)))


def ohif(dataset: Dataset) -> Dataset:
    """What OHIF 3.12 leaves of a segmentation when it stores it: numbers and labels of segments, pixels, places."""
    dataset = reread(dataset)
    dataset.ContentCreatorName, dataset.Manufacturer = "", "Unspecified"
    dataset.SeriesDescription, dataset.SeriesNumber = "Research Derived series", 99
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence = Sequence([Dataset()])
    for segment in dataset.SegmentSequence:
        segment.SegmentAlgorithmType = "MANUAL"
        if "SegmentationAlgorithmIdentificationSequence" in segment:
            del segment.SegmentationAlgorithmIdentificationSequence
        tissue = Dataset()
        tissue.CodeValue, tissue.CodingSchemeDesignator, tissue.CodeMeaning = "T-D0050", "SRT", "Tissue"
        segment.SegmentedPropertyTypeCodeSequence = Sequence([tissue])
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        sources = frame.DerivationImageSequence[0].SourceImageSequence
        sources.append(sources[0])
    # Names are UTF-8, and nothing says so.
    return pydicom.dcmread(BytesIO(stored(dataset).replace(b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 192", b"")))
