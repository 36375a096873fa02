"""The watch: what happens in a folder is told by path, and it says so when it cannot."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lib.serving import watch
from lib.serving.watch import FolderWatch

SOON = 10.0
"""Seconds in which an event must come."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "studies"
    (made / "p1" / "ct").mkdir(parents=True)
    (made / "p1" / "ct" / "a.nii").write_bytes(b"1")
    return made


@pytest.fixture
def watched(folder: Path) -> Iterator[FolderWatch]:
    made = FolderWatch(folder, quiet_seconds=0.1)
    made.renew()
    assert made.is_watching
    yield made
    made.stop()


def test_a_new_a_changed_and_a_deleted_file_are_told(folder: Path, watched: FolderWatch) -> None:
    (folder / "b.nii").write_bytes(b"1")
    assert watched.changes(SOON) == {"b.nii"}

    (folder / "p1/ct/a.nii").write_bytes(b"12")
    assert watched.changes(SOON) == {"p1/ct/a.nii"}

    (folder / "b.nii").unlink()
    assert watched.changes(SOON) == {"b.nii"}


def test_a_renamed_folder_is_told_by_both_names_and_watched_under_the_new_one(
    folder: Path, watched: FolderWatch
) -> None:
    (folder / "p1").rename(folder / "p2")
    assert watched.changes(SOON) == {"p1", "p2"}

    (folder / "p2/ct/b.nii").write_bytes(b"1")
    assert watched.changes(SOON) == {"p2/ct/b.nii"}


def test_a_new_folder_is_told_as_a_whole_and_watched(folder: Path, watched: FolderWatch) -> None:
    (folder / "new/deep").mkdir(parents=True)
    (folder / "new/deep/a.nii").write_bytes(b"1")
    assert watched.changes(SOON) == {"new"}

    (folder / "new/deep/b.nii").write_bytes(b"1")
    assert watched.changes(SOON) == {"new/deep/b.nii"}


@pytest.mark.filterwarnings("ignore:Callback with id:RuntimeWarning")
def test_what_is_moved_out_and_in_is_told(folder: Path, watched: FolderWatch, tmp_path: Path) -> None:
    (folder / "p1").rename(tmp_path / "outside")
    assert watched.changes(SOON) == {"p1"}

    (tmp_path / "outside").rename(folder / "back")
    assert watched.changes(SOON) == {"back"}


def test_a_thousand_files_at_once_are_all_told(folder: Path, watched: FolderWatch) -> None:
    for number in range(1000):
        (folder / f"p1/{number}.nii").write_bytes(b"1")

    told: set[str] = set()
    while len(told) < 1000 and (changed := watched.changes(SOON)):
        told |= changed

    assert told == {f"p1/{number}.nii" for number in range(1000)}


def test_after_very_many_changes_the_whole_folder_is_asked_for(
    folder: Path, watched: FolderWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "MOST_PATHS", 3)
    for number in range(4):
        (folder / f"{number}.nii").write_bytes(b"1")

    assert watched.changes(SOON) is None


def test_reading_is_no_change(folder: Path, watched: FolderWatch) -> None:
    (folder / "p1/ct/a.nii").read_bytes()
    os.listdir(folder / "p1")
    (folder / "mark").touch()

    assert watched.changes(SOON) == {"mark"}


def test_nothing_is_told_when_nothing_happens(watched: FolderWatch) -> None:
    assert watched.changes(0.0) == set()


def test_a_folder_behind_a_link_is_not_watched_but_the_folder_itself_may_be_a_link(
    folder: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "inside").symlink_to(elsewhere)
    (tmp_path / "link").symlink_to(folder)
    watched = FolderWatch(tmp_path / "link", quiet_seconds=0.1)
    watched.renew()

    (elsewhere / "secret.nii").write_bytes(b"1")
    (folder / "b.nii").write_bytes(b"1")

    assert watched.changes(SOON) == {"b.nii"}
    watched.stop()


def test_a_folder_that_is_put_back_is_watched_again(
    folder: Path, watched: FolderWatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder.rename(folder.with_name("unplugged"))
    watched.renew()
    assert not watched.is_watching
    assert [record.message for record in caplog.records if record.name == watch.__name__] == [
        f"Changes in {folder} are found by walking through it only, not by events: it is gone."
    ]

    folder.mkdir()
    watched.renew()
    (folder / "b.nii").write_bytes(b"1")

    assert "b.nii" in (watched.changes(SOON) or set())


@pytest.mark.parametrize("watches", [0, 1])
def test_a_system_without_watches_is_told_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, watches: int
) -> None:
    """With one watch left the watch itself starts, but folders inside go without: the library says nothing."""
    real, left = watch._started, [watches]

    def started(*args: Any, **more: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "inotify watch limit reached")
        return real(*args, **more)

    monkeypatch.setattr(watch, "_started", started)
    with caplog.at_level(logging.WARNING):
        watched = FolderWatch(folder, quiet_seconds=0.1)
        for _ in range(3):
            watched.renew()

    assert not watched.is_watching
    (warning,) = caplog.records
    assert "by walking through it only, not by events: inotify watch limit reached." in warning.message


@pytest.mark.parametrize("part", ["InotifyObserver", "InotifyEmitter", "InotifyFD"])
def test_a_watch_of_which_a_thread_has_ended_is_told_once(
    folder: Path, watched: FolderWatch, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    (thread,) = (thread for thread in watched._threads if type(thread).__name__ == part)
    thread.stop()  # type: ignore[attr-defined]
    thread.join(SOON)

    for _ in range(2):
        watched.renew()

    assert not watched.is_watching
    (warning,) = caplog.records
    assert "not by events: the watch has ended." in warning.message


def test_stopping_wakes_who_waits(folder: Path) -> None:
    import threading

    watched = FolderWatch(folder, quiet_seconds=0.1)
    waiting = threading.Thread(target=watched.changes, args=(60.0,))
    waiting.start()

    watched.stop()
    waiting.join(SOON)

    assert not waiting.is_alive()


def test_a_folder_that_is_deleted_is_told_as_a_whole(folder: Path, watched: FolderWatch) -> None:
    shutil.rmtree(folder)

    assert watched.changes(SOON) is None
