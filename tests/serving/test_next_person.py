"""Whoever takes a case over gets what the one before left: in 3D Slicer under the tag and by the request it sends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.stages import Role
from tests.serving.conftest import Here
from tests.serving.places import STRUCTURES, mask_bytes, put_label, voxels
from tests.serving.slicer import Slicer


@pytest.fixture
def handed_over(open_app: Callable[..., Here], weights: bytes, refiner_weights: bytes) -> Here:
    """A model's draft, what lee made of it, and what was refined of that; kim, an expert, comes next."""
    here = open_app(1)
    here.put_weights(weights)
    here.client.post("/infer/segmentation", params={"image": "case_00", "output": "json"})
    here.put_refiner(refiner_weights)
    here.app.settings = replace(here.app.settings, role=Role.ANNOTATOR)
    put_label(here.client, "case_00", mask_bytes(3), client_id="lee", parent=1)
    here.work()
    here.app.settings = replace(here.app.settings, role=Role.EXPERT)
    return here


def history(here: Here) -> list[tuple[Any, ...]]:
    found = here.client.get("/datastore/label/history", params={"image": "case_00"}).json()
    return [(one["version"], one["stage"], one["parent"]) for one in found]


def shown(slicer: Slicer) -> np.ndarray:
    """The segments on the screen as one mask."""
    mask = np.zeros(slicer.image.voxels.shape, np.uint8)
    for value, name in enumerate(STRUCTURES, start=1):
        segment = slicer.segments[name]
        if segment is not None:
            mask[segment] = value
    return mask


def version(here: Here, number: int) -> np.ndarray:
    query = {"label": "case_00", "tag": f"version_{number}"}
    return voxels(here.client.get("/datastore/label", params=query).content)


def test_an_expert_gets_what_was_refined_of_the_juniors_mask(handed_over: Here, tmp_path: Path) -> None:
    assert history(handed_over) == [(1, "draft", None), (2, "draft", 1), (3, "refined", 2)]
    slicer = Slicer(handed_over.client, tmp_path / "kim")

    slicer.next_sample(client_id="kim")

    assert (shown(slicer) == version(handed_over, 3)).all()


def test_the_model_that_runs_by_itself_at_a_new_case_brings_the_same(handed_over: Here, tmp_path: Path) -> None:
    slicer = Slicer(handed_over.client, tmp_path / "kim")
    slicer.next_sample(client_id="kim")

    slicer.infer("segmentation", "case_00")

    assert (shown(slicer) == version(handed_over, 3)).all()
    assert slicer.submit("case_00").json()["parent"] == 3
    assert history(handed_over)[-1] == (4, "expert", 3)


def test_who_presses_run_after_that_gets_a_draft(handed_over: Here, tmp_path: Path) -> None:
    slicer = Slicer(handed_over.client, tmp_path / "kim")
    slicer.next_sample(client_id="kim")
    slicer.infer("segmentation", "case_00")

    slicer.infer("segmentation", "case_00")

    assert (shown(slicer) == version(handed_over, 1)).all()


def test_what_was_begun_with_a_draft_again_has_the_draft_as_its_parent(handed_over: Here, tmp_path: Path) -> None:
    slicer = Slicer(handed_over.client, tmp_path / "kim")
    slicer.next_sample(client_id="kim")
    for _ in range(2):
        slicer.infer("segmentation", "case_00")

    assert slicer.submit("case_00").json()["parent"] == 1


def test_after_the_expert_the_original_is_what_the_expert_started_from(handed_over: Here) -> None:
    put_label(handed_over.client, "case_00", mask_bytes(2), client_id="kim", parent=3)

    label = handed_over.client.get("/datastore/label", params={"label": "case_00", "tag": "original"})
    assert (voxels(label.content) == version(handed_over, 3)).all()


def test_before_there_is_a_model_a_new_case_is_empty_and_no_error(here: Here) -> None:
    case = here.client.post("/activelearning/first", json={"client_id": "kim"}).json()["id"]
    asked = {"params": {"image": case}, "data": {"params": '{"client_id": "kim"}'}}

    by_itself = here.client.post("/infer/segmentation", **asked)
    pressed = here.client.post("/infer/segmentation", **asked)

    assert by_itself.status_code == 200 and "No model yet: store 1 correction and train." in by_itself.text
    assert pressed.status_code == 409
    assert here.client.get("/datastore/label/history", params={"image": case}).json() == []
