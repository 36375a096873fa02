"""Which cases are learned from, and in what form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.errors import NoAnnotationsYet
from lib.preprocessing import plan_for
from lib.training import cases as cases_module
from lib.training.cases import TrainingCase, body_grids, prepared_cases
from tests.training.shapes import BOTH, TASK, case, drawn

PLAN = plan_for(TASK, [drawn(0)[0].grid])


def unreadable() -> TrainingCase:
    def fails():
        raise OSError("the disk is gone")

    return TrainingCase("broken", fails, fails, BOTH)


def ready(cases, skipped=None):
    return prepared_cases(cases, PLAN, np.random.default_rng(0), {} if skipped is None else skipped, lambda: None)


def test_a_case_is_kept_compactly_on_the_network_grid():
    (found,) = ready([case(3)])

    assert (found.image.dtype, found.target.dtype) == (torch.float16, torch.uint8)
    assert found.image.shape == found.target.shape == (1, 24, 20, 16)
    assert found.looked_at.tolist() == [True, True, True]
    assert {channel: len(points) for channel, points in found.points.items()} == {1: 512, 2: 512}
    assert all((found.target[0][tuple(points.T)] == channel).all() for channel, points in found.points.items())


def test_points_of_a_structure_that_was_not_looked_at_are_not_visited():
    (found,) = ready([case(3, frozenset({2}))])

    assert found.looked_at.tolist() == [True, False, True]
    assert list(found.points) == [2]


def test_one_damaged_case_is_skipped_by_name_and_reason():
    skipped: dict[str, str] = {}

    found = ready([unreadable(), case(1)], skipped)

    assert [one.image_id for one in found] == ["case_1"]
    assert skipped == {"broken": "the disk is gone"}


def test_a_mask_on_another_grid_is_skipped_with_both_sizes():
    skipped: dict[str, str] = {}
    wrong = TrainingCase("wrong", lambda: drawn(0)[0], lambda: np.zeros((3, 3, 3), np.uint8), BOTH)

    ready([wrong, case(1)], skipped)

    assert "3x3x3 voxels, the image is 24x20x16" in skipped["wrong"]


def test_a_case_in_which_nothing_of_the_task_was_looked_at_teaches_nothing():
    skipped: dict[str, str] = {}

    ready([case(0, frozenset()), case(1)], skipped)

    assert skipped == {"case_0": "its annotator looked at none of the task's structures"}


@pytest.mark.parametrize("cases", [[], [unreadable()]])
def test_without_a_usable_case_there_is_nothing_to_learn_from(cases):
    with pytest.raises(NoAnnotationsYet, match="Store an expert annotation first"):
        ready(cases)
    with pytest.raises(NoAnnotationsYet, match="Store an expert annotation first"):
        body_grids(cases, None, 3)


def test_cases_beyond_the_memory_are_left_out_and_reported(monkeypatch):
    monkeypatch.setattr(cases_module, "MEMORY_BYTES", 30_000)
    skipped: dict[str, str] = {}

    found = ready([case(seed) for seed in range(4)], skipped)

    assert len(found) == 2 and len(skipped) == 2
    assert "fill 0 GB already" in next(iter(skipped.values()))


def test_unreadable_cases_do_not_decide_the_plan():
    grids = body_grids([unreadable(), case(0), case(1)], TASK, at_most=1)

    assert [grid.shape for grid in grids] == [(24, 20, 16)]
