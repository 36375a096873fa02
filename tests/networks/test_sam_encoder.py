"""The frozen encoder: its layout, its mathematics, and which files it takes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lib.errors import UnacceptableFile
from lib.networks.sam_encoder import VIT_B, VIT_L, SamEncoder, frozen_encoder, sha256_of
from tests.networks.encoder import TINY, drawn_encoder, weight_file

NOTHING = [nn.Identity()] * TINY.depth


def names_and_shapes(size) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in SamEncoder(size).state_dict().items()}


@pytest.mark.parametrize(
    ("size", "width", "depth", "whole", "millions"), [(VIT_B, 768, 12, 2, 89.7), (VIT_L, 1024, 24, 5, 308.3)]
)
def test_names_and_shapes_are_those_of_the_published_files(size, width, depth, whole, millions):
    """As ``build_sam.py`` of facebookresearch/segment-anything makes them."""
    shapes = names_and_shapes(size)

    assert shapes["patch_embed.proj.weight"] == (width, 3, 16, 16)
    assert shapes["pos_embed"] == (1, 64, 64, width)
    assert {name.split(".")[1] for name in shapes if name.startswith("blocks.")} == {str(n) for n in range(depth)}
    assert sorted(name[9:] for name in shapes if name.startswith("blocks.0.")) == [
        "attn.proj.bias", "attn.proj.weight", "attn.qkv.bias", "attn.qkv.weight", "attn.rel_pos_h", "attn.rel_pos_w",
        "mlp.lin1.bias", "mlp.lin1.weight", "mlp.lin2.bias", "mlp.lin2.weight",
        "norm1.bias", "norm1.weight", "norm2.bias", "norm2.weight",
    ]  # fmt: skip
    assert shapes["blocks.0.attn.rel_pos_h"] == (27, 64) and shapes[f"blocks.{whole}.attn.rel_pos_w"] == (127, 64)
    assert shapes["blocks.0.mlp.lin1.weight"] == (4 * width, width)
    assert {name: shape for name, shape in shapes.items() if name.startswith("neck.")} == {
        "neck.0.weight": (256, width, 1, 1), "neck.1.weight": (256,), "neck.1.bias": (256,),
        "neck.2.weight": (256, 256, 3, 3), "neck.3.weight": (256,), "neck.3.bias": (256,),
    }  # fmt: skip
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) / 1e6 == pytest.approx(millions, abs=0.1)


def plainly(encoder: SamEncoder, number: int, tokens: Tensor) -> Tensor:
    """What a block makes of tokens (h, w, c) that all see each other, token by token."""
    block = encoder.blocks[number]
    high, wide, width = tokens.shape
    heads, size = TINY.heads, width // TINY.heads
    qkv = block.attn.qkv(block.norm1(tokens)).reshape(high, wide, 3, heads, size)
    middle = (len(block.attn.rel_pos_h) - 1) // 2
    result = torch.zeros(high, wide, heads, size)
    for head in range(heads):
        for i in range(high):
            for j in range(wide):
                query = qkv[i, j, 0, head]
                scores = torch.stack([
                    query @ qkv[k, m, 1, head] / size**0.5
                    + query @ block.attn.rel_pos_h[i - k + middle]
                    + query @ block.attn.rel_pos_w[j - m + middle]
                    for k in range(high)
                    for m in range(wide)
                ])  # fmt: skip
                result[i, j, head] = scores.softmax(0) @ qkv[:, :, 2, head].reshape(-1, size)
    tokens = tokens + block.attn.proj(result.reshape(high, wide, width))
    return tokens + block.mlp.lin2(functional.gelu(block.mlp.lin1(block.norm2(tokens))))


@torch.no_grad()
def test_attention_is_likeness_and_distance_along_both_axes():
    encoder, tokens = drawn_encoder(), torch.randn(1, 4, 4, TINY.width)

    assert torch.allclose(encoder.blocks[1](tokens)[0], plainly(encoder, 1, tokens[0]), atol=1e-5)


@torch.no_grad()
def test_tokens_of_a_window_see_their_window_only():
    encoder, tokens = drawn_encoder(), torch.randn(1, 6, 3, TINY.width)

    found = encoder.blocks[0](tokens)[0]

    assert torch.allclose(found[:3], plainly(encoder, 0, tokens[0, :3]), atol=1e-5)
    assert torch.allclose(found[3:], plainly(encoder, 0, tokens[0, 3:]), atol=1e-5)


@pytest.mark.parametrize("shape", [(64, 64), (80, 48), (16, 112)])
def test_features_lie_on_a_grid_of_sixteen_pixels(shape):
    found = drawn_encoder()(torch.randn(2, 3, *shape), NOTHING)

    assert found.shape == (2, TINY.features, shape[0] // 16, shape[1] // 16) and bool(found.isfinite().all())


def test_each_block_has_an_adapter_before_it():
    calls: list[tuple[int, ...]] = []

    class Note(nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            calls.append(tuple(features.shape))
            return features

    drawn_encoder()(torch.zeros(1, 3, 64, 48), [Note()] * TINY.depth)

    assert calls == [(1, TINY.width, 4, 3)] * TINY.depth


def test_a_published_file_goes_in_and_never_changes(tmp_path):
    path = weight_file(tmp_path / "sam.pth")

    found = frozen_encoder(TINY, path, sha256_of(path))

    wanted = drawn_encoder().state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in found.state_dict().items())
    assert not found.training and not any(parameter.requires_grad for parameter in found.parameters())


def test_a_file_of_the_encoder_alone_goes_in(tmp_path):
    torch.save(drawn_encoder().state_dict(), tmp_path / "encoder.pth")

    found = frozen_encoder(TINY, tmp_path / "encoder.pth", "")

    assert torch.equal(found.pos_embed, drawn_encoder().pos_embed)


def test_another_file_than_the_one_trained_with_is_refused(tmp_path):
    path, other = weight_file(tmp_path / "a.pth"), weight_file(tmp_path / "b.pth", seed=1)

    with pytest.raises(UnacceptableFile, match=f"trained with {sha256_of(path)}. Put that file back"):
        frozen_encoder(TINY, other, sha256_of(path))


def test_a_file_of_another_size_is_refused_with_the_first_differences(tmp_path):
    path = weight_file(tmp_path / "sam.pth")

    with pytest.raises(
        UnacceptableFile, match=r"image_encoder.pos_embed is \(1, 4, 4, 16\), wanted \(1, 64, 64, 768\).* and \d+ more"
    ):
        frozen_encoder(VIT_B, path, "")


def test_a_missing_tensor_is_named(tmp_path):
    tensors = drawn_encoder().state_dict()
    del tensors["neck.0.weight"]
    torch.save(tensors, tmp_path / "sam.pth")

    with pytest.raises(UnacceptableFile, match=r"image_encoder.neck.0.weight is missing, wanted \(8, 16, 1, 1\)"):
        frozen_encoder(TINY, tmp_path / "sam.pth", "")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off"])
def test_what_is_no_weight_file_is_refused(tmp_path, content):
    (tmp_path / "sam.pth").write_bytes(content)

    with pytest.raises(UnacceptableFile, match="no PyTorch file of tensors by name"):
        frozen_encoder(TINY, tmp_path / "sam.pth", "")


def test_an_encoder_of_no_numbers_is_refused(tmp_path):
    tensors = drawn_encoder().state_dict()
    tensors["neck.0.weight"][0] = float("nan")
    torch.save(tensors, tmp_path / "sam.pth")

    with pytest.raises(UnacceptableFile, match=r"hold NaN or infinity in neck.0.weight. Get them again"):
        frozen_encoder(TINY, tmp_path / "sam.pth", "")


def test_a_missing_file_is_named_with_what_to_do(tmp_path):
    with pytest.raises(UnacceptableFile, match=r"gone.pth cannot be read .* --conf encoder_weights FILE"):
        sha256_of(tmp_path / "gone.pth")
