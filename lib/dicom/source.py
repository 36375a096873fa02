"""The series that a segmentation or a set of contours belongs to, with the place of each slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from lib.dataset import read_dataset
from lib.errors import GridMismatch
from lib.geometry import LPS_FROM_RAS
from lib.opened import OpenFile, Source
from lib.series import SliceHeader, ordered, read_headers, series_grid
from lib.volume import Array, Grid


@dataclass(frozen=True)
class SourceSeries:
    """One image as a DICOM series: a stack of slices, or one radiograph.

    Attributes:
        slices: in the order of K.
        grid: the lattice of the image; single slices may lie beside it as far as ``lib.series.ordered`` allows.
        frame_of_reference_uid: FrameOfReferenceUID (0020,0052); empty if the files name none.
    """

    slices: tuple[SliceHeader, ...]
    grid: Grid
    frame_of_reference_uid: str

    @property
    def name(self) -> str:
        """What to call the series in messages."""
        return self.slices[0].image_id

    @property
    def is_projection(self) -> bool:
        """Whether it is a radiograph, whose place in the patient is made up."""
        return self.slices[0].is_projection

    @cached_property
    def instance_uids(self) -> frozenset[str]:
        """SOPInstanceUIDs of its files."""
        return frozenset(one.instance_uid for one in self.slices)

    def number_of(self, instance_uid: str, frame: int | None = None) -> int | None:
        """Index along K of a file, or of a frame of an enhanced one; ``None`` if it is none of this series."""
        return self._numbers.get((instance_uid, None), self._numbers.get((instance_uid, frame)))

    @cached_property
    def _numbers(self) -> dict[tuple[str, int | None], int]:
        return {(one.instance_uid, one.frame): k for k, one in enumerate(self.slices)}

    def nearest(self, point_mm: Sequence[float] | Array) -> int:
        """Index along K of the slice whose plane lies nearest to a point in LPS mm."""
        return int(np.argmin(np.abs(self._positions_mm - np.asarray(point_mm) @ self.slices[0].normal)))

    @cached_property
    def _positions_mm(self) -> Array:
        return np.array([one.position_mm for one in self.slices])

    def slice_grid(self, k: int) -> Grid:
        """The lattice of one slice at its own place."""
        one = self.slices[k]
        affine = self.grid.affine.copy()
        affine[:3, 0], affine[:3, 1], affine[:3, 3] = one.columns_mm, one.rows_mm, one.origin_mm
        affine[:3, [0, 1, 3]] = LPS_FROM_RAS[:3, :3] @ affine[:3, [0, 1, 3]]
        return Grid((*one.shape, 1), affine)

    def refuse_other_frame_of_reference(self, found: str, what: str) -> None:
        """Refuses an object that was drawn in another coordinate system.

        Radiographs have none, and what names none is taken as it is.

        Raises:
            GridMismatch: if both name a frame of reference, and not the same.
        """
        wanted = self.frame_of_reference_uid
        if found and wanted and found != wanted and not self.is_projection:
            raise GridMismatch(
                f"{what} lies in the frame of reference {found}, the image {self.name} in {wanted}. "
                "Draw it on this series, or send it for the series it was drawn on."
            )


def read_source(sources: Sequence[Source]) -> SourceSeries:
    """Reads the headers of one image's files.

    Args:
        sources: all slices of a series in any order, an enhanced file, or one radiograph.

    Raises:
        UnreadableImage: if the files are not one image, as ``lib.series.ordered``.
    """
    slices = ordered(read_headers(sources))
    named = next((one.frame_of_reference_uid for one in slices if one.frame_of_reference_uid), "")
    return SourceSeries(tuple(slices), series_grid(slices), named)


def dataset_of(source: Dataset | Source | bytes) -> Any:
    """A DICOM object that is already read, in a file or in memory.

    Raises:
        UnreadableImage: as ``lib.dataset.read_dataset``, and whatever the reader stumbles over.
    """
    if isinstance(source, Dataset):
        return source
    return read_dataset(OpenFile(BytesIO(source), "The object") if isinstance(source, bytes) else source)
