"""What killed processes left below the data folder: unfinished copies of images, which nobody would ever finish."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from lib.store import layout
from lib.store.files import UNFINISHED

OLD_SECONDS = 3600.0
"""What was begun longer ago than this is hardly at work any more."""


def unfinished(data: Path, *, older_than: float = 0.0) -> list[Path]:
    """Files and folders that were begun and not finished, wherever this or an earlier version put them.

    Args:
        data: the data folder.
        older_than: seconds since they were changed last; those of a server that runs are younger.
    """
    begun = time.time() - older_than
    return sorted(path for path in _unfinished(data) if older_than == 0 or _changed(path) < begun)


def _unfinished(data: Path) -> Iterator[Path]:
    yield from (data / layout.TEMPORARY).glob("*")
    # Earlier versions wrote beside what it should become.
    yield from (data / layout.CACHE).glob(".*")
    yield from (data / layout.FETCHED).glob(f"{UNFINISHED}*")
    yield from (data / layout.UPLOADS).rglob(f"{UNFINISHED}*")
    for session in (data / layout.SESSIONS).glob("*"):
        if not (session / layout.ABOUT_SESSION).is_file():
            yield session


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    # Finished, or given up, just now.
    except FileNotFoundError:
        return time.time()


def delete_unfinished(data: Path) -> int:
    """Deletes all of them, and tells how many; only for whoever holds the lock on the data folder."""
    found = unfinished(data)
    for path in found:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(found)
