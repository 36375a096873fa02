"""The log of all processes: in a file below the data folder, and the server's warnings on the screen."""

from __future__ import annotations

import json
import logging
import multiprocessing
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler, WatchedFileHandler
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lib.serving.settings import Settings
from lib.store import layout

LOG = logging.getLogger(__name__)

LOG_BYTES = 5_000_000

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
    path = quote(path)
    told = {"method": method, "path": path, "status": status, "seconds": round(seconds, 4), "author": author}
    LOG.info("%s %s: %s in %.3f s, by %s", method, path, status, seconds, author, extra={"request": told})


def log_refusal(method: str, path: str, status: int, reason: str) -> None:
    """Notes that somebody was not let in; the reason names the person where one is known."""
    path = quote(path)
    told = {"method": method, "path": path, "status": status}
    # What a client sent must not look like a line of its own.
    reason = reason if reason.isprintable() else repr(reason)
    LOG.warning("%s %s was refused (%s): %s", method, path, status, reason, extra={"request": told})
