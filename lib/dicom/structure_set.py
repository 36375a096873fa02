"""Masks as contours of radiotherapy (RT Structure Set, PS3.3 section A.19); ``lib.dicom.contours`` reads them back.

Each contour runs half-way between the voxels inside and those outside, through (i ± ½, j) and (i, j ± ½). Whoever takes
the voxels whose centres lie inside gets back the same mask, voxel by voxel, holes and islands included. The area within
is another thing: each corner loses an eighth of a voxel, so that the contour of a single voxel encloses half of it.

**No finding.** A region without contours was looked for and not found; reading gives that back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
from contourpy import contour_generator
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ImplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from lib import __version__
from lib.dataset import read_dataset
from lib.dicom.contours import CLOSED
from lib.dicom.provenance import MAKER, REPEATED, Provenance, dicom_text, person_name, uid_of
from lib.dicom.source import SourceSeries
from lib.errors import GridMismatch, UnreadableImage
from lib.geometry import LPS_FROM_RAS
from lib.series import SliceHeader
from lib.task import Structure, Task
from lib.volume import Array

SERIES_NUMBER = 901
"""Behind the scanner's own series and the segmentations."""

LONGEST_LABEL = 16
"""Letters of a short string (PS3.5 section 6.2), such as StructureSetLabel."""

