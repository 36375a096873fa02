"""The network for flat images: shapes, learning, appended structures."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from lib.errors import UnacceptableFile
from lib.networks.checkpoint import Checkpoint, NetworkPlan
from lib.networks.precision import Precision
from lib.networks.segmenter import carried_over, network_of, parameters_of, seeded_network
from lib.preprocessing import SIZES
from lib.task import Task, numbered
from lib.training.cases import TrainingCase
from lib.training.finetune import FinetuneOptions, finetune
from lib.training.validate import mean_dice, validate
from lib.volume import Volume

PLAN = NetworkPlan(
    network="adapter_unet",
    structures={"mass": 1},
    spacing_mm=(0.4, 0.4, 1.0),
    window_hu=None,
    patch=(32, 32, 1),
    channels=(8, 16, 32),
    strides=((2, 2, 1), (2, 2, 1)),
    kernel=(3, 3, 1),
)


@pytest.mark.parametrize(
    ("shape", "strides"),
    [
        ((32, 24, 1), ((2, 2, 1), (2, 2, 1))),
        ((32, 6, 1), ((2, 1, 1), (2, 2, 1))),
        ((1, 16, 24), ((1, 2, 2), (1, 2, 2))),
        ((16, 1, 24), ((2, 1, 2), (2, 1, 2))),
    ],
)
def test_logits_lie_on_the_images_grid(shape, strides):
    network = network_of(replace(PLAN, patch=shape, strides=strides))

    assert network(torch.zeros(2, 1, *shape)).shape == (2, 2, *shape)


def test_whole_images_of_other_sizes_are_seen_as_well():
    assert network_of(PLAN).eval()(torch.zeros(1, 1, 64, 40, 1)).shape == (1, 2, 64, 40, 1)


def test_a_new_network_has_about_seven_hundred_thousand_parameters():
    channels = SIZES["adapter_unet"].channels

    plan = replace(PLAN, channels=channels, strides=((2, 2, 1),) * (len(channels) - 1))

    assert 600_000 < parameters_of(network_of(plan)) < 800_000


def test_every_part_learns():
    """The adapters start at zero, so what lies behind their zeros moves from the second step on."""
    network = seeded_network(PLAN, 0)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)

    for _ in range(2):
        optimizer.zero_grad()
        network(torch.randn(2, 1, 32, 32, 1)).square().mean().backward()
        optimizer.step()

    assert [name for name, value in network.named_parameters() if torch.equal(value, before[name])] == []


def test_only_the_stem_sees_single_pixels():
    found = []
    network = network_of(PLAN)
    for part in (network.stem[0], network.levels[0], network.multi_scale):
        part.register_forward_hook(lambda part, seen, given: found.append((*seen[0].shape[2:], *given.shape[2:])))

    network(torch.zeros(2, 1, 32, 32, 1))

    assert found == [(32, 32, 16, 16), (16, 16, 8, 8), (16, 16, 16, 16)]


def test_a_new_network_takes_nearly_everything_for_background():
    probabilities = seeded_network(PLAN, 0).eval()(torch.randn(1, 1, 32, 32, 1)).softmax(dim=1)

    assert float(probabilities[:, 0].detach().min()) > 0.9


def test_a_seed_draws_the_same_weights():
    first, second = (seeded_network(PLAN, 5).state_dict() for _ in range(2))

    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_appended_structure_leaves_the_logits_of_the_others_as_they_were():
    start = seeded_network(PLAN, 1).eval()
    plan = replace(PLAN, structures={"calcification": 2, "mass": 1})
    image = torch.randn(1, 1, 32, 32, 1)

    network = carried_over(Checkpoint(PLAN, start.state_dict()), plan, seed=0).eval()

    assert torch.equal(network(image)[:, [0, 2]], start(image))


def test_volumes_are_refused():
    with pytest.raises(UnacceptableFile, match="adapter_unet is for images of one slice"):
        network_of(replace(PLAN, patch=(16, 16, 16)))


def disc(seed: int) -> tuple[Volume, np.ndarray]:
    """A bright disc of 9 pixels radius on noise."""
    random = np.random.default_rng(seed)
    middle = random.integers(14, 50, 2)
    rows, columns = np.ogrid[:64, :64]
    mask = ((rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 <= 81)[:, :, None].astype(np.uint8)
    return Volume((50 + 30 * mask + random.normal(0, 5, mask.shape)).astype(np.float32), np.eye(4)), mask


def test_it_learns_a_drawn_lesion_by_heart_in_seconds_and_never_marks_a_healthy_image():
    task = Task("mass", "", numbered(["mass"]), network="adapter_unet", is_flat=True, loss="position_aware")
    marked = TrainingCase("a", lambda: disc(0)[0], lambda: disc(0)[1], frozenset({1}))
    healthy = TrainingCase(
        "b", lambda: Volume(disc(1)[0].voxels * 0 + 50, np.eye(4)), lambda: disc(1)[1] * 0, frozenset({1})
    )
    options = FinetuneOptions(seconds=math.inf, max_epochs=40, precision=Precision.FLOAT32, learning_rate=1e-2)

    checkpoint = finetune([marked, healthy], None, task, options, lambda progress: None, lambda: False)

    assert checkpoint.plan.network == "adapter_unet"
    found = validate(checkpoint, [marked, healthy])
    assert (mean_dice(found[:1]) or 0) > 0.9 and found[1].dice == {"mass": None}
