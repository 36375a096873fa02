"""The network that sees bands of HU: what it is told, how it differs, that it learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lib.networks.banded_unet import BANDS, band_shares
from lib.networks.checkpoint import Checkpoint, NetworkPlan
from lib.networks.precision import Precision
from lib.networks.segmenter import carried_over, network_of, seeded_network
from lib.task import Task, numbered
from lib.training.cases import TrainingCase
from lib.training.finetune import FinetuneOptions, finetune
from lib.training.validate import mean_dice, validate
from lib.volume import Volume

PLAN = NetworkPlan(
    network="banded_unet",
    structures={"IPH": 1, "SDH": 2},
    spacing_mm=(2.0, 2.0, 5.0),
    window_hu=(-40.0, 120.0),
    patch=(16, 16, 8),
    channels=(8, 16, 32),
    strides=((2, 2, 1), (2, 2, 2)),
)


def shares_of(value: float) -> list[float]:
    return band_shares(torch.full((1, 1, 1, 1, 1), value)).flatten().tolist()


def test_a_voxel_in_the_middle_of_a_band_belongs_to_it_alone():
    assert shares_of(0.25) == [0, 0, 0, 0, 0, 1, 0, 0, 0]


def test_a_voxel_between_two_bands_belongs_to_both_by_its_distance():
    """60 and 80 HU of the window from -40 to 120 lie at 0.25 and 0.5; 65 HU at 0.3125."""
    assert shares_of(0.3125) == pytest.approx([0, 0, 0, 0, 0, 0.75, 0.25, 0, 0])


@pytest.mark.parametrize(("value", "band"), [(-1.0, 0), (-3.0, 0), (1.0, 8), (2.5, 8)])
def test_what_lies_beyond_the_window_counts_as_its_end(value, band):
    assert shares_of(value) == [float(number == band) for number in range(BANDS)]


def test_logits_lie_on_the_images_grid():
    assert network_of(PLAN)(torch.zeros(2, 1, 16, 24, 8)).shape == (2, 3, 16, 24, 8)


def test_a_structure_that_is_appended_leaves_the_other_channels_as_they_are():
    start = Checkpoint(PLAN, seeded_network(PLAN, 0).state_dict())
    image = torch.rand(1, 1, 16, 16, 8, generator=torch.Generator().manual_seed(0))
    earlier = seeded_network(PLAN, 0).eval()

    grown = carried_over(start, replace(PLAN, structures={**PLAN.structures, "SAH": 3}), 1).eval()

    assert torch.allclose(grown(image)[:, :3], earlier(image), atol=1e-6)


def test_it_learns_to_mark_a_band_of_hu_between_darker_and_brighter_tissue_in_seconds():
    voxels = np.full((32, 32, 8), 35.0, np.float32)
    voxels[4:12, 4:12], voxels[18:28, 18:28] = 65.0, 110.0
    mask = (voxels == 65).astype(np.uint8)
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    case = TrainingCase("drawn", lambda: Volume(voxels, affine), lambda: mask, frozenset({1}))
    task = Task("hemorrhage", "", numbered(["IPH"]), "CT", window_hu=(-40.0, 120.0), network="banded_unet")
    options = FinetuneOptions(seconds=60, max_epochs=60, precision=Precision.FLOAT32)

    checkpoint = finetune([case], None, task, options, lambda _: None, lambda: False)

    assert mean_dice(validate(checkpoint, [case])) > 0.9
