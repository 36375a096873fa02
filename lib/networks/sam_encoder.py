"""The image encoder of Segment Anything, in the layout of its published weight files; it is never trained here."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.networks.blocks.attention_utils import add_decomposed_rel_pos
from monai.networks.nets.swin_unetr import window_partition, window_reverse
from torch import Tensor, nn
from torch.nn import functional

from lib.errors import UnacceptableFile
from lib.networks.weight_file import not_finite, plain_content

PREFIX = "image_encoder."
"""What the names of the encoder's tensors begin with in a file of the whole model."""

NAMES_SHOWN = 3
"""How many misfitting tensors a message names."""


@dataclass(frozen=True)
class EncoderSize:
    """How large a vision transformer is.

    Attributes:
        width: features of a token.
        heads: of each attention.
        depth: blocks.
        whole: numbers of the blocks whose tokens attend to the whole image; in the others to their window only.
        patch: pixels along an edge of what becomes one token.
        grid: tokens along an edge of the images that the published weights were trained on.
        window: tokens along an edge of a window.
        features: of the result.
    """

    width: int
    heads: int
    depth: int
    whole: tuple[int, ...]
    patch: int = 16
    grid: int = 64
    window: int = 14
    features: int = 256


VIT_B = EncoderSize(width=768, heads=12, depth=12, whole=(2, 5, 8, 11))
VIT_L = EncoderSize(width=1024, heads=16, depth=24, whole=(5, 11, 17, 23))


