"""What a new refiner looks like and what it sees of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lib.networks.checkpoint import NetworkPlan
from lib.preprocessing import plan_for
from lib.task import Task
from lib.volume import Grid


def refiner_plan(task: Task, grids: Sequence[Grid], by_slice: bool = False) -> NetworkPlan:
    """The plan of a new refiner for such images.

    Args:
        task: as for ``plan_for``; its network and encoder are those of the segmentation and do not matter here.
        grids: at least one.
        by_slice: see volumes slice by slice across the superior axis, as the source does.
    """
    refining = replace(task, network="refiner", encoder_weights="")
    return plan_for(refining, [_one_slice(grid) for grid in grids] if by_slice else grids)


def _one_slice(grid: Grid) -> Grid:
    """A lattice of one slice that stands for each of a volume's."""
    i, j, k = (1 if code in "SI" else size for code, size in zip(grid.orientation, grid.shape, strict=True))
    return Grid((i, j, k), grid.affine)