STUDY_MANAGEMENT = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management, the retired class by which structure sets refer to a study."""

IMPLEMENTATION_UID = generate_uid(entropy_srcs=[MAKER, "structure sets"])


def write_structure_set(
    mask: Array,
    task: Task,
    series: SourceSeries,
    provenance: Provenance,
    *,
    looked_at: Collection[str] | None = None,
) -> Dataset:
    """A mask as the contours of its structures, slice by slice.

    Equal arguments give equal bytes. Its syntax is Implicit VR: elsewhere a long contour does not fit its attribute.

    Args:
        mask: uint8 (I, J, K) on the grid of the series, with the task's label values.
        task: the structures.
        series: the image.
        provenance: who drew it, when, and how it is called.
        looked_at: names of the structures that were looked for; ``None``: all of the task.

    Returns:
        A dataset with file meta information: ``save_as`` writes it.

    Raises:
        GridMismatch: if the mask has another shape than the series.
        InvalidSetting: if DICOM cannot store the name of a structure or the description.
        UnreadableImage: if the image is a radiograph, which has no place in the patient.
    """
    if mask.shape != series.grid.shape:
        raise GridMismatch(f"The mask has {mask.shape} voxels, the image {series.name} is {series.grid}.")
    if series.is_projection:
        raise UnreadableImage(
            f"{series.name} is a radiograph ({series.slices[0].modality}): it has no place in the patient, so its "
            "structures have no contours (RTSTRUCT). Ask for a segmentation (SEG)."
        )
    structures = [one for one in task.structures if looked_at is None or one.name in looked_at]
    written = _header(series, provenance)
    frame_uid = series.frame_of_reference_uid or uid_of("frame of reference", series.name)
    written.ReferencedFrameOfReferenceSequence = [_references(series, frame_uid, written.StudyInstanceUID)]
    written.StructureSetROISequence = [_region(one, frame_uid, provenance) for one in structures]
    written.ROIContourSequence = [_contours(mask == one.value, one, series) for one in structures]
    written.RTROIObservationsSequence = [_observation(one) for one in structures]
    return written


def structure_set_uids(series_name: str, seed: str) -> tuple[str, str]:
    """SeriesInstanceUID and SOPInstanceUID of what ``write_structure_set`` writes, without writing it.

    Args:
        series_name: ``SourceSeries.name`` of the image.
        seed: ``Provenance.seed``.
    """
    return str(uid_of("series of structure set", series_name, seed)), str(uid_of("structure set", series_name, seed))


def outlines(plane: Array) -> Iterator[Array]:
    """The outlines of the pixels inside, half-way to those outside; holes have outlines too.

    Args:
        plane: bool (I, J).

    Yields:
        (n, 2) corners along I and J, the last one next to the first.
    """
    # A frame of background closes the outlines at the border of the image.
    lines: list[Array] = list(contour_generator(z=np.pad(plane.astype(float), 1)).lines(0.5))  # type: ignore[arg-type]
    for line in lines:
        # Each line is (x, y) = (j, i), and ends where it began.
        corners = line[:-1, ::-1] - 1
        ahead, behind = np.roll(corners, -1, axis=0) - corners, corners - np.roll(corners, 1, axis=0)
        turns = ahead[:, 0] * behind[:, 1] != ahead[:, 1] * behind[:, 0]
        yield corners[turns]


def _header(series: SourceSeries, provenance: Provenance) -> FileDataset:
    image: Any = read_dataset(series.slices[0].path, with_pixels=False)
    written = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    written.SpecificCharacterSet = "ISO_IR 192"
    for keyword in REPEATED:
        setattr(written, keyword, image.get(keyword, ""))
    written.SOPClassUID = RTStructureSetStorage
    series_uid, instance_uid = structure_set_uids(series.name, provenance.seed)
    written.SOPInstanceUID = UID(instance_uid)
    written.StudyInstanceUID = image.StudyInstanceUID
    written.SeriesInstanceUID = UID(series_uid)
    written.Modality, written.SeriesNumber, written.InstanceNumber = "RTSTRUCT", SERIES_NUMBER, 1
    written.SeriesDescription = dicom_text(provenance.description, "description")
    written.OperatorsName, written.SoftwareVersions = person_name(provenance.creator), __version__
    written.Manufacturer = written.ManufacturerModelName = MAKER
    written.StructureSetLabel = provenance.description[:LONGEST_LABEL].strip()
    written.StructureSetName = written.SeriesDescription
    day, time = provenance.made_at.strftime("%Y%m%d"), provenance.made_at.strftime("%H%M%S")
    written.StructureSetDate = written.SeriesDate = written.InstanceCreationDate = day
    written.StructureSetTime = written.SeriesTime = written.InstanceCreationTime = time
    written.ApprovalStatus = "UNAPPROVED"
    meta = written.file_meta
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = written.SOPClassUID, written.SOPInstanceUID
    meta.TransferSyntaxUID, meta.ImplementationClassUID = ImplicitVRLittleEndian, IMPLEMENTATION_UID
    return written


def _references(series: SourceSeries, frame_uid: str, study_uid: str) -> Dataset:
    """The images, by frame of reference, study and series."""
    files = {one.instance_uid: one for one in series.slices}
    images, study, frame = Dataset(), Dataset(), Dataset()
    images.SeriesInstanceUID = series.slices[0].series_uid
    images.ContourImageSequence = [_reference(one) for one in files.values()]
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = STUDY_MANAGEMENT, study_uid
    study.RTReferencedSeriesSequence = [images]
    frame.FrameOfReferenceUID = frame_uid
    frame.RTReferencedStudySequence = [study]
    return frame


def _reference(one: SliceHeader, frame: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.class_uid, one.instance_uid
    if frame is not None:
        item.ReferencedFrameNumber = frame
    return item


def _region(structure: Structure, frame_uid: str, provenance: Provenance) -> Dataset:
    region = Dataset()
    region.ROINumber, region.ReferencedFrameOfReferenceUID = structure.value, frame_uid
    region.ROIName = dicom_text(structure.name, "structure's name")
    region.ROIGenerationAlgorithm = provenance.algorithm_type
    return region


def _contours(inside: Array, structure: Structure, series: SourceSeries) -> Dataset:
    """The contours of one structure; bool (I, J, K)."""
    region = Dataset()
    region.ReferencedROINumber, region.ROIDisplayColor = structure.value, list(structure.colour)
    contours = [
        _contour(corners, series, int(k))
        for k in np.flatnonzero(inside.any(axis=(0, 1)))
        for corners in outlines(inside[:, :, k])
    ]
    if contours:
        region.ContourSequence = contours
    return region


def _contour(corners: Array, series: SourceSeries, k: int) -> Dataset:
    lps = LPS_FROM_RAS @ series.slice_grid(k).affine
    points_mm = corners @ lps[:3, :2].T + lps[:3, 3]
    contour = Dataset()
    contour.ContourImageSequence = [_reference(series.slices[k], series.slices[k].frame)]
    contour.ContourGeometricType, contour.NumberOfContourPoints = CLOSED[0], len(corners)
    # A tenth of a micrometre is near enough, and keeps the file small.
    contour.ContourData = [f"{value + 0.0:.4f}" for value in points_mm.ravel()]
    return contour


def _observation(structure: Structure) -> Dataset:
    observation = Dataset()
    observation.ObservationNumber = observation.ReferencedROINumber = structure.value
    observation.RTROIInterpretedType = observation.ROIInterpreter = ""
    return observation
