"""Which voxels are connected."""

from __future__ import annotations

import numpy as np
import pytest

from lib.pieces import largest_piece
from tests.drawn import drawn


def test_the_piece_with_the_most_voxels_is_kept_and_no_voxel_of_it_is_lost():
    mask = drawn("""
        # . . . . .
        . # # # . .
        . . . # . #
        . . . . . #
    """)

    assert (
        largest_piece(mask.astype(bool)).tolist()
        == drawn("""
        . . . . . .
        . # # # . .
        . . . # . .
        . . . . . .
    """)
        .astype(bool)
        .tolist()
    )


def test_of_equal_pieces_the_first_is_kept():
    assert largest_piece(np.array([False, True, False, True])).tolist() == [False, True, False, False]


@pytest.mark.parametrize("value", [False, True])
def test_what_is_one_piece_or_none_stays(value):
    assert largest_piece(np.full((3, 4, 5), value)).tolist() == np.full((3, 4, 5), value).tolist()


@pytest.mark.parametrize("shape", [(2560, 700), (150, 140, 40)])
def test_a_thin_piece_beside_a_large_one_is_told_apart_whatever_the_size_of_the_image(shape):
    """Its width is one voxel, as is the gap to the large piece."""
    mask = np.zeros(shape, bool)
    mask[7:-9, 5:-11] = True
    large = mask.copy()
    mask[5, 3:-3] = True

    assert np.array_equal(largest_piece(mask), large)
