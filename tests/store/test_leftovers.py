"""No unfinished copy of an image outlives a start of the server, or an erasure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lib.store.leftovers import delete_unfinished, unfinished
from lib.store.lock import FolderLock
from lib.store.models import ModelState, NewModel
from lib.store.verify import repair, verify
from scripts import erase
from tests.store.records import put_image
from tests.store.stored import data_of, files_in, train

LEFT = (
    "tmp/made-abc/0000.dcm", "tmp/received-abc-scan.nii.gz", "cache/.17-18-case_00-99-dicom2/0000.dcm",
    "cache/.case_00-99.nii.gz.17", "fetched/.new-abc/1.dcm", "uploads/.new-abc",
    "sessions/6f1c/image.nii.gz",
)  # fmt: skip
KEPT = ("cache/0a1b-99.nii.gz", "fetched/1.2/3.4/1.dcm", "uploads/case.nii.gz", "sessions/6f1d/session.json",
        "sessions/6f1d/image.nii.gz")  # fmt: skip


def fill(data: Path, *names: str, seconds_ago: float = 7200.0) -> None:
    for name in names:
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(b"pixels of ann")
        for path in (data / name, (data / name).parent):
            moment = path.stat().st_mtime - seconds_ago
            os.utime(path, (moment, moment))


def test_what_was_not_finished_is_deleted_and_nothing_else(tmp_path: Path) -> None:
    fill(tmp_path, *LEFT, *KEPT)

    assert delete_unfinished(tmp_path) == len(LEFT)
    assert set(files_in(tmp_path)) == set(KEPT)
    assert delete_unfinished(tmp_path) == 0


def test_what_is_at_work_just_now_is_no_stray(record) -> None:
    fill(data_of(record), *LEFT, seconds_ago=10)

    assert verify(record) == []
    assert len(unfinished(data_of(record))) == len(LEFT)


@pytest.mark.parametrize("name", LEFT)
def test_a_stray_is_told_and_a_repair_deletes_it(record, name: str) -> None:
    fill(data_of(record), name)

    (found,) = verify(record)
    assert "was left behind by a killed process; it may show a patient." in found.what
    repair(record)
    assert verify(record) == []
    assert b"pixels of ann" not in files_in(data_of(record)).values()


@pytest.mark.parametrize("runs", [False, True], ids=["no server", "a server runs"])
def test_erasing_deletes_what_nobody_works_at(record, capsys: pytest.CaptureFixture[str], runs: bool) -> None:
    if record.database.is_shared:
        pytest.skip("the command is told the address of a shared record")
    data = data_of(record)
    put_image(record, "case_00", "ann")
    fill(data, *LEFT)
    lock = FolderLock.taken(data) if runs else None
    try:
        erase.main(["--data", str(data), "--patient", "ann"])
    finally:
        if lock:
            lock.close()

    assert (len(unfinished(data)) == 0) is not runs
    assert ("A server runs." in capsys.readouterr().out) is runs


def test_weights_that_no_version_names_are_deleted_at_a_start(record) -> None:
    kept, lost = train(record, b"kept").weights, [record.weights.put(content) for content in (b"killed", b"too", b"")]

    assert record.delete_lost_weights() == len(lost)
    assert list(record.weights.digests()) == [kept]
    assert record.delete_lost_weights() == 0


def test_weights_of_another_record_are_left_alone(record) -> None:
    """As where somebody forgot the address of the record at a start."""
    record.weights.put(b"somebody's")

    assert record.delete_lost_weights() == 0
    train(record, b"first of this one")
    assert record.delete_lost_weights() == 1


def test_weights_that_are_being_written_and_those_of_all_kinds_of_models_stay(record) -> None:
    refiner = record.refiners.add(
        NewModel(None, record.weights.put(b"refiner"), {}, [], [], {}), ModelState.REJECTED, "worse"
    )
    train(record, b"segmenter")
    (record.weights.path(refiner.weights).parent / ".new-abc").write_bytes(b"half")

    assert record.delete_lost_weights() == 0
    assert len(list(record.weights.digests())) == 2
