"""Connections that send nothing, or only half a request, end; those that are at work, or read slowly, do not."""

from __future__ import annotations

import asyncio
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from lib.errors import InvalidSetting
from lib.serving import connections
from lib.serving.connections import guarded_server, most_connections
from lib.serving.settings import read_settings
from tests.serving.places import until

PATIENCE = 20.0
LARGE = 8 * 2**20

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HALF_HEAD = b"GET / HTTP/1.1\r\nHost: a\r\nX-Half: "
HALF_BODY = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nabc"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads a body, and answers at once, with events, or with much; tells who it thinks has asked."""
    if scope["type"] != "http":
        return
    while (came := await receive()).get("more_body"):
        pass
    if came["type"] == "http.disconnect":
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"keep-alive")]})
    if scope["path"] == "/events":
        for _ in range(4):
            await asyncio.sleep(0.5)
            await send({"type": "http.response.body", "body": b"event ", "more_body": True})
    body = b"x" * LARGE if scope["path"] == "/large" else f"{scope['client'][0]} {scope['scheme']}".encode()
    await send({"type": "http.response.body", "body": body})


@contextmanager
def serving(proxies: tuple[str, ...] = (), answers: Any = app) -> Iterator[Callable[..., socket.socket]]:
    """What opens connections to a server in a thread, and sends the first bytes over each."""
    listener = socket.create_server(("127.0.0.1", 0))
    server: uvicorn.Server = guarded_server(answers, proxies)
    server.config.lifespan = "off"
    thread = threading.Thread(target=server.run, args=[[listener]])
    thread.start()
    with ExitStack() as opened:

        def connect(first: bytes = b"", **options: Any) -> socket.socket:
            one = opened.enter_context(socket.create_connection(listener.getsockname(), PATIENCE))
            one.sendall(first)
            return one

        try:
            until(lambda: server.started, PATIENCE, "the start")
            yield connect
        finally:
            server.should_exit = server.force_exit = True
            thread.join(PATIENCE)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting ends soon."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(connections, "BODY_SECONDS", 1.0)


def is_closed(one: socket.socket) -> bool:
    """Whether the server ends a connection, waiting for it for long."""
    try:
        while one.recv(65536):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True


def reply(one: socket.socket) -> bytes:
    """All that comes over a connection within a short time."""
    one.settimeout(1.0)
    received = b""
    try:
        while piece := one.recv(65536):
            received += piece
    except TimeoutError:
        pass
    return received


@pytest.mark.parametrize(
    "sent",
    [b"", b"\r\n", b"G", HALF_HEAD, HALF_HEAD + b"y" * 2000, HALF_BODY, GET + HALF_HEAD,
     b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"],
    ids=["nothing", "line", "letter", "half a head", "long half head", "half a body", "after a reply", "half a chunk"],
)  # fmt: skip
@pytest.mark.usefixtures("soon")
def test_a_connection_without_a_whole_request_is_closed(sent: bytes) -> None:
    with serving() as connect:
        assert is_closed(connect(sent))


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("begin", [b"GET / HTTP/1.1\r\nHost: a\r\nX: ", HALF_BODY])
def test_a_byte_now_and_then_keeps_no_connection_open(begin: bytes) -> None:
    with serving() as connect:
        one, deadline = connect(begin), time.monotonic() + PATIENCE
        with pytest.raises(OSError, match=r"reset|pipe"):
            while time.monotonic() < deadline:
                one.sendall(b"a")
                time.sleep(0.2)


@pytest.mark.usefixtures("soon")
def test_a_slow_upload_that_comes_on_is_received() -> None:
    with serving() as connect:
        one = connect(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8000\r\n\r\n")
        for _ in range(8):
            time.sleep(0.5)
            one.sendall(b"a" * 1000)

        assert reply(one).startswith(b"HTTP/1.1 200")


@pytest.mark.usefixtures("soon")
def test_who_waits_for_events_or_reads_slowly_is_not_closed() -> None:
    with serving() as connect:
        events, slow = connect(GET.replace(b" / ", b" /events ")), connect(GET.replace(b" / ", b" /large "))
        time.sleep(3)

        assert reply(events).count(b"event") == 4
        received = 0
        while received < LARGE and (piece := slow.recv(2**20)):
            received += len(piece)
        assert received >= LARGE


@pytest.mark.parametrize("sent", [b"", HALF_HEAD, HALF_BODY])
def test_many_quiet_connections_keep_nobody_out(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(connections, "most_connections", lambda: 16)
    with serving() as connect:
        quiet = [connect(sent) for _ in range(60)]
        answers = [reply(connect(GET)) for _ in range(3)]

        assert [answer.startswith(b"HTTP/1.1 200") for answer in answers] == [True] * 3
        # Those that had been quiet for longest went.
        assert all(is_closed(one) for one in quiet[:40])


def test_who_is_being_answered_does_not_make_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "most_connections", lambda: 8)
    with serving() as connect:
        events = [connect(GET.replace(b" / ", b" /events ")) for _ in range(4)]
        time.sleep(0.3)
        for _ in range(30):
            connect()

        assert [reply(one).count(b"event") for one in events if not time.sleep(0.6)] == [4] * 4


def test_a_server_allows_itself_what_the_system_does_and_uses_half_of_it_for_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = {"now": (256, 1024)}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda kind, new: limits.update(now=new))

    assert (most_connections(), limits["now"]) == (512, (1024, 1024))
    limits["now"] = (1024, resource.RLIM_INFINITY)
    assert most_connections() == connections.MOST_CONNECTIONS
    assert limits["now"] == (connections.MOST_DESCRIPTORS, resource.RLIM_INFINITY)


FORWARDED = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n\r\n"


@pytest.mark.parametrize(
    ("proxies", "told"),
    [((), b"127.0.0.1 http"), (("10.0.0.1",), b"127.0.0.1 http"), (("127.0.0.1",), b"203.0.113.9 https"),
     (("127.0.0.0/8",), b"203.0.113.9 https")],
)  # fmt: skip
def test_only_a_proxy_that_was_named_is_believed_for_whom_it_asks(
    monkeypatch: pytest.MonkeyPatch, proxies: tuple[str, ...], told: bytes
) -> None:
    # What uvicorn would believe by itself.
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    with serving(proxies) as connect:
        assert told in reply(connect(FORWARDED))


@pytest.mark.parametrize("value", ["*", "proxy.example", "10.0.0.1/8", "127.0.0.1;10.0.0.1", "1.2.3"])
def test_proxies_are_named_by_address_or_network(value: str) -> None:
    with pytest.raises(InvalidSetting, match="--conf proxies is addresses or networks"):
        read_settings({"proxies": value}, "segmentation")
    assert read_settings({"proxies": "127.0.0.1, 10.1.0.0/16,::1"}, "segmentation").trusted_proxies == (
        "127.0.0.1", "10.1.0.0/16", "::1",
    )  # fmt: skip
