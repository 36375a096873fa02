"""The server's log: on the screen and in a file below the data folder."""

from __future__ import annotations

import logging
from logging.handlers import RotatingFileHandler, WatchedFileHandler
from pathlib import Path

LOG_BYTES = 5_000_000


def log_file(data: Path) -> Path:
    """Where the log lies."""
    return data / "logs" / "server.log"


def write_log(data: Path, *, is_server: bool) -> None:
    """Sends the log of this process to the file; the server's own also shows its warnings on the screen.

    Only the server starts a new file when one is full; the others notice and follow.
    """
    path = log_file(data)
    path.parent.mkdir(parents=True, exist_ok=True)
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    to_file: logging.Handler = (
        RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=2, encoding="utf-8")
        if is_server
        else WatchedFileHandler(path, encoding="utf-8")
    )
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(processName)s %(name)s: %(message)s"))
    root.addHandler(to_file)
    # Alembic tells each start which tables it would use; only changes are of interest.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    if is_server:
        screen = logging.StreamHandler()
        screen.setLevel(logging.WARNING)
        screen.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        root.addHandler(screen)
