"""The worker process and its server."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lib.decoder.client import decoder
from lib.errors import RecordAway
from lib.serving.settings import Settings
from lib.serving.worker import Diary, Workplace, _work
from lib.task import Task, numbered


def test_a_worker_whose_server_died_before_it_was_ready_ends_without_touching_the_record(tmp_path: Path) -> None:
    workplace = Workplace(Task("t", "", numbered(["a"])), tmp_path, Settings(data=tmp_path / "data"))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    assert dead.pid != os.getppid()

    _work(workplace, "worker", server=dead.pid, readers=decoder())

    assert not (tmp_path / "data").exists()


def test_a_record_that_is_away_for_a_moment_does_not_end_the_renewal_of_a_lease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lib.serving.worker.LEASE", timedelta(seconds=0.04))
    renewed, away = threading.Event(), iter([RecordAway("The database does not answer.")])

    def report(*_: Any) -> None:
        if (error := next(away, None)) is not None:
            raise error
        renewed.set()

    record: Any = SimpleNamespace(jobs=SimpleNamespace(report=report))
    job: Any = SimpleNamespace(id="train-1")

    with Diary(record, job, lambda: None).keeping_lease():
        assert renewed.wait(10)
