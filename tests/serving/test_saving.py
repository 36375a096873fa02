"""Two people on one image: what either saves is kept, with the version that it was made from, and both are told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest

from lib.dicom.provenance import Algorithm, Provenance
from lib.dicom.segmentation import write_segmentation
from lib.serving.annotator import system_user
from lib.stages import Role
from tests.dicom.drawing import stored
from tests.serving.conftest import Here
from tests.serving.drawn_series import NOON, TASK, blocks, put_series, source_of
from tests.serving.places import LABEL_INFO, mask_bytes, put_label, voxels


@pytest.fixture
def drafted(open_app: Callable[..., Here], weights: bytes) -> Here:
    """An image with a model's draft, version 1."""
    here = open_app(1)
    here.put_weights(weights)
    here.client.post("/infer/segmentation", params={"image": "case_00", "output": "json"})
    return here


def saved(here: Here, seed: int, client: str, **params: Any) -> Any:
    """The reply to a mask."""
    return here.client.put(
        "/datastore/label",
        params={"image": "case_00"},
        data={"params": json.dumps({"label_info": LABEL_INFO, "client_id": client, **params})},
        files={"label": ("label.nii.gz", mask_bytes(seed))},
    )


def versions(here: Here, image: str = "case_00") -> list[tuple[int, str, int | None]]:
    """Number, author and parent of each version."""
    found = here.client.get("/datastore/label/history", params={"image": image}).json()
    return [(one["version"], one["author"], one["parent"]) for one in found]


def test_who_saves_after_somebody_else_is_told_and_nothing_is_stored(drafted: Here) -> None:
    saved(drafted, 1, "mia", parent=1)

    reply = saved(drafted, 2, "lee", parent=1)

    assert (reply.status_code, reply.json()["title"]) == (409, "SavedMeanwhile")
    assert reply.json()["detail"].startswith("mia saved version 2 on 20")
    assert "after version 1, which yours was made from; nothing was stored" in reply.json()["detail"]
    assert reply.headers["label-refinery-meanwhile"] == "2"
    assert [version for version, _, _ in versions(drafted)] == [1, 2]


def test_who_insists_stores_a_version_with_the_parent_it_was_really_made_from(drafted: Here) -> None:
    saved(drafted, 1, "mia", parent=1)

    told = saved(drafted, 2, "lee", parent=1, anyway=True).json()

    assert (told["version"], told["parent"], told["new"]) == (3, 1, True)
    assert told["note"].startswith("mia saved version 2 on 20") and "Both are kept" in told["note"]
    assert versions(drafted)[1:] == [(2, "mia", 1), (3, "lee", 1)]


def test_a_second_window_of_the_same_person_is_told_too(drafted: Here) -> None:
    saved(drafted, 1, "mia", parent=1)

    assert saved(drafted, 2, "mia", parent=1).status_code == 409
    assert saved(drafted, 2, "mia", parent=2).json()["version"] == 3


def test_who_began_without_any_mask_is_told_of_the_first_one(here: Here) -> None:
    saved(here, 1, "mia", parent=0)

    reply = saved(here, 2, "lee", parent=0)

    assert reply.status_code == 409
    assert "you began without any" in reply.json()["detail"]


def test_what_programs_make_meanwhile_keeps_nobody_from_saving(drafted: Here, weights: bytes) -> None:
    drafted.put_weights(weights)
    drafted.client.post("/infer/segmentation", params={"image": "case_00", "output": "json"})

    assert saved(drafted, 1, "mia", parent=1).json()["parent"] == 1
    assert [author.partition(":")[0] for _, author, _ in versions(drafted)] == ["model", "model", "mia"]


def test_a_version_that_was_taken_back_keeps_nobody_from_saving(drafted: Here) -> None:
    saved(drafted, 1, "mia", parent=1)
    drafted.client.delete("/datastore/label", params={"id": "case_00", "tag": "version_2"})

    assert saved(drafted, 2, "lee", parent=1).status_code == 200


# --- Clients that know no versions ------------------------------------------------------------------------------------


