"""What a folder shows, and what in it is skipped."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from lib.store.folder import Folder, Skipped, Unseen, refusal, words_of


def filled(path: Path, *names: str) -> Path:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(name)
    return path


def paths(seen):
    return {one.path for one in seen}


@pytest.mark.parametrize(
    ("path", "is_skipped"),
    [("labels", True), ("labels/final/a", True), ("p1/labels", False), ("derivatives/a", True), ("p1/.git/a", True),
     ("list.csv", True), ("p1/list.csv", False), ("p1/scan_mask", True), ("masks/a", True), ("p1/masks/b/c", True),
     ("raw/old/a", True), ("p1/raw/old/a", False), ("raw", False), ("p1/scan", False)],
)  # fmt: skip
def test_a_path_is_skipped_with_all_that_lies_below_it(path, is_skipped):
    skipped = Skipped(frozenset({"list.csv"}), ("*_mask", "masks", "raw/*"))

    assert skipped.covers(path) is is_skipped


def test_patterns_know_letters_however_they_are_written():
    assert Skipped(patterns=("Hüfte*",)).covers("p1/Hu\u0308fte_links")


def test_capitals_matter():
    assert not Skipped(patterns=("*.NII",)).covers("a.nii")


def test_a_walk_sees_all_files_or_those_of_one_folder(tmp_path):
    folder = Folder(filled(tmp_path, "a", "p/b", "p/q/c", "labels/d", ".e"), Skipped())

    assert paths(folder.walk()) == {"a", "p/b", "p/q/c"}
    assert paths(folder.walk("p")) == {"p/b", "p/q/c"}


@pytest.mark.parametrize(
    ("path", "found"), [("a", {"a"}), ("p", {"p/b", "p/q/c"}), ("labels/d", set()), ("gone", set()), ("../x", set())]
)
def test_at_a_path_is_a_file_a_folder_or_nothing(tmp_path, path, found):
    filled(tmp_path, "x")
    folder = Folder(filled(tmp_path / "studies", "a", "p/b", "p/q/c", "labels/d"), Skipped())

    assert paths(folder.at(path)) == found


def test_a_file_is_seen_with_what_it_keeps_when_it_is_renamed(tmp_path):
    folder = Folder(filled(tmp_path, "a"), Skipped())
    before = folder.seen("a")

    os.rename(tmp_path / "a", tmp_path / "b")

    assert folder.seen("a") is None
    assert folder.seen("b").identity == before.identity == (1, before.modified_ns, before.inode)


def test_what_is_no_regular_file_is_not_seen(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to("circle")

    assert paths(Folder(tmp_path, Skipped()).walk()) == set()


@pytest.fixture
def disks(monkeypatch):
    """The number of the disk that each path seems to be on."""
    numbers, stat = {}, os.stat

    def on_disk(path, **options):
        status = stat(path, **options)
        number = numbers.get(os.fspath(path))
        return status if number is None else os.stat_result((*status[:2], number, *status[3:10]))

    monkeypatch.setattr(os, "stat", on_disk)
    return numbers


def test_a_disk_below_that_was_taken_away_is_told_and_an_emptied_folder_is_empty(tmp_path, disks):
    folder = Folder(filled(tmp_path, "a", "clinic/b", "ward/c"), Skipped())
    disks[str(tmp_path / "clinic")] = 99
    assert paths(folder.walk()) == {"a", "clinic/b", "ward/c"}

    disks.clear()
    (tmp_path / "clinic/b").unlink()
    (tmp_path / "ward/c").unlink()

    away = Unseen("clinic", "It is empty and on another disk than before; is that mounted?")
    assert [seen for seen in folder.walk() if isinstance(seen, Unseen)] == [away]
    assert [seen.path for seen in folder.at("clinic/b")] == ["clinic"]
    assert list(folder.at("ward/c")) == []


@pytest.mark.parametrize(
    ("place", "covers"),
    [("", True), ("p", True), ("p/q", True), ("p/q/c", True), ("p/q/", False), ("p/qq", False), ("q", False)],
)
def test_a_place_that_is_not_seen_means_all_that_lies_in_it(place, covers):
    assert Unseen(place, "").covers("p/q/c") is covers


def test_a_file_that_the_system_refuses_is_told_with_its_words(tmp_path):
    assert refusal(filled(tmp_path, "a") / "a") is None
    assert refusal(tmp_path / "b").errno == errno.ENOENT
    assert words_of(OSError(errno.EACCES, "Permission denied")) == "Permission denied"


def test_nobody_waits_for_a_pipe_in_the_place_of_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    assert refusal(tmp_path / "pipe") is None
