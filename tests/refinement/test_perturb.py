"""Rough masks made from an expert's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from lib.metrics.overlap import dice
from lib.refinement.perturb import STRONGEST, Perturbation, perturbed, random_perturbations, strength_for
from tests.drawn import drawn

FLAT_MM = (1.0, 1.0, 1.0)
VOLUME_MM = (1.0, 1.0, 3.0)
BOX = drawn("""
    . . . . . .
    . . . . . .
    . . # # . .
    . . # # . .
    . . . . . .
    . . . . . .
""")


def ball(value: int = 1) -> np.ndarray:
    """An egg in 48x48x16 voxels."""
    i, j, k = np.indices((48, 48, 16))
    return (value * (((i - 24) / 14) ** 2 + ((j - 24) / 10) ** 2 + ((k - 8) / 6) ** 2 < 1)).astype(np.uint8)


def test_equal_seeds_give_equal_masks_and_another_seed_another():
    masks = [perturbed(ball(), VOLUME_MM, random_perturbations(ball(), VOLUME_MM, seed)) for seed in (1, 1, 2)]

    assert np.array_equal(masks[0], masks[1]) and not np.array_equal(masks[0], masks[2])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_rough_mask_has_the_grid_and_the_values_of_its_source(axis):
    mask = np.moveaxis(ball(7), 2, axis)
    spacing_mm = [1.0, 1.0, 1.0]
    spacing_mm[axis] = 3.0

    rough = perturbed(mask, tuple(spacing_mm), random_perturbations(mask, tuple(spacing_mm), 3))

    assert (rough.shape, rough.dtype, set(np.unique(rough))) == (mask.shape, np.uint8, {0, 7})


def test_the_source_is_left_as_it_is():
    mask = ball()

    perturbed(mask, VOLUME_MM, random_perturbations(mask, VOLUME_MM, 0))

    assert np.array_equal(mask, ball())


def test_no_strength_changes_only_what_is_merged():
    assert np.array_equal(perturbed(ball(), VOLUME_MM, random_perturbations(ball(), VOLUME_MM, 0, 0.0)), ball())


def test_full_strength_is_as_far_from_the_source_as_trained_readers_from_experts():
    rough = [perturbed(ball(), VOLUME_MM, random_perturbations(ball(), VOLUME_MM, seed)) for seed in range(30)]

    assert 0.60 < np.mean([dice(ball(), mask) for mask in rough]) < 0.70


def test_an_outline_grows_and_shrinks_by_whole_pixels():
    grown = perturbed(BOX, FLAT_MM, {1: Perturbation(growth_mm=1.0)})

    assert (
        grown.tolist()
        == drawn("""
        . . . . . .
        . # # # # .
        . # # # # .
        . # # # # .
        . # # # # .
        . . . . . .
    """).tolist()
    )
    assert not perturbed(BOX, FLAT_MM, {1: Perturbation(growth_mm=-1.0)}).any()


def test_corners_that_move_alike_move_the_structure():
    moved = perturbed(BOX, FLAT_MM, {1: Perturbation(corners=((0.5, -1.0),) * 4)})

    assert moved.tolist() == np.roll(BOX, (1, -2), (0, 1)).tolist()


def test_a_corner_pulled_out_makes_that_side_longer():
    wide = np.zeros((30, 30, 1), np.uint8)
    wide[10:20, 10:20] = 1

    pulled = perturbed(wide, FLAT_MM, {1: Perturbation(corners=((0.0, -0.4), (0, 0), (0, 0), (0.0, 0.4)))})

    assert int(pulled[10].sum()) > 15 and int(pulled[19].sum()) in (10, 11)
    assert not pulled[:10].any() and not pulled[20:].any()


def test_slices_are_dropped_and_shifted_from_the_first_with_the_structure():
    stack = np.zeros((6, 6, 5), np.uint8)
    stack[2:4, 2:4, 1:4] = 1

    rough = perturbed(stack, VOLUME_MM, {1: Perturbation(shifts={1: (0, 2)}, dropped=frozenset({2}))})

    assert np.array_equal(rough[..., 1], stack[..., 1]) and not rough[..., 3].any()
    assert np.array_equal(rough[..., 2], np.roll(stack[..., 2], 2, 1))


def test_holes_are_filled_and_narrow_gaps_closed():
    ring_and_gap = drawn("""
        . . . . . . .
        . # # # # # .
        . # . . . # .
        . # . . . # .
        . # # # # # .
        . . . . . . .
        . # # # # # .
        . . . . . . .
    """)

    merged = perturbed(ring_and_gap, FLAT_MM, {1: Perturbation(gap_mm=2.0)})

    assert merged[1:7, 2:5].all() and not merged[[0, 7]].any() and not merged[:, [0, 6]].any()


def test_a_structure_that_is_not_named_stays():
    both = BOX.copy()
    both[0, 0] = 2

    assert perturbed(both, FLAT_MM, {1: Perturbation(growth_mm=-1.0)}).sum() == 2


def test_an_empty_mask_stays_empty():
    empty = np.zeros((4, 4, 2), np.uint8)

    assert not perturbed(empty, VOLUME_MM, random_perturbations(empty, VOLUME_MM, 0)).any()


@pytest.mark.parametrize("wanted", [0.6, 0.75, 0.9])
def test_the_strength_for_a_wanted_dice_gives_masks_with_that_mean_dice(wanted):
    masks = [(ball(), VOLUME_MM)] * 12
    strength = strength_for(masks, wanted, seed=100)

    rough = [
        perturbed(ball(), VOLUME_MM, random_perturbations(ball(), VOLUME_MM, 100 + at, strength)) for at in range(12)
    ]

    assert np.mean([dice(ball() > 0, mask > 0) for mask in rough]) == pytest.approx(wanted, abs=0.03)


@pytest.mark.parametrize(("wanted", "strength"), [(1.0, 0.0), (0.0, STRONGEST)])
def test_a_dice_out_of_reach_gives_the_mildest_or_the_roughest(wanted, strength):
    assert strength_for([(ball(), VOLUME_MM)], wanted) == pytest.approx(strength, abs=0.04)


@pytest.mark.parametrize("seed", range(4))
def test_the_rest_of_the_image_does_not_matter(seed):
    around = ((20, 90), (60, 20), (0, 3))
    wide = np.pad(ball(), around)
    plans = [random_perturbations(mask, VOLUME_MM, seed) for mask in (ball(), wide)]

    small, large = (perturbed(mask, VOLUME_MM, how) for mask, how in zip((ball(), wide), plans, strict=True))

    assert plans[0] == plans[1] and np.array_equal(np.pad(small, around), large)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many voxels the distances are computed of, call by call."""
    sizes: list[int] = []
    distances = ndimage.distance_transform_edt
    monkeypatch.setattr(
        ndimage, "distance_transform_edt", lambda mask, *more: sizes.append(mask.size) or distances(mask, *more)
    )
    return sizes


