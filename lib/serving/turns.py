"""Whose turn it is: one after the other, however many things somebody asks for at once."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """A queue with a line for each asker; the lines take turns, and each keeps its order. For any number of threads."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[T]] = OrderedDict()
        self._changed = threading.Condition()
        self._is_closed = False

    def put(self, asker: str, wanted: T) -> None:
        """Puts something at the end of the asker's line."""
        with self._changed:
            self._lines.setdefault(asker, deque()).append(wanted)
            self._changed.notify()

    def get(self) -> T | None:
        """The next thing, waiting for it if there is none; ``None`` once the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._is_closed)
            return None if self._is_closed else self._next()

    def close(self) -> list[T]:
        """Ends the waiting; returns what nobody got, in the order of the turns."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            left = []
            while self._lines:
                left.append(self._next())
            return left

    def _next(self) -> T:
        asker, line = self._lines.popitem(last=False)
        wanted = line.popleft()
        if line:
            # Behind all others, who come first now.
            self._lines[asker] = line
        return wanted
