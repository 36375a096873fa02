"""Enhanced DICOM images (CT, MR, PET): many frames in one file, each described by functional groups (C.7.6.16)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydicom.dataset import Dataset

SHARED, PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"

PLACES = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "StackID": "FrameContentSequence",
}
"""The group in which an enhanced image keeps what a single slice says of itself."""


class FunctionalGroups:
    """What an object with functional groups says about one frame: its own groups come before the shared ones."""

    def __init__(self, dataset: Any, index: int) -> None:
        shared = dataset.get(SHARED) or [Dataset()]
        self._groups: tuple[Dataset, Dataset] = (dataset[PER_FRAME].value[index], shared[0])

    def items(self, sequence: str) -> Iterator[Dataset]:
        """The items of a group, those of the frame first."""
        for groups in self._groups:
            yield from groups.get(sequence) or ()

    def value(self, sequence: str, keyword: str) -> Any:
        """An attribute of a group; ``None`` if the group or the attribute is missing or empty."""
        found = (item[keyword].value for item in self.items(sequence) if item.get(keyword) not in (None, "", []))
        return next(found, None)


def is_enhanced(header: Dataset) -> bool:
    """Whether each frame says where it lies."""
    return PER_FRAME in header


def single_headers(header: Dataset, frames: Sequence[int]) -> Iterator[Dataset]:
    """Frames of an enhanced image as single slices would describe themselves: place, pixel size, rescale, stack.

    Args:
        header: of the enhanced image.
        frames: their numbers, from 1.
    """
    common = Dataset()
    common.update({tag: header.get_item(tag) for tag in header.keys()})
    for keyword in (SHARED, PER_FRAME, "NumberOfFrames"):
        if keyword in common:
            del common[keyword]
    for frame in frames:
        groups, one = FunctionalGroups(header, frame - 1), Dataset()
        one.update(common)
        for keyword, sequence in PLACES.items():
            value = groups.value(sequence, keyword)
            if value is not None:
                setattr(one, keyword, value)
        yield one