def test_of_a_large_image_only_the_surroundings_of_the_structures_are_computed(computed):
    mask = np.zeros((300, 300, 40), np.uint8)
    mask[100:148, 200:248, 10:26] = ball()

    perturbed(mask, VOLUME_MM, random_perturbations(mask, VOLUME_MM, 1))

    assert 0 < max(computed) < mask.size / 20


def test_a_strength_for_large_structures_is_found_in_steps(computed, monkeypatch):
    monkeypatch.setattr("lib.refinement.perturb.LARGEST_BOX", 1200)
    coarse = strength_for([(ball(), VOLUME_MM)] * 12, 0.75)
    most = max(computed)
    monkeypatch.setattr("lib.refinement.perturb.LARGEST_BOX", ball().size)

    assert coarse == pytest.approx(strength_for([(ball(), VOLUME_MM)] * 12, 0.75), abs=0.15)
    assert most < max(computed) / 4


def test_a_structure_of_one_voxel_is_made_rough_too():
    speck = np.zeros((9, 9, 3), np.uint8)
    speck[4, 4, 1] = 1

    rough = [perturbed(speck, VOLUME_MM, random_perturbations(speck, VOLUME_MM, seed, STRONGEST)) for seed in range(9)]

    assert len({mask.tobytes() for mask in rough}) > 1
