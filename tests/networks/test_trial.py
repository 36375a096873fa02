"""Weights that find nothing but NaN, or end the process that tries them, never come to serve."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lib.errors import UnacceptableFile
from lib.networks import trial
from lib.networks.checkpoint import Checkpoint, NetworkPlan
from lib.networks.segmenter import seeded_network
from lib.networks.trial import refuse_unfit, tried
from tests.networks.encoder import PLAN as OF_SAM
from tests.networks.endings import die, grow, hang
from tests.networks.test_checkpoint import PLAN
from tests.networks.test_plausible import MONAIS

SMALL = replace(PLAN, channels=(4, 8), strides=((2, 2, 1),))

PLANS = {
    "segmenter": SMALL,
    "of-bands": replace(SMALL, network="banded_unet"),
    "flat": replace(SMALL, network="adapter_unet", patch=(32, 32, 1), kernel=(3, 3, 1), window_hu=None),
    "refiner": replace(SMALL, network="refiner"),
    "refiner-of-slices": replace(SMALL, network="refiner", kernel=(3, 3, 1), neighbours=1),
    "of-monai": MONAIS,
}


def content_of(plan: NetworkPlan, change: Callable[[dict[str, torch.Tensor]], Any] = lambda weights: None) -> bytes:
    weights = {name: tensor.clone() for name, tensor in seeded_network(plan, 0).state_dict().items()}
    change(weights)
    return Checkpoint(plan, weights).to_bytes()


@pytest.mark.parametrize("name", PLANS)
def test_a_network_that_finds_something_is_fit(name: str) -> None:
    refuse_unfit(content_of(PLANS[name]))


def fill(value: float) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(weights: dict[str, torch.Tensor]) -> None:
        for tensor in weights.values():
            if tensor.is_floating_point():
                tensor.fill_(value)

    return change


def spoil_one(weights: dict[str, torch.Tensor]) -> None:
    next(iter(weights.values())).view(-1)[0] = float("nan")


def widen(weights: dict[str, torch.Tensor]) -> None:
    """More than the network's own kind of number can be."""
    name = next(iter(weights))
    weights[name] = weights[name].double().fill_(1e300)


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("change", [fill(float("nan")), fill(float("inf")), spoil_one, widen])
def test_weights_that_are_no_numbers_are_refused(name: str, change: Any) -> None:
    with pytest.raises(UnacceptableFile, match=r"The weights hold NaN or infinity in "):
        refuse_unfit(content_of(PLANS[name], change))


@pytest.mark.parametrize("name", ["segmenter", "refiner"])
def test_numbers_so_large_that_nothing_comes_of_them_are_refused(name: str) -> None:
    with pytest.raises(UnacceptableFile, match=r"no probabilities but NaN"):
        refuse_unfit(content_of(PLANS[name], fill(3e38)))


def test_a_plan_beyond_its_bounds_is_refused() -> None:
    network = seeded_network(SMALL, 0).state_dict()

    with pytest.raises(UnacceptableFile, match=r"patch is 100000"):
        refuse_unfit(Checkpoint(replace(SMALL, patch=(100_000, 32, 16)), dict(network)).to_bytes())


@pytest.mark.parametrize("entry", ["spacing_mm", "patch", "channels", "features", "window_hu", "structures"])
def test_an_entry_of_an_odd_kind_is_refused(entry: str) -> None:
    for odd in (float("inf"), [float("inf")] * 3, {"a": 2**5000}, "x" * 10_000, {}):
        file = io.BytesIO()
        torch.save({"plan": {**SMALL.to_json(), entry: odd}, "weights": {}}, file)
        with pytest.raises(UnacceptableFile, match=r"plan|no weights of this server"):
            refuse_unfit(file.getvalue())


def test_no_file_is_opened_that_a_plan_names(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    content = Checkpoint(replace(OF_SAM, encoder=str(tmp_path / "secret"), encoder_sha256="0"), {}).to_bytes()

    with pytest.raises(UnacceptableFile, match=r"names the encoder weights .*Start with those by --conf"):
        refuse_unfit(content)
    with pytest.raises(UnacceptableFile, match=r"names the encoder weights"):
        refuse_unfit(content, str(tmp_path / "other"))


def test_a_process_of_its_own_says_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    tried(content_of(SMALL))

    with pytest.raises(UnacceptableFile, match=r"were tried on a tiny image and cannot be used: The weights hold NaN"):
        tried(content_of(SMALL, spoil_one))
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("end", "reason"), [(die, "ended with code 7"), (hang, "longer than 15 s"), (grow, "allocate")]
)
def test_whatever_ends_the_process_is_a_refusal(monkeypatch: pytest.MonkeyPatch, end: Any, reason: str) -> None:
    monkeypatch.setattr(trial, "_try", end)
    if end is hang:
        monkeypatch.setattr(trial, "TRIAL_SECONDS", 15.0)

    with pytest.raises(UnacceptableFile, match=reason):
        tried(b"")
