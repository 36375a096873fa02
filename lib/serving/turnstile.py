"""How many requests are worked on at once, and how many of them one person may have: nobody takes all places.

A request has a place from when it has come as a whole until its reply begins, so that who sends or reads slowly takes
none. Requests of different kinds have places of their own: what is slow keeps only its like waiting. The health of the
server is told without a place, and without a thread of those that answer everything else.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from enum import StrEnum

from lib.errors import TooManyRequests
from lib.serving.access import CHANGE

MOST_WAITING = 100
"""Requests of one kind that one person may have waiting for a place."""

RETRY_SECONDS = 5
"""After this time somebody who had more may ask again."""


class Kind(StrEnum):
    """What a request does, as far as it tells how long it may take."""

    READING = "reading"
    VIEWING = "viewing"
    CHANGING = "changing"
    DRAFTING = "drafting"


@dataclass(frozen=True)
class Places:
    """How many requests of a kind are worked on at once, and how many of them one person may have."""

    all: int
    for_one: int


PLACES = {
    Kind.READING: Places(12, 9),
    Kind.VIEWING: Places(16, 12),
    Kind.CHANGING: Places(12, 9),
    # They wait in threads of their own, most of them for their turn at the device.
    Kind.DRAFTING: Places(192, 48),
}

THREADS = 64
"""Of the common pool: more than there are places, since replies are read from the disk by them too."""

WITHOUT_PLACE = re.compile(r"/health/.*|/jobs/[^/]+/events")
"""What needs next to nothing, or waits for events without a thread; only where it reads."""

FILES = re.compile(r"/dicomweb/.*|/datastore/(image|label|dataset)|/annotations/.*")
"""What may have to be made of an image first, or reads much."""


def kind_of(method: str, path: str) -> Kind | None:
    """The kind of a request; ``None`` if it needs no place."""
    if method not in CHANGE and WITHOUT_PLACE.fullmatch(path):
        return None
    if method in CHANGE:
        return Kind.DRAFTING if path.startswith("/infer/") else Kind.CHANGING
    return Kind.VIEWING if FILES.fullmatch(path) else Kind.READING


class Turnstile:
    """The places of one kind; who waits for one waits in line with its own requests, and the lines take turns."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._guard = threading.Lock()
        self._working: Counter[str] = Counter()
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    async def enter(self, person: str) -> None:
        """Waits for a place.

        Raises:
            TooManyRequests: if too many requests of this person wait already.
        """
        with self._guard:
            line = self._lines.get(person, ())
            if not line and self._has_place(person):
                self._working[person] += 1
                return
            if len(line) >= MOST_WAITING:
                raise TooManyRequests(
                    f"{MOST_WAITING} of your requests wait already. Send this one again later.", RETRY_SECONDS
                )
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._lines.setdefault(person, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            self._give_up(person, turn)
            raise

    def leave(self, person: str) -> None:
        """Frees a place."""
        with self._guard:
            self._working[person] -= 1
            if not self._working[person]:
                del self._working[person]
            self._call_next()

    def _has_place(self, person: str) -> bool:
        return self._working.total() < self._places.all and self._working[person] < self._places.for_one

    def _call_next(self) -> None:
        while (person := next((one for one in self._lines if self._has_place(one)), None)) is not None:
            line = self._lines.pop(person)
            turn = line.popleft()
            if line:
                # Behind all others, who come first now.
                self._lines[person] = line
            self._working[person] += 1
            turn.get_loop().call_soon_threadsafe(_call, turn)

    def _give_up(self, person: str, turn: asyncio.Future[None]) -> None:
        with self._guard:
            line = self._lines.get(person, deque())
            is_waiting = turn in line
            if is_waiting:
                line.remove(turn)
            if not line:
                self._lines.pop(person, None)
        if not is_waiting:
            self.leave(person)


def _call(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


class Turn:
    """The place of one request."""

    def __init__(self, turnstile: Turnstile | None, person: str) -> None:
        self._turnstile = turnstile
        self._person = person
        self._is_in = False

    async def enter(self) -> None:
        """Waits for it, the first time.

        Raises:
            TooManyRequests: if too many requests of this person wait already.
        """
        if self._turnstile is not None:
            turnstile, self._turnstile = self._turnstile, None
            await turnstile.enter(self._person)
            self._entered, self._is_in = turnstile, True

    def leave(self) -> None:
        """Frees it, if it has one."""
        if self._is_in:
            self._is_in = False
            self._entered.leave(self._person)
