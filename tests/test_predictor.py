"""A network at work on images of many shapes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lib import predictor as predictor_module
from lib.errors import UnacceptableFile
from lib.networks.checkpoint import Checkpoint, NetworkPlan
from lib.networks.segmenter import seeded_network
from lib.predictor import Predictor
from lib.volume import Volume

PLAN = NetworkPlan(
    network="residual_unet",
    structures={"liver": 3, "spleen": 7},
    spacing_mm=(2.0, 2.0, 2.0),
    window_hu=(0.0, 100.0),
    patch=(16, 16, 16),
    channels=(4, 8),
    strides=((2, 2, 2),),
)


class Threshold(torch.nn.Module):
    """Answers like a network that calls everything bright a spleen."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.largest = tuple(image.shape[2:])
        self.rows = (image[0, 0, :, 0, 0] * 50 + 50).round().int().tolist()
        return torch.cat([-image, torch.full_like(image, -9), image], dim=1) * 50


@pytest.fixture
def bright(monkeypatch) -> Predictor:
    """A predictor that finds what is brighter than 50."""
    monkeypatch.setattr(predictor_module, "network_of", lambda plan: Threshold())
    return Predictor(Checkpoint(PLAN, {}))


def checkpoint(plan: NetworkPlan = PLAN) -> Checkpoint:
    return Checkpoint(plan, seeded_network(plan, 0).state_dict())


@pytest.mark.parametrize(
    ("shape", "affine"),
    [
        ((16, 16, 16), np.diag([2.0, 2, 2, 1])),
        ((31, 20, 9), np.diag([-1.0, -1, 3, 1])),
        ((50, 41, 1), np.diag([1.0, 1, 1, 1])),
        ((1, 30, 70), np.diag([1.0, 1, 1, 1])),
        ((3, 2, 1), np.diag([0.5, 0.5, 8, 1])),
        ((9, 30, 24), np.array([[0, 0, 2.0, 5], [-2, 0, 0, 6], [0, 1.5, 0, 7], [0, 0, 0, 1]])),
    ],
)
def test_the_mask_has_the_images_grid_and_the_tasks_label_values(shape, affine):
    volume = Volume(np.random.default_rng(0).integers(0, 100, shape).astype(np.int16), affine)

    mask = Predictor(checkpoint()).mask(volume)

    assert mask.shape == shape and mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 3, 7}


@pytest.mark.parametrize("shape", [(20, 16, 18), (60, 40, 33)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1)])
def test_one_pass_and_sliding_windows_find_things_where_they_are(bright, shape, signs):
    voxels = np.zeros(shape, np.int16)
    voxels[3:9, 10:14, 5:16] = 100

    mask = bright.mask(Volume(voxels, np.diag([*(2.0 * sign for sign in signs), 1])))

    assert np.array_equal(mask, np.where(voxels > 50, 7, 0))


def test_an_image_slightly_larger_than_a_patch_is_seen_at_once(bright):
    bright.mask(Volume(np.zeros((21, 20, 18), np.int16), np.diag([2.0, 2, 2, 1])))

    assert bright._network.largest == (22, 20, 18)


def test_a_smaller_image_is_seen_in_the_middle_of_a_patch(bright):
    """Ten rows become sixteen: three repeated in front and three behind."""
    voxels = np.arange(10, dtype=np.int16).reshape(10, 1, 1).repeat(16, axis=1).repeat(16, axis=2)

    bright.mask(Volume(voxels, np.diag([2.0, 2, 2, 1])))

    assert bright._network.rows == [0, 0, 0, *range(10), 9, 9, 9]


def test_a_larger_image_is_seen_patch_by_patch(bright):
    bright.mask(Volume(np.zeros((40, 20, 18), np.int16), np.diag([2.0, 2, 2, 1])))

    assert bright._network.largest == PLAN.patch


def test_cropped_air_stays_empty(monkeypatch):
    """Even a network that sees a spleen in everything does not put it into the air."""
    everything = torch.nn.Module()
    everything.forward = lambda image: torch.cat([0 * image, 0 * image, 0 * image + 9], dim=1)  # type: ignore[method-assign]
    monkeypatch.setattr(predictor_module, "network_of", lambda plan: everything)
    voxels = np.full((60, 60, 20), -1000, np.int16)
    voxels[20:40, 20:40] = 50

    mask = Predictor(Checkpoint(PLAN, {})).mask(Volume(voxels, np.diag([2.0, 2, 2, 1])))

    assert np.argwhere(mask).min(axis=0).tolist() == [17, 17, 0]
    assert np.argwhere(mask).max(axis=0).tolist() == [42, 42, 19]


def test_probabilities_lie_on_the_network_grid_and_sum_to_one():
    volume = Volume(np.random.default_rng(0).integers(0, 100, (40, 30, 20)).astype(np.int16), np.eye(4))

    probabilities, frame = Predictor(checkpoint()).probabilities(volume)

    assert probabilities.shape == (3, *frame.shape) == (3, 20, 15, 10)
    assert torch.allclose(probabilities.sum(dim=0), torch.ones(frame.shape), atol=1e-5)


def test_the_same_image_gives_the_same_mask_again():
    volume = Volume(np.random.default_rng(0).integers(0, 100, (40, 30, 20)).astype(np.int16), np.eye(4))
    network = Predictor(checkpoint())

    assert np.array_equal(network.mask(volume), network.mask(volume))


def test_each_step_is_timed(bright):
    found = bright.predict(Volume(np.zeros((8, 8, 8), np.int16), np.eye(4)))

    assert list(found.seconds) == ["prepare", "network", "restore"] == list(bright.seconds)
    assert min(found.seconds.values()) >= 0


def test_weights_that_do_not_fit_are_refused_at_once():
    with pytest.raises(UnacceptableFile, match="do not fit the network"):
        Predictor(Checkpoint(replace(PLAN, channels=(4, 16)), checkpoint().weights))
