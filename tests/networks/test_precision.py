"""Which format is chosen, and what stays float32."""

from __future__ import annotations

import pytest
import torch

from lib.networks import precision as precision_module
from lib.networks.precision import Precision, computing_in, has_fast_bfloat16

CPU = torch.device("cpu")


@pytest.mark.parametrize("has_units", [True, False])
def test_a_processor_is_asked_for_its_matrix_units(monkeypatch, has_units):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": has_units}, raising=False)

    assert has_fast_bfloat16(CPU) is has_units


def test_a_pytorch_that_cannot_tell_means_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)

    assert not has_fast_bfloat16(CPU)


@pytest.mark.parametrize(
    ("precision", "has_units", "expected"),
    [
        (Precision.AUTO, True, torch.bfloat16),
        (Precision.AUTO, False, torch.float32),
        (Precision.FLOAT32, True, torch.float32),
        (Precision.BFLOAT16, False, torch.bfloat16),
    ],
)
def test_convolutions_work_in_the_chosen_format(monkeypatch, precision, has_units, expected):
    monkeypatch.setattr(precision_module, "has_fast_bfloat16", lambda device: has_units)
    layer = torch.nn.Conv3d(1, 1, 1)

    with computing_in(precision, CPU):
        answer = layer(torch.zeros(1, 1, 2, 2, 2))

    assert answer.dtype == expected and layer.weight.dtype == torch.float32
