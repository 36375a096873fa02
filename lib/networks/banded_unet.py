"""A residual U-Net that is told in which band of the intensity window each voxel lies."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lib.networks.checkpoint import NetworkPlan
from lib.networks.residual_unet import ResidualUNet

BANDS = 9
"""Bands of a window; of one from -40 to 120 HU each is centred 20 HU after the one before."""


class BandedUNet(ResidualUNet):
    """A residual U-Net for CT, where an intensity means the same in every image.

    Blood is some 30 HU denser than brain, beside bone and air at both ends of the window: in a single channel that
    difference is a small one, and a network needs long to learn that neither more nor less than these HU is blood.
    Here a voxel enters as its shares of bands (hat functions, whose sum is 1), and the classifier sees them once more
    beside the features, at full resolution. The norms use the statistics of the training, as a norm of each patch by
    itself would hide how dense the patch is and make noise as large as a lesion where there is none.
    """

    def __init__(self, plan: NetworkPlan) -> None:
        super().__init__(plan, channels_in=BANDS, norm="batch")
        self.classifier = nn.Conv3d(plan.features + BANDS, plan.classes, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, C, I, J, K) of images (B, 1, I, J, K) in -1 to 1, axes as for ``ResidualUNet``."""
        shares = band_shares(image)
        return self.classifier(torch.cat([self.act(self.body(shares)), shares], dim=1))


def band_shares(image: Tensor) -> Tensor:
    """Shares (B, 9, I, J, K) of the bands in voxels (B, 1, I, J, K); what lies beyond -1 and 1 is taken for these."""
    centres = torch.linspace(-1, 1, BANDS, device=image.device)[:, None, None, None]
    return (1 - (image.clamp(-1, 1) - centres).abs() * (BANDS - 1) / 2).clamp(min=0)
