"""Who has which case open just now, so that two people see each other before either of them saves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from lib.errors import TooManyRequests
from lib.store.schema import now

LASTING_SECONDS = 45.0
"""How long somebody passes for present who has not been heard of: viewers tell every ten seconds."""

MOST, MOST_OF_ONE = 2000, 50
"""Windows that are known at once, in all and of one person; more are no people at work."""


@dataclass(frozen=True)
class Present:
    """Somebody who has a case open.

    Attributes:
        name: of the person.
        version: of the mask on the screen; 0: none.
        since: when it was opened, in UTC.
    """

    name: str
    version: int
    since: datetime


@dataclass
class _Window:
    present: Present
    heard: float


class Presence:
    """The windows in which cases are open; nothing of it outlives the process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Nobody is there.

        Args:
            clock: seconds that only grow.
        """
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: dict[tuple[str, str, str], _Window] = {}

    def here(self, image_id: str, name: str, window: str, version: int) -> list[Present]:
        """Notes that somebody has a case open, and tells who else has, longest first.

        Args:
            image_id: the case.
            name: of the person.
            window: what tells the windows of one person apart.
            version: of the mask on the screen; 0: none.

        Raises:
            TooManyRequests: if there are more windows than people have.
        """
        key = (image_id, name, window)
        with self._lock:
            self._forget_silent()
            before = self._windows.get(key)
            if before is None:
                self._refuse_more(name)
            since = before.present.since if before is not None else now()
            self._windows[key] = _Window(Present(name, version, since), self._clock())
            others = [each.present for at, each in self._windows.items() if at[0] == image_id and at != key]
        return sorted(others, key=lambda present: present.since)

    def left(self, image_id: str, name: str, window: str) -> None:
        """Somebody has closed a case."""
        with self._lock:
            self._windows.pop((image_id, name, window), None)

    def _refuse_more(self, name: str) -> None:
        own = sum(person == name for _, person, _ in self._windows)
        if own >= MOST_OF_ONE or len(self._windows) >= MOST:
            told = f"{name} has {own} cases open at once" if own >= MOST_OF_ONE else f"{MOST} cases are open at once"
            raise TooManyRequests(f"{told}; no more are remembered. Close some.", int(LASTING_SECONDS))

    def _forget_silent(self) -> None:
        oldest = self._clock() - LASTING_SECONDS
        for key in [key for key, window in self._windows.items() if window.heard < oldest]:
            del self._windows[key]
