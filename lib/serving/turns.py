"""Whose turn it is: one after the other, however many things somebody asks for at once; what nobody waits for, last."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

NOBODY = None
"""The asker of what nobody waits for."""


class Turns(Generic[T]):
    """A queue with a line for each asker; the lines take turns, and each keeps its order.

    The line of ``NOBODY`` moves on while all others are empty. For any number of threads.
    """

    def __init__(self) -> None:
        self._lines: OrderedDict[str | None, deque[T]] = OrderedDict()
        self._changed = threading.Condition()
        self._is_closed = False

    def put(self, asker: str | None, wanted: T) -> bool:
        """Puts something at the end of the asker's line, unless the queue is closed; tells whether it was put."""
        with self._changed:
            if not self._is_closed:
                self._lines.setdefault(asker, deque()).append(wanted)
                self._changed.notify()
            return not self._is_closed

    def adopt(self, asker: str, is_wanted: Callable[[T], bool]) -> None:
        """Lets somebody wait in line for what was put for ``NOBODY``."""
        with self._changed:
            nobodys = self._lines.pop(NOBODY, deque())
            for wanted in nobodys:
                self._lines.setdefault(asker if is_wanted(wanted) else NOBODY, deque()).append(wanted)

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
        asker = next((asker for asker in self._lines if asker is not NOBODY), NOBODY)
        line = self._lines.pop(asker)
        wanted = line.popleft()
        if line:
            # Behind all others, who come first now.
            self._lines[asker] = line
        return wanted
