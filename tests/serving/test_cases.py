"""What the bar inside the viewer asks: which images a study shows, how far they are, and "no finding"."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lib.phantoms.breast import BreastParameters, draw_mammogram
from lib.phantoms.dicom_mammogram import write_mammogram
from lib.serving.access import may, needed_role
from lib.stages import Role
from tests.serving.places import STRUCTURES, Server, put_images, server, voxels


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("cases")
    put_images(folder / "studies", 3)
    phantom = draw_mammogram(BreastParameters(seed=2, shape=(65, 80)))
    for side in ("L", "R"):
        write_mammogram(folder / "studies" / "breast", phantom, laterality=side, view="CC", patient_id="p", seed=1)
    with server(folder / "studies", folder / "data", {"ahead": "0"}) as running:
        yield running


def study_of(place: Server, patient: str) -> str:
    (study,) = place.get("/dicomweb/studies", PatientID=patient)
    uid: str = study["0020000D"]["Value"][0]
    return uid


def case_of(place: Server, image: str) -> dict[str, Any]:
    (case,) = place.get("/cases/", study=study_of(place, image))["cases"]
    return case


def test_the_task_is_told_with_what_a_viewer_needs_to_draw(place: Server) -> None:
    task = place.get("/cases/", study=study_of(place, "case_00"))["task"]

    assert task["name"] == "segmentation"
    assert [(one["name"], one["value"]) for one in task["structures"]] == [(STRUCTURES[0], 1), (STRUCTURES[1], 2)]
    assert all(len(one["colour"]) == 3 for one in task["structures"])
    assert task["window_hu"] is None


def test_an_image_that_nobody_touched_has_no_annotation(place: Server) -> None:
    case = case_of(place, "case_00")

    assert (case["image"], case["name"]) == ("case_00", "case_00")
    assert case["current"] is None


def test_the_current_annotation_is_told_with_the_series_that_shows_it(place: Server) -> None:
    place.submit("case_01", 1)

    case = case_of(place, "case_01")
    (shown,) = place.get(f"/dicomweb/studies/{case['study_uid']}/series", Modality="SEG")
    current = case["current"]
    assert (current["version"], current["stage"], current["author"]) == (1, "expert", "dr.kim")
    assert current["series_uid"] == shown["0020000E"]["Value"][0]
    assert current["description"] == shown["0008103E"]["Value"][0] == "EXPERT dr.kim"
    assert current["series_uid"] != case["series_uid"]


def test_the_mask_that_an_annotation_was_made_from_is_told_with_a_series_that_is_found_by_its_uid(
    place: Server,
) -> None:
    place.submit("case_00", 0)
    place.submit("case_00", 1, parent=1)

    case = case_of(place, "case_00")
    before = case["current"]["before"]
    assert (before["version"], before["stage"], before["description"]) == (1, "expert", "EXPERT dr.kim")
    series = f"/dicomweb/studies/{case['study_uid']}/series"
    (found,) = place.get(series, SeriesInstanceUID=before["series_uid"])
    assert found["0020000E"]["Value"] == [before["series_uid"]]
    assert before["series_uid"] not in [one["0020000E"]["Value"][0] for one in place.get(series)]


def test_an_annotation_from_scratch_and_an_accepted_one_look_as_nothing_else_did_before(place: Server) -> None:
    place.submit("case_01", 1)
    assert case_of(place, "case_01")["current"]["before"] is None

    place.submit("case_01", 1, client="dr.lee", parent=1)

    current = case_of(place, "case_01")["current"]
    assert (current["author"], current["parent"], current["before"]) == ("dr.lee", 1, None)


def test_radiographs_of_one_series_are_told_apart_by_their_instances(place: Server) -> None:
    cases = place.get("/cases/", study=study_of(place, "p"))["cases"]

    assert len({case["series_uid"] for case in cases}) == 1
    assert len({case["instance_uid"] for case in cases}) == 2
    assert {case["name"] for case in cases} == {"p, Phantom MG, 2024-01-01"}
    assert all(case["image"] == f"{case['series_uid']}/{case['instance_uid']}" for case in cases)


def test_a_study_that_is_not_here_is_not_found(place: Server) -> None:
    response = place.client.get("/cases/", params={"study": "1.2.3"})

    assert response.status_code == 404
    assert "There is no study '1.2.3'" in response.json()["detail"]


def test_no_finding_says_that_all_structures_were_looked_for_and_none_is_there(place: Server) -> None:
    told = place.post("/cases/no-finding", image="case_02", client_id="dr.kim")

    assert (told["version"], told["stage"], told["author"]) == (1, "expert", "dr.kim")
    current = case_of(place, "case_02")["current"]
    assert current["structures"] == list(STRUCTURES)
    assert current["voxels"] == dict.fromkeys(STRUCTURES, 0)
    mask = voxels(place.client.get("/datastore/label", params={"image": "case_02"}).content)
    assert mask.shape == (24, 20, 16) and not np.any(mask)


def test_no_finding_in_an_image_that_is_not_here_is_not_found(place: Server) -> None:
    response = place.client.post("/cases/no-finding", params={"image": "nobody"})

    assert response.status_code == 404
    assert "'nobody'" in response.json()["detail"]


def test_a_reader_may_look_at_cases_and_not_judge_them() -> None:
    assert may(Role.VIEWER, needed_role("GET", "/cases/"))
    assert not may(Role.VIEWER, needed_role("POST", "/cases/no-finding"))
    assert may(Role.ANNOTATOR, needed_role("POST", "/cases/no-finding"))
