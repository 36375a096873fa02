"""The inside of the skull: found slice by slice from bone alone."""

import numpy as np
import pytest

from lib.drafts.skull import cranial_cavity, in_plane_distance_mm

SPACING_MM = (2.0, 2.0, 5.0)


def ring(slices=3):
    """HU (80, 80, slices): a skull from 56 to 64 mm with brain in it and skin around it."""
    place = np.hypot(*np.mgrid[-79:80:2, -79:80:2])
    flat = np.select([place < 56, place < 64, place < 72], [35.0, 1000.0, 50.0], -1000.0)
    return np.repeat(flat[:, :, None], slices, axis=2), place < 56


@pytest.mark.parametrize("slices", [1, 3])
def test_the_cavity_is_all_that_the_skull_surrounds(slices):
    hu, inside = ring(slices)

    np.testing.assert_array_equal(cranial_cavity(hu, SPACING_MM), np.repeat(inside[:, :, None], slices, axis=2))


def test_a_narrow_gap_in_the_skull_is_taken_for_bone():
    hu, inside = ring()
    hu[64:, 38:42] = np.where(hu[64:, 38:42] > 900, 40, hu[64:, 38:42])

    found = cranial_cavity(hu, SPACING_MM)

    assert found[inside].all() and not found[:, :, 0][~inside & (np.hypot(*np.mgrid[-79:80:2, -79:80:2]) > 66)].any()


def test_a_wide_opening_leaves_no_cavity():
    hu, _ = ring()
    hu[60:, 20:60] = np.where(hu[60:, 20:60] > 900, 40, hu[60:, 20:60])

    assert not cranial_cavity(hu, SPACING_MM).any()


def test_air_fat_and_bone_within_the_skull_do_not_belong_to_the_cavity():
    hu, _ = ring()
    hu[30:34, 30:34], hu[40:44, 30:34], hu[30:34, 44:48] = -900, -80, 900

    found = cranial_cavity(hu, SPACING_MM)

    assert not found[30:34, 30:34].any() and not found[40:44, 30:34].any() and not found[30:34, 44:48].any()


def test_the_distance_is_measured_within_a_slice_and_endless_where_it_is_full():
    mask = np.zeros((5, 5, 2), bool)
    mask[1:4, 1:4, 0] = True
    mask[:, :, 1] = True

    distance = in_plane_distance_mm(mask, (2.0, 3.0, 5.0))

    assert distance[2, 2, 0] == 4.0 and distance[1, 2, 0] == 2.0 and distance[0, 0, 0] == 0.0
    assert np.isinf(distance[:, :, 1]).all()