def test_who_names_no_version_has_corrected_the_one_that_was_sent_last(drafted: Here) -> None:
    for client in ("mia", "lee"):
        params = json.dumps({"client_id": client})
        drafted.client.post("/infer/segmentation", params={"image": "case_00"}, data={"params": params})
    saved(drafted, 1, "mia")

    told = saved(drafted, 2, "lee").json()

    assert (told["version"], told["parent"]) == (3, 1)
    assert told["note"].startswith("mia saved version 2")
    assert saved(drafted, 3, "mia").json()["parent"] == 2


def test_who_was_sent_nothing_has_corrected_the_current_one(drafted: Here) -> None:
    saved(drafted, 1, "mia")

    assert saved(drafted, 2, "lee").json()["parent"] == 2


def test_a_label_that_was_downloaded_is_what_was_sent_last(open_app: Callable[..., Here]) -> None:
    here = open_app(1)
    put_label(here.client, "case_00", mask_bytes(0))
    put_label(here.client, "case_00", mask_bytes(1), parent=1)
    here.client.get("/datastore/label", params={"label": "case_00", "tag": "version_1"})

    assert put_label(here.client, "case_00", mask_bytes(2))["parent"] == 1


def test_a_version_that_was_sent_and_then_taken_back_is_nobodys_parent(drafted: Here) -> None:
    params = json.dumps({"client_id": "lee"})
    drafted.client.post("/infer/segmentation", params={"image": "case_00"}, data={"params": params})
    drafted.client.delete("/datastore/label", params={"id": "case_00", "tag": "version_1"})

    assert saved(drafted, 2, "lee").json()["parent"] is None


# --- The same again ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [{"parent": 1}, {}])
def test_a_request_that_is_sent_again_makes_no_second_version(drafted: Here, said: dict[str, int]) -> None:
    first, again = (saved(drafted, 1, "mia", **said).json() for _ in range(2))

    assert (first["version"], first["new"]) == (2, True)
    assert (again["version"], again["new"]) == (2, False)
    assert len(versions(drafted)) == 2


def test_it_makes_none_either_where_somebody_else_has_saved_since(drafted: Here) -> None:
    saved(drafted, 1, "mia", parent=1)
    saved(drafted, 2, "lee", parent=2)

    assert saved(drafted, 1, "mia", parent=1).json()["version"] == 2


def test_a_mask_that_nobody_changed_makes_no_version_and_starts_nothing(open_app: Callable[..., Here]) -> None:
    here = open_app(2, train_after="2")
    saved(here, 1, "mia")

    told = saved(here, 1, "mia", parent=1).json()

    assert (told["version"], told["new"]) == (1, False)
    assert "training" not in told


def test_an_expert_who_sends_a_juniors_mask_back_unchanged_makes_it_the_experts(here: Here) -> None:
    here.app.settings = replace(here.app.settings, role=Role.ANNOTATOR)
    saved(here, 1, "lee")
    here.app.settings = replace(here.app.settings, role=Role.EXPERT)

    told = saved(here, 1, "kim").json()

    assert (told["version"], told["stage"], told["parent"]) == (2, "expert", 1)


def test_who_goes_back_to_what_was_before_says_something_new(drafted: Here) -> None:
    for seed in (1, 2, 1):
        saved(drafted, seed, "mia")

    assert versions(drafted)[1:] == [(2, "mia", 1), (3, "mia", 2), (4, "mia", 3)]


def test_who_contradicts_somebody_again_says_something_new(here: Here) -> None:
    said = [("kim", 1), ("lee", 2), ("kim", 1)]
    told = [saved(here, seed, client, parent=number).json() for number, (client, seed) in enumerate(said)]

    assert [one["version"] for one in told] == [1, 2, 3]


def test_other_structures_that_were_looked_for_make_another_version(here: Here) -> None:
    saved(here, 1, "mia")

    assert saved(here, 1, "mia", parent=1, structures=["Anterior", "Posterior"]).json()["version"] == 1
    nothing = {"image": "case_00", "client_id": "mia", "parent": 1}
    assert here.client.post("/cases/no-finding", params=nothing).json()["version"] == 2


