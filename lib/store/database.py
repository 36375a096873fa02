"""Connections and transactions of the record.

Who writes: the HTTP process and the worker process, each from several threads. In one process writers take turns by
``Database._writing``; between processes SQLite's own lock does, taken at the start of a transaction (``BEGIN
IMMEDIATE``), since a lock that is only wanted half way through is refused. With PostgreSQL an advisory lock takes its
place, so that both keep the same rule: one writer at a time. It also keeps two processes from migrating at once.
Lock order: ``_writing`` before the database's lock; no other lock is taken inside a transaction. Readers wait for
nobody.

SQLite's log is brought to the disk after a writer's turn and before its block ends, once for all writers that wait for
that: SQLite itself would do so within each turn. What is acknowledged has outlived a loss of power either way.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError

from lib.errors import InvalidSetting, RecordAway, SetupError, StorageFull, StorageUnusable
from lib.store.notes import read_column
from lib.store.shared_sync import SharedSync

BUSY_TIMEOUT_MS = 30_000
"""How long a writer waits for its turn, in this process and among all."""

BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
"""SQLite's codes for a lock that somebody else holds; extended codes have more bits above these 8."""

WRITERS_LOCK = 0x1ABE1
"""Number of the advisory lock that PostgreSQL's writers take turns by."""

SQLITE_UNUSABLE = {
    sqlite3.SQLITE_READONLY: "cannot be written to: it, or its disk, is read-only",
    sqlite3.SQLITE_IOERR: "cannot be read or written: its disk fails",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: its file is not there, or may not be read, or its disk is read-only",
    sqlite3.SQLITE_CORRUPT: "is damaged: restore it from a backup",
    sqlite3.SQLITE_NOTADB: "is no SQLite file: restore it from a backup",
}
"""What SQLite's primary codes mean for people."""

POSTGRESQL_FULL = "53100"
"""PostgreSQL's code for a disk without room."""

POSTGRESQL_AWAY = ("08", "57P")
"""Begins of its codes for lost connections and for a server that stops or starts; one that is gone gives none."""

MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """One record database; every read and write goes through a transaction of it."""

    def __init__(self, url: str | URL) -> None:
        self.engine = _engine(url)
        self._writing = threading.RLock()
        file = self.engine.url.database if self.engine.dialect.name == "sqlite" else None
        self._log = SharedSync(Path(f"{file}-wal")) if file else None
        self._connection: ContextVar[Connection | None] = ContextVar("connection", default=None)
        self._snapshot: ContextVar[Connection | None] = ContextVar("snapshot", default=None)

    @property
    def is_shared(self) -> bool:
        """Whether servers with other data folders may use it as well."""
        return self.engine.dialect.name != "sqlite"

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A block whose writes all happen or none; inside another such block it is a savepoint of it.

        Raises:
            StorageFull: if the disk has no room for them; nothing is written then.
            StorageUnusable: if its disk or its file does not take them.
            RecordAway: if the database server does not answer, or other writers do not end in time.
        """
        outer = self._connection.get()
        if outer is not None:
            with _savepoint(outer):
                yield outer
            return
        with _faults_told():
            with (
                self._turn() as milliseconds,
                self.engine.connect().execution_options(writes=True, waits_ms=milliseconds) as connection,
                connection.begin(),
            ):
                mark = self._connection.set(connection)
                try:
                    yield connection
                finally:
                    self._connection.reset(mark)
            if self._log is not None:
                self._log.wait()

    @contextmanager
    def _turn(self) -> Iterator[int]:
        """A writer's turn in this process; what is left of the time to wait for those of other ones."""
        begin = time.monotonic()
        if not self._writing.acquire(timeout=BUSY_TIMEOUT_MS / 1000):
            raise _busy()
        try:
            yield max(1, BUSY_TIMEOUT_MS - int(1000 * (time.monotonic() - begin)))
        finally:
            self._writing.release()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A block that sees one state of the record and writes nothing; inside a transaction it sees its writes.

        Such a block inside another one sees the same state.

        Raises:
            RecordAway: if the database server does not answer.
        """
        outer = self._connection.get() or self._snapshot.get()
        if outer is not None:
            yield outer
            return
        with _faults_told(), self.engine.connect() as connection, connection.begin():
            mark = self._snapshot.set(connection)
            try:
                yield connection
            finally:
                self._snapshot.reset(mark)

    def migrate(self, revision: str = "head") -> None:
        """Brings the tables to the newest form, or to that of an earlier revision; does nothing if they have it."""
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        with self.transaction() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, revision)

    def refuse_foreign(self) -> None:
        """Refuses a SQLite file that another program wrote, before a table is made in it.

        Raises:
            SetupError: if it has tables, and none of them is ours.
        """
        if self.is_shared:
            return
        with self.reading() as connection:
            tables = set(inspect(connection).get_table_names())
        if tables and "alembic_version" not in tables:
            raise SetupError(
                f"{self.engine.url.database} is another program's SQLite file, with the tables "
                f"{', '.join(sorted(tables)[:5])}. Name another --data folder."
            )

    def empty_log(self) -> None:
        """Empties SQLite's write-ahead log, where what was deleted could still be read.

        A reader that does not end in time puts it off until the last process that uses the record ends.
        """
        if self.engine.dialect.name != "sqlite":
            return
        # Not in a transaction, which SQLAlchemy would begin.
        connection = self.engine.raw_connection()
        try:
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
        finally:
            connection.close()

    def close(self) -> None:
        """Gives all connections back."""
        self.engine.dispose()


@contextmanager
def _savepoint(connection: Connection) -> Iterator[None]:
    savepoint = connection.begin_nested()
    try:
        yield
    except BaseException:
        # After a full disk or a lost file SQLite has rolled back everything by itself: the savepoint is gone, and
        # whatever came next would be committed on its own.
        if getattr(connection.connection.dbapi_connection, "in_transaction", True):
            savepoint.rollback()
        else:
            connection.invalidate()
        raise
    savepoint.commit()


@contextmanager
def _faults_told() -> Iterator[None]:
    """Turns what is nobody's mistake into sentences: a full disk, a database server that does not answer."""
    try:
        yield
    except DBAPIError as error:
        sqlite_code, state = getattr(error.orig, "sqlite_errorcode", None), getattr(error.orig, "sqlstate", "")
        if sqlite_code == sqlite3.SQLITE_FULL or state == POSTGRESQL_FULL:
            raise StorageFull("The disk that holds the record is full. Free some space and send it again.") from error
        if sqlite_code is not None and sqlite_code & 0xFF in BUSY:
            raise _busy() from error
        if (trouble := SQLITE_UNUSABLE.get((sqlite_code or 0) & 0xFF)) is not None:
            raise StorageUnusable(f"The record {trouble}. Look at its disk and at scripts.verify_store.") from error
        if isinstance(error, OperationalError) and (state is None or str(state).startswith(POSTGRESQL_AWAY)):
            raise RecordAway("The database that holds the record does not answer. Send it again later.") from error
        raise


