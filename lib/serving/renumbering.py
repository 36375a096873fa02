"""Stored masks with the numbers that MONAI Label's clients expect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from lib.labels import numbered_by_position
from lib.task import Task
from lib.volume import Volume, nifti_bytes


def renumbered(path: Path, task: Task) -> bytes:
    """A NIfTI file that was written here, masks of several stages included, numbered as ``Task.positions``."""
    image: Any = nib.load(path)
    voxels = np.asarray(image.dataobj, np.uint8)
    return nifti_bytes(Volume(numbered_by_position(voxels, task), image.affine))