# --- Juniors and experts ----------------------------------------------------------------------------------------------


def test_a_junior_is_told_that_an_experts_mask_stays_the_current_one(here: Here) -> None:
    saved(here, 1, "kim")
    here.app.settings = replace(here.app.settings, role=Role.ANNOTATOR)

    told = saved(here, 2, "lee", parent=1).json()

    assert (told["version"], told["stage"], told["parent"]) == (2, "draft", 1)
    assert told["note"].startswith("Version 1 by the expert kim stays the current one; yours is kept as version 2")


# --- Accept and restore -----------------------------------------------------------------------------------------------


def accepted(here: Here, **query: Any) -> Any:
    params = json.dumps({"client_id": "kim"})
    return here.client.post("/annotations/accept", params={"image": "case_00", **query}, data={"params": params})


def restored(here: Here, client: str = "kim", **query: Any) -> Any:
    params = json.dumps({"client_id": client})
    return here.client.post("/annotations/restore", params={"image": "case_00", **query}, data={"params": params})


def test_what_is_accepted_is_what_was_on_the_screen_or_nothing(drafted: Here) -> None:
    saved(drafted, 1, "mia", parent=1)

    refused = accepted(drafted, version=1)

    assert refused.status_code == 409 and "mia saved version 2" in refused.json()["detail"]
    assert len(versions(drafted)) == 2
    assert accepted(drafted, version=1, anyway=True).json()["parent"] == 1


def test_any_earlier_version_is_restored_as_a_new_one(drafted: Here) -> None:
    saved(drafted, 1, "mia", parent=1)
    saved(drafted, 2, "mia", parent=2)

    told = restored(drafted, version=2, parent=3).json()

    assert (told["version"], told["parent"], told["author"]) == (4, 2, "kim")
    label = drafted.client.get("/datastore/label", params={"label": "case_00"}).content
    assert (voxels(label) == voxels(mask_bytes(1))).all()


def test_restoring_twice_restores_once(drafted: Here) -> None:
    saved(drafted, 1, "mia", parent=1)

    assert [restored(drafted, version=1, parent=2).json()["version"] for _ in range(2)] == [3, 3]


def test_a_junior_who_restores_again_and_again_makes_one_version(here: Here) -> None:
    saved(here, 1, "kim")
    saved(here, 2, "kim", parent=1)
    here.app.settings = replace(here.app.settings, role=Role.ANNOTATOR)

    assert [restored(here, client="lee", version=1).json()["version"] for _ in range(3)] == [3, 3, 3]


def test_a_junior_who_goes_back_behind_another_junior_makes_it_the_current_one_again(here: Here) -> None:
    here.app.settings = replace(here.app.settings, role=Role.ANNOTATOR)
    saved(here, 1, "lee")
    saved(here, 2, "mia", parent=1)

    told = restored(here, client="lee", version=1, parent=2).json()

    assert (told["version"], told["parent"], told["new"], told["note"]) == (3, 1, True, "")


def test_nobody_has_a_version_open_that_is_not_there(drafted: Here) -> None:
    query = {"image": "case_00", "version": 9, "tab": "a"}

    assert drafted.client.post("/cases/open", params=query).status_code == 404


def test_nothing_is_restored_over_what_the_person_has_not_seen(drafted: Here) -> None:
    saved(drafted, 1, "mia", parent=1)

    refused = restored(drafted, version=1, parent=1)

    assert refused.status_code == 409 and refused.headers["label-refinery-meanwhile"] == "2"
    assert len(versions(drafted)) == 2


def test_a_version_that_is_not_there_cannot_be_restored(drafted: Here) -> None:
    reply = restored(drafted, version=9)

    assert reply.status_code == 404 and "There is no version 9 in force; there is [1]" in reply.json()["detail"]


def test_a_finding_that_was_denied_by_mistake_is_restored(drafted: Here) -> None:
    query = {"image": "case_00", "client_id": "kim", "parent": 1}
    assert drafted.client.post("/cases/no-finding", params=query).json()["version"] == 2

    restored(drafted, version=1, parent=2)

    label = drafted.client.get("/datastore/label", params={"label": "case_00"}).content
    assert np.any(voxels(label))


