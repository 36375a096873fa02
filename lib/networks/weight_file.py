"""PyTorch files from anywhere, read as plain containers and tensors: nothing in them is executed or believed."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def plain_content(content: bytes) -> Any:
    """What ``torch.save`` has written of containers, plain values and tensors, on the CPU.

    Raises:
        ValueError: if the file's members claim to be larger than the file is, or it is not in the format that PyTorch
            writes since 1.6; older files claim sizes that nothing can be compared with.
        Exception: whatever damaged or foreign bytes make PyTorch stumble over.
    """
    _refuse_claims(content)
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def not_finite(weights: Mapping[str, Tensor]) -> list[str]:
    """The names of the tensors that hold NaN or infinity."""
    return [name for name, tensor in weights.items() if not bool(torch.isfinite(tensor).all())]


def _refuse_claims(content: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, OverflowError, UnicodeDecodeError, NotImplementedError) as error:
        raise ValueError("it is no ZIP file, as PyTorch writes them since version 1.6") from error
    if any("/code/" in member.filename for member in members):
        raise ValueError("it is TorchScript, a program")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("its members are compressed, which PyTorch's never are")
    claimed = sum(member.file_size for member in members)
    if claimed > len(content):
        raise ValueError(f"its members claim {claimed} bytes, the file has {len(content)}")
