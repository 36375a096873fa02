"""The mass draft: the breast is parted from markers and muscle, and what is bright, round and alone is found."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from lib.drafts import RULES
from lib.drafts.breast import breast_region
from lib.drafts.mass import Film, candidates, mass
from lib.phantoms.breast import BreastParameters, draw_mammogram
from lib.task import Task, numbered
from lib.volume import Volume

TASK = Task("mass", "Breast masses", numbered(["mass"]))


def film(discs=(), lines=(), marker=True, pixel_mm=0.5, noise=3.0):
    """A half disc of 90 mm radius, grey 100, at the left edge of an image of 120 x 200 mm, as a volume.

    ``discs`` are (x, y, radius, brightness) in mm, ``lines`` are rows in mm, 1.5 mm wide and as bright as the discs.
    """
    x, y = np.meshgrid(np.arange(0, 120, pixel_mm), np.arange(0, 200, pixel_mm), indexing="ij")
    breast = np.hypot(x, y - 100) < 90
    plane = np.where(breast, 100.0, 0)
    for cx, cy, radius, bright in discs:
        plane += bright * (np.hypot(x - cx, y - cy) < radius)
    for row in lines:
        plane += 60 * ((np.abs(y - row) < 0.75) & breast)
    if marker:
        plane[(x > 100) & (x < 116) & (y > 5) & (y < 17)] = 250
    plane = gaussian_filter(plane, 0.5 / pixel_mm)
    plane += noise * np.random.default_rng(0).standard_normal(plane.shape)
    return Volume(plane.astype(np.float32)[:, :, None], np.diag([-pixel_mm, -pixel_mm, 1, 1])), breast


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def near(found, x_mm, y_mm, pixel_mm=0.5, within_mm=2.0):
    return np.hypot(found.centre[0] * pixel_mm - x_mm, found.centre[1] * pixel_mm - y_mm) < within_mm


# --- the breast ------------------------------------------------------------------------------------------------------


def test_the_region_is_the_breast_without_the_marker():
    volume, breast = film()

    region = breast_region(volume.voxels[:, :, 0], 0.5)

    assert dice(region, breast) > 0.98
    assert not region[200:, :40].any()


def test_a_white_film_border_at_the_other_edge_is_no_breast():
    volume, breast = film()
    plane = volume.voxels[:, :, 0].copy()
    plane[-12:] = 250

    assert dice(breast_region(plane, 0.5), breast) > 0.98


@pytest.mark.parametrize("flips", [(), (0,), (1,), (0, 1)])
@pytest.mark.parametrize("is_turned", [False, True])
def test_the_muscle_is_left_out_whichever_way_the_breast_lies(flips, is_turned):
    volume, breast = film()
    i, j = np.ogrid[: breast.shape[0], : breast.shape[1]]
    muscle = (i * 0.5 / 45 + (j * 0.5 - 12) / 100 < 1) & breast
    plane = volume.voxels[:, :, 0] + 50 * muscle
    plane, muscle, breast = (np.flip(array, flips) for array in (plane, muscle, breast))
    if is_turned:
        plane, muscle, breast = plane.T, muscle.T, breast.T

    region = breast_region(plane, 0.5)

    assert (region & muscle).sum() < 0.12 * muscle.sum()
    assert (region & ~muscle).sum() > 0.9 * (breast & ~muscle).sum()


@pytest.mark.parametrize("seed", range(3))
def test_a_view_from_above_loses_nothing_to_a_muscle(seed):
    phantom = draw_mammogram(BreastParameters(seed=seed, shape=(256, 320)))
    plane = phantom.image[:, :, 0].astype(float)

    region = breast_region(plane, 0.7)

    assert region.sum() > 0.95 * (gaussian_filter(plane, 1) > 300).sum()


def test_an_even_image_has_no_breast():
    assert not breast_region(np.full((50, 40), 7.0), 0.5).any()


# --- candidates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [4, 7, 12])
def test_a_bright_disc_is_the_first_candidate_with_about_its_radius(radius):
    found = candidates(film([(40, 90, radius, 40)])[0])

    assert near(found[0], 40, 90)
    assert 0.6 * radius < found[0].radius_mm < 1.6 * radius


def test_a_stronger_disc_comes_before_a_weaker_one():
    found = candidates(film([(30, 60, 7, 15), (40, 130, 7, 40)])[0])

    assert near(found[0], 40, 130) and near(found[1], 30, 60)
    assert found[0].score > found[1].score


def test_a_disc_comes_before_bright_lines():
    found = candidates(film([(40, 90, 6, 30)], lines=(120, 140, 60))[0])

    assert near(found[0], 40, 90)


def test_a_dark_disc_is_no_candidate():
    assert not any(near(one, 40, 90, within_mm=5) for one in candidates(film([(40, 90, 8, -40)])[0]))


def test_candidates_lie_in_the_breast_apart_from_each_other_and_are_not_more_than_ten():
    volume, breast = film([(40, 90, 6, 30)], noise=15)

    found = candidates(volume)

    assert 1 < len(found) <= 10
    assert all(breast[round(one.centre[0]), round(one.centre[1])] for one in found)
    centres = np.array([one.centre for one in found]) * 0.5
    apart = np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1))
    assert apart[~np.eye(len(found), dtype=bool)].min() > 3.5


@pytest.mark.parametrize("pixel_mm", [0.25, 0.5, 1.0])
def test_the_size_of_the_pixels_does_not_matter(pixel_mm):
    found = candidates(film([(40, 90, 7, 40)], pixel_mm=pixel_mm)[0])

    assert near(found[0], 40, 90, pixel_mm)


def test_an_unknown_pixel_size_is_taken_from_the_size_of_a_usual_film():
    """1600 pixels along the longer side are 240 mm, so that the disc of 50 pixels has 7.5 mm."""
    volume, _ = film([(40, 90, 6.25, 40)], pixel_mm=0.125)

    found = candidates(Volume(volume.voxels, np.diag([-1.0, -1, 1, 1])))

    assert near(found[0], 40, 90, 0.125)
    assert found[0].radius_mm in (7.0, 10.0)


# --- the draft -------------------------------------------------------------------------------------------------------


def test_the_rule_has_the_name_that_tasks_ask_for():
    assert RULES["mass"] is mass


def test_the_draft_is_the_best_candidate_with_its_outline():
    volume, _ = film([(30, 60, 7, 15), (40, 130, 8, 40)])
    i, j = np.ogrid[:240, :400]
    disc = np.hypot(i * 0.5 - 40, j * 0.5 - 130) < 8

    draft = mass(volume, TASK)

    assert draft.dtype == np.uint8 and draft.shape == volume.voxels.shape
    assert dice(draft[:, :, 0] > 0, disc) > 0.9


def test_an_oval_is_outlined_as_such():
    x, y = np.meshgrid(np.arange(240) * 0.5, np.arange(400) * 0.5, indexing="ij")
    oval = ((x - 40) / 12) ** 2 + ((y - 100) / 6) ** 2 < 1
    volume = film()[0]
    volume.voxels[:, :, 0] += gaussian_filter(40.0 * oval, 1)

    assert dice(mass(volume, TASK)[:, :, 0] > 0, oval) > 0.9


def test_the_draft_holds_the_value_of_the_task():
    task = Task("mass", "", (TASK.structures[0].__class__("mass", 7, (0, 0, 0)),))

    assert set(np.unique(mass(film([(40, 90, 7, 40)])[0], task))) == {0, 7}


@pytest.mark.parametrize("flips", [(), (0,), (1,), (0, 1)])
@pytest.mark.parametrize("is_turned", [False, True])
def test_the_draft_turns_with_the_image(flips, is_turned):
    phantom = draw_mammogram(BreastParameters(seed=5, view="MLO", contrast=0.24, density=0.2))
    image, truth = (np.flip(array[:, :, 0], flips) for array in (phantom.image, phantom.mask))
    if is_turned:
        image, truth = image.T, truth.T

    draft = mass(Volume(image[:, :, None], phantom.affine), TASK)

    assert dice(draft[:, :, 0] > 0, truth > 0) > 0.6


def test_where_nothing_is_bright_the_draft_is_empty():
    assert not mass(Volume(np.zeros((60, 80, 1), np.uint16), np.diag([-2.0, -2, 1, 1])), TASK).any()


def test_masses_of_phantoms_are_found_among_the_best_three():
    found = 0
    for seed in range(5):
        phantom = draw_mammogram(BreastParameters(seed=200 + seed, shape=(256, 320), contrast=0.2, density=0.3))
        best = candidates(Volume(phantom.image, phantom.affine))[:3]
        found += any(phantom.mask[round(one.centre[0]), round(one.centre[1]), 0] for one in best)

    assert found >= 4


def test_a_mask_in_working_pixels_comes_back_at_its_place():
    volume, _ = film(pixel_mm=0.125)
    loaded = Film.of(volume)
    small = np.zeros(loaded.plane.shape, bool)
    small[20:40, 60:100] = True

    full = loaded.in_full(small)

    assert full.shape == volume.voxels.shape[:2]
    # From the middle between two working pixels to the next: 19.5 to 39.5 and 59.5 to 99.5, four pixels each.
    assert [places.min() for places in np.nonzero(full)] == [79, 239]
    assert [places.max() for places in np.nonzero(full)] == [157, 397]


def test_a_volume_of_several_slices_is_refused():
    with pytest.raises(ValueError, match=r"A mammogram has one slice, found 3"):
        candidates(Volume(np.zeros((9, 9, 3)), np.eye(4)))
