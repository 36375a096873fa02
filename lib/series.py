"""Folders of DICOM files as series, and a series as a volume."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.errors import InvalidDicomError

from lib.errors import UnreadableImage
from lib.volume import Grid, Volume, volume_of_sitk

DICOM_SUFFIXES = ("", ".dcm", ".dicom", ".ima")
"""File names that may be DICOM; the content decides."""

SPACING_TOLERANCE = 0.02
"""How much the distance of two neighbouring slices may differ from the others, as a share."""


@dataclass(frozen=True)
class SliceHeader:
    """What the header of one DICOM file says about its place.

    Attributes:
        path: the file.
        series_uid: SeriesInstanceUID (0020,000E).
        study_uid: StudyInstanceUID (0020,000D).
        patient: PatientID with its issuer (0010,0020), (0010,0021).
        modality: Modality (0008,0060).
        position_mm: distance of the slice along the normal of its plane.
        shape: Columns, Rows.
    """

    path: Path
    series_uid: str
    study_uid: str
    patient: str
    modality: str
    position_mm: float
    shape: tuple[int, int]


def looks_like_dicom(path: Path) -> bool:
    """Whether the file has DICOM's preamble (PS3.10 section 7.1)."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_header(path: Path) -> SliceHeader:
    """Reads the header of one image file.

    Raises:
        UnreadableImage: if it is no DICOM image with a place in space.
    """
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
    except (InvalidDicomError, OSError, ValueError, KeyError) as error:
        raise UnreadableImage(f"{path.name} is no readable DICOM file: {error}.") from error
    missing = [name for name in ("SeriesInstanceUID", "StudyInstanceUID", "Rows", "Columns") if name not in header]
    if missing:
        raise UnreadableImage(f"{path.name} is no DICOM image: {', '.join(missing)} missing.")
    if int(header.get("SamplesPerPixel", 1)) != 1:
        raise UnreadableImage(f"{path.name} is a colour image ({header.SamplesPerPixel} samples a pixel).")
    orientation = np.asarray(header.get("ImageOrientationPatient", [1, 0, 0, 0, 1, 0]), np.float64)
    position = np.asarray(header.get("ImagePositionPatient", [0, 0, 0]), np.float64)
    normal = np.cross(orientation[:3], orientation[3:])
    issuer = str(header.get("IssuerOfPatientID", ""))
    return SliceHeader(
        path=path,
        series_uid=str(header.SeriesInstanceUID),
        study_uid=str(header.StudyInstanceUID),
        patient=f"{header.get('PatientID', '')}@{issuer}" if header.get("PatientID") else str(header.StudyInstanceUID),
        modality=str(header.get("Modality", "")),
        position_mm=float(position @ normal),
        shape=(int(header.Columns), int(header.Rows)),
    )


def ordered(slices: Sequence[SliceHeader]) -> list[SliceHeader]:
    """The slices of one series by their place, evenly spaced.

    Raises:
        UnreadableImage: if they differ in size, two lie at one place, or one is missing.
    """
    in_place = sorted(slices, key=lambda header: header.position_mm)
    uid = in_place[0].series_uid
    shapes = {header.shape for header in in_place}
    if len(shapes) > 1:
        raise UnreadableImage(f"Series {uid} mixes slices of {sorted(shapes)} pixels. Send one series at a time.")
    gaps = np.diff([header.position_mm for header in in_place])
    if len(gaps) and gaps.min() < 1e-3:
        number = int(np.argmin(gaps)) + 1
        raise UnreadableImage(f"Series {uid}: slices {number} and {number + 1} lie at the same place.")
    if len(gaps) > 1 and np.abs(gaps - np.median(gaps)).max() > SPACING_TOLERANCE * np.median(gaps):
        number = int(np.argmax(np.abs(gaps - np.median(gaps)))) + 1
        raise UnreadableImage(
            f"Series {uid}: slices {number} and {number + 1} are {gaps[number - 1]:.1f} mm apart, the others "
            f"{np.median(gaps):.1f} mm. A slice is probably missing; send the series again."
        )
    return in_place


def series_below(paths: Sequence[Path]) -> Iterator[tuple[str, list[SliceHeader]]]:
    """Groups readable image files by SeriesInstanceUID."""
    groups: dict[str, list[SliceHeader]] = {}
    for path in paths:
        header = read_header(path)
        groups.setdefault(header.series_uid, []).append(header)
    yield from groups.items()


def read_series(paths: Sequence[Path]) -> Volume:
    """Reads the files of one series, in the order of their places.

    Returns:
        Voxels in stored units after the rescale (HU for CT).

    Raises:
        UnreadableImage: if the slices do not make one volume.
    """
    slices = ordered([read_header(path) for path in paths])
    try:
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames([str(header.path) for header in slices])
        return volume_of_sitk(reader.Execute(), slices[0].series_uid)
    except RuntimeError as error:
        raise UnreadableImage(f"Series {slices[0].series_uid} cannot be read: {error}") from error


def series_grid(slices: Sequence[SliceHeader]) -> Grid:
    """The lattice of a series, read from its headers."""
    in_place = ordered(slices)
    header = pydicom.dcmread(in_place[0].path, stop_before_pixels=True)
    rows, columns = (float(edge) for edge in header.get("PixelSpacing", header.get("ImagerPixelSpacing", [1, 1])))
    direction = np.asarray(header.get("ImageOrientationPatient", [1, 0, 0, 0, 1, 0]), np.float64)
    first = np.asarray(header.get("ImagePositionPatient", [0, 0, 0]), np.float64)
    normal = np.cross(direction[:3], direction[3:])
    gap = in_place[1].position_mm - in_place[0].position_mm if len(in_place) > 1 else header.get("SliceThickness") or 1
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1], lps[:3, 2] = direction[:3] * columns, direction[3:] * rows, normal * float(gap)
    lps[:3, 3] = first
    width, height = in_place[0].shape
    return Grid((width, height, len(in_place)), np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps)
