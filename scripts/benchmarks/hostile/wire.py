"""Sends bytes as they are and reads the reply, whatever it is."""

from __future__ import annotations

import http.client
import socket
import time
from dataclasses import dataclass

PATIENCE_S = 90.0
"""Who gets no reply for so long was forgotten."""

MOST_BYTES = 64 << 20
"""Of a reply that are looked at."""


@dataclass(frozen=True)
class Reply:
    """What came back.

    Attributes:
        status: of HTTP; 0: the connection was closed without a reply; -1: none came in time.
        headers: by name in lower case.
        body: the first ``MOST_BYTES`` of it.
        seconds: until all of it was there.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def text(self) -> str:
        """The begin of the body, for messages."""
        return self.body[:300].decode("utf-8", "replace")


def send(port: int, content: bytes, method: str, *, is_half: bool = False, patience_s: float = PATIENCE_S) -> Reply:
    """Sends a request on a connection of its own.

    Raises:
        ConnectionRefusedError: if nobody listens.
    """
    begin = time.monotonic()
    status, headers, pieces = 0, dict[str, str](), list[bytes]()
    with socket.create_connection(("127.0.0.1", port), timeout=patience_s) as connection:
        try:
            _push(connection, content)
            if is_half:
                connection.shutdown(socket.SHUT_WR)
            reply = http.client.HTTPResponse(connection, method=method)
            reply.begin()
            status = reply.status
            headers = {name.lower(): value for name, value in reply.getheaders()}
            _read(reply, headers, pieces)
        except TimeoutError:
            status = -1
        except (OSError, http.client.HTTPException, ValueError):
            pass
    return Reply(status, headers, b"".join(pieces), time.monotonic() - begin)


def _push(connection: socket.socket, content: bytes) -> None:
    """Sends as much as the server takes: who refuses a request need not read all of it."""
    try:
        connection.sendall(content)
    except (BrokenPipeError, ConnectionResetError):
        pass


def _read(reply: http.client.HTTPResponse, headers: dict[str, str], pieces: list[bytes]) -> None:
    room = MOST_BYTES
    is_stream = headers.get("content-type", "").startswith("text/event-stream")
    while room > 0 and (piece := reply.read1(min(room, 1 << 20))):
        pieces.append(piece)
        room -= len(piece)
        if is_stream:
            return
