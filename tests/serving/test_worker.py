"""The worker process and its server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lib.serving.settings import Settings
from lib.serving.worker import Workplace, _work
from lib.task import Task, numbered


def test_a_worker_whose_server_died_before_it_was_ready_ends_without_touching_the_record(tmp_path: Path) -> None:
    workplace = Workplace(Task("t", "", numbered(["a"])), tmp_path, Settings(data=tmp_path / "data"))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    assert dead.pid != os.getppid()

    _work(workplace, "worker", server=dead.pid)

    assert not (tmp_path / "data").exists()
