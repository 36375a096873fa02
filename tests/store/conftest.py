"""The record of every test of the store twice: in SQLite, and in PostgreSQL where the system has it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from lib.store import schema
from lib.store.database import Database
from lib.store.record import Record, open_record
from tests.postgresql import Cluster, cluster
from tests.store.records import TASK, put_image

TABLES = ", ".join(f'"{table.name}"' for table in schema.metadata.sorted_tables)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    """A PostgreSQL server for all tests together."""
    with cluster() as running:
        yield running


@pytest.fixture(scope="session")
def migrated(postgresql: Cluster) -> str:
    """Address of a PostgreSQL record with all tables."""
    url = postgresql.new_database("migrated").render_as_string(hide_password=False)
    database = Database(url)
    database.migrate()
    database.close()
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    """Where the record lies; see ``ONLY_SQLITE`` for tests of what is SQLite's alone."""
    return str(request.param)


@pytest.fixture
def store_url(backend: str, request: pytest.FixtureRequest) -> str:
    """Address of a record without rows; empty for SQLite below the data folder."""
    if backend == "sqlite":
        return ""
    url: str = request.getfixturevalue("migrated")
    database = Database(url)
    with database.transaction() as connection:
        connection.execute(text(f"TRUNCATE {TABLES} RESTART IDENTITY"))
    database.close()
    return url


@pytest.fixture
def empty_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of a database without tables."""
    if backend == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.sqlite'}"
    running: Cluster = request.getfixturevalue("postgresql")
    return running.new_database("empty").render_as_string(hide_password=False)


@pytest.fixture
def record(tmp_path: Path, made_record: Path, store_url: str) -> Record:
    """A record of two structures and three images, each of a patient of its own."""
    data = tmp_path / "data"
    if not store_url:
        return open_record(TASK, Path(shutil.copytree(made_record, data)))
    made = open_record(TASK, data, store_url)
    for image_id in ("ct_017", "ct_018", "ct_019"):
        put_image(made, image_id)
    return made