def _busy() -> RecordAway:
    return RecordAway(
        f"The record is busy: others have been writing to it for {BUSY_TIMEOUT_MS / 1000:g} s. Nothing was stored; "
        "send it again later."
    )


def _engine(url: str | URL) -> Engine:
    backend = make_url(url).get_backend_name()
    if backend == "postgresql":
        engine = create_engine(url, pool_size=16, max_overflow=64, pool_pre_ping=True, json_deserializer=read_column)
        event.listen(engine, "connect", _prepare_postgresql)
        event.listen(engine, "begin", _begin_postgresql)
        return engine
    if backend != "sqlite":
        raise InvalidSetting(f"--conf store is a sqlite:/// or postgresql+psycopg:// address, found {backend}.")
    engine = create_engine(url, pool_size=16, max_overflow=64, json_deserializer=read_column)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver would otherwise open transactions by itself, late and without taking the write lock.
    connection.isolation_level = None
    _use_write_ahead_log(connection)
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        # Each commit comes to the disk by SharedSync; this is for what SQLite writes beside the log.
        "synchronous = NORMAL",
        "foreign_keys = ON",
        # 64 MiB for each connection: with a hundred thousand images the default of 2 MiB reads the same pages anew.
        "cache_size = -65536",
        # What is erased must not stay readable in free pages.
        "secure_delete = ON",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _use_write_ahead_log(connection: Any) -> None:
    """Turns the log on, which the file remembers.

    Two processes that open a new file at once get in each other's way here, and SQLite does not wait by itself for
    this one statement.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").close()
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _prepare_postgresql(connection: Any, _record: object) -> None:
    from psycopg.types.string import StrDumper

    class Text(StrDumper):
        def dump(self, obj: str) -> Any:
            # PostgreSQL's texts hold no NUL. Nothing of ours does either: whoever asks for one finds nothing.
            return super().dump(obj.replace("\0", "\ufffd"))

    connection.adapters.register_dumper(str, Text)


def _begin_postgresql(connection: Connection) -> None:
    if connection.get_execution_options().get("writes", False):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS_LOCK})")
    else:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get("writes", False):
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {options['waits_ms']}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql("BEGIN")
