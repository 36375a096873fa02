"""Nobody ends a lock by deleting or exchanging a file."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lib.store import layout, lock
from lib.store.lock import FolderLock, alone_with, holder_of

ROOT = Path(__file__).resolve().parents[2]


def test_a_data_folder_has_one_holder(tmp_path):
    with FolderLock.taken(tmp_path):
        assert FolderLock.taken(tmp_path) is None

    with FolderLock.taken(tmp_path) as again:
        assert again is not None


def remove(file: Path) -> None:
    file.unlink()


def exchange(file: Path) -> None:
    file.rename(file.with_name("moved"))
    file.touch()


def write_into(file: Path) -> None:
    file.write_text("1")


def link_away(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.with_name("elsewhere"))


@pytest.mark.parametrize("change", [remove, exchange, write_into, link_away])
def test_whatever_becomes_of_the_lock_file_a_second_holder_is_kept_away(tmp_path, change):
    with FolderLock.taken(tmp_path):
        change(tmp_path / layout.LOCK)

        assert FolderLock.taken(tmp_path) is None


def test_a_folder_has_the_same_holder_under_another_name(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    with FolderLock.taken(tmp_path / "data"):
        assert FolderLock.taken(tmp_path / "link") is None
        (tmp_path / "data").rename(tmp_path / "moved")
        assert FolderLock.taken(tmp_path / "moved") is None


def test_an_earlier_server_that_locks_only_the_file_is_heeded(tmp_path):
    with (tmp_path / layout.LOCK).open("a+") as earlier:
        fcntl.flock(earlier, fcntl.LOCK_EX)

        assert FolderLock.taken(tmp_path) is None
    with FolderLock.taken(tmp_path) as now:
        assert now is not None


def test_where_folders_have_no_locks_the_file_has(tmp_path, monkeypatch):
    plain = fcntl.flock

    def as_on_a_network_disk(handle, how):
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(errno.EBADF, "Bad file descriptor")
        plain(handle, how)

    monkeypatch.setattr(lock.fcntl, "flock", as_on_a_network_disk)
    with FolderLock.taken(tmp_path):
        assert FolderLock.taken(tmp_path) is None
    with FolderLock.taken(tmp_path) as now:
        assert now is not None


def test_the_lock_ends_with_its_process_whatever_ends_that(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from lib.store.lock import FolderLock\n"
        "held = FolderLock.taken(Path(sys.argv[1])); held.note_holder(); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        assert FolderLock.taken(tmp_path) is None
        assert holder_of(tmp_path) == str(process.pid)
        process.kill()

    with FolderLock.taken(tmp_path) as now:
        assert now is not None


def test_a_folder_that_nobody_held_has_an_unknown_holder(tmp_path):
    assert holder_of(tmp_path) == holder_of(tmp_path / "none") == "unknown"


@pytest.mark.parametrize("change", [lambda file: None, remove, exchange])
def test_only_one_is_in_a_block_at_a_time_also_if_the_file_goes(tmp_path, change):
    file, inside, most = tmp_path / "small.lock", [], []

    def work() -> None:
        for _ in range(10):
            with alone_with(file):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    workers = [threading.Thread(target=work) for _ in range(4)]
    with alone_with(file):
        for worker in workers:
            worker.start()
        time.sleep(0.05)
        # All of them wait for the file that goes now.
        change(file)
    for worker in workers:
        worker.join(60)

    assert len(most) == 40 and set(most) == {1}
