"""Segmentations and structure sets that no program should send, each with the sentence that it gets."""

from __future__ import annotations

from collections.abc import Callable

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import JPEGLSLossless, RLELossless, RTStructureSetStorage

from tests.dicom.drawing import stored

HUGE_JPEG_LS = bytes.fromhex("ffd8 fff7000b08 ffffffff 01011100 ffda0008010100000000 0000ffd9")
"""A picture of 65535x65535 pixels, as far as its begin tells."""


def cut_off(dataset: Dataset) -> bytes:
    """Half of it never came."""
    return stored(dataset)[: len(stored(dataset)) // 2]


def compressed(frame: bytes, syntax: str, rows: int) -> Callable[[Dataset], bytes]:
    """Each frame is these bytes, of as many rows and columns as it says."""

    def spoil(dataset: Dataset) -> bytes:
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.Rows, dataset.Columns = (rows, rows) if rows else (dataset.Rows, dataset.Columns)
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
        dataset.PixelData = encapsulate([frame] * int(dataset.NumberOfFrames))
        return stored(dataset)

    return spoil


def without(keyword: str) -> Callable[[Dataset], bytes]:
    """It lacks an attribute."""

    def spoil(dataset: Dataset) -> bytes:
        del dataset[keyword]
        return stored(dataset)

    return spoil


def with_other(keyword: str, text: str) -> Callable[[Dataset], bytes]:
    """An attribute holds this, whatever its kind allows."""

    def spoil(dataset: Dataset) -> bytes:
        _put(dataset, keyword, text)
        return stored(dataset)

    return spoil


def _put(dataset: Dataset, keyword: str, text: str) -> None:
    element, value = dataset[keyword], text.encode() + b" " * (len(text) % 2)
    dataset[keyword] = RawDataElement(Tag(element.tag), element.VR, len(value), value, 0, False, True)


def turned_nowhere(dataset: Dataset) -> bytes:
    """Its orientation is no number."""
    shared = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    _put(shared, "ImageOrientationPatient", "nan\\0\\0\\0\\1\\0")
    return stored(dataset)


def of_a_nameless_series(dataset: Dataset) -> bytes:
    """Its reference to a series does not name it."""
    del dataset.ReferencedSeriesSequence[0].SeriesInstanceUID
    return stored(dataset)


def of_an_unknown_image(dataset: Dataset) -> bytes:
    """A frame says only by an unknown image where it lies."""
    frame = dataset.PerFrameFunctionalGroupsSequence[0]
    del frame.PlanePositionSequence
    for source in frame.DerivationImageSequence[0].SourceImageSequence:
        source.ReferencedSOPInstanceUID = "1.2.3"
    return stored(dataset)


def numbered_twice(dataset: Dataset) -> bytes:
    """Two segments have one number."""
    dataset.SegmentSequence.append(dataset.SegmentSequence[0])
    return stored(dataset)


def without_segments(dataset: Dataset) -> bytes:
    """Nothing was looked at."""
    dataset.SegmentSequence = []
    return stored(dataset)


def cornered_nowhere(dataset: Dataset) -> bytes:
    """A corner of a contour is no number."""
    contour = dataset.ROIContourSequence[0].ContourSequence[0]
    _put(contour, "ContourData", "\\".join(["nan", "nan", *map(str, contour.ContourData[2:])]))
    return stored(dataset)


def without_references(dataset: Dataset) -> bytes:
    """A structure set that names no image, neither as a whole nor for any contour."""
    dataset.ReferencedFrameOfReferenceSequence = []
    for region in dataset.ROIContourSequence:
        for contour in region.get("ContourSequence") or ():
            del contour.ContourImageSequence
    return stored(dataset)


SEGMENTATIONS: dict[str, tuple[Callable[[Dataset], bytes], str]] = {
    "cut off": (cut_off, "lacks .*PixelData|wanted are UIDs"),
    "no frames in its syntax": (
        compressed(b"garbage!", RLELossless, 0),
        "has pixels that cannot be decoded as RLE Lossless",
    ),
    "huge": (compressed(bytes(64), RLELossless, 65535), "have 65535x65535 pixels; the image .* do not lie on its"),
    "huge inside": (compressed(HUGE_JPEG_LS, JPEGLSLossless, 0), "for 65535x65535 pixels, the object says .* damaged"),
    "no groups": (without("PerFrameFunctionalGroupsSequence"), "lacks PerFrameFunctionalGroupsSequence"),
    "frames too many": (with_other("NumberOfFrames", "999999"), r"has 999999 frames and describes \d"),
    "frames in words": (with_other("NumberOfFrames", "many"), "cannot be read: .*'many'"),
    "another class": (with_other("SOPClassUID", RTStructureSetStorage), "it lacks StructureSetROISequence"),
    "a way out": (with_other("SOPInstanceUID", "../../etc/passwd"), r"'\.\./\.\./etc/passwd'.* wanted are UIDs"),
    "turned nowhere": (turned_nowhere, r"ImageOrientationPatient \[nan, .* wanted are 6 numbers"),
    "nameless series": (of_a_nameless_series, "What the object says of its images cannot be read: it lacks Series"),
    "unknown image": (of_an_unknown_image, "says neither where it lies nor which slice it shows"),
    "numbered twice": (numbered_twice, r"numbers its segments \[.*\], one twice"),
    "no segments": (without_segments, "lacks SegmentSequence"),
}
"""What is done to a segmentation, and what is said of it."""

STRUCTURE_SETS: dict[str, tuple[Callable[[Dataset], bytes], str]] = {
    "cornered nowhere": (cornered_nowhere, r"has a contour of \d+ numbers, wanted are three finite ones"),
    "no contours": (without("ROIContourSequence"), "cannot be read: it lacks ROIContourSequence"),
    "no references": (without_references, "refers to no image of this server"),
}
"""The same of a structure set."""
