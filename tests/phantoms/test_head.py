"""The head phantom: reproducible, oriented as told, five bleeds that look like their textbook description."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion

from lib.phantoms.brain import BLEEDS, TISSUE, inner_depth_mm, random_head, tissue_at
from lib.phantoms.head import HeadParameters, draw_head, random_parameters
from lib.phantoms.scanner import world_points

COARSE = HeadParameters(seed=3, shape=(64, 74, 20), spacing_mm=(3.0, 3.0, 7.2))
QUIET = replace(COARSE, noise_hu=0, streaks_hu=0, cupping_hu=0, shading_hu=0, blur_mm=0)


def drawn(kind, seed=3, volume_ml=25.0, **changes):
    return draw_head(replace(QUIET, seed=seed, bleeds=(kind,), bleed_ml=(volume_ml, volume_ml), **changes))


def voxel_ml(phantom):
    return abs(np.linalg.det(phantom.affine[:3, :3])) / 1000


def reoriented(array, affine):
    """The array with its axes to right, front and head; the affine must not be oblique."""
    axes = np.argmax(np.abs(affine[:3, :3]), axis=1)
    flips = [axis for axis in range(3) if affine[axis, axes[axis]] < 0]
    return np.flip(array.transpose(axes), flips)


def depth_mm(phantom, seed):
    """Depth below the skull of every voxel, from the same random stream as the phantom's."""
    head = random_head(np.random.default_rng([seed, 2]), QUIET.deformation_mm, False)
    return inner_depth_mm(head, world_points(phantom.mask.shape, phantom.affine))


def test_equal_parameters_give_equal_voxels_and_another_seed_another_patient():
    parameters = replace(COARSE, bleeds=("IPH", "SDH"))
    first, again = draw_head(parameters), draw_head(parameters)
    other = draw_head(replace(parameters, seed=4))

    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.mask, again.mask)
    assert (first.image != other.image).any() and (first.mask != other.mask).any()


def test_label_values_are_the_places_of_the_tissues():
    assert {name: TISSUE[name] for name in BLEEDS} == BLEEDS == {"EDH": 1, "IPH": 2, "IVH": 3, "SAH": 4, "SDH": 5}


def test_image_and_mask_have_the_promised_types_and_a_healthy_head_an_empty_mask():
    healthy = draw_head(COARSE)

    assert healthy.image.dtype == np.int16 and healthy.mask.dtype == np.uint8
    assert healthy.image.shape == healthy.mask.shape == (64, 74, 20)
    assert not healthy.mask.any()


@pytest.mark.parametrize("kind", BLEEDS)
@pytest.mark.parametrize("seed", [1, 2])
def test_each_bleed_is_drawn_with_its_own_value_and_about_its_volume(kind, seed):
    phantom = drawn(kind, seed)
    least = 0.2 if kind in ("SAH", "SDH") else 0.5  # thin blood fills few voxels by half

    assert set(np.unique(phantom.mask)) == {0, BLEEDS[kind]}
    assert least * 25 < (phantom.mask > 0).sum() * voxel_ml(phantom) < 1.3 * 25


def test_several_bleeds_coexist_and_extra_axial_ones_take_one_side_each():
    phantom = draw_head(replace(QUIET, bleeds=tuple(BLEEDS), bleed_ml=(20.0, 30.0)))
    right_mm = world_points(phantom.mask.shape, phantom.affine)[0]

    assert set(np.unique(phantom.mask)) == {0, 1, 2, 3, 4, 5}
    assert right_mm[phantom.mask == 1].mean() * right_mm[phantom.mask == 5].mean() < 0


@pytest.mark.parametrize("kind", ["EDH", "SDH"])
def test_blood_outside_the_brain_lies_against_the_skull(kind):
    phantom = drawn(kind)

    depth = depth_mm(phantom, 3)[phantom.mask > 0]

    assert depth.min() < 4 and (depth > -3).all()


def test_extradural_blood_is_thick_where_subdural_blood_is_wide():
    edh, sdh = drawn("EDH"), drawn("SDH")
    edh_depth, sdh_depth = (depth_mm(one, 3)[one.mask > 0] for one in (edh, sdh))
    edh_extent, sdh_extent = (
        np.ptp(world_points(one.mask.shape, one.affine)[:, one.mask > 0], axis=1).max() for one in (edh, sdh)
    )

    assert edh_depth.max() > 12 > 9 > sdh_depth.max()
    assert sdh_extent > 1.3 * edh_extent


def test_blood_in_the_brain_is_deep_and_has_an_oedema_around_it():
    phantom = drawn("IPH", volume_ml=40.0)
    ring = binary_dilation(phantom.mask > 0, iterations=1) & (phantom.mask == 0)

    assert np.median(phantom.image[ring]) < 37
    assert np.median(phantom.image[binary_erosion(phantom.mask > 0)]) > 55


