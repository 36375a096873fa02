"""Patches: their sizes, balance and place."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from lib.preprocessing import plan_for
from lib.training.cases import PreparedCase, prepared_cases
from lib.training.patches import CALIBRATED, ELSEWHERE, Patches, augmentation, independent_seeds
from tests.training.shapes import TASK, case, drawn

PLAN = plan_for(TASK, [drawn(0)[0].grid])


def unchanged(patches: Patches) -> Patches:
    """Without augmentation."""
    patches._augmented = lambda patch, channel: patch
    return patches


def ready(*seeds: int) -> list[PreparedCase]:
    return prepared_cases([case(seed) for seed in seeds], PLAN, np.random.default_rng(0), {}, lambda: None)


def lone_point(size=(64, 64, 64), point=(50, 10, 30)) -> PreparedCase:
    """An image whose voxels carry their own position, with one voxel of structure 1."""
    target = torch.zeros(1, *size, dtype=torch.uint8)
    target[(0, *point)] = 1
    image = torch.arange(size[0]).reshape(1, -1, 1, 1).expand(1, *size).half()
    return PreparedCase("lone", image, target, torch.tensor([True, True, True]), {1: np.array([point])})


@pytest.mark.parametrize("patch", [(16, 16, 16), (32, 24, 8), (24, 20, 16)])
def test_a_batch_has_the_patch_size_whatever_the_images(patch):
    batch = Patches(ready(0, 1), replace(PLAN, patch=patch), 3, seed=0).batch()

    assert batch.image.shape == batch.target.shape == (3, 1, *patch)
    assert (batch.image.dtype, batch.target.dtype) == (torch.float32, torch.int64)
    assert batch.looked_at.shape == (3, 3)
    assert set(batch.target.unique().tolist()) <= {0, 1, 2}


def test_a_rare_structure_is_in_many_patches():
    """By chance alone a patch of 16 voxels of 64 would show a lone voxel about once in a hundred times."""
    patches = unchanged(Patches([lone_point()], replace(PLAN, patch=(16, 16, 16)), 1, seed=0))

    shown = sum(bool((patches.batch().target == 1).any()) for _ in range(60))

    assert shown >= 30


def test_patches_reach_every_part_of_the_image():
    patches = unchanged(Patches([lone_point()], replace(PLAN, patch=(16, 16, 16)), 1, seed=0))

    firsts = [int(patches.batch().image.min()) for _ in range(300)]

    assert min(firsts) <= 3 and max(firsts) >= 45 and max(firsts) <= 48


def test_small_images_repeat_their_border():
    patches = unchanged(Patches([lone_point(size=(8, 64, 64), point=(3, 3, 3))], PLAN, 1, seed=0))

    rows = patches.batch().image[0, 0, :, 0, 0]

    assert rows.min() == 0 and rows.max() == 7 and (rows.diff() >= 0).all()


def showing(name: str, *channels: int) -> PreparedCase:
    """A case with some structures; without any it is a true negative."""
    points = {channel: np.array([(2, 2, 2)]) for channel in channels}
    empty = torch.zeros(1, 8, 8, 8)
    return PreparedCase(name, empty.half(), empty.byte(), torch.ones(3, dtype=torch.bool), points)


def chosen(cases: list[PreparedCase], batches: int, batch_size: int = 2) -> list[list[tuple[str, int | None]]]:
    """Name of the case and channel of each patch, batch by batch."""
    patches = Patches(cases, PLAN, batch_size, seed=0)
    return [[(case.image_id, channel) for case, channel in patches._choice()] for _ in range(batches)]


def counted(batches: list[list[tuple[str, int | None]]]) -> tuple[Counter[str], Counter[int | None]]:
    return (
        Counter(name for batch in batches for name, _ in batch),
        Counter(channel for batch in batches for _, channel in batch),
    )


def test_where_all_cases_show_all_structures_everything_comes_equally_often():
    names, channels = counted(chosen([showing(name, 1, 2) for name in "abcd"], 600))

    assert all(270 <= names[name] <= 330 for name in "abcd")
    assert channels[1] == pytest.approx(channels[2], abs=1)
    assert 760 <= channels[1] + channels[2] <= 840


def test_a_structure_of_one_case_in_twenty_is_learned_as_often_as_one_of_all():
    cases = [showing("rare", 1, 2), *(showing(f"common_{number}", 1) for number in range(19))]

    names, channels = counted(chosen(cases, 600))

    assert channels[1] == pytest.approx(channels[2], abs=1)
    assert names["rare"] == pytest.approx(channels[2] + 400 / 20 + 400 / 20, abs=15)


def test_every_case_comes_by():
    names, _ = counted(chosen([*(showing(f"p{n}", 1) for n in range(5)), *(showing(f"n{n}") for n in range(7))], 24))

    assert len(names) == 12


@pytest.mark.parametrize("batch_size", [2, 3, 4])
def test_negatives_make_at_most_half_of_a_batch_and_each_comes_equally_often(batch_size):
    cases = [showing("positive", 1), *(showing(f"negative_{number}") for number in range(9))]

    batches = chosen(cases, 90, batch_size)

    shares = [sum(name != "positive" for name, _ in batch) for batch in batches]
    assert max(shares) <= batch_size / 2
    names, _ = counted(batches)
    assert {names[f"negative_{number}"] for number in range(9)} == {10 * (batch_size // 2)}


def test_few_negatives_come_as_often_as_other_cases():
    cases = [*(showing(f"p{number}", 1) for number in range(9)), showing("negative")]

    names, _ = counted(chosen(cases, 100))

    assert names["negative"] == 20


def test_patches_one_by_one_are_negative_every_second_time_at_most():
    batches = chosen([showing("positive", 1), showing("a"), showing("b")], 20, batch_size=1)

    assert [batch[0][0] == "positive" for batch in batches] == [True, False] * 10


def test_negatives_alone_fill_all_batches():
    names, channels = counted(chosen([showing("a"), showing("b")], 10))

    assert names == {"a": 10, "b": 10} and set(channels) == {None}


def test_the_same_seed_gives_the_same_patches():
    first, second = (Patches(ready(0, 1), PLAN, 2, seed=5).batch() for _ in range(2))

    assert torch.equal(first.image, second.image) and torch.equal(first.target, second.target)


def test_another_seed_gives_other_patches():
    first, second = (Patches(ready(0, 1), PLAN, 2, seed=seed).batch() for seed in (5, 6))

    assert not torch.equal(first.image, second.image)


def test_patches_on_structures_and_elsewhere_are_turned_by_angles_of_their_own():
    patches = Patches(ready(0), PLAN, 1, seed=0)
    given = {"image": torch.rand(1, 24, 20, 16), "target": torch.zeros(1, 24, 20, 16)}
    angles: list[list[float]] = [[], []]

    for found, augmented in zip(angles, (patches._augmented_centred, patches._augmented_elsewhere), strict=True):
        for _ in range(40):
            augmented({**given})
            found.append(augmented.transforms[0].rand_affine.rand_affine_grid.rotate_params[0])

    assert abs(np.corrcoef(angles)[0, 1]) < 0.5


def test_seeds_that_are_drawn_from_one_differ_from_it_and_from_each_other_and_are_always_the_same():
    drawn_twice = [[seed, *independent_seeds(seed, 3)] for seed in (0, 1, 2, 0)]

    assert len({one for seeds in drawn_twice[:3] for one in seeds}) == 12 and drawn_twice[0] == drawn_twice[3]


def test_thick_slices_are_turned_only_in_their_plane():
    steps = augmentation(replace(PLAN, spacing_mm=(1.0, 1.0, 5.0))).transforms

    ranges = steps[0].rand_affine.rand_affine_grid.rotate_range
    assert ranges[0] == ranges[1] == 0.0 and ranges[2] > 0


def test_a_flat_image_is_augmented_in_its_plane():
    flat = replace(PLAN, patch=(16, 16, 1), spacing_mm=(1.0, 1.0, 1.0))
    patch = {"image": torch.rand(1, 16, 16, 1), "target": torch.ones(1, 16, 16, 1)}

    found = augmentation(flat).set_random_state(0)(patch)

    assert found["image"].shape == (1, 16, 16, 1) and bool((found["target"] == 1).all())


@pytest.mark.parametrize(
    ("network", "patch", "expected"),
    [("refiner", (16, 16, 1), {(0, 0), (0, 1), (1, 0), (1, 1)}), ("refiner", (16, 16, 16), {(0, 0)}),
     ("residual_unet", (16, 16, 1), {(0, 0)})],
)  # fmt: skip
def test_only_single_slices_with_a_draft_are_mirrored(network, patch, expected):
    """Seen by the quarter of the plane in which a corner's mark lies."""
    plan = replace(PLAN, network=network, patch=patch, kernel=(3, 3, min(patch[2], 3)), spacing_mm=(1.0, 1.0, 1.0))
    marked = torch.zeros(1, *patch)
    marked[:, 2:6, 2:6] = 1

    steps = augmentation(plan).set_random_state(0)
    found = [steps({"image": marked, "target": marked})["target"][0].nonzero().float().mean(0) for _ in range(40)]

    assert {(int(i > 8), int(j > 8)) for i, j, _ in found} == expected


