"""A U-Net that sees an image together with a mask of it, and says what the mask should have been."""

from __future__ import annotations

import torch
from monai.networks.blocks.convolutions import Convolution
from monai.networks.nets.unet import UNet
from torch import Tensor, nn

from lib.networks.checkpoint import NetworkPlan


class RefinerUNet(nn.Module):
    """A residual U-Net whose input is an image and a channel for each structure of the current mask.

    Only the first convolution and the classifier depend on the number of structures. A plan without a kernel along one
    axis makes it a 2D network, which sees the slices across that axis one at a time.

    Reference:
        Recurrent refinement of non-expert masks (ReReNet), BIBM 2024.
    """

    def __init__(self, plan: NetworkPlan) -> None:
        super().__init__()
        self.slice_axis = plan.kernel.index(1) if 1 in plan.kernel else None
        axes = [axis for axis in range(3) if axis != self.slice_axis]
        kernel = tuple(plan.kernel[axis] for axis in axes)
        self.entrance = Convolution(
            len(axes), plan.classes, plan.channels[0], kernel_size=kernel, bias=False, conv_only=True
        )
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
            return self._logits(seen)
        axis = 2 + self.slice_axis
        slices = seen.movedim(axis, 1)
        return self._logits(slices.flatten(0, 1)).unflatten(0, slices.shape[:2]).movedim(1, axis)

    def _logits(self, seen: Tensor) -> Tensor:
        """Of (B, C, ...) along as many axes as the network has."""
        return self.classifier(self.act(self.body(self.entrance(seen))))


def as_channels(mask: Tensor, structures: int) -> Tensor:
    """Float32 (B, S, I, J, K), 1 where the mask has the structure.

    Args:
        mask: integer (B, 1, I, J, K), channel numbers; 0 is background.
        structures: how many there are.
    """
    numbers = torch.arange(1, structures + 1, device=mask.device)[:, None, None, None]
    return (mask == numbers).float()
