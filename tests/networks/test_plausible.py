"""A plan that no image suits, or no machine, is refused before anything is built."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from lib.errors import UnacceptableFile
from lib.networks import plausible
from lib.networks.checkpoint import NetworkPlan
from lib.networks.plausible import refuse_implausible
from tests.networks.test_checkpoint import PLAN

MONAIS = replace(
    PLAN,
    network="monai:UNet",
    channels=(),
    strides=(),
    arguments={"channels": [4, 8], "strides": [2]},
    patch=(16, 16, 16),
)


@pytest.mark.parametrize(
    "plan",
    [
        PLAN, MONAIS, replace(PLAN, spacing_mm=(0.05, 0.05, 1.0), patch=(1024, 1024, 4)), replace(PLAN, window_hu=None),
        replace(PLAN, network="refiner", neighbours=2, kernel=(3, 3, 1), strides=((2, 2, 1), (2, 2, 1))),
        replace(MONAIS, network="monai:SwinUNETR", arguments={"feature_size": 24}),
    ],
)  # fmt: skip
def test_plans_of_real_networks_are_plausible(plan: NetworkPlan) -> None:
    refuse_implausible(plan)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spacing_mm": (1e-9, 1.0, 1.0)}, "spacing_mm is 1e-09; plausible are 0.01 to 100"),
        ({"spacing_mm": (1.0, 1e6, 1.0)}, "spacing_mm is 1e+06"),
        ({"spacing_mm": (1.0, float("nan"), 1.0)}, "spacing_mm is nan"),
        ({"window_hu": (float("-inf"), 0.0)}, "window_hu is -inf"),
        ({"window_hu": (0.0, 1e300)}, "window_hu is 1e+300"),
        ({"window_out": (0.0, float("inf"))}, "window_out is inf"),
        ({"patch": (100_000, 32, 16)}, "patch is 100000; plausible are 1 to 4096"),
        ({"patch": (4096, 4096, 4096)}, "features of a patch would take"),
        ({"patch": (30, 32, 16)}, "wanted are multiples of the strides (4, 4, 2)"),
        ({"channels": (1_000_000, 16, 32)}, "number of channels is 1e+06"),
        ({"channels": (4096, 4096, 4096)}, "network would take"),
        ({"channels": (8,) * 50, "strides": ((1, 1, 1),) * 49}, "number of levels is 50"),
        ({"strides": ((2, 2, 1), (10**9, 1, 1))}, "strides is 1e+09"),
        ({"kernel": (999, 3, 3)}, "kernel is 999"),
        ({"features": 10**7}, "number of features is 1e+07"),
        ({"structures": {f"s{number}": 1 for number in range(300)}}, "number of structures is 300"),
        ({"structures": {}}, "number of structures is 0"),
        ({"ignored": tuple(range(1, 2000))}, "number of ignored channels is 1999"),
        ({"ignored": (10**9,)}, "ignored channel is 1e+09"),
        ({"draft_votes": float("inf")}, "draft_votes is inf"),
        ({"neighbours": 10**6}, "number of neighbours is 1e+06"),
        ({"arguments": {"channels": [10**6, 8]}}, "number in arguments is 1e+06"),
        ({"arguments": {"depths": [2] * 1000}}, "number of values in arguments is 1000"),
        ({"arguments": {"dropout": float("nan")}}, "number in arguments is nan"),
        ({"arguments": {"a": {"b": {"c": -(10**9)}}}}, "number in arguments is -1e+09"),
    ],
)  # fmt: skip
def test_a_number_beyond_its_bounds_is_named_with_them(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnacceptableFile, match=re.escape(message)):
        refuse_implausible(replace(PLAN, **changes))


def test_a_network_that_is_too_large_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    plain = plausible.network_of

    def noted(plan: NetworkPlan) -> Any:
        network = plain(plan)
        built.append({tensor.device.type for tensor in network.state_dict().values()})
        return network

    monkeypatch.setattr(plausible, "network_of", noted)
    for plan in (
        replace(PLAN, channels=(2048, 4096, 4096)),
        replace(MONAIS, arguments={"channels": [2048, 4096, 4096], "strides": [2, 2]}),
    ):
        with pytest.raises(UnacceptableFile, match=r"network would take [\d.]+ GiB; at most 4 are taken"):
            refuse_implausible(plan)

    assert built == [{"meta"}, {"meta"}]
