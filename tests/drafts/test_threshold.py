"""Drafts by intensity alone: which voxels are taken, and in which order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lib.drafts import looked_for
from lib.drafts.threshold import OPENING_MM, drafted_structures, threshold
from lib.task import Task, numbered
from lib.volume import Volume

LIVER, SPLEEN, KIDNEY = numbered(["liver", "spleen", "kidney"])


def task(*structures):
    return Task("organs", "", structures)


def ranged(structure, low, high):
    return replace(structure, range=(low, high))


ORGANS = task(ranged(LIVER, 60, 130), ranged(SPLEEN, 130, 220), KIDNEY)


def ball(centre_mm, radius_mm, shape, spacing_mm=(1.0, 1.0, 1.0)):
    steps = [np.arange(size) * edge for size, edge in zip(shape, spacing_mm, strict=True)]
    places = np.meshgrid(*steps, indexing="ij")
    return sum((place - centre) ** 2 for place, centre in zip(places, centre_mm, strict=True)) <= radius_mm**2


def image(*bodies, shape=(60, 60, 60), spacing_mm=(1.0, 1.0, 1.0)):
    voxels = np.zeros(shape, np.int16)
    for body, grey in bodies:
        voxels[body] = grey
    return Volume(voxels, np.diag([*spacing_mm, 1.0]))


def dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def test_bodies_within_their_ranges_are_found_and_a_structure_without_one_is_not():
    liver, spleen = ball((20, 30, 30), 14, (60,) * 3), ball((46, 30, 30), 10, (60,) * 3)

    mask = threshold(image((liver, 100), (spleen, 200)), ORGANS)

    assert mask.dtype == np.uint8
    assert dice(mask == 1, liver) > 0.93
    assert dice(mask == 2, spleen) > 0.93
    assert not (mask == 3).any()
    assert drafted_structures(ORGANS) == ("liver", "spleen")


def test_noise_is_no_reason_for_holes():
    liver = ball((30, 30, 30), 16, (60,) * 3)
    noisy = image((liver, 100))
    grey = noisy.voxels + np.random.default_rng(0).normal(0, 40, (60, 60, 60))

    assert dice(threshold(Volume(grey, noisy.affine), ORGANS) == 1, liver) > 0.93


def test_voxels_of_any_size_give_the_same_body():
    shape, spacing_mm = (120, 60, 20), (0.5, 1.0, 3.0)
    liver = ball((30, 30, 30), 16, shape, spacing_mm)

    assert dice(threshold(image((liver, 100), shape=shape, spacing_mm=spacing_mm), ORGANS) == 1, liver) > 0.93


def test_the_axes_of_the_image_do_not_matter():
    liver = ball((20, 30, 35), 14, (60,) * 3)
    upright = image((liver, 100))
    turned = Volume(upright.voxels.transpose(2, 0, 1)[::-1], upright.affine[:, [2, 0, 1, 3]] * [-1, 1, 1, 1])

    found = threshold(turned, ORGANS)[::-1].transpose(1, 2, 0)

    assert dice(found == 1, threshold(upright, ORGANS) == 1) > 0.98


def test_a_pair_is_kept_and_a_speck_is_not():
    left, right, speck = (ball((x, 30, 30), radius, (90, 60, 60)) for x, radius in ((15, 11), (50, 10), (75, 5)))

    mask = threshold(image((left | right | speck, 100), shape=(90, 60, 60)), ORGANS)

    assert dice(mask == 1, left | right) > 0.93
    assert not mask[speck].any()


def test_a_thin_bridge_to_something_else_is_cut():
    liver = ball((20, 30, 30), 14, (90, 60, 60))
    bridge = np.zeros_like(liver)
    bridge[34:90, 27:33, 27:33] = True

    mask = threshold(image((liver | bridge, 100), shape=(90, 60, 60)), ORGANS)

    assert 6 < 2 * OPENING_MM
    assert not mask[50:].any()
    assert dice(mask == 1, liver) > 0.9


def test_a_hole_is_filled_but_belongs_to_the_structure_named_before():
    shell, core = ball((30, 30, 30), 22, (60,) * 3), ball((30, 30, 30), 10, (60,) * 3)
    volume = image((shell, 100), (core, 200))

    spleen_first = threshold(volume, task(ranged(SPLEEN, 130, 220), ranged(LIVER, 60, 130)))
    liver_first = threshold(volume, task(ranged(LIVER, 60, 130), ranged(SPLEEN, 130, 220)))

    assert (spleen_first[30, 30, 30], liver_first[30, 30, 30]) == (2, 1)
    assert dice(liver_first == 1, shell) > 0.93


def test_where_ranges_overlap_the_first_structure_has_the_voxel():
    body = ball((30, 30, 30), 15, (60,) * 3)

    mask = threshold(image((body, 100)), task(ranged(SPLEEN, 50, 130), ranged(LIVER, 60, 130)))

    assert mask[30, 30, 30] == 2


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_single_slice_is_a_picture(axis):
    shape = [60, 60, 60]
    shape[axis] = 1
    centre = [30.0, 30.0, 30.0]
    centre[axis] = 0.0
    spacing_mm = [1.0, 1.0, 1.0]
    spacing_mm[axis] = 5.0
    ring = ball(centre, 20, shape) & ~ball(centre, 4, shape)

    mask = threshold(image((ring, 100), shape=shape, spacing_mm=spacing_mm), ORGANS)

    assert dice(mask == 1, ball(centre, 20, shape)) > 0.93


@pytest.mark.parametrize("grey", [0, 100, np.nan])
@pytest.mark.parametrize("shape", [(1, 1, 1), (12, 1, 1), (20, 20, 20)])
def test_an_image_of_one_grey_is_all_or_nothing(grey, shape):
    mask = threshold(Volume(np.full(shape, grey, np.float32), np.diag([4.0, 4.0, 20.0, 1.0])), ORGANS)

    is_large = np.prod(shape) * 320 >= 1000
    assert np.unique(mask).tolist() == [1 if grey == 100 and is_large else 0]


def test_a_draft_covers_what_was_looked_for():
    by_threshold = replace(ORGANS, draft_rule="threshold")

    assert looked_for(by_threshold) == {"liver": 1, "spleen": 2}
    assert looked_for(replace(ORGANS, draft_rule="mass")) == {"liver": 1, "spleen": 2, "kidney": 3}
