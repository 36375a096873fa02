"""How much room on the disk one person may take for what does not stay: requests on their way, and sessions.

What stays, such as masks, must find room whatever somebody sends; so nobody takes more than a share of what is free.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

from lib.errors import TooManyRequests

PARTS = 4
"""One person may take one of so many parts of the free room."""

MOST_SESSIONS = 16
"""Sessions that one person may have open."""

LOOK_BYTES = 1 << 20
"""After so many bytes of a request the room is looked at again; smaller requests do not count."""

RETRY_SECONDS = 10
"""After this time somebody who had more may try again."""


def share_bytes(folder: Path, held: int) -> int:
    """What one person may take below a folder, who holds so much already."""
    return (shutil.disk_usage(folder).free + held) // PARTS


class Arriving:
    """Bytes of requests that are on their way, by person; only for the event loop, which is one thread."""

    def __init__(self, folder: Path) -> None:
        """Counts what comes to rest below a folder."""
        self._folder = folder
        self._bytes: Counter[str] = Counter()

    def take(self, person: str, count: int) -> None:
        """Counts bytes that came.

        Raises:
            TooManyRequests: if this person sends more at once than one may.
        """
        self._bytes[person] += count
        most = share_bytes(self._folder, self._bytes[person])
        if self._bytes[person] > most:
            raise TooManyRequests(
                f"{self._bytes[person] >> 20} MiB from you are on their way; one person may send {most >> 20} MiB at "
                "once, a quarter of the free room. Send one file after the other, or have room made.",
                RETRY_SECONDS,
            )

    def give_back(self, person: str, count: int) -> None:
        """Counts bytes of a request that has ended."""
        self._bytes[person] -= count
        if self._bytes[person] <= 0:
            del self._bytes[person]


def refuse_more_sessions(person: str, sessions: int, held: int, new: int, folder: Path) -> None:
    """Refuses another session of somebody.

    Args:
        person: whose it would be.
        sessions: that this person has open.
        held: bytes of these.
        new: bytes of the new one, as far as they are known.
        folder: below which sessions lie.

    Raises:
        TooManyRequests: if they are too many, or too large.
    """
    most = share_bytes(folder, held)
    if sessions < MOST_SESSIONS and held + new <= most:
        return
    raise TooManyRequests(
        f"{person or 'You'} has {sessions} open sessions of {held >> 20} MiB; one person may have {MOST_SESSIONS}, and "
        f"{most >> 20} MiB in them, a quarter of the free room. Close some: DELETE /session/ID.",
        RETRY_SECONDS,
    )
