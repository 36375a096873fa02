"""Adapters around a frozen encoder: what learns, what is saved, and what moves."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from lib.errors import UnacceptableFile
from lib.networks import segmenter
from lib.networks.checkpoint import Checkpoint, NetworkPlan
from lib.networks.sam_unet import SamUNet
from lib.networks.segmenter import carried_over, fitted, network_of, seeded_network
from tests.networks.encoder import TINY, drawn_encoder, plan_with, weight_file


@pytest.fixture
def plan(tmp_path, monkeypatch) -> NetworkPlan:
    monkeypatch.setitem(segmenter.NETWORKS, "sam_vit_b", partial(SamUNet, size=TINY))
    return plan_with(weight_file(tmp_path / "sam.pth"))


@pytest.mark.parametrize("shape", [(64, 64, 1), (96, 32, 1)])
def test_logits_lie_on_the_images_grid(plan, shape):
    assert network_of(plan)(torch.zeros(2, 1, *shape)).shape == (2, 2, *shape)


def test_everything_but_the_encoder_learns(plan):
    network = seeded_network(plan, 0)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)

    for _ in range(2):
        optimizer.zero_grad()
        network.train()(torch.randn(2, 1, 64, 64, 1)).square().mean().backward()
        optimizer.step()

    moved = {name for name, value in network.named_parameters() if not torch.equal(value, before[name])}
    assert moved == set(before)
    (encoder,) = network._frozen
    assert not encoder.training
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), drawn_encoder().parameters(), strict=True))


def test_the_checkpoint_names_the_encoder_and_does_not_hold_it(plan):
    network = seeded_network(plan, 0).eval()
    image = torch.randn(1, 1, 64, 64, 1)

    found = Checkpoint.from_bytes(Checkpoint(plan, network.state_dict()).to_bytes())

    assert {name.split(".")[0] for name in found.weights} == {"adapters", "ups", "multi_scale", "classifier"}
    assert torch.equal(fitted(network_of(found.plan), found.weights).eval()(image), network(image))


def test_the_encoder_moves_along(plan):
    network = network_of(plan).to(torch.float64)

    assert network(torch.zeros(1, 1, 64, 64, 1, dtype=torch.float64)).dtype == torch.float64


def test_an_appended_structure_goes_on_from_the_earlier_weights(plan):
    start = seeded_network(plan, 1).eval()
    more = replace(plan, structures={"mass": 1, "calcification": 2})
    image = torch.randn(1, 1, 64, 64, 1)

    network = carried_over(Checkpoint(plan, start.state_dict()), more, seed=0).eval()

    assert torch.equal(network(image)[:, :2], start(image))


def test_a_plan_that_does_not_meet_the_encoder_is_refused(plan):
    with pytest.raises(UnacceptableFile, match=r"make 16x16 and 8 features .* the plan has 8x16 and 8"):
        network_of(replace(plan, strides=((1, 2, 1), *plan.strides[1:])))


def test_an_encoder_file_that_was_changed_is_refused(plan, tmp_path):
    weight_file(tmp_path / "sam.pth", seed=3)

    with pytest.raises(UnacceptableFile, match="trained with"):
        network_of(plan)
