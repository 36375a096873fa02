"""Whether an image is of the kind that a task works on: told at the border, in one sentence."""

from __future__ import annotations

import numpy as np

from lib.errors import NoImage, UnreadableImage
from lib.task import Task
from lib.volume import Grid, Volume

AIR_BELOW_HU = -200
"""Every CT with air around the patient holds values below it."""

TISSUE_BELOW_HU = 300
"""A CT without air, as one cut to the brain, holds no more than this: bone is cut away with the air."""


def refuse_other_modality(name: str, modality: str, task: Task) -> None:
    """Refuses by the DICOM modality as a file tells it; empty if it tells none.

    Raises:
        NoImage: if it is none of the task's: the image is sound, and none for this task.
    """
    if modality and task.modalities and modality not in task.modalities:
        raise NoImage(
            f"{name} is {modality}, the task {task.name} works on {' or '.join(task.modalities)}. Keep it elsewhere, "
            "or serve it with another app.",
            modality,
        )


def refuse_other_shape(name: str, grid: Grid, task: Task) -> None:
    """Refuses by the number of slices.

    Raises:
        NoImage: if the task works on single slices and there are more.
    """
    if task.is_flat and grid.shape[2] != 1:
        raise NoImage(
            f"{name} is a volume of {grid}, the task {task.name} works on single images of one slice. Keep it "
            "elsewhere, or serve it with another app."
        )


def refuse_other_values(name: str, volume: Volume, task: Task) -> None:
    """Refuses voxels that cannot be what the task's window is meant for.

    Args:
        name: of the image, for messages.
        volume: its voxels.
        task: with a window, if its modality has a fixed scale.

    Raises:
        UnreadableImage: if a window in HU is asked of values that are no HU: an MR, or a CT without its rescale.
    """
    if task.window_hu is None or task.modality != "CT":
        return
    low, high = float(np.nanmin(volume.voxels)), float(np.nanmax(volume.voxels))
    if low >= 0 or (low > AIR_BELOW_HU and high > TISSUE_BELOW_HU):
        raise UnreadableImage(
            f"{name} holds values from {low:g} to {high:g}; a CT in HU has air near -1000. It is no CT, or was saved "
            "without its rescale: export it in HU."
        )
