"""Overlap of drawn masks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lib.errors import GridMismatch
from lib.metrics.overlap import dice, dice_over_structures, iou, precision, relative_volume_error, sensitivity
from tests.drawn import drawn

ALL = [dice, iou, sensitivity, precision, relative_volume_error]

SMALL, LARGE = drawn("# # . . . ."), drawn(". # # # # .")
"""One voxel is shared; the truth has two, the prediction four."""


@pytest.mark.parametrize(
    ("metric", "expected"),
    [(dice, 2 / 6), (iou, 1 / 5), (sensitivity, 1 / 2), (precision, 1 / 4), (relative_volume_error, 100.0)],
)
def test_each_figure_counts_voxels(metric, expected):
    assert metric(SMALL, LARGE) == pytest.approx(expected)


def test_sensitivity_and_precision_change_places_with_truth_and_prediction():
    assert sensitivity(SMALL, LARGE) == precision(LARGE, SMALL)


def test_iou_is_dice_over_two_minus_dice():
    share = dice(SMALL, LARGE)

    assert iou(SMALL, LARGE) == pytest.approx(share / (2 - share))


@pytest.mark.parametrize(
    ("metric", "expected"), [(dice, 1), (iou, 1), (sensitivity, 1), (precision, 1), (relative_volume_error, 0)]
)
def test_equal_masks_agree(metric, expected):
    assert metric(SMALL, SMALL) == expected


def test_half_the_volume_is_an_error_of_minus_fifty_percent():
    assert relative_volume_error(LARGE, SMALL) == -50


SET, EMPTY = drawn("# ."), drawn(". .")


@pytest.mark.parametrize(
    ("metric", "both_empty", "truth_empty", "prediction_empty"),
    [
        (dice, math.nan, 0.0, 0.0),
        (iou, math.nan, 0.0, 0.0),
        (sensitivity, math.nan, math.nan, 0.0),
        (precision, math.nan, 0.0, math.nan),
        (relative_volume_error, math.nan, math.inf, -100.0),
    ],
)
def test_what_an_empty_mask_means(metric, both_empty, truth_empty, prediction_empty):
    found = metric(EMPTY, EMPTY), metric(EMPTY, SET), metric(SET, EMPTY)

    np.testing.assert_equal(found, (both_empty, truth_empty, prediction_empty))


@pytest.mark.parametrize("metric", ALL)
def test_masks_of_other_shapes_are_refused_with_both_sizes(metric):
    with pytest.raises(GridMismatch, match=r"1x2x1 .* 1x3x1"):
        metric(drawn("# ."), drawn("# . ."))


def test_label_numbers_count_as_set_voxels():
    assert dice(np.full((2, 2, 1), 3, np.uint8), np.full((2, 2, 1), 1, np.uint8)) == 1.0


def test_dice_over_structures_counts_each_structure_of_the_truth_alike_and_invented_ones_not():
    truth, prediction = np.array([1, 1, 1, 1, 2, 2, 0, 0]), np.array([1, 1, 1, 1, 2, 0, 0, 3])

    assert dice_over_structures(truth[:, None, None], prediction[:, None, None]) == pytest.approx((1 + 2 / 3) / 2)


def test_dice_over_structures_is_undefined_without_a_structure():
    assert math.isnan(dice_over_structures(np.zeros((2, 2, 2)), np.ones((2, 2, 2))))
