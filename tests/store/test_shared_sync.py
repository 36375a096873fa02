"""Many who wait for the disk wait for one sync, and none returns before its own writing is there."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lib.store.shared_sync import SharedSync

AT_ONCE = 20


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How large the file was at each sync; a sync takes a moment."""
    sizes: list[int] = []

    def sync(handle: int) -> None:
        size = os.fstat(handle).st_size
        threading.Event().wait(0.05)
        sizes.append(size)

    monkeypatch.setattr(os, "fsync", sync)
    return sizes


def test_who_returns_has_its_writing_on_the_disk_and_most_share_a_sync(tmp_path: Path, synced: list[int]) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"")
    shared, together, guard = SharedSync(file), threading.Barrier(AT_ONCE), threading.Lock()

    def write(_number: int) -> bool:
        together.wait(20)
        with guard, file.open("ab") as log:
            log.write(b"x")
            log.flush()
            mine = log.tell()
        shared.wait()
        return any(size >= mine for size in synced)

    with ThreadPoolExecutor(AT_ONCE) as writers:
        assert all(writers.map(write, range(AT_ONCE)))
    assert len(synced) < AT_ONCE


def test_the_name_of_a_new_file_is_brought_to_the_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inodes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: inodes.append(os.fstat(handle).st_ino))
    file = tmp_path / "log"
    shared = SharedSync(file)

    shared.wait()
    file.write_bytes(b"a")
    shared.wait()
    shared.wait()

    assert inodes == [file.stat().st_ino, tmp_path.stat().st_ino, file.stat().st_ino]


def test_a_disk_that_fails_is_told_to_each_who_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(handle: int) -> None:
        raise OSError(5, "Input/output error")

    file = tmp_path / "log"
    file.write_bytes(b"a")
    monkeypatch.setattr(os, "fsync", fail)
    shared = SharedSync(file)

    with ThreadPoolExecutor(4) as writers:
        waiting = [writers.submit(shared.wait) for _ in range(4)]
    assert [str(one.exception()) for one in waiting] == ["[Errno 5] Input/output error"] * 4
