"""What a mask shows is told in the units of its image."""

import numpy as np
import pytest

from lib.metrics.findings import findings
from lib.task import Task, numbered
from lib.volume import Grid
from tests.drawn import drawn

BLEEDS = Task("hemorrhage", "Bleeds", numbered(["EDH", "IPH", "IVH"]), flag_ml=1.0)
MASSES = Task("mass", "Masses", numbered(["mass"]), is_flat=True)


def shown(mask, spacing_mm, task, maker="model", **more):
    return findings(mask, Grid(mask.shape, np.diag([*spacing_mm, 1.0])), task, maker, **more)


def test_volumes_are_told_in_ml_and_what_was_not_found_is_named():
    mask = np.zeros((10, 10, 10), np.uint8)
    mask[:5, :, :] = 2
    mask[9, 9, 9] = 3

    found = shown(mask, (1.0, 1.0, 5.0), BLEEDS)

    # 500 voxels of 5 mm³, and one.
    assert found.summary == "IPH 2.5 ml, IVH 0.0 ml; the model found no EDH."


@pytest.mark.parametrize("maker", ["rule", "model", "refiner"])
def test_an_empty_mask_says_who_found_nothing_and_what_was_looked_for_not_that_nothing_is_there(maker):
    found = shown(np.zeros((4, 4, 4), np.uint8), (1.0, 1.0, 1.0), BLEEDS, maker)

    assert found.summary == f"The {maker} found nothing; it looked for EDH, IPH, IVH."
    assert found.flag is not None and not found.flag.positive


@pytest.mark.parametrize(("voxels", "is_positive"), [(199, False), (200, True)])
def test_a_case_is_flagged_from_the_threshold_on(voxels, is_positive):
    mask = np.zeros((200, 1, 1), np.uint8)
    mask[:voxels] = 1

    flag = shown(mask, (1.0, 1.0, 5.0), BLEEDS).flag

    assert flag is not None
    assert (flag.positive, flag.threshold_ml) == (is_positive, 1.0)


@pytest.mark.parametrize(("edge_mm", "voxels"), [(1.0, 996), (1.0, 999), (0.1, 999_999), (2.0, 124)])
def test_a_volume_below_the_threshold_is_not_rounded_up_to_it(edge_mm, voxels):
    mask = np.zeros((1000, 1000, 1), np.uint8)
    mask.ravel()[:voxels] = 1

    flag = shown(mask, (edge_mm, edge_mm, edge_mm), BLEEDS).flag

    assert flag is not None and not flag.positive
    assert flag.found_ml == pytest.approx(voxels * edge_mm**3 / 1000, abs=1e-9) and flag.found_ml < 1.0


