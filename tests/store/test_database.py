"""Transactions: all or nothing, nested ones as savepoints, one writer at a time, readers that wait for nobody."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from lib.errors import InvalidSetting, RecordAway, StorageFull
from lib.store import database as database_module
from lib.store.database import Database
from lib.store.images import ImageState
from tests.store.records import ONLY_SQLITE, Outside, put_image


class Crash(Exception):
    """Something goes wrong."""


def test_an_inner_block_that_fails_takes_only_its_own_writes_with_it(record):
    with record.database.transaction():
        put_image(record, "first")
        with pytest.raises(Crash, match=r"inner"), record.database.transaction():
            put_image(record, "second")
            raise Crash("inner")
        put_image(record, "third")

    assert {"first", "third"} < set(Outside(record).images.ids())
    assert "second" not in Outside(record).images.ids()


def test_inside_a_transaction_reading_sees_what_was_written(record):
    with record.database.transaction():
        put_image(record, "ct_020")

        assert record.images.get("ct_020").id == "ct_020"


def test_a_reader_sees_one_state_while_somebody_writes(record):
    with record.database.reading() as connection:
        before = connection.scalar(text("SELECT count(*) FROM image"))
        put_image(Outside(record), "ct_020")

        assert connection.scalar(text("SELECT count(*) FROM image")) == before

    assert "ct_020" in record.images.ids()


def test_a_reader_does_not_wait_for_a_writer(record):
    with record.database.transaction():
        put_image(record, "ct_020")
        with ThreadPoolExecutor(1) as other:
            assert other.submit(Outside(record).images.ids).result(timeout=20) == ["ct_017", "ct_018", "ct_019"]


def test_writers_of_several_threads_and_connections_take_turns(record):
    outside = [Outside(record) for _ in range(2)]
    start = threading.Barrier(8)

    def write(number):
        start.wait()
        for turn in range(5):
            images = (record, *outside)[number % 3].images
            with images.database.transaction():
                noted = images.get("ct_017").info.get("count", 0)
                images.note("ct_017", {"count": noted + 1, f"{number}": turn})

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))

    assert record.images.get("ct_017").info == {"count": 40, **{str(number): 4 for number in range(8)}}


def test_two_processes_may_open_a_new_record_at_once(tmp_path):
    start = threading.Barrier(4)

    def open_it(_):
        database = Database(f"sqlite:///{tmp_path / 'new.sqlite'}")
        start.wait()
        database.migrate()
        with database.reading() as connection:
            return connection.scalar(text("SELECT count(*) FROM image"))

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(open_it, range(4))) == [0, 0, 0, 0]


@ONLY_SQLITE
def test_what_is_committed_survives_a_lost_process(record):
    with record.database.reading() as connection:
        settings = {
            name: connection.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        }

    assert settings == {"journal_mode": "wal", "synchronous": 1, "foreign_keys": 1, "secure_delete": 1}


@ONLY_SQLITE
def test_a_full_disk_is_told_and_nothing_is_written(record):
    with record.database.reading() as connection:
        pages = connection.scalar(text("PRAGMA page_count"))

    with pytest.raises(StorageFull, match=r"record is full\. Free some space and send it again"):
        with record.database.transaction() as connection:
            connection.execute(text(f"PRAGMA max_page_count = {pages}"))
            record.images.set_state("ct_018", ImageState.HIDDEN)
            record.images.note("ct_017", {"remark": "x" * 100_000})

    assert Outside(record).images.get("ct_017").info == {}
    assert Outside(record).images.get("ct_018").state is ImageState.OK


def test_other_errors_of_the_database_stay_what_they_are(record):
    with pytest.raises(Exception, match=r"nowhere") as caught, record.database.transaction() as connection:
        connection.execute(text("INSERT INTO nowhere VALUES (1)"))

    assert isinstance(caught.value, DBAPIError)


def test_an_address_of_another_kind_of_database_is_refused():
    with pytest.raises(InvalidSetting, match=r"is a sqlite:/// or postgresql\+psycopg:// address, found mysql"):
        Database("mysql://host/name")


@ONLY_SQLITE
def test_what_is_acknowledged_is_on_the_disk_before_the_block_ends(record, monkeypatch):
    log = record.database.engine.url.database + "-wal"
    synced, sync = [], os.fsync

    def noted(handle):
        synced.append((os.fstat(handle).st_ino, os.fstat(handle).st_size))
        sync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    with record.database.transaction():
        put_image(record, "ct_020")
        before = os.stat(log).st_size
        with record.database.transaction():
            put_image(record, "ct_021")
        assert synced == []

    assert os.stat(log).st_size > before
    assert (os.stat(log).st_ino, os.stat(log).st_size) in synced


@pytest.fixture
def impatient(monkeypatch):
    """Writers wait for a moment only."""
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_MS", 300)


@ONLY_SQLITE
@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
@pytest.mark.parametrize("writers", [1, 8])
@pytest.mark.usefixtures("impatient")
def test_a_record_that_another_program_keeps_locked_is_told_to_each_in_time(record, lock, writers):
    other = sqlite3.connect(record.database.engine.url.database, isolation_level=None, check_same_thread=False)
    other.execute(f"BEGIN {lock}")
    begin = time.monotonic()
    with ThreadPoolExecutor(writers) as people:
        waiting = [people.submit(put_image, record, f"new_{number}") for number in range(writers)]
    errors = [one.exception() for one in waiting]

    assert [type(error) for error in errors] == [RecordAway] * writers
    assert "The record is busy" in str(errors[0]) and "send it again later" in str(errors[0])
    # One after the other they would wait for so many times as long.
    assert time.monotonic() - begin < 20
    other.execute("ROLLBACK")
    other.close()
    put_image(record, "afterwards")
    assert "afterwards" in Outside(record).images.ids()


@ONLY_SQLITE
@pytest.mark.usefixtures("impatient")
def test_a_writer_of_this_process_that_does_not_end_in_time_is_told_to_the_next(record):
    with record.database.transaction(), ThreadPoolExecutor(1) as other:
        assert isinstance(other.submit(put_image, record, "ct_020").exception(), RecordAway)


@ONLY_SQLITE
@pytest.mark.usefixtures("impatient")
def test_readers_go_on_while_another_program_keeps_the_record_locked(record):
    other = sqlite3.connect(record.database.engine.url.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    assert record.images.ids() == ["ct_017", "ct_018", "ct_019"]
    other.close()
