"""The hemorrhage draft: textbook shapes in a plain drawn head, and phantoms with all that disturbs."""

from dataclasses import replace

import numpy as np
import pytest

from lib.drafts import RULES
from lib.metrics.overlap import dice
from lib.phantoms.brain import BLEEDS
from lib.phantoms.head import HeadParameters, draw_head
from lib.phantoms.scanner import oriented_grid, world_points
from lib.task import Structure, Task
from lib.volume import Volume

TASK = Task("hemorrhage", "", tuple(Structure(name, value, (0, 0, 0)) for name, value in BLEEDS.items()), "CT")
RADIUS_MM = 70.0
EDGES_MM = (1.5, 1.5, 5.0)

draft = RULES["hemorrhage"]


class Plain:
    """A round head of 70 mm: brain of 32 HU in a skull of 1000 HU, and room for blood of 65 HU."""

    def __init__(self, orientation="RAS", spacing_mm=EDGES_MM, slices=24, tilt_deg=(0.0, 0.0, 0.0)):
        size = (round(180 / spacing_mm[0]), round(180 / spacing_mm[1]), slices)
        shape, self.affine = oriented_grid(orientation, size, spacing_mm, (4.0, -3.0, 6.0), tilt_deg)
        self.points = world_points(shape, self.affine)
        radius = np.linalg.norm(self.points, axis=0)
        self.depth = RADIUS_MM - radius
        self.hu = np.select([self.depth > 0, self.depth > -7, self.depth > -14], [32.0, 1000.0, 40.0], -1000.0)
        self.blood = np.zeros(shape, bool)

    def bleed(self, inside):
        self.hu[inside] = 65
        self.blood |= inside
        return self

    def ball(self, centre_mm, half_mm):
        away = (self.points - np.reshape(centre_mm, (3, 1, 1, 1))) / np.reshape(half_mm, (3, 1, 1, 1))
        return np.linalg.norm(away, axis=0) < 1

    def on_skull(self, thickness_mm, radius_mm):
        """Blood on the right side that is so thick in its middle and nothing at that distance from it."""
        along2 = ((self.points - np.reshape((RADIUS_MM, 0, 0), (3, 1, 1, 1))) ** 2).sum(axis=0) - self.depth**2
        return (self.depth > 0) & (self.depth < thickness_mm * (1 - along2 / radius_mm**2))

    @property
    def volume(self):
        return Volume(np.rint(self.hu).astype(np.int16), self.affine)


def types(mask):
    return {name for name, value in BLEEDS.items() if (mask == value).any()}


def test_a_lens_on_the_skull_is_extradural():
    head = Plain()
    head.bleed(head.on_skull(16, 30))

    mask = draft(head.volume, TASK)

    assert types(mask) == {"EDH"}
    assert dice(head.blood, mask > 0) > 0.9


def test_a_crescent_along_the_skull_is_subdural():
    head = Plain()
    head.bleed(head.on_skull(8, 75))

    mask = draft(head.volume, TASK)

    assert (mask[mask > 0] == BLEEDS["SDH"]).mean() > 0.95
    assert dice(head.blood, mask > 0) > 0.85


def test_a_thick_blob_in_the_brain_is_intraparenchymal():
    head = Plain()
    head.bleed(head.ball((28, 5, 10), (12, 12, 14)))

    mask = draft(head.volume, TASK)

    assert types(mask) == {"IPH"}
    assert dice(head.blood, mask > 0) > 0.9


def test_narrow_blood_in_the_middle_of_the_head_is_intraventricular():
    head = Plain()
    head.bleed(head.ball((10, -5, 10), (4.5, 28, 10)))

    assert types(draft(head.volume, TASK)) == {"IVH"}


def test_threads_that_reach_inwards_from_the_surface_are_subarachnoid():
    head = Plain()
    thread = np.abs(np.mod(head.points[1], 10) - 5) < 1.6
    head.bleed((head.depth > 0) & (head.depth < 15) & thread & head.ball((60, 5, 10), (30, 30, 25)))

    assert types(draft(head.volume, TASK)) == {"SAH"}


