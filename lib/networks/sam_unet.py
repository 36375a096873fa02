"""The network for flat images where there is a GPU: adapters in a frozen Segment Anything encoder, and a decoder."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Self

from torch import Tensor, nn

from lib.errors import UnacceptableFile
from lib.networks.checkpoint import NetworkPlan
from lib.networks.multi_scale import MultiScaleAdapter, ParallelDilations, UpBlock, flat_axis, plane_strides
from lib.networks.sam_encoder import EncoderSize, frozen_encoder


class SamUNet(nn.Module):
    """Mammo-SAM: only the adapters before each block of the encoder and the decoder learn.

    The encoder moves between devices with the rest, but is no part of the weights: a checkpoint stays small and
    names the encoder's file and its SHA-256 (``NetworkPlan.encoder``).

    Reference:
        Mammo-SAM, Machine Learning in Medical Imaging 2023, p. 176-185.
    """

    def __init__(self, plan: NetworkPlan, size: EncoderSize) -> None:
        """Reads the encoder's file.

        Raises:
            UnacceptableFile: if the file is missing or another one, or the plan does not fit the encoder.
        """
        super().__init__()
        self.flat_axis = flat_axis(plan)
        strides = plane_strides(plan)
        _require_fit(plan, size)
        # In a tuple it is no registered module: neither its weights are saved nor is its mode changed.
        self._frozen = (frozen_encoder(size, Path(plan.encoder), plan.encoder_sha256),)
        self.adapters = nn.ModuleList(MultiScaleAdapter(size.width) for _ in range(size.depth))
        self.ups = nn.ModuleList(
            UpBlock((coarse, 0, fine), stride, "batch")
            for (fine, coarse), stride in reversed(list(zip(pairwise(plan.channels), strides, strict=True)))
        )
        self.multi_scale = ParallelDilations(plan.channels[0], plan.features)
        self.classifier = nn.Conv2d(self.multi_scale.channels, plan.classes, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, C, I, J, K) of images (B, 1, I, J, K), one axis of which has one voxel."""
        colours = image.squeeze(self.flat_axis + 2).expand(-1, 3, -1, -1)
        features = self._frozen[0](colours, list(self.adapters))
        for up in self.ups:
            features = up(features)
        return self.classifier(self.multi_scale(features)).unsqueeze(self.flat_axis + 2)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the encoder along; PyTorch's ``to`` and the like come through here."""
        self._frozen[0]._apply(fn, recurse)
        return super()._apply(fn, recurse)


def _require_fit(plan: NetworkPlan, size: EncoderSize) -> None:
    """Raises ``UnacceptableFile`` if decoder and encoder do not meet."""
    multiple = [plan.multiple[axis] for axis in range(3) if axis != flat_axis(plan)]
    if multiple != [size.patch, size.patch] or plan.channels[-1] != size.features:
        raise UnacceptableFile(
            f"The network {plan.network} needs strides that make {size.patch}x{size.patch} and {size.features} "
            f"features on the last level; the plan has {multiple[0]}x{multiple[1]} and {plan.channels[-1]}. "
            "Images for it have square pixels and at least 64 of them along each edge."
        )
