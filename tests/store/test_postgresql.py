"""What differs between the two databases, and must not be noticed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from lib.errors import RecordAway, StorageFull, UnknownImage
from lib.stages import Role
from lib.store import schema
from lib.store.database import Database
from lib.store.images import ImageState
from lib.store.indexer import Indexer
from tests.postgresql import cluster
from tests.store.records import ONLY_POSTGRESQL, Outside, add, put_image


def test_the_migrations_make_exactly_the_tables_that_the_code_reads(empty_url):
    database = Database(empty_url)
    database.migrate()

    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, schema.metadata) == []


def test_each_migration_can_be_the_last_one_of_an_earlier_version(empty_url):
    database = Database(empty_url)

    for revision in ("0001", "0002", "0003", "0004", "head"):
        database.migrate(revision)

    with database.reading() as connection:
        assert set(schema.metadata.tables) <= set(inspect(connection).get_table_names())


def test_a_migration_that_fails_changes_nothing(empty_url, monkeypatch):
    database = Database(empty_url)
    database.migrate("0003")
    with database.transaction() as connection:
        connection.execute(text("CREATE TABLE assignment (id INTEGER)"))

    with pytest.raises(Exception, match=r"assignment.* already exists"):
        database.migrate()

    with database.reading() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "0003"
        assert "score" not in inspect(connection).get_table_names()


def test_two_processes_that_start_at_once_migrate_once(empty_url):
    start = threading.Barrier(3)

    def open_it(_):
        database = Database(empty_url)
        start.wait(timeout=20)
        database.migrate()
        with database.reading() as connection:
            return connection.scalar(text("SELECT count(*) FROM image"))

    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(open_it, range(3))) == [0, 0, 0]


def test_ids_are_sorted_by_code_points_whatever_the_language_of_the_database(record):
    for image_id in ("a-b", "ab", "B", "ä", "a/c", "Z 1", "_x"):
        put_image(record, image_id)
    ids = record.images.ids()

    assert ids == sorted(ids)
    assert [image.id for image in record.images.every(ImageState.OK)] == ids
    assert [image.id for image in record.images.candidates("dr.kim", Role.EXPERT, by_id=True)] == ids


def test_alphabetical_order_stays_whole_over_several_pages_and_standings(record):
    for number in range(50):
        put_image(record, f"{'aB_-ä'[number % 5]}{number:02d}")
        if number % 3 == 0:
            add(record, f"{'aB_-ä'[number % 5]}{number:02d}", Role.MODEL)
    ids = record.images.ids()

    assert [image.id for image in record.images.candidates("dr.kim", Role.EXPERT, by_id=True)] == ids == sorted(ids)


def test_an_id_with_a_nul_is_an_unknown_image(record):
    with pytest.raises(UnknownImage, match=r"no image 'ct\\x00017'"):
        record.images.get("ct\x00017")

    assert record.images.find("\x00") is None
    assert record.annotations.history("ct_017\x00") == []


def test_what_a_client_notes_may_hold_any_sign(record):
    noted = {"a\u0000b": "\u0000", "emoji": "🫁", "half": "\ud800", "deep": [{"x": [1.5, None, True]}]}

    record.images.note("ct_017", noted)
    made = add(record, "ct_017", Role.EXPERT, info=noted)

    assert Outside(record).images.get("ct_017").info == noted
    assert Outside(record).annotations.get("ct_017", made.version).info == noted


def test_large_numbers_of_a_file_are_kept(record):
    seen = {"size": 2**40, "modified_ns": 2**62, "inode": 2**62}
    with record.database.transaction() as connection:
        connection.execute(
            schema.file.insert().values(task=record.task.name, root="studies", path="x.nii", image="ct_017", **seen)
        )

    with record.database.reading() as connection:
        row = connection.execute(schema.file.select()).mappings().one()
    assert {name: row[name] for name in seen} == seen


def test_what_lies_in_a_folder_is_found_by_its_path_whatever_the_language_of_the_database(record, tmp_path):
    inside = ["p/a", "p/ä/b", "p/_", "p/é", "p"]
    with record.database.transaction() as connection:
        for path in (*inside, "P/a", "p-1/a", "p0", "p.nii", "pp/a", "p_/a", "q"):
            row = {"path": path, "size": 1, "modified_ns": 1, "inode": 1, "image": "ct_017"}
            connection.execute(schema.file.insert().values(task=record.task.name, root="studies", **row))

    assert set(Indexer(record.images, "studies", tmp_path, None)._known(["p"])) == set(inside)


@ONLY_POSTGRESQL
def test_a_full_disk_of_the_database_server_is_told(record):
    with pytest.raises(StorageFull, match=r"record is full\. Free some space and send it again"):
        with record.database.transaction() as connection:
            record.images.set_state("ct_018", ImageState.HIDDEN)
            connection.execute(text("DO $$ BEGIN RAISE EXCEPTION 'no space' USING ERRCODE = '53100'; END $$"))

    assert Outside(record).images.get("ct_018").state is ImageState.OK


def test_a_database_server_that_does_not_answer_is_told():
    database = Database("postgresql+psycopg://somebody@127.0.0.1:9/record")

    for block in (database.reading, database.transaction):
        with pytest.raises(RecordAway, match=r"does not answer\. Send it again later"), block():
            pass


def test_reading_inside_reading_sees_the_same_state_and_a_write_its_own(record):
    with record.database.reading():
        before = record.images.ids()
        put_image(Outside(record), "ct_020")
        assert record.images.ids() == before
        with record.database.transaction():
            put_image(record, "ct_021")
            assert {"ct_020", "ct_021"} < set(record.images.ids())
        assert record.images.ids() == before

    assert record.images.ids() == [*before, "ct_020", "ct_021"]


@pytest.mark.parametrize(("required", "outcome"), [("0", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_without_postgresql_its_tests_are_skipped_or_fail_where_it_must_be_there(monkeypatch, required, outcome):
    monkeypatch.setattr("tests.postgresql.binaries", lambda: None)
    monkeypatch.setenv("REQUIRE_SYSTEM", required)

    with pytest.raises(outcome, match=r"sudo apt-get install postgresql"), cluster():
        pass


@ONLY_POSTGRESQL
def test_a_block_that_reads_cannot_write(record):
    with pytest.raises(Exception, match=r"read-only transaction"), record.database.reading() as connection:
        connection.execute(schema.image.update().values(reason="x"))


@ONLY_POSTGRESQL
def test_a_connection_that_the_server_cut_is_replaced_by_a_new_one(record):
    with record.database.reading() as connection:
        own = connection.scalar(text("SELECT pg_backend_pid()"))
    with Outside(record).database.transaction() as connection:
        connection.execute(text(f"SELECT pg_terminate_backend({own}, 5000)"))

    assert record.images.ids() == ["ct_017", "ct_018", "ct_019"]
