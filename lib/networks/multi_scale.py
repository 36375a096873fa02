"""Blocks that look at several distances at once: the adapter before an encoder block, and the end of a decoder."""

from __future__ import annotations

import torch
from monai.networks.blocks.convolutions import Convolution
from torch import Tensor, nn

from lib.errors import UnacceptableFile
from lib.networks.checkpoint import NetworkPlan

DILATIONS = (1, 2, 3, 4)
"""Voxels between the taps of the parallel convolutions."""

REDUCTION = 4
"""An adapter works on a fourth of the channels."""


class ParallelDilations(nn.Module):
    """Four 3x3 convolutions of different reach beside each other, their results one behind the other.

    Attributes:
        channels: of the result; the asked number, or the next one that gives each convolution at least two.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        # The norm would take all that one channel alone says on average.
        each = max(channels_out // len(DILATIONS), 2)
        self.branches = nn.ModuleList(_convolution(channels_in, each, 3, dilation) for dilation in DILATIONS)
        self.channels = each * len(DILATIONS)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, ``channels``, h, w) of features (B, c, h, w)."""
        return torch.cat([branch(features) for branch in self.branches], dim=1)


class MultiScaleAdapter(nn.Module):
    """Adds to features what a narrow side path sees of them at four distances; at first that is nothing.

    The side path starts at zero, so that training sets out from what the encoder does without it. The layer norm is
    taken over channels and pixels: over a few channels alone it would leave hardly more than signs.

    Reference:
        Mammo-SAM, Machine Learning in Medical Imaging 2023, p. 176-185.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = max(channels // REDUCTION, 1)
        dilations = ParallelDilations(narrow, narrow)
        last = nn.Conv2d(dilations.channels, channels, kernel_size=1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.path = nn.Sequential(_convolution(channels, narrow, 1), dilations, last)

    def forward(self, features: Tensor) -> Tensor:
        """Features of the same shape, (B, c, h, w)."""
        return features + self.path(features)


class UpBlock(nn.Module):
    """One step of a decoder: transposed convolution, then twice convolution, norm and ReLU."""

    def __init__(self, channels: tuple[int, int, int], stride: tuple[int, int], norm: str) -> None:
        """Makes a step.

        Args:
            channels: of what comes from below, of what comes from the encoder (0: nothing), and of the result.
            stride: how much finer it becomes along both axes.
            norm: MONAI's name, ``batch`` or ``instance``.
        """
        super().__init__()
        below, beside, out = channels
        self.up = nn.ConvTranspose2d(below, out, kernel_size=stride, stride=stride)
        self.convolutions = nn.Sequential(
            *(
                Convolution(2, number, out, act="RELU", norm=(norm, {"affine": True}), bias=False)
                for number in (out + beside, out)
            )
        )

    def forward(self, features: Tensor, beside: Tensor | None = None) -> Tensor:
        """Features at the finer resolution, joined with those that the encoder had there."""
        features = self.up(features)
        return self.convolutions(features if beside is None else torch.cat([features, beside], dim=1))


def flat_axis(plan: NetworkPlan) -> int:
    """The axis along which images have one slice.

    Raises:
        UnacceptableFile: if the plan is for volumes.
    """
    flat = [axis for axis in range(3) if plan.patch[axis] == 1]
    if len(flat) != 1:
        raise UnacceptableFile(
            f"The network {plan.network} is for images of one slice; the plan's patch is "
            f"{'x'.join(map(str, plan.patch))} voxels. Choose another network for volumes."
        )
    return flat[0]


def plane_strides(plan: NetworkPlan) -> list[tuple[int, int]]:
    """The plan's strides along the two axes of the image plane."""
    flat = flat_axis(plan)
    pairs = [[step for axis, step in enumerate(stride) if axis != flat] for stride in plan.strides]
    return [(first, second) for first, second in pairs]


def _convolution(channels_in: int, channels_out: int, edge: int, dilation: int = 1) -> nn.Module:
    """Convolution, layer norm, GELU."""
    norm = ("group", {"num_groups": 1})
    return Convolution(2, channels_in, channels_out, kernel_size=edge, dilation=dilation, act="GELU", norm=norm)
