"""Patches: their sizes, balance and place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lib.preprocessing import plan_for
from lib.training.cases import PreparedCase, prepared_cases
from lib.training.patches import Patches, augmentation
from tests.training.shapes import TASK, case, drawn

PLAN = plan_for(TASK, [drawn(0)[0].grid])


def unchanged(patches: Patches) -> Patches:
    """Without augmentation."""
    patches._augmented = lambda patch: patch
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

    firsts = [int(patches.batch().image.min()) for _ in range(100)]

    assert min(firsts) <= 3 and max(firsts) >= 45 and max(firsts) <= 48


def test_small_images_repeat_their_border():
    patches = unchanged(Patches([lone_point(size=(8, 64, 64), point=(3, 3, 3))], PLAN, 1, seed=0))

    rows = patches.batch().image[0, 0, :, 0, 0]

    assert rows.min() == 0 and rows.max() == 7 and (rows.diff() >= 0).all()


def test_every_case_comes_once_an_epoch():
    patches = unchanged(Patches(ready(0, 1, 2, 3), PLAN, 2, seed=0))

    drawn_ids = [patches._next_case().image_id for _ in range(4)]

    assert sorted(drawn_ids) == ["case_0", "case_1", "case_2", "case_3"]


def test_the_same_seed_gives_the_same_patches():
    first, second = (Patches(ready(0, 1), PLAN, 2, seed=5).batch() for _ in range(2))

    assert torch.equal(first.image, second.image) and torch.equal(first.target, second.target)


def test_thick_slices_are_turned_only_in_their_plane():
    steps = augmentation(replace(PLAN, spacing_mm=(1.0, 1.0, 5.0))).transforms

    ranges = steps[0].rand_affine.rand_affine_grid.rotate_range
    assert ranges[0] == ranges[1] == 0.0 and ranges[2] > 0


def test_a_flat_image_is_augmented_in_its_plane():
    flat = replace(PLAN, patch=(16, 16, 1), spacing_mm=(1.0, 1.0, 1.0))
    patch = {"image": torch.rand(1, 16, 16, 1), "target": torch.ones(1, 16, 16, 1)}

    found = augmentation(flat).set_random_state(0)(patch)

    assert found["image"].shape == (1, 16, 16, 1) and bool((found["target"] == 1).all())


def test_left_stays_left():
    """The left half is bright; after any augmentation it still is."""
    image = torch.zeros(1, 24, 20, 16)
    image[:, :12] = 1
    patch = {"image": image, "target": (image > 0).float()}
    augmented = augmentation(PLAN).set_random_state(1)

    for _ in range(20):
        target = augmented({**patch})["target"]
        assert target[:, :6].mean() > 0.9 and target[:, -6:].mean() < 0.1
