"""MONAI's residual 3D U-Net, small enough to learn on a CPU."""

from __future__ import annotations

from monai.networks.nets.unet import UNet
from torch import Tensor, nn

from lib.networks.checkpoint import NetworkPlan


class ResidualUNet(nn.Module):
    """A residual U-Net with a voxelwise classifier of its own on top.

    Only the classifier's size depends on the number of structures, so one that is appended later leaves all other
    weights as they are, and a task of a hundred structures costs hardly more than one of two.

    Reference:
        Kerfoot et al., "Left-ventricle quantification using residual U-Net", STACOM 2018.
    """

    def __init__(self, plan: NetworkPlan, channels_in: int = 1, norm: str = "instance") -> None:
        super().__init__()
        self.body = UNet(
            spatial_dims=3,
            in_channels=channels_in,
            out_channels=plan.features,
            channels=plan.channels,
            # MONAI hands each entry to a convolution as it is, so triples do; its annotation says int.
            strides=plan.strides,  # type: ignore[arg-type]
            kernel_size=plan.kernel,
            up_kernel_size=plan.kernel,
            num_res_units=1,
            norm=norm,
        )
        self.act = nn.PReLU()
        self.classifier = nn.Conv3d(plan.features, plan.classes, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, C, I, J, K) of images (B, 1, I, J, K) whose axes are multiples of the plan's strides."""
        return self.classifier(self.act(self.body(image)))
