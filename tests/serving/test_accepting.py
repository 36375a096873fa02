"""An expert accepts a mask as it is, and the queue tells which masks wait for that."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from lib.stages import Role
from tests.serving.conftest import Here
from tests.serving.places import mask_bytes, put_label, voxels


def accepted(here: Here, image: str = "case_00", client: str = "dr.kim", **query: Any) -> Any:
    """The reply to an accept."""
    return here.client.post(
        "/annotations/accept",
        params={"image": image, **query},
        data={"params": json.dumps({"client_id": client, "seconds": 4})},
    )


def history(here: Here, image: str = "case_00") -> list[tuple[Any, ...]]:
    found = here.client.get("/datastore/label/history", params={"image": image}).json()
    return [(one["version"], one["stage"], one["author"], one["parent"]) for one in found]


def queue(here: Here, role: str = "expert", **query: int) -> Any:
    reply = here.client.get("/queue", params={"role": role, **query})
    assert reply.status_code == 200, reply.text
    return reply.json()


@pytest.fixture
def juniors(open_app: Callable[..., Here]) -> Here:
    """Two images, one with the mask of a junior, at a server where an expert works."""
    here = open_app(images=2)
    here.app.settings = replace(here.app.settings, role=Role.ANNOTATOR)
    put_label(here.client, "case_00", mask_bytes(0), client_id="lee")
    here.app.settings = replace(here.app.settings, role=Role.EXPERT)
    return here


def test_accepting_makes_a_juniors_mask_the_experts(juniors: Here) -> None:
    reply = accepted(juniors).json()

    assert (reply["version"], reply["stage"], reply["author"], reply["parent"]) == (2, "expert", "dr.kim", 1)
    assert reply["new"] is True
    assert history(juniors) == [(1, "draft", "lee", None), (2, "expert", "dr.kim", 1)]
    junior, expert = juniors.app.record.annotations.history("case_00")
    assert (expert.mask, expert.voxels, expert.looked_at) == (junior.mask, junior.voxels, junior.looked_at)
    assert (expert.seconds, expert.role) == (4.0, Role.EXPERT)
    final = juniors.client.get("/datastore/label?label=case_00&tag=final").content
    assert (voxels(final) == voxels(mask_bytes(0))).all()


def test_accepting_twice_changes_nothing(juniors: Here) -> None:
    for query in ({}, {}, {"version": 1}, {"version": 2}):
        reply = accepted(juniors, **query).json()
        assert reply["version"] == 2

    assert reply["new"] is False
    assert len(history(juniors)) == 2


def test_another_version_than_the_current_one_can_be_accepted(juniors: Here) -> None:
    put_label(juniors.client, "case_00", mask_bytes(1), client_id="dr.kim")

    assert accepted(juniors, version=1, anyway=True).json()["version"] == 3
    assert history(juniors)[-1] == (3, "expert", "dr.kim", 1)


def test_a_second_expert_may_accept_what_the_first_one_drew_once(juniors: Here) -> None:
    put_label(juniors.client, "case_00", mask_bytes(1), client_id="dr.kim")

    for _ in range(2):
        assert accepted(juniors, client="dr.lee").json()["version"] == 3
        assert accepted(juniors, client="dr.kim").json()["version"] == 3
    assert history(juniors)[-1] == (3, "expert", "dr.lee", 2)


def test_a_second_expert_may_agree_with_an_accepted_version_by_its_number(juniors: Here) -> None:
    accepted(juniors)

    for _ in range(3):
        assert accepted(juniors, client="dr.lee", version=2).json()["version"] == 3
        assert accepted(juniors, client="dr.kim", version=3).json()["version"] == 3
    assert len(history(juniors)) == 3


@pytest.mark.parametrize("version", [{}, {"version": 1}], ids=["what is current", "by its number"])
@pytest.mark.parametrize("experts", [1, 2, 3])
def test_however_many_accept_a_mask_at_once_it_is_accepted_once(
    juniors: Here, experts: int, version: dict[str, int]
) -> None:
    names = [f"dr.{number % experts}" for number in range(20)]
    with ThreadPoolExecutor(len(names)) as pool:
        replies = [reply.json() for reply in pool.map(lambda name: accepted(juniors, client=name, **version), names)]

    assert [reply["version"] for reply in replies] == [2] * 20
    assert sum(reply["new"] for reply in replies) == 1
    assert len({reply["author"] for reply in replies}) == 1
    assert len(history(juniors)) == 2


def test_what_another_expert_stored_since_is_not_put_behind_an_older_mask(juniors: Here) -> None:
    put_label(juniors.client, "case_00", mask_bytes(1), client_id="dr.lee")

    reply = accepted(juniors, version=1)

    assert reply.status_code == 409
    assert reply.json()["detail"].startswith("dr.lee saved version 2 on ")
    juniors.client.delete("/datastore/label?id=case_00&tag=version_2")
    assert accepted(juniors, version=1).json()["version"] == 4


def test_a_mask_that_is_accepted_can_be_accepted_again_after_it_was_taken_back(juniors: Here) -> None:
    accepted(juniors)
    juniors.client.delete("/datastore/label?id=case_00&tag=version_2")

    assert accepted(juniors, client="dr.lee").json()["version"] == 4


def test_a_version_that_several_withdraw_at_once_is_withdrawn_once(juniors: Here) -> None:
    accepted(juniors)
    with ThreadPoolExecutor(8) as pool:
        replies = pool.map(lambda _: juniors.client.delete("/datastore/label?id=case_00&tag=version_2"), range(8))

    assert sorted(reply.status_code for reply in replies) == [200] + [404] * 7
    assert [one[1] for one in history(juniors)] == ["draft", "expert", "withdrawn"]


def test_an_annotator_cannot_accept(open_app: Callable[..., Here]) -> None:
    here = open_app(role="annotator")
    put_label(here.client, "case_00", mask_bytes(0), client_id="lee")

    reply = accepted(here, client="lee")

    assert reply.status_code == 403
    assert reply.json()["detail"] == "Masks are accepted by experts; lee is annotator."
    assert len(history(here)) == 1


@pytest.mark.parametrize(
    ("image", "query", "said"),
    [
        ("case_01", {}, "'case_01' has no mask to accept yet."),
        ("case_00", {"version": 9}, "There is no version 9 in force; there is [1]."),
        ("case_77", {}, "There is no image 'case_77'"),
    ],
)
def test_what_is_not_there_cannot_be_accepted(juniors: Here, image: str, query: dict[str, int], said: str) -> None:
    reply = accepted(juniors, image, **query)

    assert reply.status_code == 404
    assert said in reply.json()["detail"]


def test_a_withdrawn_mask_cannot_be_accepted(juniors: Here) -> None:
    juniors.client.delete("/datastore/label?id=case_00&tag=version_1")

    assert accepted(juniors, version=1).status_code == 404


def test_a_mask_that_was_pruned_cannot_be_accepted(juniors: Here) -> None:
    (junior,) = juniors.app.record.annotations.history("case_00")
    juniors.app.record.masks.path(junior.mask or "").unlink()

    reply = accepted(juniors)

    assert reply.status_code == 404
    assert "The mask of version 1 of 'case_00' is no longer kept; its row is." in reply.json()["detail"]


@pytest.mark.parametrize("given", [{"structures": ["Anterior"]}, {"parent": 1}])
def test_what_belongs_to_a_correction_is_refused_where_a_mask_is_accepted(juniors: Here, given: dict[str, Any]) -> None:
    reply = juniors.client.post("/annotations/accept?image=case_00", data={"params": json.dumps(given)})

    assert reply.status_code == 422
    assert f"params holds {next(iter(given))}, but a mask is accepted as it is" in reply.json()["detail"]
    assert "Store a correction by PUT /datastore/label" in reply.json()["detail"]
    assert len(history(juniors)) == 1


def test_accepting_counts_for_the_training_like_a_correction(open_app: Callable[..., Here]) -> None:
    here = open_app(images=2, train_after="2")
    here.app.settings = replace(here.app.settings, role=Role.ANNOTATOR)
    put_label(here.client, "case_01", mask_bytes(1), client_id="lee")
    here.app.settings = replace(here.app.settings, role=Role.EXPERT)
    here.client.post("/activelearning/first", json={"client_id": "kim"})
    put_label(here.client, "case_00", mask_bytes(0), client_id="dr.kim")

    reply = accepted(here, "case_01").json()

    assert here.client.get(f"/jobs/{reply['training']}").json()["status"] == "SUBMITTED"


def test_the_experts_queue_tells_what_is_there(juniors: Here) -> None:
    told = queue(juniors)

    assert (told["role"], told["total"], told["offset"]) == ("expert", 1, 0)
    (case,) = told["cases"]
    (version,) = case["versions"]
    assert (case["image"], case["current"], case["split"]) == ("case_00", 1, "training")
    assert case["since"] == version["created"]
    assert (version["version"], version["stage"], version["author"], version["role"]) == (
        1,
        "draft",
        "lee",
        "annotator",
    )


def test_a_case_leaves_the_experts_queue_when_it_is_accepted(juniors: Here) -> None:
    accepted(juniors)

    assert queue(juniors)["cases"] == []


def test_the_annotators_queue_is_told_page_by_page(open_app: Callable[..., Here]) -> None:
    here = open_app(images=3)

    assert [case["image"] for case in queue(here, "annotator", limit=2)["cases"]] == ["case_00", "case_01"]
    second = queue(here, "annotator", offset=2, limit=2)
    assert ([case["image"] for case in second["cases"]], second["total"]) == (["case_02"], 3)


def test_a_queue_of_nobody_is_refused_with_those_that_there_are(here: Here) -> None:
    reply = here.client.get("/queue?role=viewer")

    assert reply.status_code == 422
    assert "'expert' or 'annotator'" in reply.json()["detail"]


def test_the_next_case_of_an_expert_comes_from_the_queue(juniors: Here) -> None:
    assert juniors.client.post("/activelearning/first", json={"client_id": "dr.kim"}).json()["id"] == "case_00"
    (assignment,) = [one for one in juniors.app.record.assignments.of("case_00") if one.annotator == "dr.kim"]
    assert assignment.purpose == "review"


@pytest.mark.parametrize("author", ["lee", "kim"])
def test_no_finding_that_is_said_twice_is_said_once(juniors: Here, author: str) -> None:
    query = {"image": "case_01", "client_id": author}

    told = [juniors.client.post("/cases/no-finding", params=query).json() for _ in range(3)]

    assert len(juniors.app.record.annotations.history("case_01")) == 1
    assert {one["version"] for one in told} == {1}


def test_no_finding_at_once_becomes_one_version(juniors: Here) -> None:
    query = {"image": "case_01", "client_id": "lee"}

    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(lambda _: juniors.client.post("/cases/no-finding", params=query), range(6)))

    assert {reply.status_code for reply in replies} == {200}
    assert len(juniors.app.record.annotations.history("case_01")) == 1


def test_no_finding_is_said_anew_after_it_was_taken_back_or_drawn_over(juniors: Here) -> None:
    query = {"image": "case_01", "client_id": "lee"}
    juniors.client.post("/cases/no-finding", params=query)
    put_label(juniors.client, "case_01", mask_bytes(1), client_id="lee")

    assert juniors.client.post("/cases/no-finding", params=query).json()["version"] == 3
