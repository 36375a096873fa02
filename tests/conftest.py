"""What all tests share: a record in a folder of its own, a clean environment, no network."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lib.store.database import Database
from lib.store.record import Record, open_record
from tests.store.records import TASK, put_image

LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


class NetworkShut(Exception):
    """A test tried to reach another machine."""


@pytest.fixture(scope="session", autouse=True)
def network_shut() -> Iterator[None]:
    """Refuses every connection that leaves this machine."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def refused(address: Any) -> None:
        if isinstance(address, tuple) and not str(address[0]).startswith(LOOPBACK):
            raise NetworkShut(f"Tests stay on this machine, found a connection to {address}.")

    def guarded(self: socket.socket, address: Any) -> None:
        refused(address)
        connect(self, address)

    def guarded_ex(self: socket.socket, address: Any) -> int:
        refused(address)
        return connect_ex(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        patch.setattr(socket.socket, "connect_ex", guarded_ex)
        yield


@pytest.fixture(scope="session", autouse=True)
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is written into the home of the person who runs the tests, and no proxy is asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("home")))
        for name in PROXIES:
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(autouse=True)
def all_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Gives back the connections of every record that the test opened."""
    opened: list[Database] = []
    original = Database.__init__

    def noted(self: Database, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        opened.append(self)

    monkeypatch.setattr(Database, "__init__", noted)
    yield
    for database in opened:
        database.close()


@pytest.fixture(scope="session")
def made_record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a closed record of two structures and three images, to be copied."""
    data = tmp_path_factory.mktemp("made") / "data"
    made = open_record(TASK, data)
    for image_id in ("ct_017", "ct_018", "ct_019"):
        put_image(made, image_id)
    made.close()
    return data


@pytest.fixture
def record(tmp_path: Path, made_record: Path) -> Record:
    """A record of two structures and three images, each of a patient of its own."""
    return open_record(TASK, Path(shutil.copytree(made_record, tmp_path / "data")))
