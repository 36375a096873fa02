"""A series as the source of a segmentation: order, places, frame of reference."""

from __future__ import annotations

import numpy as np
import pytest

from lib.dicom.source import read_source
from lib.errors import GridMismatch
from lib.series import read_series
from tests.dicom.drawing import leaning, mammogram, stack


def test_slices_stand_in_the_order_of_their_places_on_the_grid_of_the_volume(tmp_path):
    paths = stack(tmp_path, "RAS", (8.0, -5.0, 11.0))

    series = read_source(paths[::-1])

    heights = [one.position_mm for one in series.slices]
    assert heights == sorted(heights)
    assert series.grid.is_same_as(read_series(paths).grid)


def test_each_slice_lies_on_the_grid(tmp_path):
    series = read_source(stack(tmp_path, tilt_deg=(8.0, -5.0, 11.0)))

    for k in range(4):
        np.testing.assert_allclose(series.slice_grid(k).affine[:, 3], series.grid.affine @ [0, 0, k, 1], atol=1e-6)
        np.testing.assert_allclose(series.slice_grid(k).affine[:, :3], series.grid.affine[:, :3], atol=1e-6)


@pytest.mark.parametrize(("height_mm", "k"), [(-9, 0), (2.4, 0), (2.6, 1), (10, 2), (99, 3)])
def test_the_nearest_slice_is_found_along_the_stack(tmp_path, height_mm, k):
    series = leaning(tmp_path, [(0, number, 5 * number) for number in range(4)])

    assert series.nearest((70, -70, height_mm)) == k


@pytest.mark.parametrize("found", ["", "same"])
def test_the_same_frame_of_reference_or_none_is_accepted(tmp_path, found):
    series = read_source(stack(tmp_path))

    series.refuse_other_frame_of_reference(series.frame_of_reference_uid if found else "", "It")


def test_a_radiograph_may_be_in_any_frame_of_reference(tmp_path):
    series = mammogram(tmp_path)

    series.refuse_other_frame_of_reference("1.2.3", "It")

    assert (series.is_projection, series.frame_of_reference_uid) == (True, "")


def test_another_frame_of_reference_is_refused(tmp_path):
    series = read_source(stack(tmp_path))

    with pytest.raises(GridMismatch, match=r"It lies in the frame of reference 1\.2\.3, the image"):
        series.refuse_other_frame_of_reference("1.2.3", "It")
