"""How much a machine learns in given seconds, and how large a first network's patches and images may be for that."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from lib.networks.checkpoint import NetworkPlan, VoxelTriple
from lib.networks.precision import Precision, computing_in, layout_of
from lib.networks.segmenter import seeded_network
from lib.training.budget import Budget

STEPS = 700
"""In fewer a fresh network does not learn where the structures of a patch lie. Of the steps that are timed a third is
lost to what is beside the network: loss, augmentation, optimiser."""

STEPS_A_PATCH = 120
"""Further steps for each further patch that it takes to cover an image."""

LEAST_PATCH_VOXELS, TRIED_PATCH_VOXELS = 2**15, 2**16
"""Smaller patches show too little of what surrounds a structure, and say too little of the pace of larger ones."""

FILLED = 0.8
"""Share of a patch that the median image fills: edges of patches are multiples of the strides, and images differ."""

TRIED = 4
"""Steps that are timed; one more goes before them."""


@dataclass(frozen=True)
class Affordable:
    """What can be learned in the time.

    Attributes:
        patch_voxels: of a patch at most.
        image_voxels: of the median image at most, air around the body aside.
    """

    patch_voxels: int
    image_voxels: int


def affordable(voxels_per_second: float, seconds: float, batch_size: int, largest_patch: int) -> Affordable:
    """The largest patch and image that a first training has the steps for.

    The whole image in one patch comes first; only a longer time buys finer voxels, and an image of several patches.

    Args:
        voxels_per_second: that the machine learns from, see ``pace``.
        seconds: of the training; ``inf``: as many as it takes.
        batch_size: patches a step.
        largest_patch: voxels that a patch has at most, however long the training is.
    """
    if math.isinf(seconds):
        return Affordable(largest_patch, largest_patch)
    at_once = voxels_per_second * seconds / batch_size
    # Rounded: the same machine plans the same though one run is a little quicker than the other.
    patch = min(max(int(_rounded(at_once / STEPS)), LEAST_PATCH_VOXELS), largest_patch)
    patches = int(_rounded((at_once / patch - STEPS) / STEPS_A_PATCH))
    return Affordable(patch, int(patch * FILLED) * patches)


def _rounded(number: float) -> float:
    """The nearest power of the root of 2, at least 1."""
    return 2 ** (round(2 * math.log2(max(number, 1.0))) / 2)


def pace(plan: NetworkPlan, batch_size: int, device: torch.device, precision: Precision) -> float:
    """Voxels a second that a machine learns from: a few steps of a network of the plan, on noise.

    Args:
        plan: its patch is tried at a size that takes little time.
        batch_size: patches a step.
        device: that computes.
        precision: as in the training.
    """
    small = replace(plan, patch=_shrunk(plan.patch, TRIED_PATCH_VOXELS, plan))
    network = seeded_network(small, 0).to(device)
    layout = layout_of(network)
    network = network.to(memory_format=layout).train()
    noise = torch.randn(batch_size, 1, *small.patch, device=device).to(memory_format=layout)
    # Counted as the training's seconds are.
    budget = Budget(math.inf, str(device))
    for step in range(TRIED + 1):
        if step == 1:
            _wait_for(device)
            budget = Budget(math.inf, str(device))
        with computing_in(precision, device):
            loss = network(noise).float().square().mean()
        loss.backward()
    _wait_for(device)
    return TRIED * batch_size * math.prod(small.patch) / max(budget.spent, 1e-6)


def _shrunk(patch: VoxelTriple, voxels: int, plan: NetworkPlan) -> VoxelTriple:
    """The patch with its longest edges halved until it is small enough, as far as the strides allow."""
    edges = list(patch)
    multiple = [math.prod(strides) for strides in zip(*plan.strides, strict=True)]
    while math.prod(edges) > voxels:
        longest = max(range(3), key=lambda axis: edges[axis] // multiple[axis])
        halved = edges[longest] // 2 // multiple[longest] * multiple[longest]
        if halved < multiple[longest]:
            break
        edges[longest] = halved
    i, j, k = edges
    return i, j, k


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
