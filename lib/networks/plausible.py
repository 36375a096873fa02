"""Bounds of what a network from elsewhere may be, known before it is built."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from lib.errors import UnacceptableFile
from lib.networks.checkpoint import NetworkPlan
from lib.networks.segmenter import network_of

LARGEST_GIB = 4.0
"""Of a network's weights; the largest known here (SAM's ViT-L) have 1.2."""

LARGEST_PATCH_GIB = 8.0
"""Of the features of one patch at full resolution."""

MOST_ARGUMENTS, LARGEST_ARGUMENT = 64, 4096
"""Values in a list, and size of a whole number, that a class of MONAI is built with."""

Bounds = tuple[str, Iterable[float], float, float]
"""What, its numbers, and the lowest and the highest that each may be."""


def refuse_implausible(plan: NetworkPlan) -> None:
    """Refuses a plan whose network could not be built, or not be used for any image.

    Raises:
        UnacceptableFile: if a number is beyond its bounds, or the network would be too large; nothing is built then.
    """
    for what, numbers, low, high in _bounds(plan):
        for number in numbers:
            if not (math.isfinite(number) and low <= number <= high):
                raise UnacceptableFile(f"The plan's {what} is {number:g}; plausible are {low:g} to {high:g}.")
    if plan.strides and any(edge % step for edge, step in zip(plan.patch, plan.multiple, strict=True)):
        raise UnacceptableFile(
            f"The plan's patch is {plan.patch}; wanted are multiples of the strides {plan.multiple}."
        )
    widest = max(plan.outputs, plan.features, *plan.channels[:1])
    _refuse_larger("features of a patch", 4 * widest * math.prod(plan.patch), LARGEST_PATCH_GIB)
    if not plan.encoder:
        _refuse_larger("network", 4 * _numbers(plan), LARGEST_GIB)


def _bounds(plan: NetworkPlan) -> Iterator[Bounds]:
    yield "spacing_mm", plan.spacing_mm, 0.01, 100.0
    yield "window_hu", plan.window_hu or (), -1e6, 1e6
    yield "window_out", plan.window_out, -1e4, 1e4
    yield "patch", plan.patch, 1, 4096
    yield "number of channels", plan.channels, 1, 4096
    yield "number of levels", [len(plan.channels)], 0, 10
    yield "strides", [step for stride in plan.strides for step in stride], 1, 32
    yield "kernel", plan.kernel, 1, 11
    yield "number of features", [plan.features], 1, 1024
    yield "number of structures", [len(plan.structures)], 1, 255
    yield "number of ignored channels", [len(plan.ignored)], 0, 1000
    yield "ignored channel", plan.ignored, 1, 1255
    yield "draft_votes", [plan.draft_votes], 0, 1000
    yield "number of neighbours", [plan.neighbours], 0, 16
    yield "number of values in arguments", _lengths(plan.arguments), 0, MOST_ARGUMENTS
    yield "number in arguments", _whole_numbers(plan.arguments), -LARGEST_ARGUMENT, LARGEST_ARGUMENT


def _lengths(value: Any) -> Iterator[int]:
    if isinstance(value, Mapping | list | tuple):
        yield len(value)
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _lengths(part)


def _whole_numbers(value: Any) -> Iterator[float]:
    if isinstance(value, Mapping | list | tuple):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _whole_numbers(part)
    elif isinstance(value, int | float):
        yield value


def _numbers(plan: NetworkPlan) -> int:
    """How many numbers the network has; it is built without room for them, where its class can be."""
    try:
        with torch.device("meta"):
            network = network_of(plan)
    except UnacceptableFile:
        # Some compute with what has no values then; whatever else is wrong shows when it is tried.
        return 0
    return sum(tensor.numel() for tensor in network.state_dict().values())


def _refuse_larger(what: str, size: int, most_gib: float) -> None:
    if size > most_gib * 2**30:
        raise UnacceptableFile(f"The plan's {what} would take {size / 2**30:.1f} GiB; at most {most_gib:g} are taken.")
