"""Transactions: all or nothing, nested ones as savepoints, one writer at a time, readers that wait for nobody."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from lib.errors import InvalidSetting, StorageFull
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

    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}


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