class SamEncoder(nn.Module):
    """Image to features, with something trainable before each of its blocks.

    Its names are those of the published file, so that the file's tensors go straight in. Positions are interpolated
    where an image has another number of tokens than the images it was trained on.

    Reference:
        Kirillov et al., "Segment anything", ICCV 2023; Li et al., "Exploring plain vision transformer backbones for
        object detection", ECCV 2022.
    """

    def __init__(self, size: EncoderSize) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, size.width, size.patch, stride=size.patch)})
        self.pos_embed = nn.Parameter(torch.zeros(1, size.grid, size.grid, size.width))
        self.blocks = nn.ModuleList(
            _Block(size, 0 if number in size.whole else size.window) for number in range(size.depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(size.width, size.features, 1, bias=False),
            _ChannelNorm(size.features),
            nn.Conv2d(size.features, size.features, 3, padding=1, bias=False),
            _ChannelNorm(size.features),
        )

    def forward(self, image: Tensor, adapters: Sequence[nn.Module]) -> Tensor:
        """Features (B, ``size.features``, h / patch, w / patch).

        Args:
            image: float (B, 3, h, w), both edges multiples of a token's.
            adapters: one for each block, features (B, width, h / patch, w / patch) to features of the same shape.
        """
        tokens = self.patch_embed["proj"](image)
        positions = self.pos_embed.permute(0, 3, 1, 2)
        if positions.shape[2:] != tokens.shape[2:]:
            positions = functional.interpolate(positions, size=tokens.shape[2:], mode="bicubic", antialias=True)
        tokens = tokens + positions
        for adapter, block in zip(adapters, self.blocks, strict=True):
            tokens = block(adapter(tokens).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.neck(tokens)


class _Block(nn.Module):
    """Attention within windows (0: over the whole image) and a perceptron, on tokens (B, h, w, c)."""

    def __init__(self, size: EncoderSize, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(size.width, eps=1e-6)
        self.attn = _Attention(size.width, size.heads, window or size.grid)
        self.norm2 = nn.LayerNorm(size.width, eps=1e-6)
        self.mlp = _Perceptron(size.width)

    def forward(self, tokens: Tensor) -> Tensor:
        attended = self.norm1(tokens)
        attended = self._in_windows(attended) if self.window else self.attn(attended)
        tokens = tokens + attended
        return tokens + self.mlp(self.norm2(tokens))

    def _in_windows(self, tokens: Tensor) -> Tensor:
        """Attention in each window; those at the far ends are filled up with zeros."""
        batch, high, wide = tokens.shape[:3]
        missing = (-high % self.window, -wide % self.window)
        padded = functional.pad(tokens, (0, 0, 0, missing[1], 0, missing[0]))
        edges = (self.window, self.window)
        windows = window_partition(padded, edges).unflatten(1, edges)
        attended = self.attn(windows).flatten(1, 2)
        size = [batch, high + missing[0], wide + missing[1]]
        return window_reverse(attended.unflatten(1, edges), edges, size)[:, :high, :wide]


class _Attention(nn.Module):
    """Multi-head attention on tokens (B, h, w, c) that knows how far apart two tokens are along each axis."""

    def __init__(self, width: int, heads: int, edge: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * edge - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * edge - 1, width // heads))

    def forward(self, tokens: Tensor) -> Tensor:
        batch, high, wide, width = tokens.shape
        qkv = self.qkv(tokens).reshape(batch, high * wide, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).flatten(1, 2)
        likeness = query @ key.transpose(1, 2) * query.shape[-1] ** -0.5
        sizes = (high, wide), (high, wide)
        # A plain list does; MONAI's annotation asks for its module.
        distances: Any = [self.rel_pos_h, self.rel_pos_w]
        attention = add_decomposed_rel_pos(likeness, query, distances, *sizes).softmax(dim=-1)
        found = (attention @ value).unflatten(0, (batch, self.heads)).transpose(1, 2)
        return self.proj(found.reshape(batch, high, wide, width))


class _Perceptron(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, 4 * width)
        self.lin2 = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.lin2(functional.gelu(self.lin1(tokens)))


class _ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of features (B, c, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def frozen_encoder(size: EncoderSize, path: Path, sha256: str) -> SamEncoder:
    """The encoder with the weights of a file, never to be changed.

    Args:
        size: of the encoder.
        path: a published weight file of the whole model, or of its image encoder alone.
        sha256: what the file's bytes must have; empty: any file that fits.

    Raises:
        UnacceptableFile: if the file is missing, is not the one that the network was trained with, or holds no such
            encoder; the message names the first tensors that do not fit.
    """
    content = _content(path)
    found = hashlib.sha256(content).hexdigest()
    if sha256 and found != sha256:
        raise UnacceptableFile(
            f"The encoder weights {path} have the SHA-256 {found}; this network was trained with {sha256}. "
            "Put that file back in this place."
        )
    encoder = SamEncoder(size)
    encoder.load_state_dict(_fitting(encoder, content, path))
    return encoder.requires_grad_(False).eval()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a weight file, in hexadecimal digits.

    Raises:
        UnacceptableFile: if there is no such file.
    """
    return hashlib.sha256(_content(path)).hexdigest()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnacceptableFile(
            f"The encoder weights {path} cannot be read ({error.strerror}). Put a weight file of Segment Anything "
            "there, or name its place by --conf encoder_weights FILE."
        ) from error


def _fitting(encoder: SamEncoder, content: bytes, path: Path) -> dict[str, Tensor]:
    """The encoder's tensors from the bytes of a file; nothing in it is executed."""
    try:
        tensors = plain_content(content)
        tensors = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    # torch.load raises whatever the damaged or foreign bytes make it stumble over.
    except Exception as error:
        raise UnacceptableFile(
            f"The encoder weights {path} are no PyTorch file of tensors by name ({type(error).__name__}). "
            "Get the published weight file of Segment Anything again."
        ) from error
    wanted = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
    wrong = [
        f"{PREFIX}{name} is {tuple(tensors[name].shape) if name in tensors else 'missing'}, wanted {shape}"
        for name, shape in wanted.items()
        if name not in tensors or tuple(tensors[name].shape) != shape
    ]
    if wrong:
        more = f" and {len(wrong) - NAMES_SHOWN} more" if len(wrong) > NAMES_SHOWN else ""
        raise UnacceptableFile(
            f"The encoder weights {path} do not fit: {'; '.join(wrong[:NAMES_SHOWN])}{more}. "
            "Choose the file of the same size (ViT-B or ViT-L) as the network."
        )
    fitting = {name: tensors[name] for name in wanted}
    if broken := not_finite(fitting):
        raise UnacceptableFile(
            f"The encoder weights {path} hold NaN or infinity in {', '.join(broken[:NAMES_SHOWN])}. Get them again."
        )
    return fitting
