"""The breast phantom: reproducible, the same patient at every matrix size, masses hidden well enough to be a task."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import label

from lib.phantoms.breast import HEIGHT_MM, BreastParameters, draw_mammogram, random_parameters

SMALL = (256, 320)
NORMAL = BreastParameters(seed=3, shape=SMALL, masses=())


@pytest.fixture(scope="module")
def normal():
    return draw_mammogram(NORMAL)


def area_mm2(phantom, parameters):
    return phantom.mask.sum() * parameters.pixel_mm**2


def test_equal_parameters_give_equal_pixels_and_another_seed_another_patient(normal):
    again, other = draw_mammogram(NORMAL), draw_mammogram(replace(NORMAL, seed=4))

    np.testing.assert_array_equal(normal.image, again.image)
    assert (normal.image != other.image).mean() > 0.3


def test_image_mask_and_affine_are_of_one_slice_and_twelve_bits():
    phantom = draw_mammogram(BreastParameters(seed=1, shape=SMALL))

    assert phantom.image.shape == phantom.mask.shape == (*SMALL, 1)
    assert phantom.image.dtype == np.uint16 and phantom.mask.dtype == np.uint8
    assert 3000 < phantom.image.max() <= 4095 and set(np.unique(phantom.mask)) == {0, 1}
    np.testing.assert_array_equal(phantom.affine, np.diag([-HEIGHT_MM / 320, -HEIGHT_MM / 320, 1, 1]))


def test_a_normal_mammogram_has_an_empty_mask(normal):
    assert not normal.mask.any()


@pytest.mark.parametrize("view", ["CC", "MLO"])
def test_the_chest_wall_of_a_left_breast_is_at_the_left_edge_and_a_right_breast_is_its_mirror(view):
    left = draw_mammogram(replace(NORMAL, view=view, noise=0))
    right = draw_mammogram(replace(NORMAL, view=view, noise=0, laterality="R"))

    middle = left.image[:, SMALL[1] // 2, 0]
    assert middle[0] > 800 and middle[-1] == 0
    np.testing.assert_array_equal(right.image, left.image[::-1])


def test_only_the_oblique_view_has_the_muscle_in_the_upper_corner():
    corner = np.s_[:20, :20, 0]
    oblique, above = (draw_mammogram(replace(NORMAL, view=view)).image for view in ("MLO", "CC"))

    assert oblique[corner].mean() > 1.3 * oblique[:20, 200:220, 0].mean()
    assert above[corner].mean() < 0.2 * above[:20, 150:170, 0].mean()


def test_a_marker_brighter_than_the_breast_lies_apart_from_it(normal):
    pieces, count = label(normal.image[:, :, 0] > 400)
    sizes = np.bincount(pieces.ravel())[1:]
    breast = 1 + int(sizes.argmax())
    marker = (pieces > 0) & (pieces != breast)

    assert count > 1 and normal.image[:, :, 0][marker].max() > normal.image[:, :, 0][pieces == breast].max()


def test_a_mass_of_equal_radii_has_the_area_of_its_disc():
    parameters = BreastParameters(seed=5, radius_mm=(8.0, 8.0))
    areas = [area_mm2(draw_mammogram(replace(parameters, seed=seed)), parameters) for seed in range(6)]

    assert np.mean(areas) == pytest.approx(np.pi * 64, rel=0.1)


def test_a_larger_matrix_shows_the_same_patient(normal):
    parameters = BreastParameters(seed=5, shape=SMALL)
    coarse = draw_mammogram(parameters)
    fine_parameters = replace(parameters, shape=(512, 640))
    fine = draw_mammogram(fine_parameters)

    assert area_mm2(fine, fine_parameters) == pytest.approx(area_mm2(coarse, parameters), rel=0.05)
    half = fine.image[::2, ::2, 0].astype(float)
    assert np.corrcoef(half.ravel(), coarse.image[:, :, 0].ravel())[0, 1] > 0.98


@pytest.mark.parametrize("kind", ["round", "spiculated"])
def test_a_mass_is_as_much_brighter_as_its_contrast_says(kind):
    with_mass = replace(NORMAL, masses=(kind,), contrast=0.2, noise=0)
    phantom, without = draw_mammogram(with_mass), draw_mammogram(replace(NORMAL, noise=0))
    added = (phantom.image.astype(int) - without.image)[:, :, 0]
    mask = phantom.mask[:, :, 0] > 0

    # Full brightness is 3600; the breast is thinner towards the skin, which weakens a mass.
    assert 0.1 * 3600 < added[mask].max() <= 0.34 * 3600
    assert np.abs(added[~mask]).mean() < 2 and added[mask].mean() > 100


def test_spicules_run_out_of_a_mass_and_do_not_count_as_mass():
    def brightened_beside(kind):
        drawn = replace(NORMAL, masses=(kind,), contrast=0.2, noise=0)
        phantom, without = draw_mammogram(drawn), draw_mammogram(replace(NORMAL, noise=0))
        return ((phantom.image.astype(int) - without.image > 20) & (phantom.mask == 0)).sum()

    assert brightened_beside("spiculated") > 2 * brightened_beside("round")


def test_two_masses_lie_apart_within_the_breast():
    phantom = draw_mammogram(BreastParameters(seed=8, masses=("round", "spiculated")))

    assert label(phantom.mask)[1] == 2
    assert phantom.image[phantom.mask > 0].min() > 400


def test_a_threshold_does_not_find_the_masses():
    for seed in range(4):
        phantom = draw_mammogram(BreastParameters(seed=seed, shape=SMALL, contrast=0.16))
        truth = phantom.mask > 0
        low, high = np.percentile(phantom.image[truth], [5, 95])
        found = (phantom.image >= low) & (phantom.image <= high)
        assert 2 * (truth & found).sum() / (truth.sum() + found.sum()) < 0.6


def test_noise_grows_with_the_noise_asked_for(normal):
    clean = draw_mammogram(replace(NORMAL, noise=0)).image.astype(float)
    once, twice = normal.image - clean, draw_mammogram(replace(NORMAL, noise=2)).image - clean
    inside = (clean > 500) & (clean < 3500)

    assert twice[inside].std() == pytest.approx(2 * once[inside].std(), rel=0.05)


def test_a_mass_without_room_is_refused():
    with pytest.raises(ValueError, match=r"A mass of 80\.0 mm radius finds no room; draw a smaller radius_mm or fewer"):
        draw_mammogram(BreastParameters(seed=1, shape=SMALL, radius_mm=(80.0, 80.0)))


def test_random_parameters_are_of_all_kinds():
    drawn = [random_parameters(seed) for seed in range(200)]

    assert {(p.laterality, p.view) for p in drawn} == {("L", "CC"), ("R", "CC"), ("L", "MLO"), ("R", "MLO")}
    assert 30 < sum(not p.masses for p in drawn) < 70 and 5 < sum(len(p.masses) == 2 for p in drawn) < 40
    assert {kind for p in drawn for kind in p.masses} == {"round", "spiculated"}
    assert all(0.09 <= p.contrast <= 0.24 and 0.1 <= p.density <= 0.8 for p in drawn)
    assert all(random_parameters(seed, "MLO").view == "MLO" for seed in range(20))


@pytest.mark.parametrize("seed", range(12))
def test_every_random_case_can_be_drawn_with_all_its_masses(seed):
    parameters = replace(random_parameters(seed), shape=SMALL)

    assert label(draw_mammogram(parameters).mask)[1] == len(parameters.masses)
