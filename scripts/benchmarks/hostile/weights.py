"""Weight files that run code, hold no numbers, or plan a network that no machine has room for."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from typing import Any

from scripts.benchmarks.hostile.reach import Chance, Reach, odd_number, spoiled

PLANS: dict[str, tuple[Any, ...]] = {
    "spacing_mm": ((1e-9,) * 3, (1e9,) * 3, (0, 0, 0), (-1, 1, 1), (float("nan"),) * 3, (1,)),
    "patch": ((100000,) * 3, (1, 1, 1), (0, 0, 0), (2**63, 1, 1), (7, 5, 3)),
    "channels": ((10**6, 10**6), (1, 1), (2**31, 2), (0, 0)),
    "strides": (((1, 1, 1),) * 60, ((10**6,) * 3,), ((0, 0, 0),)),
    "kernel": ((999, 999, 999), (2, 2, 2), (0, 1, 1)),
    "features": (10**9, 0, -1, 2**64),
    "window_hu": ((float("-inf"), float("inf")), (1, 1), (1e308, -1e308)),
    "network": ("", "../x", "os:system", "monai:Class", "refiner", "builtins:exec", "a" * 10**5),
    "structures": ({}, {"x": 1}, {"Bright": 300}, {"Bright": -1}, {"Bright": float("nan")}),
    "ignored": ((10**9,), (-1,), (1,) * 10**5),
    "encoder": ("/etc/passwd", "../../x"),
    "draft_votes": (float("nan"), 1e308, -1),
    "neighbours": (10**9, -1),
    "arguments": ({"x": "y"}, {"in_channels": 10**9}),
}
"""Entries of a plan, and what no training makes of them."""


class _Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (self.path,)


def weights(chance: Chance, reach: Reach) -> bytes:
    """A weight file."""
    made: list[Callable[[Chance, Reach], bytes]] = [_pickle, _archive, _nested, _damaged]
    if reach.weights:
        made += [_planned] * 4 + [_numbered] * 2
    return chance.choice(made)(chance, reach)


def _pickle(chance: Chance, reach: Reach) -> bytes:
    return pickle.dumps({"plan": {}, "weights": _Runs(str(reach.ran))}, protocol=chance.choice([0, 2, 4]))


def _archive(chance: Chance, reach: Reach) -> bytes:
    """As PyTorch writes its files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("archive/data.pkl", chance.choice([_pickle(chance, reach), chance.randbytes(500), _memoized()]))
        packed.writestr("archive/version", chance.choice(["3\n", "9" * 5000]))
        packed.writestr("archive/byteorder", "little")
        packed.writestr("archive/data/0", bytes(100))
    return file.getvalue()


def _memoized() -> bytes:
    """A pickle that says it holds a text of two GiB."""
    return b"\x80\x02X" + struct.pack("<I", 2**31 - 1) + b"x."


def _nested(chance: Chance, reach: Reach) -> bytes:
    return b"\x80\x02" + b"(" * 10**5 + b"]" * 10**5 + b"."


def _damaged(chance: Chance, reach: Reach) -> bytes:
    return spoiled(reach.weights, chance) if reach.weights else chance.randbytes(500)


def _planned(chance: Chance, reach: Reach) -> bytes:
    """Sound weights with another plan."""

    def change(content: dict[str, Any]) -> None:
        for name in chance.sample(sorted(PLANS), chance.choice([1, 1, 2])):
            content["plan"][name] = chance.choice([*PLANS[name], odd_number(chance), None])

    return _rewritten(reach.weights, change)


def _numbered(chance: Chance, reach: Reach) -> bytes:
    """Sound weights whose numbers are none."""
    value = chance.choice([float("nan"), float("inf"), 1e38, 0.0])

    def change(content: dict[str, Any]) -> None:
        names = list(content["weights"])
        for name in names if chance.random() < 0.5 else chance.sample(names, 1):
            tensor = content["weights"][name]
            content["weights"][name] = tensor.fill_(value) if tensor.is_floating_point() else tensor

    return _rewritten(reach.weights, change)


def _rewritten(content: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    import torch

    found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    change(found)
    file = io.BytesIO()
    torch.save(found, file)
    return file.getvalue()
