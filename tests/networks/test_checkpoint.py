"""The weight file: what it keeps and what it refuses."""

from __future__ import annotations

import io
import json
import os
import pickle
from dataclasses import replace

import pytest
import torch

from lib.errors import UnacceptableFile
from lib.networks.checkpoint import MOST_DRAFT_VOTES, Checkpoint, NetworkPlan

PLAN = NetworkPlan(
    network="residual_unet",
    structures={"liver": 1, "spleen": 5},
    spacing_mm=(1.5, 1.5, 3.0),
    window_hu=(-160.0, 240.0),
    patch=(32, 32, 16),
    channels=(8, 16, 32),
    strides=((2, 2, 1), (2, 2, 2)),
)


@pytest.mark.parametrize(
    "plan",
    [
        PLAN,
        replace(PLAN, window_hu=None, kernel=(3, 3, 1), neighbours=1),
        replace(PLAN, arguments={"norm": ["batch", {"affine": True}]}, ignored=(1,), window_out=(0.0, 1.0)),
    ],
)
def test_a_plan_survives_json(plan):
    assert NetworkPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_a_plan_knows_its_channels_and_steps():
    assert (PLAN.classes, PLAN.multiple) == (3, (4, 4, 2))


def test_ignored_channels_are_no_classes_but_outputs():
    plan = replace(PLAN, ignored=(1, 3))

    assert (plan.classes, plan.outputs, plan.heeded) == (3, 5, [0, 2, 4])


def test_the_order_of_structures_survives_json():
    plan = replace(PLAN, structures={"spleen": 5, "liver": 1})

    assert list(NetworkPlan.from_json(plan.to_json()).structures) == ["spleen", "liver"]


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in PLAN.to_json()
        if name not in ("window_hu", "neighbours", "draft_votes", "least_quality", "cleared")
    ],
)
def test_a_missing_entry_is_named(name):
    content = PLAN.to_json()
    del content[name]

    with pytest.raises(UnacceptableFile, match=f"no entry '{name}'"):
        NetworkPlan.from_json(content)


def test_a_plan_from_before_there_was_a_choice_has_no_neighbours_no_limit_and_all_votes():
    content = PLAN.to_json()
    del content["neighbours"], content["draft_votes"], content["least_quality"], content["cleared"]

    found = NetworkPlan.from_json(content)

    assert (found.neighbours, found.least_quality, found.draft_votes, found.cleared) == (0, 0.0, MOST_DRAFT_VOTES, ())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("network", 3),
        ("structures", {"liver": 0}),
        ("structures", ["liver"]),
        ("spacing_mm", [1.0, 0.0, 1.0]),
        ("spacing_mm", [1.0, 1.0]),
        ("window_hu", [240, -160]),
        ("patch", "large"),
        ("channels", [16]),
        ("strides", [[2, 2]]),
        ("kernel", None),
        ("features", 0),
        ("window_out", [1, 1]),
        ("arguments", ["channels"]),
        ("ignored", [0]),
        ("neighbours", -1),
    ],
)
def test_an_entry_of_another_kind_is_named_with_what_is_wanted(name, value):
    with pytest.raises(UnacceptableFile, match=f"entry '{name}' is .*wanted is"):
        NetworkPlan.from_json({**PLAN.to_json(), name: value})


def test_what_is_no_object_is_no_plan():
    with pytest.raises(UnacceptableFile, match="found list"):
        NetworkPlan.from_json([])


def test_a_checkpoint_survives_the_file():
    weights = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(1)}

    found = Checkpoint.from_bytes(Checkpoint(PLAN, weights).to_bytes())

    assert found.plan == PLAN
    assert all(torch.equal(found.weights[name], tensor) for name, tensor in weights.items())


def test_equal_checkpoints_give_equal_bytes():
    weights = {"a": torch.ones(3)}

    assert Checkpoint(PLAN, weights).to_bytes() == Checkpoint(PLAN, dict(weights)).to_bytes()


def test_a_view_is_stored_without_what_it_was_cut_from():
    assert len(Checkpoint(PLAN, {"a": torch.zeros(1_000_000)[:3]}).to_bytes()) < 10_000


class Trap:
    """Runs a command when it is unpickled without care."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("is_torch_file", [True, False])
def test_a_file_that_would_run_code_is_refused_and_runs_nothing(tmp_path, is_torch_file):
    file = io.BytesIO()
    trap = {"plan": Trap(str(tmp_path / "sprung")), "weights": {}}
    if is_torch_file:
        torch.save(trap, file)
    else:
        pickle.dump(trap, file)

    with pytest.raises(UnacceptableFile, match="no weights of this server"):
        Checkpoint.from_bytes(file.getvalue())
    assert not (tmp_path / "sprung").exists()


def saved(content) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes are no weights"),
        (b"PK\x03\x04 cut off", "no weights of this server"),
        (saved([1, 2]), "exactly 'plan' and 'weights'"),
        (saved({"weights": {}}), "exactly 'plan' and 'weights'"),
        (saved({"plan": PLAN.to_json(), "weights": {"a": 3}}), "must be tensors"),
        (saved({"plan": {}, "weights": {}}), "no entry 'network'"),
    ],
)
def test_other_content_is_refused_with_a_sentence(content, message):
    with pytest.raises(UnacceptableFile, match=message):
        Checkpoint.from_bytes(content)


def test_a_cut_file_is_refused():
    content = Checkpoint(PLAN, {"a": torch.ones(5_000)}).to_bytes()

    with pytest.raises(UnacceptableFile, match="no weights of this server"):
        Checkpoint.from_bytes(content[: len(content) // 2])
