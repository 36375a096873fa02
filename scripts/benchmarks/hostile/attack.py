"""Sends files and requests by their numbers, follows what was accepted, and notes whatever must not be."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from lib.store import layout
from scripts.benchmarks.hostile.calls import PUBLIC, Call, hostile_call, routes_of
from scripts.benchmarks.hostile.canaries import files_with_canary, holds_canary
from scripts.benchmarks.hostile.files import HostileFile, Way, hostile_file, way_of
from scripts.benchmarks.hostile.place import CASES, Place, form
from scripts.benchmarks.hostile.wire import Reply, send

ALLOWED = (503, 507)
"""Statuses from 500 on that a server without a PACS may answer."""

FRAMING = {"content-length", "transfer-encoding", "expect", "upgrade", "host"}
"""Headers after which a connection may be closed without a reply."""


@dataclass(frozen=True)
class Finding:
    """Something that must not be.

    Attributes:
        replay: what ``--only`` takes: ``f17`` or ``r17``; empty: it belongs to none.
        what: in words.
        about: what was sent.
    """

    replay: str
    what: str
    about: str


@dataclass(frozen=True)
class _Asked:
    """One message: what kind, how it is sent again, what it is, and whether no reply is a fair one."""

    kind: str
    replay: str
    about: str
    may_be_silent: bool = False


class Attack:
    """One attack on one place.

    Attributes:
        statuses: how often each was answered, by kind of message.
        findings: what must not be.
        slowest: seconds of the slowest reply, and what was asked.
    """

    def __init__(self, place: Place, seed: int, note: Callable[[Finding], None] = lambda finding: None) -> None:
        """Begins; each finding is told to ``note`` at once."""
        self.place = place
        self.seed = seed
        self.statuses: dict[str, Counter[str]] = {"files": Counter(), "follow": Counter(), "requests": Counter()}
        self.findings: list[Finding] = []
        self.slowest: tuple[float, str] = (0.0, "")
        self._routes = routes_of(place.description)
        self._note = note
        self._guard = threading.Lock()
        self._opened = 0

    def files(self, numbers: Iterable[int], clients: int = 1) -> None:
        """Sends files; weights last and one by one, since what others draft depends on them."""
        ordered = list(numbers)
        self._spread(self._file, [number for number in ordered if way_of(number) is not Way.WEIGHTS], clients)
        self._spread(self._file, [number for number in ordered if way_of(number) is Way.WEIGHTS], 1)

    def requests(self, numbers: Iterable[int], clients: int = 1) -> None:
        """Sends requests."""
        self._spread(self._request, list(numbers), clients)

    def _spread(self, act: Callable[[int], None], numbers: Sequence[int], clients: int) -> None:
        with ThreadPoolExecutor(clients) as pool:
            for _ in pool.map(act, numbers):
                pass

    def finish(self) -> None:
        """Looks at what is left: stored canaries, whatever ran, files of requests that have ended."""
        place = self.place
        for path in files_with_canary(place.data, place.canaries):
            self._found(_Asked("", "", path), "the content of a canary lies in the data folder")
        if place.reach.ran.exists():
            self._found(_Asked("", "", str(place.reach.ran)), "a file that was sent ran code")
        for path in sorted((place.data / layout.TEMPORARY).rglob("*")):
            if path.is_file():
                self._found(_Asked("", "", path.name), "a file is left in tmp/")

    # One message.

    def _request(self, number: int) -> None:
        call = hostile_call(number, self.seed, self._routes, self.place.known)
        asked = _Asked("requests", f"r{number}", str(call), may_be_silent=_may_be_silent(call))
        content = call.encoded(self.place.authorization(call.role))
        reply = self._sent(asked, lambda: send(self.place.port, content, call.method, is_half=call.is_half))
        path = call.target.partition(b"?")[0].decode("latin-1")
        if call.role in ("nobody", "garbage") and 200 <= reply.status < 300 and not PUBLIC.fullmatch(path):
            self._found(asked, f"somebody without a role got {reply.status}")

    def _file(self, number: int) -> None:
        sent = hostile_file(number, self.seed, self.place.reach)
        story = STORIES[sent.way](self.place, sent)
        kind, step = "files", next(story)
        while step is not None:
            role, method, path, *body = step
            asked = _Asked(kind, f"f{number}", f"{sent}; {method} {path}")
            reply = self._sent(asked, lambda: self.place.ask(role, method, path, *body))  # noqa: B023 - used at once
            kind = "follow"
            try:
                step = story.send(reply)
            except StopIteration:
                step = None

    def _sent(self, asked: _Asked, send_it: Callable[[], Reply]) -> Reply:
        """Sends a message and judges what comes of it."""
        starts = len(self.place.restarts)
        try:
            reply = send_it()
        except OSError:
            # It has ended, or is about to be ended by the watch.
            reply = Reply(0, {}, b"", 0.0)
        with self._guard:
            self.statuses[asked.kind][str(reply.status)] += 1
            self.slowest = max(self.slowest, (round(reply.seconds, 1), asked.about[:200]))
            opened, self._opened = self.place.opened[self._opened :], len(self.place.opened)
        if reply.status == 0:
            self._judge_silence(asked, starts)
        if reply.status >= 500 and reply.status not in ALLOWED:
            self._found(asked, f"{reply.status}: {reply.text[:200]}")
        if reply.status == -1:
            self._found(asked, "no reply in time")
            self.place.revive(asked.about, stuck_after=starts)
        if holds_canary(reply.body):
            self._found(asked, "the content of a canary came back")
        if opened:
            self._found(asked, f"a canary was opened about then: {', '.join(sorted(set(opened)))}")
        return reply

    def _judge_silence(self, asked: _Asked, starts: int) -> None:
        """Finds out why nothing came; ``starts``: how often the server had been started again before."""
        time.sleep(0.2)
        if why := self.place.revive(asked.about):
            self._found(asked, why)
        elif len(self.place.restarts) > starts:
            self._found(asked, "the server was ended meanwhile, by this or by another message")
        elif not asked.may_be_silent:
            self._found(asked, "the connection was closed without a reply")

    def _found(self, asked: _Asked, what: str) -> None:
        finding = Finding(asked.replay, what, asked.about[:400])
        with self._guard:
            self.findings.append(finding)
        self._note(finding)


def _may_be_silent(call: Call) -> bool:
    return call.is_half or bool(FRAMING & {name.lower() for name, _ in call.headers}) or call.method in ("TRACE", "FOO")


# Stories: what is asked for a file, and what for it once it was accepted.

Step = tuple[Any, ...]
"""Role, method, path, and a body with its Content-Type."""

Story = Iterator[Step]


def _image(place: Place, sent: HostileFile) -> Any:
    """Uploaded, then opened by everybody in every way, and deleted."""
    name = f"hostile-{sent.number}"
    reply = yield ("annotator", "PUT", f"/datastore/image?image={name}", *form({}, [("file", sent.name, sent.content)]))
    if reply.status != 200:
        return
    yield ("viewer", "GET", f"/datastore/image?image={name}")
    yield ("annotator", "POST", f"/infer/segmentation?image={name}&output=json")
    opened = yield ("annotator", "GET", f"/open?image={name}")
    study = parse_qs(urlsplit(opened.headers.get("location", "")).query).get("StudyInstanceUIDs", [""])[0]
    if study:
        yield from _viewed(f"/dicomweb/studies/{quote(study)}")
    yield ("annotator", "POST", f"/cases/no-finding?image={name}")
    for kind in ("nrrd", "seg", "rtstruct"):
        yield ("viewer", "GET", f"/annotations/latest?image={name}&format={kind}")
    yield ("admin", "DELETE", f"/datastore/image?id={name}")


def _viewed(address: str) -> Any:
    """A study or a series as a viewer asks for it."""
    reply = yield ("viewer", "GET", f"{address}/metadata")
    if reply.status != 200:
        return
    headers = json.loads(reply.body)
    for header in headers[:: max(1, len(headers) // 2)][:2]:
        place = [header.get(tag, {}).get("Value", [""])[0] for tag in ("0020000D", "0020000E", "00080018")]
        study, series, instance = (quote(str(uid), safe="") for uid in place)
        yield ("viewer", "GET", f"/dicomweb/studies/{study}/series/{series}/instances/{instance}/frames/1")


def _mask(place: Place, sent: HostileFile) -> Any:
    """Stored as the mask of an image, then read in every format."""
    name = f"case_{sent.number % CASES:02d}"
    reply = yield (
        "annotator",
        "PUT",
        f"/datastore/label?image={name}",
        *form({}, [("label", sent.name, sent.content)]),
    )
    if reply.status != 200:
        return
    for kind in ("nifti", "nrrd", "seg", "rtstruct"):
        yield ("viewer", "GET", f"/annotations/latest?image={name}&format={kind}")


def _stow(place: Place, sent: HostileFile) -> Any:
    """Stored as a viewer does, then retrieved."""
    body = b"--xx\r\nContent-Type: application/dicom\r\n\r\n" + sent.content + b"\r\n--xx--\r\n"
    reply = yield (
        "annotator", "POST", "/dicomweb/studies", body, b'multipart/related; type="application/dicom"; boundary=xx'
    )  # fmt: skip
    if reply.status != 200:
        return
    stored = json.loads(reply.body).get("00081199", {}).get("Value", [])
    address = urlsplit(stored[0].get("00081190", {}).get("Value", [""])[0]).path if stored else ""
    if address:
        yield ("viewer", "GET", address)
        yield from _viewed(address.partition("/instances")[0])


def _infer(place: Place, sent: HostileFile) -> Any:
    """Sent only to be drafted."""
    files = [("file", sent.name, sent.content)]
    yield ("annotator", "POST", "/infer/segmentation?output=image", *form({}, files))


def _rough(place: Place, sent: HostileFile) -> Any:
    """Sent only to be refined."""
    files = [("label", sent.name, sent.content)]
    address = f"/infer/segmentation_refine?image=case_{sent.number % CASES:02d}&output=image"
    yield ("annotator", "POST", address, *form({}, files))


def _session(place: Place, sent: HostileFile) -> Any:
    """Sent for a while, as it is or to be unpacked; then drafted and sent back."""
    unpack = "true" if sent.kind in (".zip", ".tar", ".tar.gz", ".tgz") else "false"
    address = f"/session/?uncompress={unpack}&expiry=60"
    reply = yield ("annotator", "PUT", address, *form({}, [("files", sent.name, sent.content)]))
    if reply.status != 200:
        return
    session = json.loads(reply.body)["session_id"]
    yield ("annotator", "GET", f"/session/{session}?image=true")
    yield ("annotator", "POST", f"/infer/segmentation?session_id={session}&output=image")
    yield ("annotator", "DELETE", f"/session/{session}")


def _weights(place: Place, sent: HostileFile) -> Any:
    """Uploaded, used for a draft, and taken out of service."""
    reply = yield ("admin", "PUT", "/model/segmentation", *form({}, [("file", sent.name, sent.content)]))
    if reply.status != 200:
        return
    yield ("viewer", "GET", "/model/info/segmentation")
    name = f"case_{sent.number % CASES:02d}"
    yield ("annotator", "POST", f"/infer/segmentation?image={name}&output=json")
    yield ("admin", "DELETE", "/model/segmentation")


STORIES: dict[Way, Callable[[Place, HostileFile], Any]] = {
    Way.IMAGE: _image, Way.MASK: _mask, Way.STOW: _stow, Way.INFER: _infer, Way.ROUGH: _rough, Way.SESSION: _session,
    Way.WEIGHTS: _weights,
}  # fmt: skip
"""What becomes of a file on each way."""
