"""The log of all processes: in a file below the data folder, and the server's warnings on the screen."""

from __future__ import annotations

import json
import logging
import multiprocessing
import threading
from collections import Counter
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler, WatchedFileHandler
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lib.serving.allowance import Allowance
from lib.serving.settings import Settings
from lib.store import layout

LOG = logging.getLogger(__name__)

LOG_BYTES = 5_000_000

LONGEST_TEXT = 300
"""Letters of a path or a reason in a line; clients send longer ones."""

SUMMARY_SECONDS = 60.0
"""After this time it is told how many refusals got no line."""

MOST_ADDRESSES, OTHERS = 10, "other addresses"
"""Addresses that such a line names, and what it calls the rest."""

OF_STRANGERS = ("uvicorn.error", "asyncio", "lib.serving.connections")
"""Loggers whose lines anybody who can connect makes come."""

FORMATS = {
    "file": "%(asctime)s %(levelname)s %(processName)s %(name)s: %(message)s",
    "screen": "%(levelname)s: %(message)s",
}
"""How a line of text looks."""


class JsonLines(logging.Formatter):
    """One JSON object per line: ``time`` (UTC, ISO 8601), ``level``, ``process``, ``logger``, ``message``.

    ``exception`` holds the traceback if there is one; lines about a request also have what ``log_request`` adds.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "process": record.processName,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "request", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_file(data: Path) -> Path:
    """Where the log lies."""
    return data / layout.LOG


def write_log(settings: Settings, *, is_server: bool) -> None:
    """Sends the log of this process to the file; the server's own also shows its warnings on the screen.

    Only the server starts a new file when one is full; the others notice and follow.
    """
    path = log_file(settings.data)
    path.parent.mkdir(parents=True, exist_ok=True)
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    to_file: logging.Handler = (
        RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=2, encoding="utf-8")
        if is_server
        else WatchedFileHandler(path, encoding="utf-8")
    )
    to_file.setFormatter(_formatter(settings, "file"))
    root.addHandler(to_file)
    for name in OF_STRANGERS:
        logging.getLogger(name).addFilter(Sparing())
    # Alembic tells each start which tables it would use, highdicom what it copies, httpx each address with the names
    # that people search for; only changes are of interest.
    for chatty in ("alembic", "highdicom", "httpx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    if is_server:
        multiprocessing.current_process().name = "server"
        screen = logging.StreamHandler()
        screen.setLevel(logging.WARNING)
        screen.setFormatter(_formatter(settings, "screen"))
        root.addHandler(screen)


def _formatter(settings: Settings, place: str) -> logging.Formatter:
    return JsonLines() if settings.log == "json" else logging.Formatter(FORMATS[place])


def log_request(method: str, path: str, status: int, *, seconds: float, author: str) -> None:
    """Notes a request that would change something, once its status is known."""
    path = _shortened(quote(path))
    told = {"method": method, "path": path, "status": status, "seconds": round(seconds, 4), "author": author}
    LOG.info("%s %s: %s in %.3f s, by %s", method, path, status, seconds, author, extra={"request": told})


def log_refusal(method: str, path: str, status: int, reason: str, address: str = "") -> None:
    """Notes that somebody was not let in; the reason names the person where one is known.

    Of many such lines those that are too many are counted only, and told in one line later: whoever is not let in must
    not push all other lines out of the log.
    """
    if not REFUSALS.may_be_told(address):
        return
    path = _shortened(quote(path))
    told = {"method": method, "path": path, "status": status}
    # What a client sent must not look like a line of its own.
    reason = _shortened(reason if reason.isprintable() else repr(reason))
    LOG.warning("%s %s was refused (%s): %s", method, path, status, reason, extra={"request": told})


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"


class Refusals:
    """Which refusals get a line of their own; the others are counted for each address."""

    def __init__(self) -> None:
        self._of_one = Allowance(20, again_after_seconds=30.0)
        self._of_all = Allowance(60, again_after_seconds=20.0)
        self._guard = threading.Lock()
        self._untold: Counter[str] = Counter()

    def may_be_told(self, address: str) -> bool:
        """Whether a refusal gets a line."""
        if self._of_one.take(address) and self._of_all.take(""):
            return True
        with self._guard:
            if not self._untold:
                later = threading.Timer(SUMMARY_SECONDS, self.tell)
                later.daemon = True
                later.start()
            self._untold[address if len(self._untold) < MOST_ADDRESSES else OTHERS] += 1
        return False

    def tell(self) -> None:
        """Says how many were refused since without a line."""
        with self._guard:
            untold, self._untold = self._untold, Counter()
        if untold:
            told = ", ".join(f"{count} from {address}" for address, count in untold.most_common())
            LOG.warning("More requests were refused in the last %g s: %s.", SUMMARY_SECONDS, told)


REFUSALS = Refusals()
"""Of this process."""


class Sparing(logging.Filter):
    """Lets through so many lines of one kind as somebody can read; the next says how many were left out before it."""

    def __init__(self) -> None:
        super().__init__()
        self._of_one = Allowance(20, again_after_seconds=30.0)
        self._left_out: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is written."""
        kind = f"{record.name} {record.msg}"
        if not self._of_one.take(kind):
            self._left_out[kind] += 1
            return False
        if count := self._left_out.pop(kind, 0):
            record.msg = f"{record.msg} ({count} more like this were left out before.)"
        return True
