"""What every request passes before it reaches a route: who is it, may it, and is it written down."""

from __future__ import annotations

import time
from collections.abc import MutableMapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lib.errors import LabelRefineryError
from lib.serving.access import CHANGE, Access
from lib.serving.annotator import Annotator, annotator_of
from lib.serving.measures import count_request
from lib.serving.problem import problem, problem_of
from lib.serving.settings import Settings
from lib.store.audit import Change
from lib.store.record import Record

FORM_BYTES = 2**20
"""Room for the other fields beside a file of the largest size."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    # The viewer compiles its decoders in the browser and runs them in workers; nothing comes from other hosts.
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; worker-src 'self' blob:; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
        "connect-src 'self' blob: data:; object-src 'none'; base-uri 'self'; frame-ancestors 'self'"
    ),
}
"""On every reply."""


class Gate:
    """ASGI middleware around all routes; puts the person into ``request.state.person``."""

    def __init__(self, app: ASGIApp, record: Record, settings: Settings) -> None:
        self._app = app
        self._record = record
        self._settings = settings
        self._origins = settings.allowed_origins
        self._limit = settings.max_upload_mib * 2**20 + FORM_BYTES
        self._access = Access(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses the request, or lets it through and writes a change down before its reply leaves."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            refusal, person = await self._admitted(scope, headers)
        except LabelRefineryError as error:
            refusal, person = problem_of(error), None
        if refusal is not None:
            await refusal(scope, receive, _secured(send))
            return
        scope.setdefault("state", {})["person"] = person
        sending = _secured(self._audited(scope, headers, person, _counted(scope, send)))
        await self._app(scope, _limited(receive, self._limit), sending)

    async def _admitted(self, scope: Scope, headers: Headers) -> tuple[JSONResponse | None, Annotator | None]:
        if self._access.is_open:
            return _foreign(headers, self._origins), None
        token = _bearer(headers)
        client = headers.get("user-agent", "")
        # An issuer's keys may have to be fetched: not in the event loop.
        return None, await run_in_threadpool(self._access.admit, token, scope["method"], scope["path"], client)

    def _audited(self, scope: Scope, headers: Headers, person: Annotator | None, send: Send) -> Send:
        if scope["method"] not in CHANGE:
            return send

        async def audited(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                change = self._change(scope, headers, person, message["status"])
                await run_in_threadpool(self._record.audit.add, change)
            await send(message)

        return audited

    def _change(self, scope: Scope, headers: Headers, person: Annotator | None, status: int) -> Change:
        # A route of the open server knows the person better: clients name themselves in their parameters.
        who: Annotator = (
            scope["state"].get("person") or person
            or annotator_of(None, self._settings.role, headers.get("user-agent", ""))
        )  # fmt: skip
        address = scope["client"][0] if scope.get("client") else ""
        query = scope["query_string"].decode("latin-1")
        return Change(who.name, who.role, who.client, address, scope["method"], scope["path"], query, status)


def _secured(send: Send) -> Send:
    async def secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=_as_scope(message))
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return secured


def _counted(scope: Scope, send: Send) -> Send:
    begin = time.perf_counter()

    async def counted(message: Message) -> None:
        if message["type"] == "http.response.start":
            count_request(scope["path"], scope["method"], message["status"], time.perf_counter() - begin)
        await send(message)

    return counted


def _limited(receive: Receive, limit: int) -> Receive:
    """Ends a body that grows beyond the limit, whatever its Content-Length says."""
    received = 0

    async def limited() -> Message:
        nonlocal received
        message = await receive()
        if message["type"] == "http.request":
            received += len(message.get("body", b""))
            if received > limit:
                raise HTTPException(413, f"The request is larger than {limit // 2**20} MiB (--conf max_upload_mib).")
        return message

    return limited


def _as_scope(message: Message) -> MutableMapping[str, Any]:
    message.setdefault("headers", [])
    return message


def _bearer(headers: Headers) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _foreign(headers: Headers, allowed: Sequence[str]) -> JSONResponse | None:
    """Without sign-in, no web page of another host may use the server through somebody's browser."""
    host, origin = _hostname(f"//{headers.get('host', '')}"), headers.get("origin")
    if host not in LOOPBACK:
        return problem(403, "ForeignHost", f"This server answers to {', '.join(LOOPBACK)} only, found Host {host!r}.")
    if origin is not None and _hostname(origin) not in LOOPBACK and origin not in allowed:
        return problem(403, "ForeignOrigin", f"Requests from pages of {origin} are refused.")
    return None


def _hostname(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
