"""Migrations: they make the tables that the code expects, once, and lose nothing."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from lib.store import schema
from lib.store.database import MIGRATIONS, Database
from lib.store.images import Images
from lib.store.record import open_record
from tests.store.records import TASK, Outside

REVISIONS = [revision.revision for revision in ScriptDirectory(str(MIGRATIONS)).walk_revisions()][::-1]


@pytest.fixture
def fresh(tmp_path):
    return Database(f"sqlite:///{tmp_path / 'new.sqlite'}")


def tables(database):
    """The statements that made tables and indexes, as the database keeps them."""
    with database.reading() as connection:
        return connection.execute(text("SELECT name, sql FROM sqlite_master ORDER BY name")).all()


def test_a_fresh_database_is_what_the_code_expects(fresh):
    fresh.migrate()

    with fresh.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, schema.metadata) == []


def test_every_table_of_the_code_and_no_other_is_made(fresh):
    fresh.migrate()

    assert set(inspect(fresh.engine).get_table_names()) == {*schema.metadata.tables, "alembic_version"}


def test_migrating_twice_does_nothing(fresh):
    fresh.migrate()
    first = tables(fresh)

    fresh.migrate()

    assert tables(fresh) == first


def test_revisions_are_numbered_and_follow_each_other():
    assert REVISIONS == [f"{number:04d}" for number in range(1, len(REVISIONS) + 1)]


def test_going_step_by_step_makes_the_same_tables_as_going_at_once(tmp_path, fresh):
    stepped = Database(f"sqlite:///{tmp_path / 'stepped.sqlite'}")

    for revision in REVISIONS:
        stepped.migrate(revision)
    fresh.migrate()

    assert tables(stepped) == tables(fresh)


def test_a_migration_that_fails_leaves_the_tables_as_they_were(fresh, monkeypatch):
    fresh.migrate(REVISIONS[0])
    before = tables(fresh)
    from alembic import op

    def broken(*_args, **_more):
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr(op, "create_index", broken)

    with pytest.raises(RuntimeError, match=r"the disk is gone"):
        fresh.migrate()

    assert tables(fresh) == before


def test_a_record_of_the_first_version_is_brought_up_to_date_with_all_it_holds(tmp_path, fresh):
    fresh.migrate(REVISIONS[0])
    with fresh.transaction() as connection:
        connection.execute(text(
            "INSERT INTO task VALUES ('hippocampus', '[]', '2024-05-01 00:00:00')"
        ))  # fmt: skip
        for number, state in enumerate(("ok", "ok", "hidden")):
            connection.execute(text(
                f"INSERT INTO image VALUES ('hippocampus', 'ct_{number}', 'file', 'a.nii', '[2, 2, 2]', "
                "'[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]', 'MR', 'anna', 'training', "
                f"'{state}', '', 'labelled', 1, 0.5, NULL, '{{}}', '2024-05-01 00:00:00')"
            ))  # fmt: skip
        connection.execute(text(
            "INSERT INTO annotation VALUES (1, 'hippocampus', 'ct_0', 1, 'expert', 'dr.kim', 'expert', NULL, 'ab', "
            "'[\"anterior\"]', '{\"anterior\": 3}', '', NULL, '', '', NULL, '{}', '2024-05-01 00:00:00')"
        ))  # fmt: skip
        connection.execute(text(
            "INSERT INTO model (task, version, weights, network, training, validation, metrics, state, reason, created)"
            " VALUES ('hippocampus', 1, 'cd', '{}', '[]', '[]', '{}', 'serving', 'first', '2024-05-01 00:00:00')"
        ))  # fmt: skip

    record = open_record(TASK, tmp_path / "data", str(fresh.engine.url))

    (kept,) = Outside(record).annotations.history("ct_0")
    assert (kept.author, kept.mask, kept.voxels) == ("dr.kim", "ab", {"anterior": 3})
    assert record.images.get("ct_1").patient == "anna"
    assert (record.models.serving().weights, record.refiners.every()) == ("cd", [])
    assert record.comparisons.is_waiting("ct_0"), "what experts changed before is found out now"
    images = Images(record.database, "hippocampus")
    assert images.counts() == images.recounted() and images.counts().total() == 3
