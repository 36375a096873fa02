"""A PostgreSQL server of the tests' own, from the system's binaries."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, text

MISSING = "PostgreSQL is not installed, so the record is not tested on it: sudo apt-get install postgresql"

USER = "postgres"
"""Role inside the server; as root also the account that it runs under, since it refuses to be root."""

GUARDED = "guarded"
"""The one database for which a password is needed."""

QUICK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"}
"""A crash of the machine may destroy this server's data; nobody needs them."""


@dataclass(frozen=True)
class Cluster:
    """A running server; people connect without a password, from this machine only."""

    port: int
    version: int

    def url(self, database: str = USER) -> URL:
        """Address of one of its databases."""
        return URL.create("postgresql+psycopg", USER, host="127.0.0.1", port=self.port, database=database)

    def run(self, *statements: str, database: str = USER) -> None:
        """Runs statements that must stand outside a transaction."""
        engine = create_engine(self.url(database), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for statement in statements:
                connection.execute(text(statement))
        engine.dispose()

    def new_database(self, name: str) -> URL:
        """Makes an empty database that sorts words as people do (from version 15 on), like most that there are."""
        language = "LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C.UTF-8'" if self.version >= 15 else ""
        self.run(
            f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", f"CREATE DATABASE {name} TEMPLATE template0 {language}"
        )
        return self.url(name)


def binaries() -> Path | None:
    """The folder with the programs of PostgreSQL, if there is one: that on the path, else the newest of Debian's."""
    found = shutil.which("pg_ctl")
    if found is not None:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3]))
    return versions[-1].parent if versions else None


def skip_or_fail(reason: str) -> None:
    """Skips what asks for a program that is missing; where everything must be there, that is a failure."""
    if os.environ.get("REQUIRE_SYSTEM") == "1":
        pytest.fail(f"REQUIRE_SYSTEM=1: {reason}")
    pytest.skip(reason)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A new server that runs as long as the block."""
    programs = binaries()
    if programs is None:
        skip_or_fail(MISSING)
        return
    # Not below pytest's folder: that is root's alone, and the path of a socket must be short.
    folder = Path(tempfile.mkdtemp(prefix="label-refinery-", dir="/tmp"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, USER, USER)
        data, port = folder / "data", _free_port()
        local = ["--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--auth=trust", f"--username={USER}"]
        _run([programs / "initdb", "-D", data, *local])
        # The first line that fits counts: one database asks for passwords.
        rules = data / "pg_hba.conf"
        rules.write_text(f"host {GUARDED} all 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder, **QUICK}
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        _run([programs / "pg_ctl", "-D", data, "-l", folder / "log", "-o", options, "-w", "start"])
        try:
            yield Cluster(port, int((data / "PG_VERSION").read_text()))
        finally:
            _run([programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def _run(command: Sequence[object]) -> None:
    words = [str(word) for word in command]
    if os.geteuid() == 0:
        words = ["runuser", "-u", USER, "--", *words]
    # The server inherits what it is started with: a pipe would never end.
    with tempfile.TemporaryFile(dir="/tmp") as output:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/tmp", check=False)
        output.seek(0)
        assert done.returncode == 0, f"{' '.join(words)}: {output.read().decode()}"
