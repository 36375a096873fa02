"""A small DICOM series in a server's folder of studies, and what people draw on it."""

from __future__ import annotations

import datetime as dt

import numpy as np

from lib.dicom.provenance import Provenance
from lib.dicom.segmentation import write_segmentation
from lib.dicom.source import SourceSeries
from lib.dicom.structure_set import write_structure_set
from lib.phantoms.dicom_series import write_dicom_series, write_enhanced_series
from lib.phantoms.scanner import oriented_grid
from lib.task import Task, numbered
from tests.dicom.drawing import stored
from tests.serving.conftest import Here
from tests.serving.places import STRUCTURES

TASK = Task("segmentation", "Two blocks", numbered(STRUCTURES))
SHAPE = (13, 9, 6)
NOON = dt.datetime(2026, 1, 2, 12, 0, tzinfo=dt.UTC)


def put_series(here: Here, folder: str = "ct", *, is_enhanced: bool = False) -> str:
    """An oblique CT, as slices or as one enhanced file; its SeriesInstanceUID."""
    shape, affine = oriented_grid("LPS", SHAPE, (0.7, 1.3, 5.0), (12.0, -34.0, 567.8), (8.0, -5.0, 11.0))
    pixels = np.random.default_rng(1).integers(-1000, 1000, shape).astype(np.int16)
    place = here.studies / folder
    if is_enhanced:
        uid = write_enhanced_series(place / "frames.dcm", pixels, affine, patient_id=folder, seed=1)
    else:
        uid = write_dicom_series(place, pixels, affine, patient_id=folder, seed=1)
    here.look()
    return uid


def source_of(here: Here, image_id: str) -> SourceSeries:
    """An image as the series that objects refer to."""
    return here.app.dicom.files.source(here.app.library.readable(image_id))


def blocks(shape: tuple[int, ...]) -> np.ndarray:
    """A block of each structure, the second one with a hole, and one voxel by itself."""
    mask = np.zeros(shape, np.uint8)
    mask[1:4, 2:5, :2], mask[0, 0, -1] = 1, 1
    mask[6:9, 2:5, -2:] = 2
    mask[7, 3, -1] = 0
    return mask


def segments(series: SourceSeries, task: Task = TASK, *, looked_at: tuple[str, ...] | None = None) -> bytes:
    """The blocks as a segmentation; of those that were not looked at none is drawn."""
    mask = blocks(series.grid.shape)
    for name, value in task.values.items():
        if looked_at is not None and name not in looked_at:
            mask[mask == value] = 0
    return stored(write_segmentation(mask, task, series, Provenance("Seg", "a", NOON, "theirs"), looked_at=looked_at))


def contours(series: SourceSeries, task: Task = TASK) -> bytes:
    """The blocks as a structure set."""
    provenance = Provenance("Plan", "somebody", NOON, "theirs")
    return stored(write_structure_set(blocks(series.grid.shape), task, series, provenance))
