"""Asking a DICOMweb server, over connections that may break."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from lib.errors import StudiesAway
from lib.serving.remote import Remote
from lib.serving.settings import StudiesServer

REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\nContent-Length: 2\r\n\r\n[]"


@pytest.fixture
def broken_off(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server that answers, on each connection, as many requests as told and hangs up at the next."""
    listening = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        for answered in request.param:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                for _ in range(answered):
                    connection.recv(65536)
                    connection.sendall(REPLY)
                connection.recv(65536)

    answering = threading.Thread(target=answer, daemon=True)
    answering.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    listening.close()


def asked_twice(address: str) -> list[list[object]]:
    remote = Remote(StudiesServer(address, None, 0))
    try:
        return [list(remote.search("studies")) for _ in range(2)]
    finally:
        remote.close()


@pytest.mark.parametrize("broken_off", [[1, 1]], indirect=True)
def test_a_connection_that_the_server_closed_meanwhile_is_replaced(broken_off: str) -> None:
    assert asked_twice(broken_off) == [[], []]


@pytest.mark.parametrize("broken_off", [[1, 0]], indirect=True)
def test_a_server_that_hangs_up_again_is_away(broken_off: str) -> None:
    with pytest.raises(StudiesAway, match=r"does not answer .*try again later"):
        asked_twice(broken_off)
