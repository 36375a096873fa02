"""Masks as DICOM segmentations (PS3.3 section A.51) and back.

What is written: one instance that names its image series; BINARY or LABELMAP; one segment for each structure that was
looked at, frames only where it was found, each with the slice that it lies on.

**No finding.** A segmentation must have a frame. One without any voxel holds an empty frame of the first slice for each
segment (LABELMAP: one for all), so that it says what was looked for and that nothing was found. Next to segments with
voxels, an empty one has no frame. Either way the SegmentSequence tells what was looked at, and reading gives it back.
OHIF leaves empty segments out when it stores, so from there only what was found is known to have been looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from lib import __version__
from lib.dataset import read_dataset, reason_of
from lib.dicom.frames import frames_of, refuse_no_segmentation
from lib.dicom.provenance import MAKER, REPEATED, Algorithm, Provenance, dicom_text, person_name, uid_of
from lib.dicom.segments import code_of, matched
from lib.dicom.source import SourceSeries, dataset_of
from lib.errors import GridMismatch, LabelRefineryError, UnreadableImage
from lib.labels import voxels_by_value
from lib.multi_frame import single_headers
from lib.opened import Source
from lib.overlaps import Claims, Remark, nobody
from lib.series import SliceHeader
from lib.task import BACKGROUND, Structure, Task, name_key
from lib.volume import Array

SERIES_NUMBER = 900
"""Behind the scanner's own series."""


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
    description = dicom_text(provenance.description, "description")
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
            content_creator_name=person_name(provenance.creator),
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
    _name_frames(written, series)
    _take_out_chance(written, uid_of("dimensions", series.name, provenance.seed))
    return written


def _segment_numbers(mask: Array, structures: list[Structure]) -> Array:
    """The mask with segment numbers, 1, 2, 3 … in the order of the structures: uint8 (K, J, I), as frames lie."""
    if not structures:
        raise ValueError("A segmentation needs at least one structure that was looked at.")
    by_value = np.zeros(256, np.uint8)
    for number, structure in enumerate(structures, start=1):
        by_value[structure.value] = number
    frames = np.ascontiguousarray(mask.T)
    found = np.flatnonzero(voxels_by_value(mask))
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
        segment_label=dicom_text(structure.name, "structure's name"),
        segmented_property_category=codes.SCT.Tissue,
        segmented_property_type=code_of(structure),
        algorithm_type=provenance.algorithm_type,
        algorithm_identification=_identification(provenance.algorithm),
        tracking_id=f"{task.name}/{structure.name}",
        tracking_uid=uid_of("tracking", series.name, task.name, name_key(structure.name)),
        display_color=hd.color.CIELabColor.from_rgb(*structure.colour),
    )


def _identification(algorithm: Algorithm | None) -> hd.AlgorithmIdentificationSequence | None:
    if algorithm is None:
        return None
    family = codes.DCM.ArtificialIntelligence if algorithm.is_learned else codes.DCM.MorphologicalOperations
    name, version = dicom_text(algorithm.name, "algorithm's name"), dicom_text(algorithm.version, "version")
    return hd.AlgorithmIdentificationSequence(name=name, family=family, version=version)


def _source_images(series: SourceSeries) -> list[Dataset]:
    """The headers of the slices, with what a segmentation needs and files in the wild lack or vary slightly.

    Frames of enhanced files become slices by themselves, whose made-up UIDs ``_name_frames`` replaces.
    """
    read: dict[Path, Dataset] = {}
    for path in dict.fromkeys(one.path for one in series.slices):
        read[path] = read_dataset(path, with_pixels=False)
    images = [read[one.path] if one.frame is None else _as_slice(read[one.path], one) for one in series.slices]
    frame_of_reference = series.frame_of_reference_uid or uid_of("frame of reference", series.name)
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


def _as_slice(header: Dataset, frame: SliceHeader) -> Dataset:
    (image,) = single_headers(header, [frame.frame or 1])
    # highdicom takes one enhanced image only, and none that keeps its pixel size frame by frame.
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, _frame_uid(frame)
    return image


