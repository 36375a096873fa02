"""What a first training can learn in its seconds: patches and images as large as there are steps for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lib.networks.precision import Precision
from lib.preprocessing import PATCH_VOXELS, plan_for
from lib.task import Task, numbered
from lib.training import finetune as training
from lib.training.finetune import FinetuneOptions, first_plan
from lib.training.pace import FILLED, LEAST_PATCH_VOXELS, STEPS, affordable, pace
from lib.volume import Grid

TASK = Task("organs", "", numbered(["liver", "spleen"]))
BATCH = 2


def enough_for(patch: int, steps: float) -> float:
    """Voxels a second that give so many steps of such patches in a minute."""
    return patch * steps * BATCH / 60.0


def grid(*shape: int, spacing_mm: tuple[float, float, float] = (1.5, 1.5, 2.5)) -> Grid:
    i, j, k = shape
    return Grid((i, j, k), np.diag([*spacing_mm, 1.0]))


def test_with_little_time_the_whole_image_comes_in_one_patch_of_which_there_are_enough_steps():
    found = affordable(enough_for(2**16, STEPS), 60.0, BATCH, PATCH_VOXELS)

    assert (found.patch_voxels, found.image_voxels) == (2**16, int(FILLED * 2**16))


@pytest.mark.parametrize("seconds", [60.0, 120.0, 600.0, 3600.0])
def test_more_time_never_makes_the_image_coarser(seconds):
    speed = enough_for(2**16, STEPS)

    found, longer = (affordable(speed, each, BATCH, PATCH_VOXELS) for each in (seconds, 2 * seconds))
    assert longer.patch_voxels >= found.patch_voxels
    assert longer.image_voxels >= found.image_voxels


def test_an_hour_buys_an_image_of_several_patches():
    found = affordable(enough_for(2**16, STEPS), 3600.0, BATCH, PATCH_VOXELS)

    assert found.patch_voxels == PATCH_VOXELS
    assert found.image_voxels >= 4 * FILLED * PATCH_VOXELS


def test_on_the_slowest_machine_a_patch_still_shows_something():
    assert affordable(1.0, 1.0, BATCH, PATCH_VOXELS).patch_voxels == LEAST_PATCH_VOXELS


def test_a_little_more_or_less_speed_plans_the_same():
    middle = enough_for(2**16, STEPS)

    assert len({affordable(middle * factor, 60.0, BATCH, PATCH_VOXELS) for factor in (0.88, 0.95, 1.05, 1.14)}) == 1


def test_training_by_epochs_has_the_time_it_takes():
    found = affordable(1.0, math.inf, BATCH, PATCH_VOXELS)

    assert found.patch_voxels == found.image_voxels == PATCH_VOXELS


def test_the_pace_of_this_machine_is_told_for_any_patch():
    for shape in ((168, 160, 60), (40, 32, 24)):
        plan = plan_for(TASK, [grid(*shape)])
        assert 0 < pace(plan, BATCH, torch.device("cpu"), Precision.FLOAT32) < math.inf


MINUTE = enough_for(2**16, STEPS)


def planned(monkeypatch, grids, task=TASK, seconds=60.0, speed=MINUTE):
    monkeypatch.setattr(training, "pace", lambda *about: speed)
    return first_plan(task, grids, FinetuneOptions(seconds=seconds))


def test_a_real_ct_is_planned_coarse_for_a_minute_and_covered_by_one_patch(monkeypatch):
    scan = grid(168, 160, 60)

    plan = planned(monkeypatch, [scan])

    seen = [
        size * edge / wanted for size, edge, wanted in zip(scan.shape, (1.5, 1.5, 2.5), plan.spacing_mm, strict=True)
    ]
    assert 4 < min(plan.spacing_mm) < 7
    assert all(patch >= size - 1 for patch, size in zip(plan.patch, seen, strict=True))


def test_a_small_volume_stays_as_fine_as_it_is(monkeypatch):
    plan = planned(monkeypatch, [grid(36, 50, 36, spacing_mm=(1.0, 1.0, 1.0))])

    assert plan.spacing_mm == (1.0, 1.0, 1.0)


def test_a_spacing_of_the_tasks_own_stays(monkeypatch):
    own = Task("organs", "", numbered(["liver"]), spacing_mm=(2.0, 2.0, 2.0))

    assert planned(monkeypatch, [grid(168, 160, 60)], own).spacing_mm == (2.0, 2.0, 2.0)


def test_a_task_of_small_structures_keeps_the_images_as_fine_as_they_are(monkeypatch):
    small = Task("bleeds", "", numbered(["SAH"]), patch_voxels=64 * 64 * 16)
    scan = grid(240, 240, 32, spacing_mm=(1.0, 1.0, 5.0))

    assert planned(monkeypatch, [scan], small) == plan_for(small, [scan])


def test_images_of_one_slice_keep_the_plan_of_their_network(monkeypatch):
    films = [grid(800, 600, 1, spacing_mm=(0.1, 0.1, 1.0))]

    assert planned(monkeypatch, films, speed=1.0) == plan_for(TASK, films)
