"""The frames of any DICOM segmentation: what they show and where they lie on an image."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import UID, SegmentationStorage

from lib.compressed import UNDEFINED, refuse_other_encapsulation, refuse_other_size
from lib.dicom.source import SourceSeries
from lib.errors import GridMismatch, UnreadableImage
from lib.geometry import LPS_FROM_RAS
from lib.multi_frame import FunctionalGroups
from lib.stored_pixels import decoded_frames
from lib.task import MAX_STRUCTURES
from lib.volume import Array, Grid, Volume, view_on

KINDS = ("BINARY", "FRACTIONAL", "LABELMAP")
"""Types of segmentations (0062,0001)."""

BITS = (1, 8, 16)
"""Bits of a pixel: 1 in BINARY, 8 in FRACTIONAL, 8 or 16 in LABELMAP; some write BINARY with 8."""

SEGMENTATIONS = (SegmentationStorage, UID("1.2.840.10008.5.1.4.1.1.66.7"))
"""SOP classes of segmentations; the second one is Label Map Segmentation Storage."""


@dataclass(frozen=True)
class Frame:
    """One frame of a segmentation.

    Attributes:
        number: in the object, from 1.
        inside: bool (I, J, 1), the voxels of each segment, by its number.
        place: the lattice of the voxels.
        sources: SOPInstanceUIDs of the images that it names as its source.
    """

    number: int
    inside: dict[int, Array]
    place: Grid
    sources: frozenset[str]

    def view_on(self, mask: Array, series: SourceSeries) -> Array:
        """The voxels of a mask under the frame, as a view of its shape.

        Raises:
            GridMismatch: if the frame lies off the lattice of the image, or on another radiograph.
        """
        if series.is_projection:
            return self._view_on_radiograph(mask, series)
        k = series.nearest(self._first_voxel_mm)
        try:
            # Slices may lie beside the even lattice a little, and a segmentation repeats their own places.
            return view_on(Volume(mask[:, :, k : k + 1], series.slice_grid(k).affine), self.place, series.name)
        except GridMismatch:
            pass
        try:
            return view_on(Volume(mask, series.grid.affine), self.place, series.name)
        except GridMismatch as error:
            raise GridMismatch(
                f"Frame {self.number} of the segmentation is {_described(self.place)}; the image {series.name} is "
                f"{_described(series.grid)}, and the frame does not lie on its voxels. Draw it on this series."
            ) from error

    @property
    def _first_voxel_mm(self) -> Array:
        return np.asarray((LPS_FROM_RAS @ self.place.affine)[:3, 3])

    def _view_on_radiograph(self, mask: Array, series: SourceSeries) -> Array:
        """The whole mask: the place of a radiograph is made up, each program does it in its own way."""
        if self.sources and self.sources.isdisjoint(series.instance_uids):
            raise GridMismatch(
                f"Frame {self.number} of the segmentation belongs to the image {', '.join(sorted(self.sources))}, "
                f"not to {series.name}. Send it for the image it was drawn on."
            )
        if self.place.shape != mask.shape:
            raise GridMismatch(
                f"Frame {self.number} of the segmentation has {self.place.shape[:2]} pixels, the image {series.name} "
                f"{mask.shape[:2]}. Draw it on this image."
            )
        return mask


def _described(grid: Grid) -> str:
    place = ", ".join(f"{edge:.3f}" for edge in grid.affine[:3, 3])
    return f"{grid} from ({place}) mm on"


def refuse_no_segmentation(dataset: Dataset) -> None:
    """Refuses other DICOM objects, and segmentations that lack what every one must have.

    Raises:
        UnreadableImage: with what was found.
    """
    if dataset.get("SOPClassUID") not in SEGMENTATIONS:
        found = dataset.get("SOPClassUID")
        raise UnreadableImage(
            f"A DICOM segmentation is wanted, found {getattr(found, 'name', found)} (Modality "
            f"{dataset.get('Modality')})."
        )
    wanted = ["SegmentSequence", "SegmentationType", "NumberOfFrames", "PerFrameFunctionalGroupsSequence",
              "Rows", "Columns", "BitsAllocated", "PixelData"]  # fmt: skip
    wanted += ["MaximumFractionalValue"] if dataset.get("SegmentationType") == "FRACTIONAL" else []
    missing = [keyword for keyword in wanted if not dataset.get(keyword)]
    if missing:
        raise UnreadableImage(f"The segmentation lacks {', '.join(missing)}. Store it again.")
    frames, groups = int(dataset.NumberOfFrames), len(dataset.PerFrameFunctionalGroupsSequence)
    if frames != groups:
        raise UnreadableImage(
            f"The segmentation says that it has {frames} frames and describes {groups}. Store it again."
        )
    _refuse_other_kind(dataset)
    _refuse_missing_pixels(dataset)


def _refuse_other_kind(dataset: Any) -> None:
    if dataset.SegmentationType not in KINDS or dataset.BitsAllocated not in BITS:
        raise UnreadableImage(
            f"The segmentation is of the type {dataset.SegmentationType} with {dataset.BitsAllocated} bits a pixel; "
            f"wanted is {', '.join(KINDS)} with {', '.join(map(str, BITS))} bits. Store it again."
        )
    numbers = [int(segment.SegmentNumber) for segment in dataset.SegmentSequence]
    if len(set(numbers)) < len(numbers):
        raise UnreadableImage(f"The segmentation numbers its segments {numbers}, one twice. Store it again.")


def _refuse_missing_pixels(dataset: Any) -> None:
    syntax = dataset.file_meta.TransferSyntaxUID
    pixels = int(dataset.Rows) * int(dataset.Columns) * int(dataset.NumberOfFrames)
    wanted = (pixels * int(dataset.BitsAllocated) + 7) // 8
    length = UNDEFINED if dataset["PixelData"].is_undefined_length else len(dataset.PixelData)
    refuse_other_encapsulation(dataset.PixelData[:4], length, wanted, syntax, "The segmentation")
    if syntax.is_encapsulated:
        return
    if len(dataset.PixelData) < wanted:
        raise UnreadableImage(
            f"The segmentation has {len(dataset.PixelData)} bytes of pixels, too few for {dataset.NumberOfFrames} "
            f"frames of {dataset.Columns}x{dataset.Rows} with {dataset.BitsAllocated} bits. Store it again."
        )


def frames_of(dataset: Any, series: SourceSeries) -> Iterator[Frame]:
    """The frames by the numbers of their segments, whatever their order in the object.

    Args:
        dataset: a segmentation.
        series: the image; it says what a frame leaves out of its place.

    Raises:
        UnreadableImage: if a frame names no segment or no place, or a value that no segment has.
        GridMismatch: if a frame is larger than any cut through the image.
    """
    _refuse_larger_frames(dataset, series)
    is_labelmap = dataset.SegmentationType == "LABELMAP"
    groups = [_Groups(dataset, index) for index in range(int(dataset.NumberOfFrames))]
    order = list(range(len(groups)))
    if not is_labelmap:
        order.sort(key=lambda index: groups[index].segment_number)
    for index, stored in zip(order, _stored(dataset, order), strict=True):
        pixels = stored.T[:, :, None]
        if is_labelmap:
            inside = _by_value(pixels, dataset)
        else:
            inside = {groups[index].segment_number: pixels >= _threshold(dataset)}
        sources = frozenset(uid for uid, _ in groups[index].sources)
        yield Frame(index + 1, inside, groups[index].place(series), sources)


def _refuse_larger_frames(dataset: Any, series: SourceSeries) -> None:
    """Refuses what cannot lie on the image, before room is made for its pixels."""
    _, *edges = sorted(series.grid.shape)
    if int(dataset.Rows) * int(dataset.Columns) > edges[0] * edges[1]:
        raise GridMismatch(
            f"The frames of the segmentation have {dataset.Columns}x{dataset.Rows} pixels; the image {series.name} is "
            f"{series.grid}, and they do not lie on its voxels. Draw it on this series."
        )
    _refuse_more_frames(dataset, series)
    refuse_other_size(dataset)


def _refuse_more_frames(dataset: Any, series: SourceSeries) -> None:
    """Refuses more pixels than there are voxels for each segment; each frame costs time, however small it is packed."""
    segments = 1 if dataset.SegmentationType == "LABELMAP" else len(dataset.SegmentSequence)
    if segments > MAX_STRUCTURES:
        raise UnreadableImage(f"The segmentation has {segments} segments; wanted are at most {MAX_STRUCTURES}.")
    frames, voxels = int(dataset.NumberOfFrames), math.prod(series.grid.shape)
    if frames * int(dataset.Rows) * int(dataset.Columns) > segments * voxels:
        raise GridMismatch(
            f"The segmentation has {frames} frames of {dataset.Columns}x{dataset.Rows} pixels for {segments} segments, "
            f"which is more than the image {series.name} has voxels ({series.grid}). Draw it on this series."
        )


def _stored(dataset: Any, order: list[int]) -> Iterator[Array]:
    """Stored values (rows, columns) of the frames with these indices."""
    if dataset.BitsAllocated != 1 or dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        yield from decoded_frames(dataset, order, "The segmentation")
        return
    # Frames of single bits follow each other without a gap, and may begin within a byte, which pydicom reads only for
    # all frames at once.
    size = int(dataset.Rows) * int(dataset.Columns)
    packed = np.frombuffer(dataset.PixelData, np.uint8)
    for index in order:
        first, last = index * size // 8, ((index + 1) * size + 7) // 8
        bits = np.unpackbits(packed[first:last], bitorder="little")
        yield bits[index * size % 8 :][:size].reshape(dataset.Rows, dataset.Columns)


def _threshold(dataset: Any) -> float:
    """The lowest stored value that is inside: half of the highest one (PS3.3 section C.8.20.2.3)."""
    return float(dataset.MaximumFractionalValue) / 2 if dataset.SegmentationType == "FRACTIONAL" else 1


def _by_value(pixels: Array, dataset: Any) -> dict[int, Array]:
    """The segments of a label map: stored values are their numbers; 0 and the padding value may stand for nothing."""
    described = {int(segment.SegmentNumber) for segment in dataset.SegmentSequence}
    values = {int(value) for value in np.unique(pixels)}
    unknown = values - described - {0, int(dataset.get("PixelPaddingValue") or 0)}
    if unknown:
        raise UnreadableImage(
            f"The segmentation holds the values {sorted(unknown)[:20]}, its segments are numbered {sorted(described)}. "
            "Store it again."
        )
    return {value: pixels == value for value in values & described}


class _Groups(FunctionalGroups):
    """The functional groups of one frame of a segmentation."""

    def __init__(self, dataset: Any, index: int) -> None:
        super().__init__(dataset, index)
        self._number, self._shape = index + 1, (int(dataset.Columns), int(dataset.Rows), 1)
        self._segments = {int(segment.SegmentNumber) for segment in dataset.SegmentSequence}

    @property
    def segment_number(self) -> int:
        """The segment that a frame of a BINARY or FRACTIONAL object shows."""
        number = self.value("SegmentIdentificationSequence", "ReferencedSegmentNumber")
        if number not in self._segments:
            raise UnreadableImage(
                f"Frame {self._number} of the segmentation shows segment {number}, described are "
                f"{sorted(self._segments)}. Store it again."
            )
        return int(number)

    @property
    def sources(self) -> set[tuple[str, int | None]]:
        """SOPInstanceUIDs of the source images, each with the frame that is named of it."""
        named = [
            source
            for derivation in self.items("DerivationImageSequence")
            for source in derivation.get("SourceImageSequence") or ()
        ]
        return {(str(source.ReferencedSOPInstanceUID), frame) for source in named for frame in _frames_named(source)}

    def place(self, series: SourceSeries) -> Grid:
        """The lattice of the frame's voxels; where it is not told, that of the slice that it names."""
        first = series.slices[0]
        edges = np.array([first.columns_mm, first.rows_mm])
        orientation = self._numbers("PlaneOrientationSequence", "ImageOrientationPatient", 6)
        spacing_mm = self._numbers("PixelMeasuresSequence", "PixelSpacing", 2)
        directions = edges if orientation is None else orientation.reshape(2, 3)
        lengths = np.linalg.norm(directions, axis=1, keepdims=True)
        lengths_mm = np.linalg.norm(edges, axis=1) if spacing_mm is None else spacing_mm[::-1]
        if not lengths.all() or lengths_mm.min() <= 0:
            raise UnreadableImage(
                f"Frame {self._number} of the segmentation has pixels of {lengths_mm} mm along {directions.tolist()}. "
                "Store it again."
            )
        directions = directions / lengths
        lps = np.eye(4)
        lps[:3, :2] = (directions * lengths_mm[:, None]).T
        lps[:3, 3] = self._origin_mm(series)
        affine = LPS_FROM_RAS @ lps
        # One slice has no third edge: it is that axis of the image which leaves the plane most.
        axes = series.grid.affine[:3, :3] / np.linalg.norm(series.grid.affine[:3, :3], axis=0)
        leaving = int(np.argmax(np.abs(np.cross(affine[:3, 0], affine[:3, 1]) @ axes)))
        affine[:3, 2] = series.grid.affine[:3, leaving]
        return Grid(self._shape, affine)

    def _numbers(self, sequence: str, keyword: str, count: int) -> Array | None:
        """The numbers of an attribute of a group; ``None`` if it is missing or empty."""
        found = self.value(sequence, keyword)
        if found is None:
            return None
        numbers = np.array(found, float)
        if numbers.shape != (count,) or not np.isfinite(numbers).all():
            raise UnreadableImage(
                f"Frame {self._number} of the segmentation has the {keyword} {found}, wanted are {count} numbers. "
                "Store it again."
            )
        return numbers

    def _origin_mm(self, series: SourceSeries) -> tuple[float, ...]:
        position = self._numbers("PlanePositionSequence", "ImagePositionPatient", 3)
        if position is not None:
            return tuple(position)
        named = {k for uid, frame in self.sources if (k := series.number_of(uid, frame)) is not None}
        if len(named) != 1 and not series.is_projection:
            raise UnreadableImage(
                f"Frame {self._number} of the segmentation says neither where it lies nor which slice it shows. "
                "Store it again."
            )
        return series.slices[named.pop() if named else 0].origin_mm


def _frames_named(source: Dataset) -> list[int | None]:
    """Numbers of the frames that a reference names, ``None`` if it names the image as a whole."""
    found = source.get("ReferencedFrameNumber")
    if found in (None, ""):
        return [None]
    return [int(number) for number in ([found] if isinstance(found, int) else found)]
