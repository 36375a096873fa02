"""The cases that were just offered to people and that nobody has asked a mask of since."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

MOST = 10_000
"""Offers that are remembered; the oldest go."""


class Offers:
    """Tells a client's first request for a mask, which 3D Slicer sends by itself, from those that people press for."""

    def __init__(self) -> None:
        """Nothing was offered."""
        self._lock = Lock()
        self._offers: OrderedDict[tuple[str, str], None] = OrderedDict()

    def offer(self, image_id: str, person: str) -> None:
        """Somebody was offered a case."""
        with self._lock:
            self._offers[image_id, person] = None
            if len(self._offers) > MOST:
                self._offers.popitem(last=False)

    def take(self, image_id: str, person: str) -> bool:
        """Whether somebody begins with a case by this request: the next one is told no."""
        with self._lock:
            return self._offers.pop((image_id, person), self) is None