@pytest.mark.parametrize("spacing_mm", [(0.1, 0.1, 0.1), (0.5, 0.5, 5.0), (0.4, 0.5, 5.0)])
def test_a_volume_that_reaches_the_threshold_exactly_is_flagged_however_it_is_shared_among_structures(spacing_mm):
    voxels = round(1000 / np.prod(spacing_mm))
    mask = np.zeros((1000, 1000, 1), np.uint8)
    mask.ravel()[:voxels] = 1
    mask.ravel()[: voxels // 3] = 2
    mask.ravel()[: voxels // 7] = 3

    flag = shown(mask, spacing_mm, BLEEDS).flag

    assert flag is not None and flag.positive and flag.found_ml == 1.0


def test_the_largest_lesion_comes_first_also_where_areas_in_mm2_are_equal_when_rounded():
    mask = np.zeros((30, 30, 1), np.uint8)
    mask[2:12, 2] = 1
    mask[2:13, 10] = 1

    lesions = shown(mask, (0.02, 0.02, 1.0), MASSES).lesions

    assert [lesion.area_mm2 for lesion in lesions] == [0.0, 0.0]
    assert [np.ptp(np.array(lesion.contour)[:, 0]) for lesion in lesions] == [11.0, 10.0]


def test_pixels_that_touch_at_a_corner_are_one_lesion():
    mask = drawn("""
        . . . . . .
        . # # . . .
        . . . # # .
        . . . . . .
        . # . . . .
    """)

    lesions = shown(mask, (1.0, 1.0, 1.0), MASSES).lesions

    assert [lesion.area_mm2 for lesion in lesions] == [4.0, 1.0]


def test_a_task_without_a_threshold_flags_nothing():
    assert shown(np.zeros((2, 2, 1), np.uint8), (1.0, 1.0, 1.0), MASSES).flag is None


def test_masses_are_measured_one_by_one_largest_first():
    mask = drawn("""
        . . . . . .
        . # # # # .
        . . . . . .
        . # . . . .
    """)

    found = shown(mask, (2.0, 0.5, 1.0), MASSES)

    large, small = found.lesions
    assert (large.area_mm2, small.area_mm2) == (4.0, 1.0)
    assert found.summary.startswith("2 x mass; the largest ")


def test_an_image_without_masses_says_who_found_none():
    found = shown(np.zeros((4, 4, 1), np.uint8), (1.0, 1.0, 1.0), MASSES, "rule")

    assert found.summary == "The rule found nothing; it looked for mass."


def test_what_is_measured_is_told_in_millimetres():
    """A square of 4 by 4 pixels whose outline cuts half a pixel off its corners."""
    mask = np.zeros((8, 8, 1), np.uint8)
    mask[2:6, 2:6] = 1

    found = shown(mask, (10.0, 10.0, 1.0), MASSES)

    assert found.summary == "1 x mass; the largest 50 mm across, 1600 mm2."
    assert found.lengths_in == "mm"


def test_without_a_pixel_size_pixels_are_told_and_no_millimetres():
    mask = np.zeros((80, 80, 1), np.uint8)
    mask[20:60, 20:60] = 1

    found = shown(mask, (1.0, 1.0, 1.0), MASSES, is_measured=False)

    assert "an area of 1600 pixels, whose size the image does not tell" in found.summary
    assert "pixels across" in found.summary and "mm" not in found.summary
    assert found.lengths_in == "pixels"


def test_the_longest_diameter_counts_spacing():
    """Ten by one pixels: the outline at half height runs through the middle of the edges between pixels."""
    mask = np.zeros((14, 5, 1), np.uint8)
    mask[2:12, 2] = 1

    (lesion,) = shown(mask, (0.5, 0.5, 1.0), MASSES).lesions

    assert lesion.longest_diameter_mm == pytest.approx(10 * 0.5)


def test_the_outline_is_closed_and_lies_around_the_lesion_in_pixels_of_the_image():
    mask = np.zeros((20, 30, 1), np.uint8)
    mask[10:14, 20:26] = 1

    (lesion,) = shown(mask, (1.0, 1.0, 1.0), MASSES).lesions

    outline = np.array(lesion.contour)
    assert outline[0].tolist() == outline[-1].tolist()
    assert outline.min(axis=0).tolist() == [9.5, 19.5]
    assert outline.max(axis=0).tolist() == [13.5, 25.5]


def test_a_lesion_at_the_border_of_the_image_has_a_closed_outline():
    mask = np.zeros((8, 8, 1), np.uint8)
    mask[:3, :3] = 1

    (lesion,) = shown(mask, (1.0, 1.0, 1.0), MASSES).lesions

    assert lesion.contour[0] == lesion.contour[-1]
    assert lesion.area_mm2 == 9.0


def test_a_hole_does_not_change_the_outline():
    mask = np.zeros((12, 12, 1), np.uint8)
    mask[1:11, 1:11] = 1
    mask[4:8, 4:8] = 0

    (lesion,) = shown(mask, (1.0, 1.0, 1.0), MASSES).lesions

    assert np.array(lesion.contour).min() == 0.5