def test_no_finding_is_not_said_over_what_somebody_drew_meanwhile(drafted: Here) -> None:
    saved(drafted, 1, "mia", parent=1)

    reply = drafted.client.post("/cases/no-finding", params={"image": "case_00", "client_id": "kim", "parent": 1})

    assert reply.status_code == 409 and "mia saved version 2" in reply.json()["detail"]


# --- DICOM ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def series(open_app: Callable[..., Here]) -> tuple[Here, str, Callable[..., Any]]:
    """A series of CT slices, its id, and what sends the same mask of it under a new UID each time."""
    here = open_app(0)
    uid = put_series(here)
    source, number = source_of(here, uid), count()

    def drawn() -> bytes:
        provenance = Provenance("DRAFT", "somebody", NOON, f"drawn {next(number)}", Algorithm("segmentation", "v1"))
        return stored(write_segmentation(blocks(source.grid.shape), TASK, source, provenance))

    def store(times: int = 1, **query: Any) -> Any:
        parts = (b"--xx\r\nContent-Type: application/dicom\r\n\r\n" + drawn() + b"\r\n" for _ in range(times))
        body = b"".join(parts) + b"--xx--\r\n"
        headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=xx'}
        return here.client.post("/dicomweb/studies", params=query, content=body, headers=headers)

    return here, uid, store


def test_a_segmentation_names_the_version_that_it_was_made_from(series: Any) -> None:
    here, uid, store = series
    store(client_id="mia", parent=0, seconds=12.5)

    refused = store(client_id="lee", parent=0)

    assert (refused.status_code, refused.headers["label-refinery-meanwhile"]) == (409, "1")
    assert "mia saved version 1" in refused.json()["00081198"]["Value"][0]["00000902"]["Value"][0]
    assert here.app.record.annotations.get(uid, 1).seconds == 12.5
    kept = store(client_id="lee", parent=0, anyway="true")
    assert kept.headers["label-refinery-version"] == "2"
    assert "Both are kept" in kept.json()["00081199"]["Value"][0]["00000902"]["Value"][0]
    assert versions(here, uid) == [(1, "mia", None), (2, "lee", None)]


def test_a_version_is_named_for_one_object_only(series: Any) -> None:
    here, uid, store = series

    reply = store(times=2, parent=0)

    assert reply.status_code == 422 and "parent=0 names a version of one image, but 2 objects came" in reply.text
    assert versions(here, uid) == []


def test_an_equal_segmentation_under_another_uid_is_stored_and_is_no_other_version(series: Any) -> None:
    here, uid, store = series

    first, again = (store(client_id="mia", parent=0) for _ in range(2))

    assert [reply.headers["label-refinery-version"] for reply in (first, again)] == ["1", "1"]
    assert len(versions(here, uid)) == 1
    stored_uids = [reply.json()["00081199"]["Value"][0]["00081190"]["Value"][0] for reply in (first, again)]
    paths = [address.partition("/dicomweb")[2] for address in stored_uids]
    assert [here.client.get(f"/dicomweb{path}").status_code for path in paths] == [200, 200]


def test_a_mask_that_a_viewer_fetched_is_what_was_sent_last(series: Any) -> None:
    here, uid, store = series
    address = store(client_id="mia", parent=0).json()["00081199"]["Value"][0]["00081190"]["Value"][0]
    here.app.record.openings.forget([uid])
    here.client.get(f"/dicomweb{address.partition('/dicomweb')[2]}")

    assert here.app.record.openings.last(uid, system_user()) == 1


# --- Who has it open --------------------------------------------------------------------------------------------------


def opened(here: Here, client: str, tab: str, version: int = 1) -> Any:
    query = {"image": "case_00", "version": version, "tab": tab, "client_id": client}
    return here.client.post("/cases/open", params=query).json()