def _frame_uid(frame: SliceHeader) -> UID:
    return uid_of("frame", frame.instance_uid, str(frame.frame))


def _name_frames(written: Dataset, series: SourceSeries) -> None:
    """Lets references name the file and the number of a frame."""
    frames = {_frame_uid(one): one for one in series.slices if one.frame is not None}
    if not frames:
        return
    for groups in written.PerFrameFunctionalGroupsSequence:
        for derivation in groups.get("DerivationImageSequence") or ():
            for source in derivation.SourceImageSequence:
                # highdicom lets all frames of one slice share the item.
                if one := frames.get(source.ReferencedSOPInstanceUID):
                    _name(source, one)
                    source.ReferencedFrameNumber = one.frame
    for referenced in written.ReferencedSeriesSequence:
        referenced.ReferencedInstanceSequence = _files(referenced.ReferencedInstanceSequence, frames)
    if "SourceImageSequence" in written:
        written.SourceImageSequence = _files(written.SourceImageSequence, frames)


def _files(items: Iterable[Dataset], frames: Mapping[UID, SliceHeader]) -> list[Dataset]:
    """References to frames as references to their files, each once."""
    found: dict[str, Dataset] = {}
    for item in items:
        if one := frames.get(item.ReferencedSOPInstanceUID):
            _name(item, one)
        found[item.ReferencedSOPInstanceUID] = item
    return list(found.values())


def _name(item: Dataset, one: SliceHeader) -> None:
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.class_uid, one.instance_uid


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
    return str(uid_of("series", series_name, seed)), str(uid_of("instance", series_name, seed))


def read_segmentation(
    source: Dataset | Source | bytes,
    series: SourceSeries,
    task: Task,
    leave_out: Collection[str] = (),
    remark: Remark = nobody,
) -> tuple[Array, tuple[str, ...]]:
    """Any DICOM segmentation as the task's mask on the image's whole grid.

    Segments are matched to structures by label or code (``lib.dicom.segments.matched``), frames to slices by their
    place, so that neither the order of the frames nor missing ones matter; frames may show a part of the slice, or cut
    the same lattice in another direction. What OHIF leaves out of a frame's place is taken from the slice that the
    frame names. FRACTIONAL counts from half of the highest value on. Where segments overlap, the structure with the
    larger label value has the voxels; two segments of one structure become one.

    Args:
        source: the object, its file or its bytes.
        series: the image.
        task: the structures to choose from.
        leave_out: labels of segments that are no structures of the task.
        remark: is told how many voxels a structure lost to another one.

    Returns:
        uint8 (I, J, K), and the names of the structures that have a segment, in the order of the task.

    Raises:
        UnknownStructure: if a segment is neither a structure of the task nor left out.
        GridMismatch: if the object lies in another frame of reference or off the image's lattice.
        UnreadableImage: if it is no segmentation, or a damaged one.
        UnacceptableFile: if nothing is left of a segment where others overlap it.
    """
    try:
        dataset = dataset_of(source)
        refuse_no_segmentation(dataset)
        return _read(dataset, series, matched(dataset, task, leave_out), task, remark)
    except LabelRefineryError:
        raise
    # The reader raises whatever a damaged object makes it stumble over.
    except Exception as error:
        raise UnreadableImage(f"The segmentation cannot be read: {reason_of(error)}. Store it again.") from error


def _read(
    dataset: Any, series: SourceSeries, structures: Mapping[int, Structure | None], task: Task, remark: Remark
) -> tuple[Array, tuple[str, ...]]:
    series.refuse_other_frame_of_reference(str(dataset.get("FrameOfReferenceUID") or ""), "The segmentation")
    # K runs slowest, so that each frame is written in one piece.
    mask, claims = np.zeros(series.grid.shape, np.uint8, order="F"), Claims.of(task)
    for frame in frames_of(dataset, series):
        view = frame.view_on(mask, series)
        for number, inside in frame.inside.items():
            structure = structures[number]
            if structure:
                claims.put(view, inside, structure.value)
    claims.settle(mask, remark)
    seen = {structure.name for structure in structures.values() if structure}
    return mask, tuple(one.name for one in task.structures if one.name in seen)
