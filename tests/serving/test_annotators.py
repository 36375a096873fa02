"""What each annotator does differently from the experts: who is told what, in numbers, as a picture, on a page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from lib.serving.annotator import Annotator
from lib.serving.bias_plot import COMPONENTS, PANELS, figure_of, plot
from lib.serving.measuring import compare_next
from lib.serving.requests import Submission
from lib.serving.saving import save_mask
from lib.serving.tokens import TokenFile
from lib.stages import Role
from lib.store import layout
from lib.volume import Grid
from tests.serving.conftest import Here
from tests.serving.places import Server, mask_bytes, put_label, until
from tests.serving.test_gate import problem
from tests.serving.test_measures import number
from tests.training.shapes import drawn

BOTH = ("Anterior", "Posterior")


def submitted(here: Here, image_id: str, mask: np.ndarray, person: Annotator, **more: Any) -> None:
    """Stores a mask as a client of this person does."""
    submission = Submission.from_monailabel(image_id, "final", more, here.app.record.task)
    save_mask(here.app.record, mask, Grid(mask.shape, np.eye(4)), submission, person)


def wider(mask: np.ndarray) -> np.ndarray:
    """The first block of 8 x 8 x 8 is a voxel longer along I."""
    found = mask.copy()
    last = np.argwhere(mask == 1)[:, 0].max()
    found[last + 1][mask[last] == 1] = 1
    return found


SHIFT_MM = 64 / (9 * 8 * 8 - 7 * 6 * 6)
"""64 of the surface voxels of 9 x 8 x 8 lie 1 mm outside of 8 x 8 x 8, the others on its surface."""

KIM, ANN, LEE = Annotator("kim", Role.ANNOTATOR), Annotator("ann", Role.ANNOTATOR), Annotator("dr.lee", Role.EXPERT)


def corrected(here: Here, image_id: str, seed: int, annotator: Annotator = KIM) -> None:
    """An annotator draws one block too large, an expert puts it right."""
    truth = drawn(seed)[1]
    submitted(here, image_id, wider(truth), annotator)
    submitted(here, image_id, truth, LEE)


def measured(here: Here) -> None:
    while compare_next(here.app.record):
        pass


def told(here: Here, **query: str) -> Any:
    response = here.client.get("/annotators/report", params=query)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_habit_is_told_by_structure_and_case(here: Here) -> None:
    corrected(here, "case_00", 0)
    corrected(here, "case_01", 1)
    measured(here)

    found = told(here, name="kim")

    assert (found["name"], found["cases"], found["not_compared"]) == ("kim", 2, 0)
    anterior, posterior = found["structures"]["Anterior"], found["structures"]["Posterior"]
    assert anterior["cases"] == 2
    assert anterior["volume_percent"] == {"mean": 12.5, "sd": 0.0, "interval": [12.5, 12.5], "n": 2}
    assert anterior["shift_mm"]["mean"] == pytest.approx(SHIFT_MM)
    assert (anterior["missed"], anterior["invented"]) == (0, 0)
    assert (posterior["volume_percent"]["mean"], posterior["shift_mm"]["mean"], posterior["dice"]["mean"]) == (0, 0, 1)
    assert [(row["image"], row["version"], row["expert_version"]) for row in found["rows"]] == [
        ("case_00", 1, 2), ("case_01", 1, 2),
    ]  # fmt: skip
    assert found["rows"][0]["structures"]["Anterior"] == {
        "dice": pytest.approx(2 * 512 / (512 + 576)), "volume_percent": 12.5, "shift_mm": pytest.approx(SHIFT_MM),
        "missed": 0, "invented": 0,
    }  # fmt: skip


def test_components_that_were_missed_or_invented_are_counted(here: Here) -> None:
    truth = drawn(0)[1]
    mine = np.where(truth == 2, 0, truth).astype(np.uint8)
    mine[0, 0, 0] = 1
    submitted(here, "case_00", mine, KIM)
    submitted(here, "case_00", truth, LEE)
    measured(here)

    structures = told(here, name="kim")["structures"]

    assert (structures["Anterior"]["missed"], structures["Anterior"]["invented"]) == (0, 1)
    assert (structures["Posterior"]["missed"], structures["Posterior"]["invented"]) == (1, 0)
    assert structures["Posterior"]["shift_mm"] == {"mean": None, "sd": None, "interval": [None, None], "n": 0}


def test_cases_that_are_not_compared_yet_are_counted(here: Here) -> None:
    corrected(here, "case_00", 0)
    measured(here)
    corrected(here, "case_01", 1)

    found = told(here, name="kim")

    assert (found["cases"], found["not_compared"], len(found["rows"])) == (1, 1, 1)
    assert told(here) == [{"name": "kim", "cases": 1, "not_compared": 1}]


def test_a_report_computes_nothing_on_masks(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    corrected(here, "case_00", 0)
    measured(here)
    monkeypatch.setattr("lib.volume.read_volume", None)
    monkeypatch.setattr("lib.serving.measuring.figures_of", None)

    assert told(here, name="kim")["cases"] == 1


def test_without_a_name_everybody_with_cases_is_listed(here: Here) -> None:
    assert told(here) == []
    corrected(here, "case_01", 1, ANN)
    corrected(here, "case_00", 0)
    measured(here)

    assert told(here) == [
        {"name": "ann", "cases": 1, "not_compared": 0}, {"name": "kim", "cases": 1, "not_compared": 0},
    ]  # fmt: skip


def test_a_case_that_cannot_be_compared_says_why(here: Here) -> None:
    corrected(here, "case_00", 0)
    mine = here.app.record.annotations.get("case_00", 1)
    here.app.record.masks.path(mine.mask or "").unlink()
    measured(here)

    found = told(here, name="kim")

    assert (found["cases"], found["structures"]) == (0, {})
    assert found["rows"][0]["structures"] == {} and "is missing below masks" in found["rows"][0]["reason"]


def test_somebody_without_cases_is_not_known(here: Here) -> None:
    corrected(here, "case_00", 0)

    problem(here.client.get("/annotators/report?name=dr.lee"), 404, "no case of 'dr.lee'", "cases of kim")


def test_the_picture_is_a_png_and_needs_a_name(here: Here) -> None:
    corrected(here, "case_00", 0)
    measured(here)

    picture = here.client.get("/annotators/report.png?name=kim")

    assert picture.status_code == 200 and picture.headers["content-type"] == "image/png"
    assert picture.content.startswith(b"\x89PNG\r\n\x1a\n")
    problem(here.client.get("/annotators/report.png?name=bob"), 404, "no case of 'bob'")
    problem(here.client.get("/annotators/report.png?name="), 422, "Name the annotator")


def test_every_panel_says_its_unit_and_how_many_cases_are_in_it(here: Here) -> None:
    truth = drawn(0)[1]
    submitted(here, "case_00", np.where(truth == 2, 0, truth).astype(np.uint8), KIM)
    submitted(here, "case_00", truth, LEE)
    corrected(here, "case_01", 1)
    measured(here)

    panels = figure_of(told(here, name="kim")).axes

    assert [text.get_text() for text in panels[0].get_yticklabels()] == ["Anterior", "Posterior"]
    assert [(axes.get_title(), axes.get_xlabel()) for axes in panels] == [*PANELS.values(), COMPONENTS]
    assert [axes.get_xlabel().rpartition(" ")[2] for axes in panels[:2]] == ["(%)", "(mm)"]
    counts = [[text.get_text() for text in axes.child_axes[0].get_yticklabels()] for axes in panels]
    # A boundary that was not drawn has no shift.
    assert counts == [["n=2", "n=2"], ["n=2", "n=1"], ["n=2", "n=2"]]


@pytest.mark.parametrize("structure", ["$x^{", "a\nb", "{}", "%s"])
def test_any_name_of_a_structure_can_be_drawn(structure: str) -> None:
    undefined = {"mean": None, "sd": None, "interval": [None, None], "n": 0}
    bias = {"cases": 1, "dice": undefined, "volume_percent": undefined, "shift_mm": undefined}
    case = {"volume_percent": None, "shift_mm": None}
    report = {
        "structures": {structure: {**bias, "missed": 0, "invented": 0}},
        "rows": [{"image": "ct_017", "structures": {structure: case}}, {"image": "ct_018", "structures": {}}],
    }

    assert plot(report).startswith(b"\x89PNG")


def test_a_report_without_structures_is_an_empty_picture() -> None:
    assert plot({"structures": {}, "rows": []}).startswith(b"\x89PNG")


# Who is told.


@pytest.fixture
def guarded(open_app: Callable[..., Here]) -> Callable[[str], TestClient]:
    """Clients by name of a server at which people sign in, and on which kim and ann have a case each."""
    here = open_app(auth="tokens")
    corrected(here, "case_00", 0, KIM)
    corrected(here, "case_01", 1, ANN)
    measured(here)
    file = TokenFile(here.data / layout.TOKENS)
    roles = {"kim": Role.ANNOTATOR, "dr.lee": Role.EXPERT, "chief": Role.ADMIN, "guest": Role.VIEWER}
    tokens = {name: file.add(name, role) for name, role in roles.items()}

    def client(name: str) -> TestClient:
        found = TestClient(here.client.app, base_url="http://labels.example", raise_server_exceptions=False)
        if name:
            found.headers["Authorization"] = f"Bearer {tokens[name]}"
        return found

    return client


@pytest.mark.parametrize("name", ["dr.lee", "chief"])
def test_experts_and_administrators_may_read_about_everybody(guarded: Callable[[str], TestClient], name: str) -> None:
    client = guarded(name)

    assert [one["name"] for one in client.get("/annotators/report").json()] == ["ann", "kim"]
    assert client.get("/annotators/report?name=kim").json()["cases"] == 1
    assert client.get("/annotators/report.png?name=ann").status_code == 200


def test_annotators_may_read_about_themselves_and_are_told_of_nobody_else(
    guarded: Callable[[str], TestClient],
) -> None:
    client = guarded("kim")

    assert [one["name"] for one in client.get("/annotators/report").json()] == ["kim"]
    assert client.get("/annotators/report?name=kim").json()["cases"] == 1
    for path in ("report", "report.png"):
        problem(client.get(f"/annotators/{path}?name=ann"), 403, "for experts and that person")
        problem(client.get(f"/annotators/{path}?name=nobody"), 403, "for experts and that person")


@pytest.mark.parametrize(("name", "status"), [("guest", 403), ("", 401)])
def test_others_may_not(guarded: Callable[[str], TestClient], name: str, status: int) -> None:
    for path in ("report", "report?name=kim", "report.png?name=kim"):
        problem(guarded(name).get(f"/annotators/{path}"), status)


def test_the_page_opens_for_everybody_needs_no_other_host_and_holds_no_name(
    guarded: Callable[[str], TestClient],
) -> None:
    reply = guarded("").get("/annotators")

    assert reply.status_code == 200 and reply.headers["content-type"].startswith("text/html")
    assert "http" not in reply.text.partition("<body>")[2].replace("https://", "http://")
    assert "kim" not in reply.text and "$$" not in reply.text
    assert "annotators" in guarded("").get("/").text


# The effort of corrections.


def test_a_save_only_notes_that_there_is_something_to_compare(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib.serving.measuring.figures_of", None)
    submitted(here, "case_00", wider(drawn(0)[1]), KIM)

    put_label(here.client, "case_00", mask_bytes(0))

    assert here.app.record.comparisons.next_image() == "case_00"


def test_the_worker_compares_by_itself(running: Server) -> None:
    running.submit("case_11", 11)

    def effort() -> Any:
        return running.get("/datastore/label/history", image="case_11")[-1]["effort"]

    assert until(lambda: effort() is not None, what="the comparison") and effort() == []


def test_the_history_tells_what_an_expert_changed_and_how_long_it_took(here: Here) -> None:
    submitted(here, "case_00", wider(drawn(0)[1]), KIM)
    put_label(here.client, "case_00", mask_bytes(0), seconds=42)
    before = here.client.get("/datastore/label/history?image=case_00").json()
    measured(here)

    mine, experts = here.client.get("/datastore/label/history?image=case_00").json()

    assert [version["effort"] for version in before] == [None, None]
    assert (mine["effort"], experts["seconds"]) == (None, 42.0)
    (against,) = experts["effort"]
    assert against["version"] == 1
    assert against["structures"]["Posterior"] == {
        "added_voxels": 0, "removed_voxels": 0, "moved_mm": 0.0, "added_path_mm": 0.0, "outline_mm": 8 * 28.0,
    }  # fmt: skip
    anterior = against["structures"]["Anterior"]
    # In each of eight slices the end of the block is drawn anew, but for its two corners, which were an outline before.
    assert (anterior["removed_voxels"], anterior["added_path_mm"]) == (64, 8 * 6.0)


def test_metrics_sum_what_experts_had_to_draw(here: Here) -> None:
    corrected(here, "case_00", 0)
    measured(here)

    assert number(here, "corrections", **{"from": "annotator"}) == 1
    assert number(here, "correction_drawn_mm", **{"from": "annotator"}) == 8 * 6.0
    assert number(here, "correction_outline_mm", **{"from": "annotator"}) == 2 * 8 * 28.0
