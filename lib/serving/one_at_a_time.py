"""What several people ask for at the same moment, made once: the others wait for the first of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager


class OneAtATime:
    """A lock for each thing that is being made, which is forgotten when nobody wants it any longer."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[Hashable, tuple[threading.Lock, int]] = {}

    @contextmanager
    def making(self, thing: Hashable, before_waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Lets one in for each thing; ``before_waiting`` is called by whoever has somebody before it."""
        with self._guard:
            lock, users = self._locks.get(thing, (threading.Lock(), 0))
            self._locks[thing] = (lock, users + 1)
        try:
            if users:
                before_waiting()
            with lock:
                yield
        finally:
            with self._guard:
                lock, users = self._locks[thing]
                if users == 1:
                    del self._locks[thing]
                else:
                    self._locks[thing] = (lock, users - 1)
