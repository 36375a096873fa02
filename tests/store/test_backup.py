"""A copy of record and files while somebody writes, and a server that starts on it."""

from __future__ import annotations

import shutil
import threading

import pytest
from sqlalchemy import select

from lib.errors import SetupError, StorageFull
from lib.stages import Role
from lib.store import layout, schema
from lib.store.backup import back_up
from lib.store.jobs import JobKind
from lib.store.record import open_existing, open_record
from lib.store.verify import verify
from scripts import backup
from tests.store.records import ONLY_SQLITE, TASK, put_image
from tests.store.stored import data_of, draft, files_in, store, train


def rows(record):
    with record.database.reading() as connection:
        return {
            table.name: connection.execute(select(table).order_by(*table.primary_key)).all()
            for table in schema.metadata.sorted_tables
        }


@pytest.fixture
def filled(record):
    """A record with something in every table, and every other file that belongs to it."""
    data = data_of(record)
    train(record, b"weights", ("ct_017", 1))
    draft(record, "ct_017", 1, b"draft")
    store(record, "ct_017", Role.EXPERT, b"mask", "dr.kim", info={"note": "späte Phase \u0000"}, seconds=12.5)
    record.scores.put(1, "dice:anterior", {"ct_017": 0.5, "ct_018": None})
    record.jobs.ask(JobKind.TRAIN, {"seconds": 5})
    (data / "uploads" / "new").mkdir(parents=True)
    (data / "uploads" / "new" / "a.nii").write_bytes(b"an image")
    (data / layout.KEYS).mkdir(exist_ok=True)
    (data / layout.PATIENT_KEY).write_bytes(b"k" * 32)
    (data / layout.TICKET_KEY).write_bytes(b"t" * 32)
    (data / layout.TOKENS).write_text("[]")
    (data / "tmp").mkdir()
    (data / "tmp" / "received-x").write_bytes(b"not for ever")
    return record


def test_a_copy_holds_every_row_and_every_file(filled, tmp_path):
    target = tmp_path / "copy"

    files = back_up(filled, data_of(filled), target)

    copy = open_existing(target)
    assert files == 3
    assert rows(copy) == rows(filled)
    for folder in ("masks", "weights", "uploads"):
        assert files_in(target / folder) == files_in(data_of(filled) / folder)
    assert (target / layout.PATIENT_KEY).read_bytes() == b"k" * 32
    assert (target / layout.TOKENS).read_text() == "[]"
    assert not (target / "tmp").exists()
    assert not (target / layout.TICKET_KEY).exists()
    assert verify(copy) == []


def test_a_server_goes_on_with_the_copy_where_the_record_stood(filled, tmp_path):
    back_up(filled, data_of(filled), tmp_path / "copy")

    copy = open_record(TASK, tmp_path / "copy")
    added = store(copy, "ct_017", Role.EXPERT, b"a later mask", "lee")

    assert (added.version, added.id) == (3, 3)
    assert copy.jobs.claim("worker").arguments == {"seconds": 5}
    assert copy.models.serving().version == 1
    assert [a.version for a in filled.annotations.history("ct_017")] == [1, 2]


def test_a_copy_made_while_others_write_is_one_state_and_whole(record, tmp_path):
    stop, begun = threading.Event(), threading.Event()

    def write():
        number = 0
        while not stop.is_set():
            number += 1
            store(record, f"ct_01{7 + number % 3}", Role.EXPERT, b"mask %d" % number, f"author {number}")
            begun.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert begun.wait(20)
        for round_ in range(3):
            target = tmp_path / f"copy {round_}"
            back_up(record, data_of(record), target)
            copy = open_existing(target)
            assert verify(copy) == []
            numbers = [int(a.author.split()[1]) for h in copy.annotations.all_histories().values() for a in h]
            assert sorted(numbers) == list(range(1, len(numbers) + 1))
            copy.close()
    finally:
        stop.set()
        writer.join(20)


def test_progress_is_told_file_by_file(filled, tmp_path):
    told = []
    back_up(filled, data_of(filled), tmp_path / "copy", lambda done, total: told.append((done, total)))

    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_folder_that_holds_anything_is_refused_and_stays_as_it_is(filled, tmp_path):
    target = tmp_path / "copy"
    target.mkdir()
    (target / "thesis.doc").write_text("ten years of work")

    with pytest.raises(SetupError, match=r"copy is not empty\. Name a folder that does not exist yet"):
        back_up(filled, data_of(filled), target)

    assert files_in(target) == {"thesis.doc": b"ten years of work"}


def test_an_empty_folder_is_accepted(filled, tmp_path):
    (tmp_path / "copy").mkdir()

    assert back_up(filled, data_of(filled), tmp_path / "copy") == 3


def test_a_copy_for_which_there_is_no_room_leaves_nothing(filled, tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copy2", full)

    with pytest.raises(StorageFull, match=r"disk that holds copy is full"):
        back_up(filled, data_of(filled), tmp_path / "copy")

    assert not (tmp_path / "copy").exists()


def test_a_file_that_is_pruned_meanwhile_stops_nothing(filled, tmp_path, monkeypatch):
    copy2 = shutil.copy2
    gone = filled.masks.path(filled.annotations.get("ct_017", 1).mask)

    def prune_first(source, target):
        gone.unlink(missing_ok=True)
        return copy2(source, target)

    monkeypatch.setattr(shutil, "copy2", prune_first)
    back_up(filled, data_of(filled), tmp_path / "copy")

    (finding,) = verify(open_existing(tmp_path / "copy"))
    assert "is missing" in finding.what


@ONLY_SQLITE
def test_the_command_copies_checks_and_says_so(filled, tmp_path, capsys):
    target = tmp_path / "copy"
    backup.main(["--data", str(data_of(filled)), "--to", str(target)])

    assert "Copied the record and 3 files to" in capsys.readouterr().out
    assert rows(open_existing(target)) == rows(filled)


@ONLY_SQLITE
def test_the_command_says_when_a_copy_is_not_whole(filled, tmp_path):
    filled.masks.path(filled.annotations.get("ct_017", 2).mask).unlink()

    with pytest.raises(SystemExit, match=r"The copy is not whole:\nThe mask file .* is missing"):
        backup.main(["--data", str(data_of(filled)), "--to", str(tmp_path / "copy")])


def test_the_command_takes_the_address_of_the_record(filled, tmp_path, capsys):
    url = filled.database.engine.url.render_as_string(hide_password=False)
    put_image(filled, "ct_020")
    backup.main(["--data", str(data_of(filled)), "--store", url, "--to", str(tmp_path / "copy")])

    assert "ct_020" in open_existing(tmp_path / "copy").images.ids()
