"""Masks as DICOM segmentations (PS3.3 section A.51) and back.

What is written: one instance that names its image series; BINARY or LABELMAP; one segment for each structure that was
looked at, frames only where it was found, each with the slice that it lies on.

**No finding.** A segmentation must have a frame. One without any voxel holds an empty frame of the first slice for each
segment (LABELMAP: one for all), so that it says what was looked for and that nothing was found. Next to segments with
voxels, an empty one has no frame. Either way the SegmentSequence tells what was looked at, and reading gives it back.
OHIF leaves empty segments out when it stores, so from there only what was found is known to have been looked at.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import highdicom as hd
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from lib import __version__
from lib.dicom.frames import frames_of, refuse_no_segmentation
from lib.dicom.segments import code_of, matched
from lib.dicom.source import SourceSeries, dataset_of
from lib.errors import GridMismatch, InvalidSetting, LabelRefineryError, UnreadableImage
from lib.task import BACKGROUND, Structure, Task, name_key
from lib.volume import Array

MAKER = "Label Refinery"
SERIES_NUMBER = 900
"""Behind the scanner's own series."""

LONGEST_TEXT = 64
"""Letters of a long string (PS3.5 section 6.2), such as SegmentLabel and SeriesDescription."""

SEPARATORS = "^=\\"
"""Signs that divide a person's name into parts."""

REPEATED = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
"""What a segmentation must repeat from its images, empty if they do not tell (PS3.3, type 2)."""


@dataclass(frozen=True)
class Algorithm:
    """What drew a mask by itself, or helped to.

    Attributes:
        name: for example ``segmentation``.
        version: for example ``v3``.
        is_learned: a network; otherwise rules, such as thresholds and morphology.
    """

    name: str
    version: str
    is_learned: bool = True


@dataclass(frozen=True)
class Provenance:
    """What a segmentation says about its origin.

    Attributes:
        description: how viewers list it, for example ``DRAFT model segmentation v3``; up to 64 letters.
        creator: who drew it, a person or a program.
        made_at: when.
        seed: names the annotation; equal seeds give equal UIDs, so that one annotation is always the same object.
        algorithm: ``None`` if a person drew it alone.
        is_corrected: a person worked on what the algorithm drew.
    """

    description: str
    creator: str
    made_at: dt.datetime
    seed: str
    algorithm: Algorithm | None = None
    is_corrected: bool = False

    @property
    def algorithm_type(self) -> str:
        """SegmentAlgorithmType (0062,0008)."""
        if self.algorithm is None:
            return "MANUAL"
        return "SEMIAUTOMATIC" if self.is_corrected else "AUTOMATIC"


def write_segmentation(
    mask: Array,
    task: Task,
    series: SourceSeries,
    provenance: Provenance,
    *,
    looked_at: Collection[str] | None = None,
    kind: Literal["BINARY", "LABELMAP"] = "BINARY",
) -> Dataset:
    """A mask as a DICOM segmentation of its image series.

    Equal arguments give equal bytes. For a radiograph, which has no place in the patient, the object makes up the
    place that OHIF makes up as well (origin 0, columns to the left, rows to the back), since viewers open nothing
    without one. An image without frame of reference gets one in the object.

    Args:
        mask: uint8 (I, J, K) on the grid of the series, with the task's label values.
        task: the structures.
        series: the image; its files are read once more.
        provenance: who drew it, when, and how it is called.
        looked_at: names of the structures that were looked for; ``None``: all of the task.
        kind: BINARY has one frame a structure and slice and is read everywhere; LABELMAP has one frame a slice.

    Returns:
        A dataset with file meta information: ``save_as`` writes it.

    Raises:
        GridMismatch: if the mask has another shape than the series.
        InvalidSetting: if DICOM cannot store the name of a structure or the description.
        ValueError: if the mask holds values of no structure that was looked at.
        UnreadableImage: if the headers of the slices cannot be repeated.
    """
    if mask.shape != series.grid.shape:
        raise GridMismatch(f"The mask has {mask.shape} voxels, the image {series.name} is {series.grid}.")
    structures = [one for one in task.structures if looked_at is None or one.name in looked_at]
    frames = _segment_numbers(mask, structures)
    images = _source_images(series)
    descriptions = [_description(one, number, task, series, provenance) for number, one in enumerate(structures, 1)]
    description = _text(provenance.description, "description")
    image_seed = _image_seed(series.name, provenance.seed)
    series_uid, instance_uid = uids_of(series.name, provenance.seed)
    is_empty = not frames.any()
    if is_empty:
        frames = frames[:1]
    day, time = provenance.made_at.date(), provenance.made_at.time()
    try:
        written = hd.seg.Segmentation(
            source_images=images[: len(frames)],
            further_source_images=images[len(frames) :],
            pixel_array=frames,
            segmentation_type=kind,
            segment_descriptions=descriptions,
            series_instance_uid=UID(series_uid),
            series_number=SERIES_NUMBER,
            series_description=description,
            sop_instance_uid=UID(instance_uid),
            instance_number=1,
            manufacturer=MAKER,
            manufacturer_model_name=MAKER,
            software_versions=__version__,
            device_serial_number="1",
            content_label="SEGMENTATION",
            content_description=description,
            content_creator_name=_person(provenance.creator),
            content_date=day,
            content_time=time,
            series_date=day,
            series_time=time,
            specific_character_set="ISO_IR 192",
            transfer_syntax_uid=ExplicitVRLittleEndian,
            omit_empty_frames=not is_empty,
        )
    # The library raises whatever an unusual header makes it stumble over.
    except Exception as error:
        raise UnreadableImage(
            f"No segmentation of series {series.name} can be written: {str(error).rstrip('.')}."
        ) from error
    _take_out_chance(written, _uid("dimensions", image_seed))
    return written


