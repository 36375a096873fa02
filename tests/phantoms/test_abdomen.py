"""The abdomen phantom: reproducible, oriented as told, learnable but not by a threshold."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion, label

from lib.phantoms.abdomen import ORIENTATIONS, STRUCTURES, AbdomenParameters, draw_abdomen, random_parameters
from lib.phantoms.anatomy import TISSUE
from lib.phantoms.scanner import grainy_noise, oriented_grid, slow_field, world_points

CLEAN = AbdomenParameters(seed=3, noise_hu=0, shading_hu=0, cupping_hu=0, blur_mm=0)


@pytest.fixture(scope="module")
def noisy():
    return draw_abdomen(AbdomenParameters(seed=3))


@pytest.fixture(scope="module")
def clean():
    return draw_abdomen(CLEAN)


def reoriented(array, affine):
    """The array with its axes to right, front and head; the affine must not be oblique."""
    axes = np.argmax(np.abs(affine[:3, :3]), axis=1)
    array = array.transpose(axes)
    flips = [axis for axis in range(3) if affine[axis, axes[axis]] < 0]
    return np.flip(array, flips)


def test_equal_parameters_give_equal_voxels_and_another_seed_another_patient(noisy):
    again, other = draw_abdomen(AbdomenParameters(seed=3)), draw_abdomen(AbdomenParameters(seed=4))

    np.testing.assert_array_equal(noisy.image, again.image)
    np.testing.assert_array_equal(noisy.mask, again.mask)
    assert (noisy.mask != other.mask).any()


def test_image_and_mask_have_the_promised_types_and_hold_all_structures(noisy):
    assert noisy.image.dtype == np.int16 and noisy.mask.dtype == np.uint8
    assert noisy.image.shape == noisy.mask.shape == (64, 64, 25)
    assert set(np.unique(noisy.mask)) == {0, *STRUCTURES.values()}
    assert all(TISSUE[name] == value for name, value in STRUCTURES.items())


@pytest.mark.parametrize("seed", range(8))
def test_every_patient_has_a_liver_a_spleen_and_two_kidneys_of_plausible_size(seed):
    phantom = draw_abdomen(replace(CLEAN, seed=seed, samples_per_edge=1))
    voxel_ml = abs(np.linalg.det(phantom.affine[:3, :3])) / 1000
    liver_ml, spleen_ml, kidney_ml = ((phantom.mask == value).sum() * voxel_ml for value in (1, 2, 3))
    right_of_middle = world_points((64, 64, 25), phantom.affine)[0] > 0

    assert 350 < liver_ml < 1500 and 60 < spleen_ml < 400 and 80 < kidney_ml < 400
    assert (phantom.mask[right_of_middle] == 3).any() and (phantom.mask[~right_of_middle] == 3).any()
    assert not (phantom.mask[right_of_middle] == 2).any()


@pytest.mark.parametrize("contrast_agent", [0.0, 0.5])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_inside_an_organ_a_clean_scan_holds_exactly_the_hu_asked_for(structure, contrast_agent):
    parameters = replace(CLEAN, contrast_agent=contrast_agent)
    phantom = draw_abdomen(parameters)
    inside = binary_erosion(phantom.mask == STRUCTURES[structure], iterations=2)

    assert np.unique(phantom.image[inside]).tolist() == [round(parameters.mean_hu(structure))]


def test_a_voxel_on_the_skin_holds_air_and_fat_by_its_eight_samples():
    clean = draw_abdomen(replace(CLEAN, seed=10))  # thick fat: no voxel reaches from air to muscle
    air, fat = CLEAN.mean_hu("air"), CLEAN.mean_hu("fat")
    rooms, _ = label(clean.image == air)
    skin = binary_dilation(rooms == rooms[0, 0, 0]) & (clean.image > air) & (clean.image < fat)

    eighths = (clean.image[skin] - air) / (fat - air) * 8

    assert set(np.unique(eighths.round(2))) <= {1, 2, 3, 4, 5, 6, 7}
    assert len(np.unique(eighths.round())) >= 4 and skin.sum() > 1000


def test_a_threshold_does_not_find_the_organs(noisy):
    for value in STRUCTURES.values():
        truth = noisy.mask == value
        low, high = np.percentile(noisy.image[truth], [5, 95])
        found = (noisy.image >= low) & (noisy.image <= high)
        dice = 2 * (truth & found).sum() / (truth.sum() + found.sum())
        assert dice < 0.75


def test_noise_has_the_strength_asked_for(clean):
    noise = draw_abdomen(replace(CLEAN, noise_hu=20)).image.astype(float) - clean.image

    inside = clean.image > -900  # air is cut at -1024
    assert noise[inside].std() == pytest.approx(20, rel=0.03)
    assert noise[inside].mean() == pytest.approx(0, abs=0.5)


def test_neighbours_in_the_noise_are_alike_and_the_slow_field_stays_within_one():
    rng = np.random.default_rng(0)
    noise, field = grainy_noise(rng, (40, 40, 20), 0.6), slow_field(rng, (40, 40, 20))

    assert noise.std() == pytest.approx(1)
    assert 0.2 < (noise[1:] * noise[:-1]).mean() < 0.7
    assert np.abs(field).max() == pytest.approx(1)
    assert np.abs(np.diff(field, axis=0)).max() < 0.2


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_orientation_shows_the_same_patient(orientation, clean):
    turned = draw_abdomen(replace(CLEAN, orientation=orientation))

    np.testing.assert_array_equal(reoriented(turned.mask, turned.affine), clean.mask)
    np.testing.assert_array_equal(reoriented(turned.image, turned.affine), clean.image)


def test_the_affine_of_a_grid_follows_from_orientation_spacing_and_centre():
    shape, affine = oriented_grid("PIR", (60, 50, 20), (4.0, 3.0, 6.0), (10.0, 20.0, 30.0), (0.0, 0.0, 0.0))

    assert shape == (50, 20, 60)
    expected = [[0, 0, 4, 10 - 4 * 29.5], [-3, 0, 0, 20 + 3 * 24.5], [0, -6, 0, 30 + 6 * 9.5], [0, 0, 0, 1]]
    np.testing.assert_allclose(affine, expected, atol=1e-12)


def test_a_tilt_turns_the_grid_about_its_centre_and_keeps_the_spacing():
    _, affine = oriented_grid("RAS", (3, 3, 3), (4.0, 3.0, 6.0), (0.0, 0.0, 0.0), (0.0, 0.0, 30.0))

    np.testing.assert_allclose(np.linalg.norm(affine[:3, :3], axis=0), [4, 3, 6])
    np.testing.assert_allclose(affine @ [1, 1, 1, 1], [0, 0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(affine[:3, 0], [4 * np.sqrt(3) / 2, 2, 0], atol=1e-12)


@pytest.mark.parametrize("orientation", ["RAR", "XYZ", "RA"])
def test_an_orientation_must_name_each_axis_once(orientation):
    with pytest.raises(ValueError, match=rf"'{orientation}' does not name each patient axis once"):
        oriented_grid(orientation, (3, 3, 3), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))


@pytest.mark.parametrize("seed", range(6))
def test_the_lower_view_shows_kidney_only(seed):
    phantom = draw_abdomen(random_parameters(seed, "RAS", view="lower"))

    assert set(np.unique(phantom.mask)) == {0, STRUCTURES["kidney"]}


def test_the_lower_view_cannot_be_tilted():
    with pytest.raises(ValueError, match=r"tilt of \(5.0, 0.0, 0.0\) degrees; it must lie straight"):
        AbdomenParameters(seed=1, view="lower", tilt_deg=(5.0, 0.0, 0.0))


def test_random_parameters_stay_within_their_ranges():
    drawn = [random_parameters(seed, "LPS") for seed in range(100)]

    assert all(56 <= p.shape[0] <= 72 and 53 <= p.shape[1] <= 72 and 20 <= p.shape[2] <= 30 for p in drawn)
    assert all(3.5 <= p.spacing_mm[0] <= 4.4 and 5.2 <= p.spacing_mm[2] <= 7.4 for p in drawn)
    assert 30 < sum(p.contrast_agent == 0 for p in drawn) < 70
    assert 20 < sum(any(p.tilt_deg) for p in drawn) < 60
