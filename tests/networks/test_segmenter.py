"""The segmentation network: sizes, fitting weights, appended structures."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lib.errors import UnacceptableFile
from lib.networks.checkpoint import Checkpoint, NetworkPlan
from lib.networks.segmenter import NETWORKS, carried_over, fitted, network_of, parameters_of, seeded_network
from lib.preprocessing import CHANNELS
from lib.serving.settings import ENCODERS

PLAN = NetworkPlan(
    network="residual_unet",
    structures={"liver": 1, "spleen": 2},
    spacing_mm=(1.0, 1.0, 1.0),
    window_hu=None,
    patch=(16, 16, 16),
    channels=(8, 16, 32),
    strides=((2, 2, 2), (2, 2, 2)),
)


@pytest.mark.parametrize(
    ("shape", "strides", "kernel"),
    [
        ((16, 16, 16), ((2, 2, 2), (2, 2, 2)), (3, 3, 3)),
        ((16, 24, 6), ((2, 2, 1), (2, 2, 2)), (3, 3, 3)),
        ((16, 24, 1), ((2, 2, 1), (2, 2, 1)), (3, 3, 1)),
        ((1, 16, 24), ((1, 2, 2), (1, 2, 2)), (1, 3, 3)),
    ],
)
def test_logits_lie_on_the_images_grid(shape, strides, kernel):
    network = network_of(replace(PLAN, strides=strides, kernel=kernel))

    assert network(torch.zeros(2, 1, *shape)).shape == (2, 3, *shape)


def test_a_new_network_has_about_six_hundred_thousand_parameters():
    plan = replace(PLAN, channels=CHANNELS, strides=((2, 2, 2),) * (len(CHANNELS) - 1))

    assert 500_000 < parameters_of(network_of(plan)) < 700_000


def test_many_structures_hardly_make_it_larger():
    many = replace(PLAN, structures={f"structure {value}": value for value in range(1, 105)})

    assert parameters_of(network_of(many)) < 1.1 * parameters_of(network_of(PLAN))


def test_a_seed_draws_the_same_weights_and_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)

    first, second = (seeded_network(PLAN, 5).state_dict() for _ in range(2))

    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.rand(1), expected)


def test_weights_of_an_equal_network_fit():
    weights = seeded_network(PLAN, 1).state_dict()

    found = fitted(network_of(PLAN), weights).state_dict()

    assert all(torch.equal(found[name], weights[name]) for name in weights)


def test_weights_of_another_network_are_refused_with_the_first_differences():
    weights = network_of(replace(PLAN, channels=(8, 16, 64))).state_dict()
    weights["stranger"] = weights.pop("classifier.bias")

    with pytest.raises(UnacceptableFile, match=r"classifier.bias is missing; stranger is not part .* and \d+ more"):
        fitted(network_of(PLAN), weights)


def test_another_shape_is_shown_with_the_wanted_one():
    weights = network_of(PLAN).state_dict()
    weights["classifier.bias"] = torch.zeros(7)

    with pytest.raises(UnacceptableFile, match=r"classifier.bias is 7, wanted 3"):
        fitted(network_of(PLAN), weights)


def test_the_setting_knows_every_network():
    assert set(ENCODERS.values()) < set(NETWORKS)


def test_an_unknown_network_is_refused_with_the_known_ones():
    with pytest.raises(UnacceptableFile, match="no network 'vnet' here; known are residual_unet"):
        network_of(replace(PLAN, network="vnet"))


def test_a_plan_with_too_few_strides_is_refused():
    with pytest.raises(UnacceptableFile, match="3 levels and 1 strides"):
        network_of(replace(PLAN, strides=((2, 2, 2),)))


@pytest.mark.parametrize("names", [["liver", "spleen", "kidney"], ["kidney", "Spleen", "liver"]])
def test_an_appended_structure_leaves_the_logits_of_the_others_as_they_were(names):
    start = seeded_network(PLAN, 1).eval()
    plan = replace(PLAN, structures={name: value for value, name in enumerate(names, start=1)})
    image = torch.randn(1, 1, 16, 16, 16)

    network = carried_over(Checkpoint(PLAN, start.state_dict()), plan, seed=0).eval()

    before, after = start(image), network(image)
    for old, name in enumerate(["background", "liver", "spleen"]):
        new = ["background", *(other.casefold() for other in names)].index(name)
        # Processors add up in another order when there is one row more.
        torch.testing.assert_close(after[:, new], before[:, old])


def test_a_damaged_start_is_refused():
    weights = seeded_network(PLAN, 1).state_dict()
    del weights["classifier.bias"]

    with pytest.raises(UnacceptableFile, match=r"classifier.bias is missing"):
        carried_over(Checkpoint(PLAN, weights), PLAN, seed=0)
