"""A vision transformer like Segment Anything's, small enough for tests, and its weight file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from lib.networks.checkpoint import NetworkPlan
from lib.networks.sam_encoder import EncoderSize, SamEncoder, sha256_of

TINY = EncoderSize(width=16, heads=2, depth=3, whole=(1,), grid=4, window=3, features=8)

PLAN = NetworkPlan(
    network="sam_vit_b",
    structures={"mass": 1},
    spacing_mm=(0.4, 0.4, 1.0),
    window_hu=None,
    patch=(64, 64, 1),
    channels=(4, 4, 4, 8, 8),
    strides=((2, 2, 1),) * 4,
    kernel=(3, 3, 1),
)


def drawn_encoder(size: EncoderSize = TINY, seed: int = 0) -> SamEncoder:
    """An encoder whose every tensor is random."""
    generator = torch.Generator().manual_seed(seed)
    encoder = SamEncoder(size)
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.2, generator=generator)
    return encoder


def weight_file(path: Path, seed: int = 0) -> Path:
    """A file in the layout of the published ones: the encoder's tensors beside those of other parts."""
    tensors = {f"image_encoder.{name}": tensor for name, tensor in drawn_encoder(seed=seed).state_dict().items()}
    torch.save({**tensors, "mask_decoder.iou_token.weight": torch.zeros(1, 8)}, path)
    return path


def plan_with(path: Path) -> NetworkPlan:
    """A plan for an encoder file."""
    return replace(PLAN, encoder=str(path), encoder_sha256=sha256_of(path))
