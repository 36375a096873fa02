"""The segmentation network: MONAI's residual 3D U-Net, small enough to learn on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from monai.networks.nets.unet import UNet
from torch import Tensor, nn

from lib.errors import UnacceptableFile
from lib.networks.checkpoint import Checkpoint, NetworkPlan

DIFFERENCES_SHOWN = 3
"""How many misfitting tensors a message names."""


class ResidualUNet(nn.Module):
    """A residual U-Net with a voxelwise classifier of its own on top.

    Only the classifier's size depends on the number of structures, so one that is appended later leaves all other
    weights as they are, and a task of a hundred structures costs hardly more than one of two.

    Reference:
        Kerfoot et al., "Left-ventricle quantification using residual U-Net", STACOM 2018.
    """

    def __init__(self, plan: NetworkPlan) -> None:
        super().__init__()
        self.body = UNet(
            spatial_dims=3,
            in_channels=1,
            out_channels=plan.features,
            channels=plan.channels,
            # MONAI hands each entry to a convolution as it is, so triples do; its annotation says int.
            strides=plan.strides,  # type: ignore[arg-type]
            kernel_size=plan.kernel,
            up_kernel_size=plan.kernel,
            num_res_units=1,
        )
        self.act = nn.PReLU()
        self.classifier = nn.Conv3d(plan.features, plan.classes, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, C, I, J, K) of images (B, 1, I, J, K) whose axes are multiples of the plan's strides."""
        return self.classifier(self.act(self.body(image)))


NETWORKS: dict[str, Callable[[NetworkPlan], nn.Module]] = {"residual_unet": ResidualUNet}
"""What ``NetworkPlan.network`` may name."""


def network_of(plan: NetworkPlan) -> nn.Module:
    """The plan's network with fresh weights.

    Raises:
        UnacceptableFile: if no network has this name, or the plan's levels do not match its strides.
    """
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

    The classifier's rows are found by structure name (background: the first); those of new structures stay fresh.

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
    rows = _rows(start.plan, plan)
    weights = {}
    for name, tensor in fresh.items():
        earlier = start.weights[name]
        if name.startswith("classifier."):
            kept = tensor.clone()
            for row, earlier_row in rows.items():
                kept[row] = earlier[earlier_row]
            earlier = kept
        weights[name] = earlier
    return fitted(network, weights)


def _rows(earlier: NetworkPlan, plan: NetworkPlan) -> dict[int, int]:
    """Channel of the earlier network by channel of the new one, for what both know."""
    before = {name.casefold(): row for row, name in enumerate(earlier.structures, start=1)}
    known = {
        row: before[name.casefold()] for row, name in enumerate(plan.structures, start=1) if name.casefold() in before
    }
    return {0: 0, **known}


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
