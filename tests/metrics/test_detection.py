"""Lesions and cases that were found, with sizes and overlaps from geometry."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lib.errors import GridMismatch
from lib.metrics.detection import (
    LesionCount,
    LesionRule,
    case_count,
    false_positive_ml,
    has_lesion,
    lesion_count,
    size_of_voxel,
)
from lib.volume import Grid
from tests.drawn import drawn

TWO = drawn("""
    # # . . . .
    # # . . . #
    . . . . # .
""")
"""Four voxels, and two that touch at a corner."""

EMPTY = np.zeros_like(TWO)


def rod(first: int, end: int) -> np.ndarray:
    """Voxels in a row of 300."""
    mask = np.zeros((300, 1, 1), bool)
    mask[first:end] = True
    return mask


def test_voxels_that_touch_at_a_corner_are_one_lesion():
    assert lesion_count(TWO, TWO, 1.0) == LesionCount(true=2, found=2, false=0)


def test_a_missed_lesion_and_a_false_one_are_counted():
    prediction = drawn("""
        # # . # . .
        . . . . . .
        . . . . . .
    """)

    found = lesion_count(TWO, prediction, 1.0)

    assert found == LesionCount(true=2, found=1, false=1)
    assert found.sensitivity == 0.5


@pytest.mark.parametrize(("predicted", "found"), [(9, 0), (10, 1), (11, 1)])
def test_a_lesion_is_found_from_a_tenth_of_its_voxels(predicted, found):
    """Grazing a lesion is not finding it, and the piece that grazes it is false."""
    assert lesion_count(rod(0, 100), rod(0, predicted), 1.0) == LesionCount(1, found, 1 - found)


def test_the_share_that_must_be_found_can_be_chosen():
    assert lesion_count(rod(0, 100), rod(0, 49), 1.0, LesionRule(least_overlap=0.5)).found == 0
    assert lesion_count(rod(0, 100), rod(0, 50), 1.0, LesionRule(least_overlap=0.5)).found == 1


def test_several_pieces_may_find_one_lesion_together():
    pieces = rod(0, 6) | rod(50, 56)

    assert lesion_count(rod(0, 100), pieces, 1.0) == LesionCount(true=1, found=1, false=0)


def test_one_piece_may_find_several_lesions():
    assert lesion_count(rod(0, 10) | rod(20, 30), rod(0, 30), 1.0) == LesionCount(true=2, found=2, false=0)


def test_a_lesion_drawn_much_too_large_is_found_and_not_false():
    assert lesion_count(rod(0, 5), rod(0, 200), 1.0) == LesionCount(true=1, found=1, false=0)


@pytest.mark.parametrize(("voxels", "counted"), [(249, 0), (250, 1), (251, 1)])
def test_lesions_below_the_size_limit_are_not_counted(voxels, counted):
    """In the truth they need not be found, in the prediction they are not false."""
    rule = LesionRule(least_size=250.0)
    lesion = rod(0, voxels)

    assert lesion_count(lesion, np.zeros_like(lesion), 1.0, rule).true == counted
    assert lesion_count(np.zeros_like(lesion), lesion, 1.0, rule).false == counted


def test_a_prediction_on_a_lesion_too_small_to_count_is_not_false():
    assert lesion_count(rod(0, 5), rod(0, 20), 1.0, LesionRule(least_size=10.0)) == LesionCount(0, 0, 0)


def test_a_predicted_piece_too_small_to_count_finds_nothing():
    assert lesion_count(rod(0, 12), rod(0, 5), 1.0, LesionRule(least_size=10.0)) == LesionCount(1, 0, 0)


@pytest.mark.parametrize(
    ("truth", "prediction", "expected"),
    [(EMPTY, EMPTY, (0, 0, 0)), (EMPTY, TWO, (0, 0, 2)), (TWO, EMPTY, (2, 0, 0))],
    ids=["both empty", "truth empty", "prediction empty"],
)
def test_what_an_empty_mask_means(truth, prediction, expected):
    assert lesion_count(truth, prediction, 1.0) == LesionCount(*expected)


def test_without_lesions_there_is_no_sensitivity():
    assert math.isnan(LesionCount(true=0, found=0, false=3).sensitivity)


def test_masks_of_other_shapes_are_refused():
    with pytest.raises(GridMismatch, match=r"3x6x1 .* 1x2x1"):
        lesion_count(TWO, drawn("# ."), 1.0)


def test_sizes_are_volumes_but_areas_in_an_image_of_one_slice():
    affine = np.diag([0.5, 2.0, 10.0, 1.0])

    assert size_of_voxel(Grid((4, 4, 4), affine)) == pytest.approx(10.0)
    assert size_of_voxel(Grid((4, 4, 1), affine)) == pytest.approx(1.0)
    assert size_of_voxel(Grid((1, 4, 4), affine)) == pytest.approx(20.0)


@pytest.mark.parametrize(("least_size", "is_positive"), [(0.0, True), (8.0, True), (9.0, False)])
def test_a_case_is_positive_by_its_largest_lesion(least_size, is_positive):
    """Six voxels of 2 mm³ in two lesions, of which the larger has 8 mm³."""
    assert has_lesion(TWO, 2.0, least_size) is is_positive


def test_a_case_without_voxels_is_negative():
    assert has_lesion(EMPTY, 1.0) is False


def test_volume_outside_the_truth_is_false():
    assert false_positive_ml(rod(0, 50), rod(40, 100), voxel_mm3=20.0) == pytest.approx(1.0)
    assert false_positive_ml(rod(0, 0), rod(0, 50), voxel_mm3=20.0) == pytest.approx(1.0)
    assert false_positive_ml(rod(0, 50), rod(0, 0), voxel_mm3=20.0) == 0.0


def test_cases_are_counted_by_truth_and_prediction():
    cases = [(True, True), (True, True), (True, False), (False, False), (False, True), (False, False), (False, False)]

    count = case_count(cases)

    assert (count.positives, count.found, count.negatives, count.refuted) == (3, 2, 4, 3)
    assert count.sensitivity == pytest.approx(2 / 3) and count.specificity == 0.75


def test_without_positive_or_negative_cases_there_is_no_rate():
    count = case_count([])

    assert math.isnan(count.sensitivity) and math.isnan(count.specificity)
