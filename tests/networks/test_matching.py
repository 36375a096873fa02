"""Weights from elsewhere: matched by name and shape, with a report of what is not."""

from __future__ import annotations

import io
import pickle

import pytest
import torch
from torch import nn

from lib.errors import UnacceptableFile
from lib.networks.matching import matched, read_state_dict
from tests.networks.bundles import saved


def small(seed=0, hidden=3):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, hidden), nn.Linear(hidden, 1))


def test_equal_names_and_shapes_match():
    theirs = small(1).state_dict()

    match = matched(theirs, small(2))

    assert match.is_complete
    assert match.parameters == (13, 13)
    assert all(torch.equal(match.weights[name], theirs[name]) for name in theirs)
    assert match.report() == ["4 of 4 tensors matched (13 of 13 numbers)."]


@pytest.mark.parametrize("prefix", ["module.", "network.", "model.module."])
def test_a_prefix_that_all_names_share_is_taken_off(prefix):
    assert matched({f"{prefix}{name}": tensor for name, tensor in small().state_dict().items()}, small()).is_complete


def test_a_first_part_that_belongs_to_the_name_stays():
    network = nn.ModuleDict({"model": small()})

    assert matched(network.state_dict(), network).is_complete


def test_what_does_not_fit_stays_fresh_and_is_named():
    theirs = small(1, hidden=4).state_dict()
    theirs["head.weight"] = theirs.pop("1.bias")
    fresh = small(2)

    match = matched(theirs, fresh)

    assert (match.is_complete, match.matched) == (False, ())
    assert match.missing == ("1.bias",)
    assert match.superfluous == ("head.weight",)
    assert match.other_shape == ("0.weight (4x2, wanted 3x2)", "0.bias (4, wanted 3)", "1.weight (1x4, wanted 1x3)")
    assert all(torch.equal(match.weights[name], tensor) for name, tensor in fresh.state_dict().items())


def test_half_a_network_is_half_a_match():
    match = matched({name: tensor for name, tensor in small(1).state_dict().items() if name[0] == "0"}, small(2))

    assert str(match) == "2 of 4 tensors matched"
    assert match.parameters == (9, 13)
    assert match.report()[1:] == ["Missing in the file: 1.weight, 1.bias."]


def test_many_names_are_cut_short():
    many = {f"stranger{number}": torch.ones(1) for number in range(8)}

    assert matched({**small().state_dict(), **many}, small()).report()[1].endswith("stranger4 and 3 more.")


def test_other_number_types_are_converted():
    halves = {name: tensor.half() for name, tensor in small().state_dict().items()}

    assert {tensor.dtype for tensor in matched(halves, small()).weights.values()} == {torch.float32}


@pytest.mark.parametrize("keys", [(), ("state_dict",), ("model",), ("network",), ("state_dict", "model")])
def test_tensors_are_found_below_the_keys_of_training_programs(keys):
    content = {"a": torch.ones(2)}
    for key in keys:
        content = {key: content, "epoch": 3}

    assert read_state_dict(saved(content), "model.pt").keys() == {"a"}


@pytest.mark.parametrize("content", [saved({"epoch": 3}), saved([torch.ones(1)]), saved({})])
def test_a_file_without_tensors_by_name_is_refused(content):
    with pytest.raises(UnacceptableFile, match=r"model.pt holds no tensors by name, also not below state_dict"):
        read_state_dict(content, "model.pt")


@pytest.mark.parametrize("content", [b"", b"no weights", pickle.dumps(print)])
def test_another_file_is_refused(content):
    with pytest.raises(UnacceptableFile, match=r"model.pt is no PyTorch file of plain tensors; it is not executed"):
        read_state_dict(content, "model.pt")


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_torchscript_file_is_refused_as_a_program():
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(small(), torch.zeros(1, 2)), file)

    with pytest.raises(UnacceptableFile, match=r"model.ts is TorchScript, a program; it is not executed here"):
        read_state_dict(file.getvalue(), "model.ts")
