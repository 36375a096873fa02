"""The network for flat images such as mammograms: a small U-Net with multi-scale adapters."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

from monai.networks.blocks.convolutions import Convolution, ResidualUnit
from torch import Tensor, nn
from torch.nn import functional

from lib.networks.checkpoint import NetworkPlan
from lib.networks.multi_scale import MultiScaleAdapter, ParallelDilations, UpBlock, flat_axis, plane_strides

BACKGROUND_ODDS = 3.5
"""What a new network adds to the logit of the background: it starts at 97 % there, about as much as is none."""


class AdapterUNet(nn.Module):
    """Adapters and decoder of Mammo-SAM around an encoder that is small enough to be trained on a CPU.

    The stem makes the image coarser by the first stride, and no other part works at full resolution, where most of
    the time would go; logits are interpolated back. Each further level of the encoder is made coarser, adapted to
    several distances, and passed through a residual unit; the decoder has the encoder's features beside its own. A
    classifier of its own is the only part whose size depends on the number of structures.

    Reference:
        Mammo-SAM, Machine Learning in Medical Imaging 2023, p. 176-185; there the encoder is a frozen SAM ViT-L.
    """

    def __init__(self, plan: NetworkPlan, norm: str = "batch") -> None:
        super().__init__()
        self.flat_axis = flat_axis(plan)
        entry, *strides = plane_strides(plan)
        first, *channels = plan.channels
        self.stem = nn.Sequential(
            Convolution(2, 1, first, strides=entry, norm=norm), Convolution(2, first, channels[0], norm=norm)
        )
        steps = list(zip(pairwise(channels), strides, strict=True))
        self.levels = nn.ModuleList(_level(fine, coarse, stride, norm) for (fine, coarse), stride in steps)
        self.ups = nn.ModuleList(
            UpBlock((coarse, fine, fine), stride, norm) for (fine, coarse), stride in reversed(steps)
        )
        self.multi_scale = ParallelDilations(channels[0], plan.features)
        self.classifier = nn.Conv2d(self.multi_scale.channels, plan.classes, kernel_size=1)
        nn.init.zeros_(bias := cast(Tensor, self.classifier.bias))
        nn.init.constant_(bias[:1], BACKGROUND_ODDS)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, C, I, J, K) of images (B, 1, I, J, K), one axis of which has one voxel."""
        plane = image.squeeze(self.flat_axis + 2)
        features = [self.stem(plane)]
        for level in self.levels:
            features.append(level(features[-1]))
        merged = features.pop()
        for up in self.ups:
            merged = up(merged, features.pop())
        logits = self.classifier(self.multi_scale(merged))
        whole = functional.interpolate(logits, size=plane.shape[2:], mode="bilinear", align_corners=False)
        return whole.unsqueeze(self.flat_axis + 2)


def _level(finer: int, channels: int, stride: tuple[int, int], norm: str) -> nn.Module:
    return nn.Sequential(
        Convolution(2, finer, channels, strides=stride, norm=norm),
        MultiScaleAdapter(channels),
        ResidualUnit(2, channels, channels, subunits=2, norm=norm),
    )
