"""What a new refiner looks like and what it sees of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum

from lib.networks.checkpoint import NetworkPlan
from lib.preprocessing import PATCH_VOXELS, plan_for
from lib.task import Task
from lib.volume import Grid

FLAT_WIDTH = 2
"""A refiner of images of one slice, which cost little, has so many times the features of a segmentation network."""

SLAB = 8
"""Slices that a refiner of slices learns from, and answers for, at once: more take more memory and are no quicker."""


class Depth(StrEnum):
    """What a refiner sees of a volume at once; of an image of one slice it sees that slice."""

    VOLUME = "3d"
    """All of it, or a patch with all its slices."""

    SLICE = "2d"
    """One slice across the superior axis, as in the source."""

    NEIGHBOURS = "2.5d"
    """Such a slice and the two beside it, image and mask; the answer is for the one in the middle."""


def refiner_plan(task: Task, grids: Sequence[Grid], depth: Depth = Depth.VOLUME) -> NetworkPlan:
    """The plan of a new refiner for such images.

    Args:
        task: as for ``plan_for``; its network and encoder are those of the segmentation and do not matter here.
        grids: at least one.
        depth: what is seen of a volume at once.
    """
    refining = replace(task, network="refiner", encoder_weights="")
    plan = plan_for(refining, grids)
    if 1 in plan.kernel:
        wider = tuple(FLAT_WIDTH * channels for channels in plan.channels)
        return replace(plan, channels=wider, features=wider[0] // 2)
    if depth is Depth.VOLUME:
        return plan
    # A slab costs as much as a patch of a volume.
    smaller = replace(refining, patch_voxels=(task.patch_voxels or PATCH_VOXELS) // SLAB)
    plan = plan_for(smaller, [_one_slice(grid) for grid in grids])
    i, j, _ = plan.patch
    return replace(plan, patch=(i, j, SLAB), neighbours=1 if depth is Depth.NEIGHBOURS else 0)


def _one_slice(grid: Grid) -> Grid:
    """A lattice of one slice that stands for each of a volume's."""
    i, j, k = (1 if code in "SI" else size for code, size in zip(grid.orientation, grid.shape, strict=True))
    return Grid((i, j, k), grid.affine)
