"""Dice of drawn masks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lib.errors import GridMismatch
from lib.metrics.overlap import dice


def drawn(picture: str) -> np.ndarray:
    rows = [[character == "#" for character in row.split()] for row in picture.strip().splitlines()]
    return np.array(rows)[..., np.newaxis]


def test_dice_counts_shared_voxels_twice():
    truth = drawn("""
        # # .
        # # .
    """)
    prediction = drawn("""
        . # #
        . # #
    """)

    assert dice(truth, prediction) == 0.5


def test_equal_masks_have_a_dice_of_one():
    mask = drawn("# . #")

    assert dice(mask, mask) == 1.0


@pytest.mark.parametrize("swapped", [False, True])
def test_one_empty_mask_gives_zero(swapped):
    masks = [drawn("# ."), drawn(". .")]

    assert dice(*(masks[::-1] if swapped else masks)) == 0.0


def test_two_empty_masks_have_no_dice():
    assert math.isnan(dice(drawn(". ."), drawn(". .")))


def test_masks_of_other_shapes_are_refused_with_both_sizes():
    with pytest.raises(GridMismatch, match=r"1x2x1 .* 1x3x1"):
        dice(drawn("# ."), drawn("# . ."))


def test_label_numbers_count_as_set_voxels():
    assert dice(np.full((2, 2, 1), 3, np.uint8), np.full((2, 2, 1), 1, np.uint8)) == 1.0
