"""Whether an image is of the kind that a task works on: told at the border, in one sentence."""

from __future__ import annotations

import numpy as np

from lib.errors import UnreadableImage
from lib.task import Task
from lib.volume import Grid, Volume

AIR_BELOW_HU = -200
"""Every CT with air around the patient holds values below it."""

TISSUE_BELOW_HU = 300
"""A CT without air, as one cut to the brain, holds no more than this: bone is cut away with the air."""


def refuse_other_kind(name: str, grid: Grid, modality: str, task: Task) -> None:
    """Refuses by what a header tells.

    Args:
        name: of the image, for messages.
        grid: its lattice.
        modality: DICOM modality as the file tells it; empty if it tells none.
        task: what the server works on.

    Raises:
        UnreadableImage: if the modality or the number of slices is none of the task's.
    """
    if modality and task.modalities and modality not in task.modalities:
        raise UnreadableImage(
            f"{name} is {modality}, the task {task.name} works on {' or '.join(task.modalities)}. Keep it elsewhere, "
            "or serve it with another app."
        )
    if task.is_flat and grid.shape[2] != 1:
        raise UnreadableImage(
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
