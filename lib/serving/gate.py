"""What every request passes before it reaches a route: who is it, may it, and is it written down."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlencode

from anyio import CapacityLimiter, to_thread
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lib.errors import LabelRefineryError, NotAllowed, NotSignedIn, TooLarge, TooManyRequests
from lib.serving.access import CHANGE, Access, needed_role
from lib.serving.allowance import Allowance
from lib.serving.annotator import Annotator, annotator_of
from lib.serving.log import log_refusal, log_request
from lib.serving.measures import AUDIT_FAILURES, count_request
from lib.serving.one_form import in_one_form
from lib.serving.origins import refuse_other_machines, refuse_other_pages
from lib.serving.problem import problem_of, status_of
from lib.serving.quota import LOOK_BYTES, Arriving
from lib.serving.settings import Settings
from lib.serving.turnstile import PLACES, Turn, Turnstile, kind_of
from lib.store.audit import Change
from lib.store.record import Record
from lib.store.schema import LONGEST_NAME

LOG = logging.getLogger(__name__)

FORM_BYTES = 2**20
"""Room for the other fields beside a file of the largest size, and for a request without a file."""

STRANGER_BYTES = 2**17
"""Room for a token, which is all that somebody has to say who did not sign in."""

SIGNING_IN = 8
"""Requests whose tokens are looked at at once: an issuer that does not answer must not take all threads."""

LONGEST_LENGTH = 18
"""Digits of a Content-Length that is made a number; whatever has more is too large."""

NO_CHANGE = ("/cases/open",)
"""What viewers tell every few seconds changes nothing that is kept."""

WRONG_TOKENS, WRONG_TOKEN_SECONDS = 20, 3
"""Of so many wrong tokens of one address each is told by itself, after that one in so many seconds."""

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


class Refusing:
    """What becomes of those who are not let in: it is noted, and who guesses tokens has to wait."""

    def __init__(self) -> None:
        self._wrong_tokens = Allowance(WRONG_TOKENS, again_after_seconds=WRONG_TOKEN_SECONDS)

    def told(self, scope: Scope, error: LabelRefineryError, *, has_token: bool = True) -> LabelRefineryError:
        """What the client is told. A right token is always looked at and let in."""
        address = address_of(scope)
        note_refusal(scope["method"], scope["path"], error, address)
        if isinstance(error, NotSignedIn) and has_token and not self._wrong_tokens.take(address):
            return TooManyRequests(
                f"Too many wrong tokens came from {address}. Send the right one, or wait.", WRONG_TOKEN_SECONDS
            )
        return error


class Gate:
    """ASGI middleware around all routes; puts the person into ``request.state.person``."""

    def __init__(self, app: ASGIApp, record: Record, settings: Settings, access: Access, refusing: Refusing) -> None:
        self._app = app
        self._record = record
        self._settings = settings
        self._origins = settings.allowed_origins
        self._limit = settings.max_upload_mib * 2**20 + FORM_BYTES
        self._access = access
        self._signing_in = CapacityLimiter(SIGNING_IN)
        self._refusing = refusing
        self._arriving = Arriving(settings.data)
        self._turnstiles = {kind: Turnstile(places) for kind, places in PLACES.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses the request, or lets it through and writes a change down before its reply leaves."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = in_one_form(scope)
        headers = Headers(scope=scope)
        counted = _counted(scope, send)
        limit = self._limit if headers.get("content-type", "").startswith("multipart/") else FORM_BYTES
        if not self._access.is_open and needed_role(scope["method"], scope["path"]) is None:
            limit = STRANGER_BYTES
        try:
            person = await self._admitted(scope, headers)
            _refuse_larger(headers, limit)
        except LabelRefineryError as error:
            told = self._refusing.told(scope, error, has_token=bearer(headers) is not None)
            await problem_of(told)(scope, receive, counted)
            return
        scope.setdefault("state", {})["person"] = person
        kind = kind_of(scope["method"], scope["path"])
        name = person.name if person else address_of(scope)
        turn = Turn(self._turnstiles.get(kind) if kind else None, name)
        body = _Body(receive, limit, name, self._arriving)
        try:
            receive = await _admitted_whole(scope["method"], headers, body.receive, turn)
            await self._app(scope, receive, self._audited(scope, headers, person, _leaving(turn, counted)))
        except LabelRefineryError as error:
            await problem_of(error)(scope, receive, counted)
        finally:
            turn.leave()
            body.forget()

    async def _admitted(self, scope: Scope, headers: Headers) -> Annotator | None:
        if self._access.is_open:
            refuse_other_machines(headers, self._origins)
            return None
        refuse_other_pages(scope["method"], headers, self._origins)
        if needed_role(scope["method"], scope["path"]) is None:
            return None
        token, client = bearer(headers), headers.get("user-agent", "")[:LONGEST_NAME]
        # An issuer's keys may have to be fetched: not in the event loop.
        return await to_thread.run_sync(
            self._access.admit, token, scope["method"], scope["path"], client, limiter=self._signing_in
        )

    def _audited(self, scope: Scope, headers: Headers, person: Annotator | None, send: Send) -> Send:
        changes = scope["method"] in CHANGE and scope["path"] not in NO_CHANGE
        if not changes or needed_role(scope["method"], scope["path"]) is None:
            return send
        begin = time.perf_counter()

        async def audited(message: Message) -> None:
            if message["type"] == "http.response.start":
                change = self._change(scope, headers, person, message["status"])
                spent = time.perf_counter() - begin
                log_request(change.method, change.path, change.status, seconds=spent, author=change.author)
                if change.status < 400:
                    await run_in_threadpool(self._write_down, change)
            await send(message)

        return audited

    def _write_down(self, change: Change) -> None:
        try:
            self._record.audit.add(change)
        # What the request asked for is done: a reply that says otherwise would make the client send it again.
        except Exception:
            AUDIT_FAILURES.inc()
            LOG.exception("Missing in the audit: %r", change)

    def _change(self, scope: Scope, headers: Headers, person: Annotator | None, status: int) -> Change:
        # A route of the open server knows the person better: clients name themselves in their parameters.
        who: Annotator = (
            scope["state"].get("person") or person
            or annotator_of(None, self._settings.role, headers.get("user-agent", ""))
        )  # fmt: skip
        # A token is nobody's business; it may stand in an address by mistake.
        query = re.sub(r"(?i)\b(token=)[^&]*", r"\1…", scope["query_string"].decode("latin-1"))
        # What a request changed that names its images in its body only.
        images = urlencode([("image", image) for image in scope["state"].get("images", ())])
        query = "&".join(filter(None, [query, images]))
        return Change(who.name, who.role, who.client, address_of(scope), scope["method"], scope["path"], query, status)


class SecurityHeaders:
    """ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Adds the headers to the reply, whoever gives it."""

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=_as_scope(message))
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, secured)


def _counted(scope: Scope, send: Send) -> Send:
    begin = time.perf_counter()

    async def counted(message: Message) -> None:
        if message["type"] == "http.response.start":
            count_request(scope["path"], scope["method"], message["status"], time.perf_counter() - begin)
        await send(message)

    return counted


def address_of(scope: Scope) -> str:
    """The address that a request comes from."""
    return scope["client"][0] if scope.get("client") else ""


def _leaving(turn: Turn, send: Send) -> Send:
    """Frees the place of a request when its reply begins: the client may read it slowly."""

    async def leaving(message: Message) -> None:
        turn.leave()
        await send(message)

    return leaving


async def _admitted_whole(method: str, headers: Headers, receive: Receive, turn: Turn) -> Receive:
    """Waits for the place of a request when it has come as a whole: the client may send it slowly.

    A small body is received here, since not every route reads what it is sent; of a large one the last piece waits.
    """
    if method not in ("POST", "PUT") or ("content-length" not in headers and "transfer-encoding" not in headers):
        await turn.enter()
        return receive
    if headers.get("content-type", "").startswith("multipart/"):
        return _waiting_at_the_end(receive, turn)
    came = [await receive()]
    while came[-1].get("more_body", False):
        came.append(await receive())
    await turn.enter()
    came.reverse()

    async def received() -> Message:
        return came.pop() if came else await receive()

    return received


def _waiting_at_the_end(receive: Receive, turn: Turn) -> Receive:
    async def waiting() -> Message:
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            await turn.enter()
        return message

    return waiting


class _Body:
    """The body of a request, whose bytes count for the person who sends them until the request has ended."""

    def __init__(self, receive: Receive, limit: int, person: str, arriving: Arriving) -> None:
        self._receive = receive
        self._limit = limit
        self._person = person
        self._arriving = arriving
        self._received = 0
        self._counted = 0

    async def receive(self) -> Message:
        """The next message of the server; ends a body that grows too large, whatever its Content-Length says."""
        message = await self._receive()
        if message["type"] == "http.request":
            self._received += len(message.get("body", b""))
            if self._received > self._limit:
                raise _too_large(self._limit)
            if (new := self._received - self._counted) >= LOOK_BYTES:
                self._counted += new
                self._arriving.take(self._person, new)
        return message

    def forget(self) -> None:
        """Gives back what was counted."""
        if self._counted:
            self._arriving.give_back(self._person, self._counted)
            self._counted = 0


def _refuse_larger(headers: Headers, limit: int) -> None:
    """Refuses what says of itself that it is too large, before it is sent."""
    length = headers.get("content-length", "")
    if length.isdecimal() and (len(length) > LONGEST_LENGTH or int(length) > limit):
        raise _too_large(limit)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"The request is larger than {limit // 2**20} MiB; files may have --conf max_upload_mib, other requests "
        f"{FORM_BYTES // 2**20} MiB."
    )


def _as_scope(message: Message) -> MutableMapping[str, Any]:
    message.setdefault("headers", [])
    return message


def bearer(headers: Headers) -> str | None:
    """The token that a request brings along."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def note_refusal(method: str, path: str, error: LabelRefineryError, address: str = "") -> None:
    """Writes into the log that somebody was not let in; other errors are the client's own business."""
    if isinstance(error, NotSignedIn | NotAllowed):
        log_refusal(method, path, status_of(error), str(error), address)
