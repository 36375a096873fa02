"""The networks that a task can ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from lib.errors import UnacceptableFile
from lib.networks.adapter_unet import AdapterUNet
from lib.networks.banded_unet import BandedUNet
from lib.networks.checkpoint import Checkpoint, NetworkPlan
from lib.networks.monai_network import PREFIX, class_axes, monai_network
from lib.networks.refiner import RefinerUNet
from lib.networks.residual_unet import ResidualUNet
from lib.networks.sam_encoder import VIT_B, VIT_L
from lib.networks.sam_unet import SamUNet

DIFFERENCES_SHOWN = 3
"""How many misfitting tensors a message names."""


NETWORKS: dict[str, Callable[[NetworkPlan], nn.Module]] = {
    "residual_unet": ResidualUNet,
    "banded_unet": BandedUNet,
    "adapter_unet": AdapterUNet,
    "sam_vit_b": partial(SamUNet, size=VIT_B),
    "sam_vit_l": partial(SamUNet, size=VIT_L),
    "refiner": RefinerUNet,
}
"""What ``NetworkPlan.network`` may name; the refiner sees a mask beside the image and is no task's own network."""


def network_of(plan: NetworkPlan) -> nn.Module:
    """The plan's network with fresh weights.

    Raises:
        UnacceptableFile: if no network has this name, or the plan or its encoder's weight file do not fit it.
    """
    is_monais = plan.network.startswith(PREFIX)
    if len(plan.heeded) != plan.classes or (plan.ignored and not is_monais):
        raise UnacceptableFile(
            f"The network plan ignores the channels {list(plan.ignored)} of {plan.outputs}; "
            "wanted are different channels of a network of MONAI."
        )
    if is_monais:
        return monai_network(plan)
    if plan.network not in NETWORKS:
        raise UnacceptableFile(f"There is no network '{plan.network}' here; known are {', '.join(NETWORKS)}.")
    if len(plan.strides) != len(plan.channels) - 1:
        raise UnacceptableFile(
            f"The network plan has {len(plan.channels)} levels and {len(plan.strides)} strides; "
            "wanted is one stride less than levels."
        )
    return NETWORKS[plan.network](plan)


def fitted(network: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """The network with these weights in it.

    Raises:
        UnacceptableFile: if names or shapes differ; the message shows the first differences.
    """
    differences = _differences(network.state_dict(), weights)
    if differences:
        more = f" and {len(differences) - DIFFERENCES_SHOWN} more" if len(differences) > DIFFERENCES_SHOWN else ""
        raise UnacceptableFile(
            f"The weights do not fit the network: {'; '.join(differences[:DIFFERENCES_SHOWN])}{more}. "
            "Use the file that was written together with this plan."
        )
    network.load_state_dict(dict(weights))
    return network


def carried_over(start: Checkpoint, plan: NetworkPlan, seed: int) -> nn.Module:
    """The plan's network with all weights of an earlier one, whose structures may be fewer.

    What decides between structures is found by structure name (background: the first channel); that of new structures
    stays fresh, that of structures which the plan does not have is left out.

    Args:
        start: the earlier network.
        plan: the start's plan but for the structures.
        seed: draws the weights of new structures.

    Raises:
        UnacceptableFile: if the start's weights do not fit its own plan.
    """
    fitted(network_of(start.plan), start.weights)
    network = seeded_network(plan, seed)
    fresh = network.state_dict()
    channels = _channels(start.plan, plan)
    axes = class_axes(plan) if plan.network.startswith(PREFIX) else _own_axes(fresh)
    weights = {
        name: _carried(start.weights[name], tensor, axes[name], channels) if name in axes else start.weights[name]
        for name, tensor in fresh.items()
    }
    return fitted(network, weights)


def _own_axes(tensors: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """The same for our own networks, which have a classifier on top; a refiner's entrance sees image and structures."""
    axis = {"classifier": 0, "entrance": 1}
    return {name: (axis[part],) for name in tensors if (part := name.split(".")[0]) in axis}


def _channels(earlier: NetworkPlan, plan: NetworkPlan) -> dict[int, int]:
    """Channel of the earlier network by channel of the new one, for what both know."""
    before = {name.casefold(): row for row, name in zip(earlier.heeded[1:], earlier.structures, strict=True)}
    rows = zip(plan.heeded[1:], plan.structures, strict=True)
    return {0: 0} | {row: before[name.casefold()] for row, name in rows if name.casefold() in before}


def _carried(earlier: Tensor, fresh: Tensor, axes: tuple[int, ...], channels: Mapping[int, int]) -> Tensor:
    """The fresh tensor with the earlier one's entries for all channels that both know.

    Args:
        earlier: as trained.
        fresh: of the same shape but for the axes that count channels.
        axes: those.
        channels: of the earlier tensor by channel of the fresh one.
    """
    kept = fresh.clone()
    every = [range(size) for size in fresh.shape]
    to = np.ix_(*(list(channels) if axis in axes else sizes for axis, sizes in enumerate(every)))
    of = np.ix_(*(list(channels.values()) if axis in axes else sizes for axis, sizes in enumerate(every)))
    kept[to] = earlier[of]
    return kept


def _differences(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """What is missing, superfluous or of another shape, in words."""
    missing = [f"{name} is missing" for name in wanted if name not in found]
    extra = [f"{name} is not part of it" for name in found if name not in wanted]
    shapes = [
        f"{name} is {_shape(found[name])}, wanted {_shape(tensor)}"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]
    return missing + extra + shapes


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"


def parameters_of(network: nn.Module) -> int:
    """How many numbers the network learns."""
    return sum(parameter.numel() for parameter in network.parameters())


def seeded_network(plan: NetworkPlan, seed: int) -> nn.Module:
    """The plan's network with fresh weights drawn from a seed; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return network_of(plan)
