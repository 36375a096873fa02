"""Surface distances of drawn masks, with values from geometry."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lib.errors import GridMismatch
from lib.metrics import surface as surface_module
from lib.metrics.surface import assd_mm, hd95_mm, surface_distances

EVEN = (1.0, 1.0, 1.0)


def block(shape: tuple[int, int, int], *spans: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*span) for span in spans)] = True
    return mask


METRICS = pytest.mark.parametrize("metric", [hd95_mm, assd_mm])


@METRICS
def test_equal_masks_have_no_distance(metric):
    mask = block((9, 9, 9), (2, 6), (2, 6), (2, 6))

    assert metric(mask, mask, EVEN) == 0.0


@METRICS
def test_two_parallel_planes_are_their_distance_apart(metric):
    near, far = block((6, 6, 9), (0, 6), (0, 6), (2, 3)), block((6, 6, 9), (0, 6), (0, 6), (5, 6))

    assert metric(near, far, (1.0, 1.0, 2.0)) == 6.0


@pytest.mark.parametrize(("axis", "distance_mm"), [(0, 2 * 0.5), (1, 2 * 1.0), (2, 2 * 4.0)])
@METRICS
def test_a_single_voxel_moved_by_two_is_two_edges_away(metric, axis, distance_mm):
    truth = block((9, 9, 9), (3, 4), (3, 4), (3, 4))

    assert metric(truth, np.roll(truth, 2, axis), (0.5, 1.0, 4.0)) == pytest.approx(distance_mm)


def test_the_larger_direction_counts():
    """Every voxel of the short rod is on the long one, whose far end is nine millimetres from the short one."""
    short, long = block((30, 3, 3), (0, 1), (1, 2), (1, 2)), block((30, 3, 3), (0, 21), (1, 2), (1, 2))

    assert hd95_mm(short, long, EVEN) == hd95_mm(long, short, EVEN) == 19.0


def test_the_average_is_over_the_surface_voxels_of_both_masks_together():
    """One voxel, and a rod of three that holds it: 0 mm there; 0, 1 and 2 mm back; four voxels."""
    short, long = block((9, 3, 3), (2, 3), (1, 2), (1, 2)), block((9, 3, 3), (2, 5), (1, 2), (1, 2))

    assert assd_mm(short, long, EVEN) == assd_mm(long, short, EVEN) == 3 / 4


def test_both_figures_come_from_the_same_distances():
    short, long = block((9, 3, 3), (2, 3), (1, 2), (1, 2)), block((9, 3, 3), (2, 5), (1, 2), (1, 2))
    distances = surface_distances(short, long, EVEN)

    assert distances.from_truth_mm.tolist() == [0] and sorted(distances.from_prediction_mm) == [0, 1, 2]
    assert (distances.hd95_mm, distances.assd_mm) == (hd95_mm(short, long, EVEN), assd_mm(short, long, EVEN))


def test_a_few_stray_voxels_do_not_count():
    """One stray voxel among 99 surface voxels is beyond the 95th percentile."""
    truth = block((120, 3, 3), (0, 98), (1, 2), (1, 2))
    prediction = truth | block((120, 3, 3), (119, 120), (1, 2), (1, 2))

    assert hd95_mm(truth, prediction, EVEN) == 0.0


def test_the_inside_is_no_surface():
    """A hollow cube and a full one share their outer surface; the hollow one adds its inner wall."""
    full = block((20, 20, 20), (2, 18), (2, 18), (2, 18))
    hollow = full & ~block((20, 20, 20), (9, 11), (9, 11), (9, 11))

    assert hd95_mm(full, hollow, EVEN) == 0.0


def test_in_an_image_of_one_slice_the_surface_is_the_outline():
    """All of the small square's outline is five pixels inside the large one's, whose corners are farthest off."""
    large, small = block((21, 21, 1), (0, 21), (0, 21), (0, 1)), block((21, 21, 1), (5, 16), (5, 16), (0, 1))

    distances = surface_distances(small, large, EVEN)

    assert distances.from_truth_mm.tolist() == [5.0] * 40
    assert len(distances.from_prediction_mm) == 80
    assert (distances.from_prediction_mm.min(), distances.from_prediction_mm.max()) == (5.0, pytest.approx(50**0.5))


SET, EMPTY = block((4, 4, 4), (1, 2), (1, 2), (1, 2)), np.zeros((4, 4, 4), bool)


@METRICS
@pytest.mark.parametrize(
    ("truth", "prediction", "expected"),
    [(EMPTY, EMPTY, math.nan), (EMPTY, SET, math.inf), (SET, EMPTY, math.inf)],
    ids=["both empty", "truth empty", "prediction empty"],
)
def test_what_an_empty_mask_means(metric, truth, prediction, expected):
    np.testing.assert_equal(metric(truth, prediction, EVEN), expected)


@METRICS
def test_masks_of_other_shapes_are_refused(metric):
    with pytest.raises(GridMismatch, match=r"2x2x2 .* 2x2x3"):
        metric(np.zeros((2, 2, 2), bool), np.zeros((2, 2, 3), bool), EVEN)


def test_of_an_organ_only_the_surface_is_compared(monkeypatch):
    """Its inside has five times as many voxels, and the time goes by those that are compared."""
    truth = block((40, 60, 50), (5, 30), (10, 50), (10, 40))
    compared: list[int] = []
    tree = surface_module.cKDTree
    monkeypatch.setattr(surface_module, "cKDTree", lambda points: compared.append(len(points)) or tree(points))

    hd95_mm(truth, np.roll(truth, (1, 2, -1), (0, 1, 2)), EVEN)

    assert compared == [25 * 40 * 30 - 23 * 38 * 28] * 2