def test_people_see_who_else_has_a_case_open_until_it_is_left(drafted: Here) -> None:
    assert opened(drafted, "mia", "a")["others"] == []

    told = opened(drafted, "lee", "b")
    assert [(one["name"], one["version"]) for one in told["others"]] == [("mia", 1)]
    assert told["current"]["version"] == 1 and told["ends"] is None

    drafted.client.delete("/cases/open", params={"image": "case_00", "tab": "a", "client_id": "mia"})
    assert opened(drafted, "lee", "b")["others"] == []


def test_a_person_sees_the_other_window_too(drafted: Here) -> None:
    opened(drafted, "mia", "a")

    assert [one["name"] for one in opened(drafted, "mia", "b")["others"]] == ["mia"]


def test_what_is_on_the_screen_is_what_was_sent_last(drafted: Here) -> None:
    saved(drafted, 1, "mia")
    opened(drafted, "lee", "b", version=1)

    assert saved(drafted, 2, "lee").json()["parent"] == 1


def test_looking_at_a_case_is_no_change_that_is_written_down(drafted: Here) -> None:
    before = len(drafted.client.get("/audit/").json())
    opened(drafted, "mia", "a")

    assert len(drafted.client.get("/audit/").json()) == before


def test_all_versions_are_told_with_the_series_that_shows_each(drafted: Here) -> None:
    saved(drafted, 1, "mia", parent=1)
    saved(drafted, 2, "mia", parent=2)

    told = drafted.client.get("/cases/versions", params={"image": "case_00"}).json()["versions"]

    assert [(one["version"], one["parent"]) for one in told] == [(3, 2), (2, 1), (1, None)]
    assert len({one["series_uid"] for one in told}) == 3
    study = drafted.client.get("/dicomweb/studies").json()[0]["0020000D"]["Value"][0]
    for one in told:
        found = drafted.client.get(f"/dicomweb/studies/{study}/series/{one['series_uid']}")
        assert found.status_code == 200 and b"DICM" in found.content


def test_the_audit_of_a_segmentation_names_its_image(series: Any) -> None:
    here, uid, store = series
    store(client_id="mia", parent=0)

    (change,) = [one for one in here.client.get("/audit/").json() if one["path"] == "/dicomweb/studies"]
    assert change["query"] == f"client_id=mia&parent=0&image={uid}"


# --- MONAI Label Reviewer ---------------------------------------------------------------------------------------------


def reviewed(here: Here, status: str, tag: str = "final") -> Any:
    """What MONAI Label Reviewer sends."""
    meta = {"status": status, "approvedBy": "kim", "level": "easy", "comment": "", "editTime": 1}
    query = {"label": "case_00", "tag": tag}
    form = {"params": json.dumps({"segmentationMeta": meta})}
    return here.client.put("/datastore/updatelabelinfo", params=query, data=form)


@pytest.fixture
def juniors(here: Here) -> Here:
    """An image with the mask of a junior, at a server where an expert works."""
    here.app.settings = replace(here.app.settings, role=Role.ANNOTATOR)
    saved(here, 1, "lee")
    here.app.settings = replace(here.app.settings, role=Role.EXPERT)
    return here


def test_what_a_reviewer_approves_is_accepted(juniors: Here) -> None:
    assert reviewed(juniors, "approved").status_code == 200

    assert versions(juniors) == [(1, "lee", None), (2, "kim", 1)]
    info = juniors.client.get("/datastore/label/info", params={"label": "case_00", "tag": "final"}).json()
    assert (info["stage"], info["segmentationMeta"]["status"]) == ("expert", "approved")


def test_what_a_reviewer_flags_is_only_noted(juniors: Here) -> None:
    assert reviewed(juniors, "flagged").status_code == 200

    assert versions(juniors) == [(1, "lee", None)]


def test_a_junior_approves_nothing(juniors: Here) -> None:
    juniors.app.settings = replace(juniors.app.settings, role=Role.ANNOTATOR)

    assert reviewed(juniors, "approved").status_code == 403
    assert "segmentationMeta" not in juniors.client.get("/datastore/label/info?label=case_00").json()