def test_blood_in_the_ventricles_sinks_to_the_back():
    phantom = drawn("IVH", volume_ml=8.0)
    healthy = draw_head(replace(QUIET, seed=3))
    front_mm = world_points(phantom.mask.shape, phantom.affine)[1]
    changed = (phantom.mask == 0) & (healthy.image < 12) & (healthy.image > 0) & (depth_mm(phantom, 3) > 25)

    assert np.median(front_mm[phantom.mask > 0]) < np.median(front_mm[changed]) - 10
    assert (healthy.image[phantom.mask > 0] < 30).mean() > 0.8


def test_subarachnoid_blood_is_thin_where_blood_in_the_brain_is_thick():
    def share_of_core(kind):
        blood = drawn(kind, volume_ml=30.0, shape=(96, 112, 24), spacing_mm=(2.0, 2.0, 6.0)).mask > 0
        return binary_erosion(blood, np.ones((5, 5, 1))).sum() / blood.sum()

    assert share_of_core("SAH") < 0.15 and share_of_core("IPH") > 0.3


def test_a_healthy_head_has_all_that_is_as_dense_as_blood_or_denser():
    """Otherwise a threshold would find the bleeds."""
    head = random_head(np.random.default_rng(0), 3.0, True)
    steps = [np.arange(-half, half, 2.0, dtype=np.float32) for half in (90, 120, 80)]
    tissue = tissue_at(head, np.stack(np.meshgrid(*steps, indexing="ij")))

    assert {"dura", "sinus", "calcification", "cells", "holder", "csf", "ventricle"} <= {
        name for name, place in TISSUE.items() if (tissue == place).any()
    }


def test_contrast_zero_makes_blood_as_dense_as_grey_matter():
    phantom = drawn("IPH", bleed_contrast=0.0)

    assert np.median(phantom.image[phantom.mask > 0]) == 37


def test_bone_is_never_labelled():
    phantom = draw_head(replace(QUIET, bleeds=tuple(BLEEDS)))

    assert phantom.image[phantom.mask > 0].max() <= 130


def test_noise_has_the_strength_asked_for():
    clean = draw_head(QUIET).image.astype(float)
    noise = draw_head(replace(QUIET, noise_hu=5.0)).image - clean

    inside = (clean > -900) & (clean < 2900)
    assert noise[inside].std() == pytest.approx(5, rel=0.05)


def test_streaks_disturb_the_base_and_not_the_vertex():
    clean, streaked = draw_head(QUIET), draw_head(replace(QUIET, streaks_hu=20.0))
    change = np.abs(streaked.image.astype(float) - clean.image).max(axis=(0, 1))
    height_mm = world_points(clean.mask.shape, clean.affine)[2][0, 0]

    assert change[np.abs(height_mm + 45) < 10].max() > 10
    assert change[height_mm > 20].max() <= 1


@pytest.mark.parametrize("orientation", ["LPS", "PIR"])
def test_every_orientation_shows_the_same_patient(orientation):
    parameters = replace(QUIET, bleeds=("EDH", "IVH"))
    straight, turned = draw_head(parameters), draw_head(replace(parameters, orientation=orientation))

    np.testing.assert_array_equal(reoriented(turned.mask, turned.affine), straight.mask)
    np.testing.assert_array_equal(reoriented(turned.image, turned.affine), straight.image)


def test_the_image_does_not_depend_on_how_many_points_are_looked_at_together(monkeypatch):
    whole = draw_head(replace(QUIET, bleeds=("SDH",)))
    monkeypatch.setattr("lib.phantoms.head.SLAB_POINTS", 20_000)
    pieces = draw_head(replace(QUIET, bleeds=("SDH",)))

    np.testing.assert_array_equal(whole.mask, pieces.mask)
    np.testing.assert_allclose(whole.image, pieces.image, atol=1)


@pytest.mark.parametrize("bleeds", [("EDH", "epidural"), ("SAH", "SAH")])
def test_bleeds_must_be_known_and_named_once(bleeds):
    with pytest.raises(ValueError, match=r"Bleeds were given as .* name each of EDH, IPH, IVH, SAH, SDH at most once"):
        HeadParameters(seed=1, bleeds=bleeds)


def test_the_least_volume_comes_first():
    with pytest.raises(ValueError, match=r"\(60.0, 3.0\) ml were asked for; give the least volume, then the greatest"):
        HeadParameters(seed=1, bleed_ml=(60.0, 3.0))


def test_random_parameters_stay_within_their_ranges_and_a_third_is_healthy():
    many = [random_parameters(seed) for seed in range(150)]

    assert 35 < sum(not one.bleeds for one in many) < 65
    assert all(len(one.bleeds) <= 3 for one in many) and {kind for one in many for kind in one.bleeds} == set(BLEEDS)
    assert all(1.9 <= one.spacing_mm[0] <= 2.1 and 5.0 <= one.spacing_mm[2] <= 6.5 for one in many)
    assert all(abs(one.tilt_deg[0]) <= 15 for one in many) and any(one.tilt_deg[0] for one in many)
    assert random_parameters(5, ("SAH",)).bleeds == ("SAH",)
