"""How often something may happen: a number at once, and then again and again after a time; kept for each of many."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

MOST_KEPT = 1000
"""Of so many it is known how much they have used; of all others as if they had used nothing."""


class Allowance:
    """So much for each of many."""

    def __init__(self, at_once: int, again_after_seconds: float) -> None:
        self.again_after_seconds = again_after_seconds
        self._at_once = at_once
        self._guard = threading.Lock()
        # How much of it was there at that moment.
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, whose: str) -> bool:
        """Uses it once, if there is something left."""
        now = time.monotonic()
        with self._guard:
            left, then = self._left.pop(whose, (float(self._at_once), now))
            left = min(self._at_once, left + (now - then) / self.again_after_seconds)
            may = left >= 1
            self._left[whose] = (left - 1 if may else left), now
            if len(self._left) > MOST_KEPT:
                self._left.popitem(last=False)
            return may
