"""When a process that died is started again: soon, and less and less often while it does not live."""

from __future__ import annotations

FIRST_SECONDS, LONGEST_SECONDS = 1.0, 60.0
"""Pause before the first start again, and the longest one; each is twice as long as the one before."""


class Restarts:
    """The pauses of one kind of process."""

    def __init__(self) -> None:
        self._pause = FIRST_SECONDS

    def pause_after(self, lived_seconds: float) -> float:
        """Seconds until the next start of a process that has lived so long; one that lived long is forgiven."""
        if lived_seconds > LONGEST_SECONDS:
            self._pause = FIRST_SECONDS
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_SECONDS)
        return pause