def _segment_numbers(mask: Array, structures: list[Structure]) -> Array:
    """The mask with segment numbers, 1, 2, 3 … in the order of the structures: uint8 (K, J, I), as frames lie."""
    if not structures:
        raise ValueError("A segmentation needs at least one structure that was looked at.")
    by_value = np.zeros(256, np.uint8)
    for number, structure in enumerate(structures, start=1):
        by_value[structure.value] = number
    frames = np.ascontiguousarray(mask.T)
    found = np.flatnonzero(np.bincount(frames.ravel(), minlength=256))
    outside = np.setdiff1d(found, [BACKGROUND, *(structure.value for structure in structures)])
    if outside.size:
        raise ValueError(
            f"The mask holds the values {outside.tolist()}, looked at were "
            f"{', '.join(f'{one.name}={one.value}' for one in structures)}."
        )
    return by_value[frames]


def _description(
    structure: Structure, number: int, task: Task, series: SourceSeries, provenance: Provenance
) -> hd.seg.SegmentDescription:
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=_text(structure.name, "structure's name"),
        segmented_property_category=codes.SCT.Tissue,
        segmented_property_type=code_of(structure),
        algorithm_type=provenance.algorithm_type,
        algorithm_identification=_identification(provenance.algorithm),
        tracking_id=f"{task.name}/{structure.name}",
        tracking_uid=_uid("tracking", f"{series.name} {task.name} {name_key(structure.name)}"),
        display_color=hd.color.CIELabColor.from_rgb(*structure.colour),
    )


def _identification(algorithm: Algorithm | None) -> hd.AlgorithmIdentificationSequence | None:
    if algorithm is None:
        return None
    family = codes.DCM.ArtificialIntelligence if algorithm.is_learned else codes.DCM.MorphologicalOperations
    name, version = _text(algorithm.name, "algorithm's name"), _text(algorithm.version, "version")
    return hd.AlgorithmIdentificationSequence(name=name, family=family, version=version)


def _source_images(series: SourceSeries) -> list[Dataset]:
    """The headers of the slices, with what a segmentation needs and files in the wild lack or vary slightly."""
    images: list[Dataset] = [pydicom.dcmread(one.path, stop_before_pixels=True) for one in series.slices]
    frame_of_reference = series.frame_of_reference_uid or _uid("frame of reference", series.name)
    for image, header in zip(images, series.slices, strict=True):
        for keyword in REPEATED:
            if keyword not in image:
                setattr(image, keyword, "")
        if image.PatientSex not in ("M", "F", "O"):
            image.PatientSex = ""
        image.FrameOfReferenceUID = frame_of_reference
        image.ImageOrientationPatient = images[0].get("ImageOrientationPatient") or [1, 0, 0, 0, 1, 0]
        image.ImagePositionPatient = image.get("ImagePositionPatient") or [0, 0, 0]
        image.PixelSpacing = image.get("PixelSpacing") or image.get("ImagerPixelSpacing") or [1, 1]
        image.SliceThickness = header.thickness_mm
    return images


