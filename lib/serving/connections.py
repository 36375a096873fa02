"""Connections: who sends nothing, or only half a request, does not keep others out.

uvicorn itself closes only connections that are idle after a reply. Here a request's head must be complete in time and
its body must keep coming; a client that reads slowly, or waits for an answer or for events, may take as long as it
likes. When there are as many connections as there may be, the address that has the most of them loses the one that
has been quiet for longest.
"""

from __future__ import annotations

import logging
import resource
import time
from collections import Counter
from collections.abc import Collection
from enum import Enum, auto
from functools import partial
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

LOG = logging.getLogger(__name__)

HEAD_SECONDS = 20.0
"""From the begin of a connection, or the last reply on it, until the head of a request is complete."""

BODY_SECONDS, LEAST_BODY_BYTES = 30.0, 1024
"""In so many seconds at least so many bytes of a body must come, as long as they are wanted."""

MOST_DESCRIPTORS = 65_536
"""More files and connections than one server needs; some systems allow none more in one process."""

MOST_CONNECTIONS = 2_000
"""Connections of a server that may have as many descriptors as it wants; half of its descriptors otherwise."""

BACKLOG = 128
"""Connections that the system keeps waiting, and that are accepted at once before any of them is looked at."""

STOPPING_SECONDS = 3
"""How long replies may still take when the server is stopped."""


class Quiet(Enum):
    """Why nothing moves on a connection for which nobody here works."""

    WITHOUT_REQUEST = auto()
    SENDING_BODY = auto()
    NOT_READING = auto()


class Connection(H11Protocol):
    """One connection of a server that has at most ``most`` of them."""

    def __init__(self, *args: Any, most: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self._most = most
        now = time.monotonic()
        # Since when no request is under way, no byte came, and none could be sent.
        self._free_since = self._came = self._stuck_since = now
        self._window = now, 0

    # What uvicorn and the event loop call.

    def connection_made(self, transport: Any) -> None:
        """A client has connected."""
        super().connection_made(transport)
        if len(self.connections) > self._most:
            _make_room(self.connections, self)  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        self._came = time.monotonic()
        begin, count = self._window
        self._window = (begin, count + len(data)) if self._is_sending_body else (self._came, 0)
        super().data_received(data)

    def on_response_complete(self) -> None:
        """A reply is complete."""
        self._free_since = time.monotonic()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The client reads more slowly than is sent."""
        self._stuck_since = time.monotonic()
        super().pause_writing()

    # How it stands.

    @property
    def address(self) -> str:
        """Of the client, or of the proxy before it."""
        return str(self.client[0]) if self.client else ""

    @property
    def quiet(self) -> tuple[Quiet, float] | None:
        """What kind of a quiet connection it is and since when; ``None`` while somebody here works for it."""
        is_free = self.cycle is None or self.cycle.response_complete
        if is_free and not self.transport.get_write_buffer_size():
            return Quiet.WITHOUT_REQUEST, self._free_since
        if not is_free and self._is_sending_body:
            return Quiet.SENDING_BODY, self._came
        return (Quiet.NOT_READING, self._stuck_since) if is_free or self.flow.write_paused else None

    @property
    def _is_sending_body(self) -> bool:
        return self.conn.their_state is h11.SEND_BODY and not self.flow.read_paused

    def is_overdue(self, now: float) -> bool:
        """Whether its time is over; to be asked about once a second."""
        kind = self.quiet[0] if self.quiet is not None else None
        begin, count = self._window
        if kind is Quiet.WITHOUT_REQUEST:
            return now - self._free_since > HEAD_SECONDS
        if kind is not Quiet.SENDING_BODY:
            # While no body is wanted its time stands still.
            self._window = now, 0
        elif now - begin > BODY_SECONDS:
            self._window = now, 0
            return count < LEAST_BODY_BYTES
        return False

    def end(self) -> None:
        """Closes it at once; the event loop tells so later, when others may have come already."""
        self.connections.discard(self)
        self.transport.abort()


def _make_room(connections: Collection[Connection], newest: Connection) -> None:
    """Closes a quiet connection, or else the newest one."""
    counts = Counter(one.address for one in connections)
    quiet = [(-counts[one.address], one.quiet[1], id(one), one) for one in connections if one.quiet is not None]
    (min(quiet)[-1] if quiet else newest).end()
    LOG.warning("There are %d connections, the most that there may be; a quiet one is closed for each new one.",
                len(connections) - 1)  # fmt: skip


async def end_overdue(server: uvicorn.Server) -> None:
    """Closes the connections whose time is over."""
    now = time.monotonic()
    for connection in list(server.server_state.connections):
        if isinstance(connection, Connection) and connection.is_overdue(now):
            connection.end()


def most_connections() -> int:
    """How many connections this process may have; it allows itself as many descriptors as the system lets it first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else min(soft // 2, MOST_CONNECTIONS)


def guarded_server(app: ASGIApp, proxies: Collection[str]) -> uvicorn.Server:
    """Uvicorn with these connections.

    Args:
        app: what answers.
        proxies: addresses and networks of proxies that may say for whom they ask (``X-Forwarded-For``) and how they
            were asked (``X-Forwarded-Proto``); of all others these headers are not believed.
    """
    config = uvicorn.Config(
        app,
        # Where httptools is installed uvicorn would prefer it, which takes headers of any length from anybody.
        http=partial(Connection, most=most_connections()),  # type: ignore[arg-type]
        ws="none",
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        backlog=BACKLOG,
        timeout_notify=1,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=STOPPING_SECONDS,
    )
    server = uvicorn.Server(config)
    config.callback_notify = partial(end_overdue, server)
    return server
