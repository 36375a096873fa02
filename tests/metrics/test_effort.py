"""The work in a correction, on drawn masks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lib.errors import GridMismatch
from lib.metrics.effort import Effort, effort
from lib.metrics.surface import signed_distances_mm
from tests.drawn import drawn

SMALL = drawn("""
    . . . . . .
    . . . . . .
    . . # # . .
    . . # # . .
    . . . . . .
    . . . . . .
""")
LARGE = drawn("""
    . . . . . .
    . # # # # .
    . # # # # .
    . # # # # .
    . # # # # .
    . . . . . .
""")
MOVED_MM = (8 * 2 + 4 * 2 * math.sqrt(2)) / 12
"""Of twelve pixels on the outline of LARGE eight are a pixel of 2 mm beside SMALL, four a diagonal."""


def test_equal_masks_take_no_effort():
    assert effort(LARGE, LARGE, (2, 2, 5)) == Effort(0, 0, 0.0, 0.0)


def test_a_mask_made_larger_was_moved_outwards_and_its_whole_outline_drawn():
    found = effort(SMALL, LARGE, (2, 2, 5))

    assert (found.added_voxels, found.removed_voxels, found.added_path_mm) == (12, 0, 24.0)
    assert found.moved_mm == pytest.approx(MOVED_MM)


def test_a_mask_made_smaller_was_moved_inwards():
    found = effort(LARGE, SMALL, (2, 2, 5))

    assert (found.added_voxels, found.removed_voxels, found.added_path_mm) == (0, 12, 8.0)
    assert found.moved_mm == -2.0


def test_only_the_new_part_of_an_outline_is_drawn():
    notch = LARGE.copy()
    notch[1, 2] = 0

    found = effort(notch, LARGE, (1, 1, 1))

    # The filled pixel is drawn; all others on the outline were there before.
    assert found.added_path_mm == 1.0


def test_outlines_are_drawn_across_the_longest_voxels():
    bar = np.ones((2, 3, 4), np.uint8)

    # Two slices of 3x4 pixels have ten on the outline each, of 1 x 4 mm.
    assert effort(np.zeros_like(bar), bar, (9, 1, 4)).added_path_mm == 2 * 10 * 2.0


def test_a_mask_drawn_from_nothing_was_moved_infinitely_and_one_erased_not_at_all():
    empty = np.zeros_like(LARGE)

    assert effort(empty, LARGE, (1, 1, 1)).moved_mm == math.inf
    assert math.isnan(effort(LARGE, empty, (1, 1, 1)).moved_mm)


def test_distances_are_negative_inside_the_reference():
    distances = signed_distances_mm(LARGE, SMALL, (1, 3, 1))

    assert distances.tolist() == [-1.0] * 4


def test_masks_on_different_grids_are_refused():
    with pytest.raises(GridMismatch, match="6x6x1 voxels, the predicted one 6x5x1"):
        effort(LARGE, LARGE[:, :5], (1, 1, 1))