def _take_out_chance(written: Dataset, dimensions_uid: UID) -> None:
    """Replaces what highdicom draws by chance or takes from the clock."""
    written.InstanceCreationDate, written.InstanceCreationTime = written.ContentDate, written.ContentTime
    written.DimensionOrganizationSequence[0].DimensionOrganizationUID = dimensions_uid
    for equipment in written.get("ContributingEquipmentSequence") or ():
        equipment.ContributionDateTime = f"{written.ContentDate}{written.ContentTime}"
    for index in written.DimensionIndexSequence:
        index.DimensionOrganizationUID = dimensions_uid


def uids_of(series_name: str, seed: str) -> tuple[str, str]:
    """SeriesInstanceUID and SOPInstanceUID of what ``write_segmentation`` writes, without writing it.

    Args:
        series_name: ``SourceSeries.name`` of the image.
        seed: ``Provenance.seed``.
    """
    image_seed = _image_seed(series_name, seed)
    return str(_uid("series", image_seed)), str(_uid("instance", image_seed))


def _image_seed(series_name: str, seed: str) -> str:
    return f"{series_name} {seed}"


def _uid(what: str, seed: str) -> UID:
    return generate_uid(entropy_srcs=[MAKER, what, seed])


def _text(text: str, what: str) -> str:
    if len(text) > LONGEST_TEXT or "\\" in text:
        raise InvalidSetting(
            f"The {what} {text!r} cannot be stored in DICOM: wanted are up to {LONGEST_TEXT} letters and no backslash. "
            "Choose another one."
        )
    return text


def _person(name: str) -> str:
    """A person's name (PS3.5 section 6.2.1.2) that is all family name, cut if it is too long."""
    return f"{name.translate(dict.fromkeys(map(ord, SEPARATORS), ' '))[: LONGEST_TEXT - 1]}^" if name else ""


def read_segmentation(
    source: Dataset | Path | bytes, series: SourceSeries, task: Task
) -> tuple[Array, tuple[str, ...]]:
    """Any DICOM segmentation as the task's mask on the image's whole grid.

    Segments are matched to structures by label or code (``lib.dicom.segments.matched``), frames to slices by their
    place, so that neither the order of the frames nor missing ones matter; frames may show a part of the slice, or cut
    the same lattice in another direction. What OHIF leaves out of a frame's place is taken from the slice that the
    frame names. FRACTIONAL counts from half of the highest value on. Where segments overlap, the one with the higher
    number wins; two segments of one structure become one.

    Args:
        source: the object, its file or its bytes.
        series: the image.
        task: the structures to choose from.

    Returns:
        uint8 (I, J, K), and the names of the structures that have a segment, in the order of the task.

    Raises:
        UnknownStructure: if a segment is none of the task's structures.
        GridMismatch: if the object lies in another frame of reference or off the image's lattice.
        UnreadableImage: if it is no segmentation, or a damaged one.
    """
    try:
        dataset = dataset_of(source)
        refuse_no_segmentation(dataset)
        return _read(dataset, series, task)
    except LabelRefineryError:
        raise
    # The reader raises whatever a damaged object makes it stumble over.
    except Exception as error:
        raise UnreadableImage(f"The segmentation cannot be read: {error}. Store it again.") from error


def _read(dataset: Any, series: SourceSeries, task: Task) -> tuple[Array, tuple[str, ...]]:
    structures = matched(dataset, task)
    series.refuse_other_frame_of_reference(str(dataset.get("FrameOfReferenceUID") or ""), "The segmentation")
    # K runs slowest, so that each frame is written in one piece.
    mask = np.zeros(series.grid.shape, np.uint8, order="F")
    for frame in frames_of(dataset, series):
        view = frame.view_on(mask, series)
        for number, inside in frame.inside.items():
            structure = structures[number]
            if structure:
                view[inside] = structure.value
    seen = {structure.name for structure in structures.values() if structure}
    return mask, tuple(one.name for one in task.structures if one.name in seen)


def referenced_images(source: Dataset | Path | bytes) -> dict[str, set[str]]:
    """The images that a segmentation refers to: SOPInstanceUIDs by SeriesInstanceUID (PS3.3 section C.12.1.1)."""
    found: dict[str, set[str]] = {}
    for one in dataset_of(source).get("ReferencedSeriesSequence") or ():
        instances = one.get("ReferencedInstanceSequence") or ()
        found.setdefault(str(one.SeriesInstanceUID), set()).update(str(i.ReferencedSOPInstanceUID) for i in instances)
    return found
