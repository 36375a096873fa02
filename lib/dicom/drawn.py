"""What people draw on an image and store as DICOM: segmentations and sets of contours, read in one way."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import RTStructureSetStorage

from lib.dataset import reason_of
from lib.dicom.contours import read_contours
from lib.dicom.frames import SEGMENTATIONS
from lib.dicom.segmentation import read_segmentation
from lib.dicom.source import SourceSeries, dataset_of
from lib.errors import UnreadableImage
from lib.multi_frame import PER_FRAME, SHARED
from lib.opened import Source
from lib.overlaps import Remark, nobody
from lib.task import Task, name_key
from lib.volume import Array

STRUCTURE_SETS = (RTStructureSetStorage,)
DRAWN = (*SEGMENTATIONS, *STRUCTURE_SETS)
"""SOP classes that are read here."""

UNNAMED = "unknown"
"""What a program without a name is called."""


@dataclass(frozen=True)
class Drawing:
    """What an object says of itself, without its pixels; all texts are empty where it says nothing.

    Attributes:
        class_uid: SOPClassUID (0008,0016).
        instance_uid: SOPInstanceUID (0008,0018).
        series_uid: SeriesInstanceUID (0020,000E).
        study_uid: StudyInstanceUID (0020,000D).
        modality: Modality (0008,0060).
        description: SeriesDescription (0008,103E).
        creator: ContentCreatorName (0070,0084).
        operator: the first of OperatorsName (0008,1070).
        program: see ``program_of``.
        references: see ``referenced_images``.
        sources: see ``source_instances``; empty where ``references`` say which series it is.
    """

    class_uid: str
    instance_uid: str
    series_uid: str
    study_uid: str
    modality: str
    description: str
    creator: str
    operator: str
    program: str | None
    references: Mapping[str, Collection[str]]
    sources: Collection[str] = ()


def drawing_of(dataset: Dataset) -> Drawing:
    """What a DICOM object says of itself; references and program only of what is drawn.

    Raises:
        UnreadableImage: if the references are damaged.
    """
    is_drawn = dataset.get("SOPClassUID") in DRAWN
    named = {name: _first_text(dataset, keyword) for name, keyword in TEXTS.items()}
    references = referenced_images(dataset) if is_drawn else {}
    return Drawing(
        **named,
        program=program_of(dataset) if is_drawn else None,
        references={uid: sorted(found) for uid, found in references.items()},
        sources=sorted(source_instances(dataset)) if is_drawn and not references else (),
    )


TEXTS = {
    "class_uid": "SOPClassUID", "instance_uid": "SOPInstanceUID", "series_uid": "SeriesInstanceUID",
    "study_uid": "StudyInstanceUID", "modality": "Modality", "description": "SeriesDescription",
    "creator": "ContentCreatorName", "operator": "OperatorsName",
}  # fmt: skip
"""Which attribute tells what of a ``Drawing``."""


def _first_text(dataset: Dataset, keyword: str) -> str:
    found = dataset.get(keyword)
    return str((found[0] if found else "") if isinstance(found, MultiValue) else found or "")


def read_drawn(
    source: Dataset | Source | bytes,
    series: SourceSeries,
    task: Task,
    leave_out: Collection[str] = (),
    remark: Remark = nobody,
) -> tuple[Array, tuple[str, ...]]:
    """A segmentation or a structure set as the task's mask on the image's grid.

    Args:
        source: the object, its file or its bytes.
        series: the image.
        task: the structures to choose from.
        leave_out: names of segments or regions that are no structures of the task.
        remark: is told how many voxels a structure lost to another one.

    Returns:
        uint8 (I, J, K), and the names of the structures that the object speaks about.

    Raises:
        UnacceptableFile: as ``read_segmentation`` and ``read_contours``; most are of its kinds.
    """
    dataset = dataset_of(source)
    if dataset.get("SOPClassUID") in STRUCTURE_SETS:
        return read_contours(dataset, series, task, leave_out, remark)
    return read_segmentation(dataset, series, task, leave_out, remark)


def referenced_images(source: Dataset | Source | bytes) -> dict[str, set[str]]:
    """The images that such an object refers to: SOPInstanceUIDs by SeriesInstanceUID.

    A segmentation names them in its Common Instance Reference (PS3.3 section C.12.2), also those of other studies; a
    structure set by frame of reference and study (section C.8.8.5).

    Raises:
        UnreadableImage: if the references are damaged.
    """
    found: dict[str, set[str]] = {}
    try:
        for series, instances in _referenced_series(dataset_of(source)):
            named = (str(image.ReferencedSOPInstanceUID) for image in series.get(instances) or ())
            found.setdefault(str(series.SeriesInstanceUID), set()).update(named)
    # The reader raises whatever a damaged object makes it stumble over.
    except Exception as error:
        raise UnreadableImage(
            f"What the object says of its images cannot be read: {reason_of(error)}. Store it again."
        ) from error
    return found


def source_instances(dataset: Dataset) -> set[str]:
    """SOPInstanceUIDs of the images that single frames or contours name, also where the object names no series.

    Frames of a segmentation name them in their derivation (PS3.3 section C.7.6.16.2.6), contours in their image
    sequence (section C.8.8.6).

    Raises:
        UnreadableImage: if the references are damaged.
    """
    try:
        return {str(image.ReferencedSOPInstanceUID) for image in _sources(dataset)}
    # The reader raises whatever a damaged object makes it stumble over.
    except Exception as error:
        raise UnreadableImage(
            f"What the object says of its images cannot be read: {reason_of(error)}. Store it again."
        ) from error


def _sources(dataset: Any) -> Iterator[Any]:
    yield from dataset.get("SourceImageSequence") or ()
    for keyword in (SHARED, PER_FRAME):
        for groups in dataset.get(keyword) or ():
            for derivation in groups.get("DerivationImageSequence") or ():
                yield from derivation.get("SourceImageSequence") or ()
    for region in dataset.get("ROIContourSequence") or ():
        for contour in region.get("ContourSequence") or ():
            yield from contour.get("ContourImageSequence") or ()


def names_in(dataset: Dataset) -> list[str]:
    """The names of its segments or regions."""
    return [str(item.get(keyword) or "") for item, keyword in _named(dataset)]


def program_of(dataset: Dataset) -> str | None:
    """The name of the program that drew all of it by itself; ``None`` if a person drew some of it, or went over it.

    Programs tell by SegmentAlgorithmType of each segment, ROIGenerationAlgorithm of each region. One without a name is
    called by the equipment that wrote the object.
    """
    items = [item for item, _ in _named(dataset)]
    kinds = {str(item.get("SegmentAlgorithmType") or item.get("ROIGenerationAlgorithm") or "") for item in items}
    if kinds != {"AUTOMATIC"}:
        return None
    names = [str(item.get("SegmentAlgorithmName") or "") for item in items]
    names += [str(dataset.get(keyword) or "") for keyword in ("ManufacturerModelName", "Manufacturer")]
    return next((name.strip() for name in names if name.strip()), UNNAMED)


def orientation_of(dataset: Dataset) -> tuple[float, ...] | None:
    """ImageOrientationPatient that all frames of a segmentation share; ``None`` if they share none."""
    for group in dataset.get("SharedFunctionalGroupsSequence") or ():
        for place in group.get("PlaneOrientationSequence") or ():
            if cosines := place.get("ImageOrientationPatient"):
                return tuple(float(cosine) for cosine in cosines)
    return None


def rename(dataset: Dataset, names: Mapping[str, str]) -> None:
    """Gives segments or regions other names.

    Args:
        dataset: a segmentation or a structure set.
        names: the new name by ``name_key`` of the old one.
    """
    for item, keyword in _named(dataset):
        if name := names.get(name_key(str(item.get(keyword) or ""))):
            setattr(item, keyword, name)


def _named(dataset: Dataset) -> Iterator[tuple[Dataset, str]]:
    """Its segments or regions, and the attribute that names them."""
    for sequence, keyword in (("SegmentSequence", "SegmentLabel"), ("StructureSetROISequence", "ROIName")):
        for item in dataset.get(sequence) or ():
            yield item, keyword


def _referenced_series(dataset: Any) -> Iterator[tuple[Dataset, str]]:
    """Items that name a series, and the attribute that lists its instances."""
    elsewhere = dataset.get("StudiesContainingOtherReferencedInstancesSequence") or ()
    for study in (dataset, *elsewhere):
        for series in study.get("ReferencedSeriesSequence") or ():
            yield series, "ReferencedInstanceSequence"
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or ():
        for study in frame.get("RTReferencedStudySequence") or ():
            for series in study.get("RTReferencedSeriesSequence") or ():
                yield series, "ContourImageSequence"