def test_patches_on_a_structure_are_changed_more_than_those_elsewhere():
    changed = [augmentation(PLAN, strength).transforms for strength in (1.0, ELSEWHERE)]

    angles, scalings = (
        [getattr(steps[0].rand_affine.rand_affine_grid, name) for steps in changed]
        for name in ("rotate_range", "scale_range")
    )
    assert [angle / 2 for angle in angles[0]] == pytest.approx(angles[1])
    assert [edge / 2 for edge in scalings[0]] == pytest.approx(scalings[1])

    patches = Patches([showing("a", 1)], PLAN, 1, seed=0)
    patches._augmented_centred = lambda patch: {"seen": "centred"}
    patches._augmented_elsewhere = lambda patch: {"seen": "elsewhere"}
    assert [patches._augmented({}, channel)["seen"] for channel in (1, None)] == ["centred", "elsewhere"]


@pytest.mark.parametrize(
    ("window_hu", "strength"),
    [(None, 1.0), ((-160.0, 240.0), 1.0), ((0.0, 200.0), CALIBRATED), ((0.0, 100.0), CALIBRATED)],
)
def test_where_a_few_hu_decide_intensities_are_changed_less_and_places_as_much(window_hu, strength):
    place, _, scaled, shifted, noise = augmentation(replace(PLAN, window_hu=window_hu)).transforms

    assert scaled.scaler.factors == pytest.approx((-0.2 * strength, 0.2 * strength))
    assert shifted.shifter.offsets == pytest.approx((-0.2 * strength, 0.2 * strength))
    assert noise.rand_gaussian_noise.std == pytest.approx(0.1 * strength)
    assert (
        place.rand_affine.rand_affine_grid.rotate_range
        == augmentation(PLAN).transforms[0].rand_affine.rand_affine_grid.rotate_range
    )


def test_left_stays_left():
    """The left half is bright; after any augmentation it still is."""
    image = torch.zeros(1, 24, 20, 16)
    image[:, :12] = 1
    patch = {"image": image, "target": (image > 0).float()}
    augmented = augmentation(PLAN).set_random_state(1)

    for _ in range(20):
        target = augmented({**patch})["target"]
        assert target[:, :6].mean() > 0.9 and target[:, -6:].mean() < 0.1
