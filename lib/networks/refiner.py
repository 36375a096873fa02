"""A U-Net that sees an image together with a mask of it, and says what the mask should have been."""

from __future__ import annotations

import torch
from monai.networks.blocks.convolutions import Convolution
from monai.networks.nets.unet import UNet
from torch import Tensor, nn
from torch.nn import functional

from lib.networks.checkpoint import NetworkPlan


class RefinerUNet(nn.Module):
    """A residual U-Net whose input is an image and a channel for each structure of the current mask.

    Only the first convolution and the classifier depend on the number of structures. A plan without a kernel along one
    axis makes it a 2D network, which sees the slices across that axis one at a time. If the plan names neighbours, its
    first convolution reaches into so many slices on each side (2.5D): all that follows sees them as features.

    Reference:
        Recurrent refinement of non-expert masks (ReReNet), BIBM 2024.
    """

    def __init__(self, plan: NetworkPlan) -> None:
        super().__init__()
        self.slice_axis = plan.kernel.index(1) if 1 in plan.kernel else None
        axes = [axis for axis in range(3) if axis != self.slice_axis]
        kernel = tuple(plan.kernel[axis] for axis in axes)
        self.neighbours = plan.neighbours
        self.entrance = _entrance(plan, kernel)
        self.body = UNet(
            spatial_dims=len(axes),
            in_channels=plan.channels[0],
            out_channels=plan.features,
            channels=plan.channels,
            # As in ResidualUNet: tuples do, MONAI's annotation says int.
            strides=[tuple(stride[axis] for axis in axes) for stride in plan.strides],  # type: ignore[misc]
            kernel_size=kernel,
            up_kernel_size=kernel,
            num_res_units=1,
        )
        self.act = nn.PReLU()
        self.classifier = Convolution(len(axes), plan.features, plan.classes, kernel_size=1, conv_only=True)

    def forward(self, seen: Tensor) -> Tensor:
        """Logits (B, C, I, J, K), background first.

        Args:
            seen: float (B, C, I, J, K): the image, then a channel for each structure, 1 where the current mask has
                it (or its probability). Axes are multiples of the plan's strides.
        """
        if self.slice_axis is None:
            return self._logits(self.entrance(seen))
        axis = 2 + self.slice_axis
        slices = (self._with_neighbours(seen) if self.neighbours else seen).movedim(axis, 1)
        each = slices.flatten(0, 1)
        logits = self._logits(each if self.neighbours else self.entrance(each))
        return logits.unflatten(0, slices.shape[:2]).movedim(1, axis)

    def _with_neighbours(self, seen: Tensor) -> Tensor:
        """What enters of each slice and those beside it; the first and the last one are their own neighbours."""
        beyond = [self.neighbours * (axis == self.slice_axis) for axis in (2, 2, 1, 1, 0, 0)]
        return self.entrance(functional.pad(seen, beyond, mode="replicate"))

    def _logits(self, entered: Tensor) -> Tensor:
        """Of (B, F, ...) along as many axes as the network has."""
        return self.classifier(self.act(self.body(entered)))


def _entrance(plan: NetworkPlan, kernel: tuple[int, ...]) -> nn.Module:
    """The first convolution, along as many axes as the kernel, or along all three if slices see their neighbours."""
    edges = plan.kernel if plan.neighbours else kernel
    return Convolution(
        len(edges), plan.classes, plan.channels[0], bias=False, conv_only=True,
        kernel_size=tuple(1 + 2 * plan.neighbours if edge == 1 else edge for edge in edges),
        # Along the slices the neighbours are given; what lies around the image is 0.
        padding=tuple(edge // 2 for edge in edges),
    )  # fmt: skip


def as_channels(mask: Tensor, structures: int) -> Tensor:
    """Float32 (B, S, I, J, K), 1 where the mask has the structure.

    Args:
        mask: integer (B, 1, I, J, K), channel numbers; 0 is background.
        structures: how many there are.
    """
    numbers = torch.arange(1, structures + 1, device=mask.device)[:, None, None, None]
    return (mask == numbers).float()
