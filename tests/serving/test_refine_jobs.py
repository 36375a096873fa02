"""Every junior's mask that waits for an expert gets refined: at its save, or once something refines."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lib.errors import ComputationInterrupted
from lib.serving.refine_jobs import RefineJobs
from lib.stages import Role
from lib.store.jobs import JobKind, JobState
from tests.serving.conftest import Here
from tests.serving.places import put_label
from tests.serving.test_refining import history, rough_bytes

REFINE = "/model/segmentation_refine"


@pytest.fixture
def juniors(open_app: Callable[..., Here]) -> Here:
    """A server without a refiner, at which an annotator has stored a mask of each of two images."""
    here = open_app(role="annotator")
    for number in (1, 0):
        put_label(here.client, f"case_{number:02d}", rough_bytes(number), client_id="lee")
    return here


def works_as(here: Here, role: Role) -> None:
    """Lets whoever asks next have this role."""
    here.app.settings = replace(here.app.settings, role=role)


def refined(here: Here) -> dict[str, list[int | None]]:
    """Of each image what its refined versions were made from."""
    return {
        image: [one["parent"] for one in history(here, image) if one["stage"] == "refined"]
        for image in ("case_00", "case_01")
    }


def jobs(here: Here) -> list[tuple[Any, ...]]:
    """Every job that was asked for."""
    every = here.app.record.jobs.every(JobKind.REFINE)
    return [(job.arguments["image"], job.arguments["version"], job.state) for job in every]


def restarted(here: Here) -> None:
    """The same as after a start of the server."""
    here.app.refine_jobs = RefineJobs(here.app.refining)


def test_what_juniors_stored_before_anything_refined_is_refined_once_something_does(
    juniors: Here, refiner_weights: bytes
) -> None:
    juniors.work()
    assert jobs(juniors) == []

    juniors.put_refiner(refiner_weights)
    juniors.work()

    assert refined(juniors) == {"case_00": [1], "case_01": [1]}
    # In the order they were stored.
    assert jobs(juniors) == [("case_01", 1, JobState.DONE), ("case_00", 1, JobState.DONE)]


def test_a_version_that_is_served_again_by_hand_refines_what_was_stored_meanwhile(
    juniors: Here, refiner_weights: bytes
) -> None:
    juniors.put_refiner(refiner_weights)
    juniors.work()
    juniors.client.delete(REFINE)
    put_label(juniors.client, "case_00", rough_bytes(1), client_id="lee")
    juniors.work()

    juniors.client.post("/model/serve/segmentation_refine?version=1")
    juniors.work()

    assert refined(juniors) == {"case_00": [1, 3], "case_01": [1]}


def test_a_crash_between_a_save_and_its_job_leaves_a_mask_that_the_next_start_refines(
    juniors: Here, refiner_weights: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    juniors.put_refiner(refiner_weights)
    juniors.work()
    monkeypatch.setattr(juniors.app.refine_jobs, "ask", lambda annotation: None)
    put_label(juniors.client, "case_00", rough_bytes(1), client_id="lee")
    juniors.work()
    assert refined(juniors)["case_00"] == [1]

    restarted(juniors)
    juniors.work()

    assert refined(juniors)["case_00"] == [1, 3]


def test_what_is_refined_already_is_refined_again_neither_by_a_start_nor_by_another_refiner(
    juniors: Here, refiner_weights: bytes
) -> None:
    juniors.put_refiner(refiner_weights)
    juniors.work()

    restarted(juniors)
    juniors.put_refiner(refiner_weights)
    juniors.work()

    assert len(jobs(juniors)) == 2


def test_a_mask_that_waits_and_was_asked_for_gets_one_job_even_if_that_fails(
    juniors: Here, refiner_weights: bytes
) -> None:
    juniors.put_refiner(refiner_weights)
    put_label(juniors.client, "case_01", rough_bytes(0), client_id="lee")

    def died(order: Any) -> Any:
        raise ComputationInterrupted("The inference process stopped.")

    juniors.app.refining.compute = died
    juniors.work()

    assert jobs(juniors) == [("case_01", 2, JobState.FAILED), ("case_00", 1, JobState.FAILED)]


def test_a_new_save_is_refined_before_all_that_nobody_asked_for(juniors: Here, refiner_weights: bytes) -> None:
    juniors.put_refiner(refiner_weights)
    compute, computed = juniors.app.refining.compute, []

    def meanwhile(order: Any) -> Any:
        computed.append(order.name)
        if len(computed) == 1:
            put_label(juniors.client, "case_01", rough_bytes(0), client_id="lee")
        return compute(order)

    juniors.app.refining.compute = meanwhile
    juniors.work()

    assert jobs(juniors) == [
        ("case_01", 1, JobState.DONE), ("case_01", 2, JobState.DONE), ("case_00", 1, JobState.DONE),
    ]  # fmt: skip


def test_what_counts_no_more_when_its_turn_comes_is_not_asked_for(juniors: Here, refiner_weights: bytes) -> None:
    juniors.put_refiner(refiner_weights)
    compute = juniors.app.refining.compute

    def meanwhile(order: Any) -> Any:
        works_as(juniors, Role.EXPERT)
        put_label(juniors.client, "case_00", rough_bytes(1), client_id="dr.kim")
        return compute(order)

    juniors.app.refining.compute = meanwhile
    juniors.work()

    assert jobs(juniors) == [("case_01", 1, JobState.DONE)]


def test_while_another_server_refines_nothing_more_is_asked_for(juniors: Here, refiner_weights: bytes) -> None:
    juniors.put_refiner(refiner_weights)
    record = juniors.app.record
    record.jobs.ask(JobKind.REFINE, {"image": "case_01", "version": 1})
    record.jobs.claim("another server", (JobKind.REFINE,))

    juniors.app.refine_jobs.do_all()

    assert jobs(juniors) == [("case_01", 1, JobState.RUNNING)]


def test_a_running_server_notices_a_refiner_by_itself(
    juniors: Here, refiner_weights: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lib.serving.refine_jobs.LOOK_SECONDS", 0.01)
    is_refined, refine = threading.Event(), juniors.app.refining.of_image

    def of_image(*asked: Any, **more: Any) -> Any:
        stored = refine(*asked, **more)
        is_refined.set()
        return stored

    monkeypatch.setattr(juniors.app.refining, "of_image", of_image)
    juniors.app.refine_jobs.start()
    juniors.put_refiner(refiner_weights)

    assert is_refined.wait(20)
    juniors.app.refine_jobs.stop()
    juniors.app.refine_jobs.join()


def test_a_juniors_mask_of_an_image_that_an_expert_labelled_asks_for_nothing(
    open_app: Callable[..., Here], refiner_weights: bytes
) -> None:
    here = open_app()
    here.put_refiner(refiner_weights)
    put_label(here.client, "case_00", rough_bytes(0), client_id="dr.kim")
    works_as(here, Role.ANNOTATOR)

    saved = put_label(here.client, "case_00", rough_bytes(1), client_id="lee")
    here.work()

    assert "refining" not in saved
    assert jobs(here) == []
