"""A job's progress as server-sent events."""

from __future__ import annotations

import itertools
import json
import threading
from typing import Any

import pytest

from lib.serving.routes import jobs
from lib.store.jobs import JobKind, JobState
from tests.serving.conftest import Here
from tests.serving.places import until


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "EVENT_SECONDS", 0.005)


def events(here: Here, job_id: str) -> list[dict[str, Any]]:
    """All events until the stream ends by itself."""
    reply = here.client.get(f"/jobs/{job_id}/events")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["cache-control"] == "no-store"
    blocks = reply.text.split("\n\n")
    assert blocks.pop() == "" and all(block.startswith("data: ") and "\n" not in block for block in blocks)
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


def in_background(here: Here, job_id: str) -> tuple[threading.Thread, list[dict[str, Any]]]:
    found: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: found.extend(events(here, job_id)))
    thread.start()
    return thread, found


def statuses(found: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(event["status"] for event in found))


def test_a_job_that_has_ended_is_told_once(here: Here) -> None:
    record = here.app.record.jobs
    record.ask(JobKind.TRAIN, {})
    job = record.claim("tests")
    assert job is not None
    record.finish(job, JobState.DONE, {}, "done")

    (event,) = events(here, job.id)
    assert event == here.client.get(f"/jobs/{job.id}").json()
    assert event["status"] == "DONE"


@pytest.mark.parametrize(("end", "status"), [(JobState.DONE, "DONE"), (JobState.FAILED, "ERROR")])
def test_the_events_follow_a_job_until_it_ends(
    here: Here, monkeypatch: pytest.MonkeyPatch, end: JobState, status: str
) -> None:
    record, looked = here.app.record.jobs, threading.Event()
    get = record.get

    def noted(job_id: str) -> Any:
        found = get(job_id)
        if threading.current_thread() is not threading.main_thread():
            looked.set()
        return found

    def wait_for_a_look() -> None:
        looked.clear()
        assert looked.wait(20)
        looked.clear()
        assert looked.wait(20)

    monkeypatch.setattr(record, "get", noted)
    asked = record.ask(JobKind.TRAIN, {})
    thread, found = in_background(here, asked.id)
    wait_for_a_look()
    job = record.claim("tests")
    assert job is not None
    wait_for_a_look()
    record.report(job, {"epoch": 1}, ["the first epoch"])
    wait_for_a_look()
    record.finish(job, end, {}, "over")
    thread.join(20)

    assert not thread.is_alive()
    assert statuses(found)[-1] == status and len(statuses(found)) == 3
    assert any("the first epoch" in json.dumps(event) for event in found)
    assert all(earlier != later for earlier, later in itertools.pairwise(found))


def test_the_events_end_when_somebody_stops_the_job(here: Here) -> None:
    asked = here.app.record.jobs.ask(JobKind.TRAIN, {})
    thread, found = in_background(here, asked.id)
    here.client.delete("/train/")
    thread.join(20)

    assert not thread.is_alive()
    assert statuses(found)[-1] == "STOPPED"


@pytest.mark.parametrize("job_id", ["none", "..", "%00", "00000000-0000-0000-0000-000000000000"])
def test_an_unknown_job_has_no_events(here: Here, job_id: str) -> None:
    reply = here.client.get(f"/jobs/{job_id}/events")

    assert reply.status_code == 404
    assert reply.headers["content-type"] == "application/problem+json"


def test_events_that_nobody_reads_any_more_end(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, looks = here.app.record.jobs.ask(JobKind.TRAIN, {}), []
    get = here.app.record.jobs.get
    monkeypatch.setattr(here.app.record.jobs, "get", lambda job_id: looks.append(job_id) or get(job_id))

    async def gone(self: Any) -> bool:
        return len(looks) > 2

    monkeypatch.setattr(jobs.Request, "is_disconnected", gone)

    assert [event["status"] for event in events(here, asked.id)] == ["SUBMITTED"]
    until(lambda: len(looks) == 3, 20)