@pytest.mark.parametrize("orientation", ["LPS", "PIR", "SAL"])
def test_the_draft_is_the_same_blood_in_every_orientation(orientation):
    head = Plain(orientation)
    head.bleed(head.ball((28, 5, 10), (12, 12, 14)))

    mask = draft(head.volume, TASK)

    assert mask.shape == head.hu.shape and mask.dtype == np.uint8
    assert types(mask) == {"IPH"}
    assert dice(head.blood, mask > 0) > 0.9


@pytest.mark.parametrize(
    ("spacing_mm", "slices"), [((0.5, 0.5, 5.0), 3), ((2.0, 2.0, 1.0), 100), ((1.0, 1.0, 8.0), 14)]
)
def test_it_works_at_fine_and_coarse_spacing_and_on_a_tilted_gantry(spacing_mm, slices):
    head = Plain("LPS", spacing_mm, slices, tilt_deg=(14.0, 0.0, 3.0))
    head.bleed(head.ball((28, 5, 8), (13, 13, 14)))

    mask = draft(head.volume, TASK)

    assert types(mask) == {"IPH"}
    assert dice(head.blood, mask > 0) > 0.85


def test_one_slice_is_enough():
    head = Plain("LPS", slices=1)
    head.bleed(head.ball((28, 5, 6), (12, 12, 14)))

    mask = draft(head.volume, TASK)

    assert types(mask) == {"IPH"}
    assert dice(head.blood, mask > 0) > 0.85


def test_calcium_and_dense_midline_structures_are_no_blood():
    head = Plain()
    head.hu[head.ball((25, 10, 10), (6, 6, 8))] = 250
    head.hu[(np.abs(head.points[0]) < 1.6) & (head.depth > 0) & (head.points[1] > 35)] = 65
    head.hu[head.ball((0, -66, 10), (6, 6, 40)) & (head.depth > 0)] = 65

    assert not draft(head.volume, TASK).any()


def test_brightness_on_both_sides_of_the_head_is_no_blood():
    head = Plain()
    for side in (1, -1):
        head.hu[(head.depth > 0) & (head.depth < 6) & (side * head.points[0] > 40)] = 60

    assert not draft(head.volume, TASK).any()


def test_what_the_task_lacks_is_left_out_and_values_are_looked_up_by_name():
    head = Plain()
    head.bleed(head.ball((28, 5, 10), (12, 12, 14))).bleed(head.on_skull(16, 30) & (head.points[2] < -40))
    only = replace(TASK, structures=(Structure("SAH", 1, (0, 0, 0)), Structure("IPH", 9, (0, 0, 0))))

    assert np.unique(draft(head.volume, only)).tolist() == [0, 9]


@pytest.mark.parametrize("voxels", [np.zeros((20, 30, 4)), np.full((20, 30, 1), np.nan), np.full((8, 8, 8), 2000.0)])
def test_an_image_without_a_head_gets_an_empty_draft(voxels):
    mask = draft(Volume(voxels, np.eye(4)), TASK)

    assert mask.shape == voxels.shape and not mask.any()


def test_an_opened_skull_gets_an_empty_draft_rather_than_the_scalp():
    head = Plain()
    head.hu[(head.depth < 0) & (head.depth > -7) & (head.points[0] > 30)] = 40

    assert not draft(head.volume, TASK).any()


def test_on_phantoms_most_blood_is_found_and_little_else():
    """Guards against a broken rule; the benchmark measures how good it is."""
    overlaps = []
    for seed, kind in enumerate(("IPH", "IVH", "EDH")):
        phantom = draw_head(HeadParameters(seed, (kind,), bleed_ml=(20, 30)))
        overlaps.append(dice(phantom.mask > 0, draft(Volume(phantom.image, phantom.affine), TASK) > 0))
    healthy = draw_head(HeadParameters(7))

    assert min(overlaps) > 0.5
    assert (draft(Volume(healthy.image, healthy.affine), TASK) > 0).sum() * 0.024 < 8
