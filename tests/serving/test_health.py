"""What those who look after the server ask."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from lib.errors import RecordAway
from lib.serving.routes import health
from tests.serving.conftest import Here


@pytest.fixture
def running(here: Here, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bool]]:
    """Which computing processes seem to run; none is started."""
    alive = {"inference": True, "worker": True}
    monkeypatch.setattr(type(here.app.inference), "is_alive", property(lambda self: alive["inference"]))
    monkeypatch.setattr(type(here.app.worker), "is_alive", property(lambda self: alive["worker"]))
    yield alive


def free(monkeypatch: pytest.MonkeyPatch, mib: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=0, used=0, free=mib * 2**20))


def not_ready(reply: Any, *found: str) -> None:
    assert reply.status_code == 503
    assert reply.headers["content-type"] == "application/problem+json"
    for text in found:
        assert text in reply.json()["detail"]


def test_a_process_that_answers_is_alive_whatever_else_is_wrong(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 0)

    assert here.client.get("/health/live").json() == {"status": "ok"}


def test_a_server_is_ready_if_record_processes_and_disk_are(
    here: Here, running: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, health.LEAST_FREE_MIB)

    assert here.client.get("/health/ready").json() == {
        "status": "ok", "inference": True, "worker": True, "free_mib": health.LEAST_FREE_MIB,
    }  # fmt: skip


@pytest.mark.parametrize("process", ["inference", "worker"])
def test_a_server_without_a_computing_process_is_not_ready(here: Here, running: dict[str, bool], process: str) -> None:
    running[process] = False

    not_ready(here.client.get("/health/ready"), f"the {process} process does not run")


def test_a_server_whose_disk_is_nearly_full_is_not_ready(
    here: Here, running: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, health.LEAST_FREE_MIB - 1)

    not_ready(here.client.get("/health/ready"), "199 MiB are free below the data folder, at least 200 must be")


def test_a_server_whose_record_does_not_answer_is_not_ready(
    here: Here, running: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise RecordAway("The database that holds the record does not answer. Send it again later.")

    monkeypatch.setattr(here.app.record.images, "counts", away)

    not_ready(here.client.get("/health/ready"), "does not answer")


def test_processes_that_were_not_started_are_not_alive(here: Here) -> None:
    not_ready(here.client.get("/health/ready"), "the inference process does not run; the worker process does not run")
