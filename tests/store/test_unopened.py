"""A record that cannot be opened is told in one sentence, by the server and by every command."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lib.errors import SetupError
from lib.store.record import open_existing, open_record
from scripts import verify_store
from tests.postgresql import GUARDED, Cluster
from tests.serving.places import put_images
from tests.store.records import TASK

ROOT = Path(__file__).resolve().parents[2]


def newer(record: Path) -> None:
    with sqlite3.connect(record) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")


def garbage(record: Path) -> None:
    record.write_bytes(b"no database " * 4096)


def cut_in_half(record: Path) -> None:
    record.write_bytes(record.read_bytes()[: record.stat().st_size // 2])


def another_programs(record: Path) -> None:
    record.unlink()
    with sqlite3.connect(record) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")


def a_folder(record: Path) -> None:
    record.unlink()
    record.mkdir()


FAULTS = [
    (newer, r"was written by another version, a newer one mostly: .*'9999'.* Start the server with that version"),
    (garbage, r"is no SQLite file: restore it from a backup"),
    (cut_in_half, r"is damaged: restore it from a backup"),
    (another_programs, r"is another program's SQLite file, with the tables recipes. Name another --data folder"),
]


@pytest.fixture
def data(tmp_path: Path, made_record: Path) -> Path:
    copied = Path(shutil.copytree(made_record, tmp_path / "data"))
    for name in ("record.sqlite-wal", "record.sqlite-shm"):
        (copied / name).unlink(missing_ok=True)
    return copied


@pytest.mark.parametrize(("damage", "said"), FAULTS)
def test_a_record_that_cannot_be_used_is_told_and_left_as_it_is(
    data: Path, damage: Callable[[Path], None], said: str
) -> None:
    damage(data / "record.sqlite")
    size = (data / "record.sqlite").stat().st_size

    for _ in range(2):
        with pytest.raises(SetupError, match=said):
            open_record(TASK, data)
    assert (data / "record.sqlite").stat().st_size == size


@pytest.mark.parametrize(("damage", "said"), FAULTS)
def test_commands_end_with_that_sentence(data: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(data / "record.sqlite")

    with pytest.raises(SystemExit, match=said):
        verify_store.main(["--data", str(data)])


@pytest.mark.parametrize(("damage", "said"), [FAULTS[0], FAULTS[1]])
def test_a_server_ends_with_that_sentence(
    tmp_path: Path, data: Path, damage: Callable[[Path], None], said: str
) -> None:
    put_images(tmp_path / "studies", 1)
    damage(data / "record.sqlite")

    options = ["--studies", str(tmp_path / "studies"), "--data", str(data), "--port", "0", "--conf", "labels", "a,b"]
    ended = subprocess.run(
        [sys.executable, "-m", "lib.serving", *options], cwd=ROOT, capture_output=True, text=True, timeout=300
    )

    assert ended.returncode == 1
    assert re.search(rf"^The server cannot start: .*{said}", ended.stderr, re.MULTILINE)
    assert "Traceback" not in ended.stderr + ended.stdout


def test_a_record_in_whose_place_a_folder_lies_is_told(data: Path) -> None:
    a_folder(data / "record.sqlite")

    with pytest.raises(SetupError, match=r"cannot be opened: its file is not there, or may not be read"):
        open_record(TASK, data)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql+psycopg://somebody:secret@127.0.0.1:1/nobody", r"postgresql.*somebody:\*\*\*@.* cannot be opened"),
        ("no address", r"The address of the record is none"),
        ("mysql://host/name", r"--conf store is a sqlite:/// or postgresql\+psycopg:// address"),
    ],
)
def test_an_address_where_no_record_is_is_told_without_its_password(tmp_path: Path, url: str, said: str) -> None:
    with pytest.raises(SetupError, match=said) as told:
        open_existing(tmp_path, url)

    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("user", "password", "database", "said"),
    [
        ("kim", "wrong", GUARDED, 'password authentication failed for user "kim"'),
        ("nobody", "right", GUARDED, 'password authentication failed for user "nobody"'),
        ("kim", "", GUARDED, "no password supplied"),
        ("kim", "right", "elsewhere", 'database "elsewhere" does not exist'),
        ("kim", "right", GUARDED, "permission denied for schema public"),
    ],
)
def test_a_database_that_does_not_let_the_server_in_is_told_without_the_password(
    postgresql: Cluster, tmp_path: Path, user: str, password: str, database: str, said: str
) -> None:
    postgresql.new_database(GUARDED)
    postgresql.run("DROP ROLE IF EXISTS kim", "CREATE ROLE kim LOGIN PASSWORD 'right'")
    url = postgresql.url(database).set(username=user, password=password).render_as_string(hide_password=False)

    with pytest.raises(SetupError, match=rf"^The record postgresql.* cannot be opened\..*{said}") as told:
        open_record(TASK, tmp_path / "data", url)

    assert not password or f":{password}@" not in str(told.value)


READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
"""Runs a command that may not write to a folder."""


@pytest.fixture
def on_read_only(data: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command of this project to which the disk of the data folder is read-only."""

    def run(*command: object) -> subprocess.CompletedProcess[str]:
        words = ["unshare", "--map-root-user", "--mount", "sh", "-c", READ_ONLY, data, *command]
        return subprocess.run(list(map(str, words)), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)

    if shutil.which("unshare") is None or run("true").returncode:
        pytest.skip("this system lets nobody have mounts of their own, so no disk can be made read-only")
    return run


@pytest.mark.parametrize(
    ("command", "below", "said"),
    [
        (["lib.serving", "--studies", ".", "--port", "0", "--conf", "labels", "a,b"], "",
         r"^The server cannot start: --data .* is no folder that can be written to \(Read-only file system\)"),
        (["lib.serving", "--studies", ".", "--port", "0", "--conf", "labels", "a,b"], "new",
         r"^The server cannot start: --data .* is no folder that can be written to \(Read-only file system\)"),
        (["scripts.verify_store"], "", r"^The record .* cannot be opened.* its disk is read-only"),
        (["scripts.prune_drafts"], "", r"^The record .* cannot be opened.* its disk is read-only"),
        (["scripts.tokens", "add", "kim"], "", r"Read-only file system"),
    ],
    ids=["server", "new folder", "verify", "prune", "tokens"],
)  # fmt: skip
def test_a_disk_that_is_read_only_is_told_in_a_sentence(
    data: Path, on_read_only: Callable[..., subprocess.CompletedProcess[str]], command: list[str], below: str, said: str
) -> None:
    (data / "keys").mkdir(exist_ok=True)

    ended = on_read_only(sys.executable, "-m", *command, "--data", data / below)

    assert ended.returncode == 1
    assert re.search(said, ended.stderr, re.MULTILINE), ended.stderr
    assert "Traceback" not in ended.stderr + ended.stdout
