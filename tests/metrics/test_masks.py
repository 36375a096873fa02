"""What all metrics ask of masks."""

from __future__ import annotations

import numpy as np
import pytest

from lib.errors import GridMismatch
from lib.metrics.masks import as_masks, joint_box, slice_axis
from tests.drawn import drawn


def test_every_label_value_is_set():
    truth, prediction = as_masks(drawn("1 2 ."), drawn(". . 3"))

    assert truth.ravel().tolist() == [True, True, False] and prediction.ravel().tolist() == [False, False, True]


def test_masks_of_other_shapes_are_refused_with_both_sizes():
    with pytest.raises(GridMismatch, match=r"1x2x1 .* 1x3x1\. Put both on the image's grid"):
        as_masks(drawn("# ."), drawn("# . ."))


def test_the_joint_box_holds_the_voxels_of_both():
    truth = drawn("""
        . . . .
        . # . .
        . . . .
    """).astype(bool)
    prediction = drawn("""
        . . . .
        . . . .
        . . # .
    """).astype(bool)

    assert joint_box(truth, prediction) == (slice(1, 3), slice(1, 3), slice(0, 1))


def test_the_joint_box_of_two_empty_masks_is_empty():
    empty = np.zeros((3, 4, 5), bool)

    assert empty[joint_box(empty, empty)].shape == (0, 0, 0)


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "axis"),
    [((9, 1, 9), (1, 1, 5), 1), ((9, 9, 9), (5, 1, 1), 0), ((9, 9, 9), (1, 1, 1), 2)],
    ids=["one slice", "thick slices", "cubes"],
)
def test_slices_run_across_the_single_voxel_or_the_longest_ones(shape, spacing_mm, axis):
    assert slice_axis(shape, spacing_mm) == axis
