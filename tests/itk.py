"""What ITK makes of a file, to compare with."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk

from lib.geometry import LPS_FROM_RAS
from lib.volume import Volume


def volume_of_sitk(image: Any) -> Volume:
    """A SimpleITK image of two or three axes and one value a voxel as a volume."""
    axes = image.GetDimension()
    lps = np.eye(4)
    lps[:axes, :axes] = np.reshape(image.GetDirection(), (axes, axes)) * np.array(image.GetSpacing())
    lps[:axes, 3] = image.GetOrigin()
    voxels = sitk.GetArrayFromImage(image).T
    return Volume(voxels.reshape(*voxels.shape, *[1] * (3 - axes)), LPS_FROM_RAS @ lps)
