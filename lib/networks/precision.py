"""Which number format a machine computes convolutions fastest in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from enum import StrEnum

import torch
from torch import nn


class Precision(StrEnum):
    """The format that convolutions work in; weights, losses and probabilities stay float32."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device has matrix units for bfloat16: without them the format is slower than float32, not faster."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Older versions of PyTorch cannot tell; float32 is right everywhere.
    capabilities: Callable[[], Mapping[str, object]] = getattr(torch.cpu, "get_capabilities", dict)
    return device.type == "cpu" and bool(capabilities().get("amx_bf16"))


def computing_in(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """A context in which networks compute in the given format."""
    is_short = precision is Precision.BFLOAT16 or (precision is Precision.AUTO and has_fast_bfloat16(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=is_short)


def layout_of(network: nn.Module) -> torch.memory_format:
    """How the voxels of a network lie in memory.

    Convolutions of volumes are a fifth quicker with the channels of a voxel side by side. Flat networks, and what holds
    a flat part, stay as they are.
    """
    is_flat = any(parameter.dim() == 4 for parameter in network.parameters())
    return torch.contiguous_format if is_flat else torch.channels_last_3d
