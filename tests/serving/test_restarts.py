"""A process that died comes back by itself, and nothing makes it die again and again."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from lib.errors import RecordAway
from lib.serving.restarts import FIRST_SECONDS, LONGEST_SECONDS, Restarts
from lib.serving.worker import Worker, Workplace
from tests.serving.conftest import Here
from tests.serving.places import Server, put_images, server, until


def test_a_process_that_does_not_live_is_started_less_and_less_often() -> None:
    restarts = Restarts()

    pauses = [restarts.pause_after(0.1) for _ in range(10)]

    assert pauses[:3] == [FIRST_SECONDS, 2 * FIRST_SECONDS, 4 * FIRST_SECONDS]
    assert max(pauses) == pauses[-1] == LONGEST_SECONDS
    assert restarts.pause_after(LONGEST_SECONDS + 1) == FIRST_SECONDS


def test_a_worker_is_started_again_although_the_record_was_away_when_it_died(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(owner: str) -> None:
        raise RecordAway("The database that holds the record does not answer. Send it again later.")

    workplace = Workplace(here.app.record.task, here.studies, here.app.settings)
    looked_after = Worker(here.app.record, workplace)
    looked_after.start()
    try:
        until(lambda: looked_after.is_alive, what="the start")
        first = looked_after._process
        assert first is not None and first.pid is not None
        with monkeypatch.context() as patch:
            patch.setattr(type(here.app.record.jobs), "release", lambda self, owner: away(owner))
            os.kill(first.pid, signal.SIGKILL)
            until(lambda: looked_after._process is not first and looked_after.is_alive, what="the new worker")
    finally:
        looked_after.stop()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("restarts")
    put_images(folder / "studies", 2)
    with server(folder / "studies", folder / "data", {}) as running:
        yield running


@pytest.mark.e2e
@pytest.mark.parametrize("process", ["inference", "worker"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV])
def test_a_server_becomes_ready_again_without_a_new_order(small: Server, process: str, how: signal.Signals) -> None:
    until(lambda: small.client.get("/health/ready").status_code == 200, what="the readiness")
    pid = small.pid_of(process)

    os.kill(pid, how)

    until(lambda: small.pid_of(process) != pid, what="the new process")
    until(lambda: small.client.get("/health/ready").status_code == 200, what="the readiness after it")
