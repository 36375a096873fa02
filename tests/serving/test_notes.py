"""Notes on images and versions: who may write them, and what they can never change."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from lib.serving.tokens import TokenFile
from lib.stages import PEOPLE, Role
from lib.store import layout
from tests.serving.conftest import Here
from tests.serving.places import LABEL_INFO, mask_bytes, put_label
from tests.serving.test_gate import Guarded, problem

LABEL = "/datastore/label/info?label=case_00&tag=final"
OLDER = "/datastore/updatelabelinfo?label=case_00&tag=final"
IMAGE = "/datastore/image/info?image=case_00"


@pytest.fixture
def guarded(open_app: Callable[..., Here]) -> Guarded:
    here = open_app(auth="tokens")
    file = TokenFile(here.data / layout.TOKENS)
    return Guarded(here, {role: file.add(str(role), role) for role in PEOPLE})


def noted(client: Any, path: str, **notes: Any) -> Any:
    field = "params" if "updatelabelinfo" in path else "info"
    return client.put(path, data={field: json.dumps(notes)})


@pytest.mark.parametrize("path", [LABEL, OLDER])
@pytest.mark.parametrize("author", [Role.EXPERT, Role.ADMIN])
def test_an_annotator_cannot_note_anything_on_an_experts_version(guarded: Guarded, path: str, author: Role) -> None:
    put_label(guarded.by(author), "case_00", mask_bytes(0), comment="mine")
    before = guarded.by(Role.VIEWER).get(LABEL).json()

    for notes in ({"comment": "theirs"}, {"client_id": "annotator"}, {"label_info": []}, {"new": 1}, {}):
        problem(noted(guarded.by(Role.ANNOTATOR), path, **notes), 403, "is an expert's; experts may add notes")

    assert guarded.by(Role.VIEWER).get(LABEL).json() == before


@pytest.mark.parametrize(
    ("key", "value"),
    [("client_id", "lee"), ("label_info", [{"name": "Posterior", "idx": 1}]), ("structures", []), ("parent", 7),
     ("seconds", 3), ("client_id", None)],
)  # fmt: skip
def test_what_the_author_said_cannot_be_changed_by_a_note(here: Here, key: str, value: Any) -> None:
    put_label(here.client, "case_00", mask_bytes(0), client_id="dr.kim")
    before = here.client.get(LABEL).json()

    problem(noted(here.client, LABEL, **{key: value}, ward="7b"), 422, f"{key} of version 1", "Store a new version")

    assert here.client.get(LABEL).json() == before


def test_who_sends_back_what_was_read_with_a_note_added_may(here: Here) -> None:
    put_label(here.client, "case_00", mask_bytes(0), client_id="dr.kim")
    before = here.client.get(LABEL).json()

    assert noted(here.client, LABEL, **before, ward="7b").status_code == 200

    after = here.client.get(LABEL).json()
    assert {key: after[key] for key in before} == before
    assert (after["ward"], after["client_id"], after["label_info"]) == ("7b", "dr.kim", LABEL_INFO)


@pytest.mark.parametrize("path", [LABEL, OLDER, IMAGE])
def test_an_earlier_note_stays_to_be_read(guarded: Guarded, path: str) -> None:
    put_label(guarded.by(Role.EXPERT), "case_00", mask_bytes(0), comment="first")
    for role, comment in ((Role.EXPERT, "second"), (Role.ADMIN, "third")):
        assert noted(guarded.by(role), path, comment=comment).status_code == 200

    told = guarded.by(Role.VIEWER).get(path if path == IMAGE else LABEL).json()

    assert (told["comment"], told["user"]) == ("third", "admin")
    assert (told["earlier_notes"][-1]["notes"], told["earlier_notes"][-1]["replaced_by"]) == (
        {"comment": "second"}, "admin",
    )  # fmt: skip
    assert len(told["earlier_notes"]) == (1 if path == IMAGE else 2)


def test_annotators_may_note_on_drafts_and_each_others_versions(guarded: Guarded, weights: bytes) -> None:
    guarded.by(Role.ADMIN).put("/model/segmentation", files={"file": ("model.pt", weights)})
    guarded.by(Role.ANNOTATOR).post("/infer/segmentation?image=case_01")
    put_label(guarded.by(Role.ANNOTATOR), "case_00", mask_bytes(0))

    assert noted(guarded.by(Role.ANNOTATOR), LABEL, comment="mine").status_code == 200
    draft = "/datastore/label/info?label=case_01&tag=original"
    assert noted(guarded.by(Role.ANNOTATOR), draft, comment="a draft").status_code == 200
    assert guarded.by(Role.VIEWER).get(draft).json()["comment"] == "a draft"


def test_the_offer_of_the_next_case_is_no_note_that_piles_up(here: Here) -> None:
    for _ in range(3):
        here.client.post("/activelearning/first", json={})

    assert "earlier_notes" not in here.client.get(IMAGE).json()
