"""Tells which paths below a folder changed, so that nobody has to walk through all of it.

The system's events are a short cut and no promise: network folders give none, queues overflow, a system has only so
many watches. Whoever uses this walks through the whole folder from time to time as well.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import warnings
from pathlib import Path, PurePosixPath
from typing import Any

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

# The library says so, at length, of each folder that is moved out and in again, and watches it all the same.
warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning, "watchdog")

LOG = logging.getLogger(__name__)

TOLD_APART: list[type[FileSystemEvent]] = [
    DirCreatedEvent, DirDeletedEvent, DirMovedEvent,
    FileClosedEvent, FileCreatedEvent, FileDeletedEvent, FileMovedEvent,
]  # fmt: skip
"""Events of interest. A file that is being written is read again when it is closed, not at each write."""

LONGEST_WAIT = 5.0
"""How long a stream of events may go on before it is answered, as a multiple of the quiet that ends it."""

MOST_PATHS = 2000
"""With more changes than this, one walk through the folder is quicker."""


class FolderWatch(FileSystemEventHandler):
    """Watches one folder with all that lies deeper; links are not followed."""

    def __init__(self, folder: Path, quiet_seconds: float = 1.0) -> None:
        self.folder = folder
        self._quiet_seconds = quiet_seconds
        self._changed: set[str] = set()
        self._happened = threading.Event()
        self._lock = threading.Lock()
        self._observer: Any = None
        self._threads: list[threading.Thread] = []
        self._place: tuple[int, int] | None = None

    @property
    def is_watching(self) -> bool:
        """Whether changes are told."""
        return self._observer is not None

    def renew(self) -> None:
        """Starts to watch, or starts anew where the folder is another one by now, such as a disk put back.

        If that fails, or a running watch has ended or cannot cover all, one warning says so; nobody is told of
        changes then.
        """
        place = _place(self.folder)
        if place == self._place:
            if self._observer is not None and (fault := self._fault()):
                self._give_up(fault)
            return
        self._end()
        self._place = place
        if place is None:
            self._give_up("it is gone")
            return
        others = set(threading.enumerate())
        try:
            self._observer = _started(self, self.folder, recursive=True)
        except OSError as error:
            self._give_up(error.strerror or str(error))
            return
        # One of them reads what the system tells, and the observer does not notice when that one dies.
        self._threads = [
            thread for thread in set(threading.enumerate()) - others if type(thread).__module__.startswith("watchdog.")
        ]
        if fault := self._fault():
            self._give_up(fault)

    def changes(self, seconds: float) -> set[str] | None:
        """Waits for changes, and then for a little quiet, since they seldom come alone.

        Args:
            seconds: how long to wait for the first one.

        Returns:
            Paths of files and folders below the folder, without those in a folder that is named itself; empty if
            nothing happened, ``None`` if so much did that the whole folder should be walked through.
        """
        if self._happened.wait(seconds):
            end = time.monotonic() + LONGEST_WAIT * self._quiet_seconds
            while self._happened.is_set() and time.monotonic() < end:
                self._happened.clear()
                self._happened.wait(self._quiet_seconds)
        with self._lock:
            changed, self._changed = self._changed, set()
            self._happened.clear()
        paths = {path for path in changed if not any(str(above) in changed for above in PurePosixPath(path).parents)}
        return None if len(paths) > MOST_PATHS or "." in changed else paths

    def stop(self) -> None:
        """Ends the watch and wakes who waits for changes."""
        self._end()
        self._happened.set()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Notes what watchdog tells, from its thread."""
        paths = [os.fsdecode(path) for path in (event.src_path, event.dest_path) if path]
        with self._lock:
            self._changed.update(os.path.relpath(path, self.folder.resolve()) for path in paths)
        self._happened.set()

    def _fault(self) -> str:
        """Why the running watch does not tell all changes, or an empty text."""
        if not all(thread.is_alive() for thread in self._threads):
            return "the watch has ended"
        try:
            # The library says nothing when the system has no watches left for folders inside: see if there is one.
            _end(_started(FileSystemEventHandler(), self.folder, recursive=False))
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def _give_up(self, fault: str) -> None:
        self._end()
        LOG.warning("Changes in %s are found by walking through it only, not by events: %s.", self.folder, fault)

    def _end(self) -> None:
        observer, self._observer = self._observer, None
        if observer is not None:
            _end(observer)


def _started(handler: FileSystemEventHandler, folder: Path, *, recursive: bool) -> Any:
    observer = Observer()
    # By its real name: a link is not followed, not even the first one.
    observer.schedule(handler, str(folder.resolve()), recursive=recursive, event_filter=TOLD_APART)
    try:
        observer.start()
    except BaseException:
        _end(observer)
        raise
    return observer


def _end(observer: Any) -> None:
    observer.stop()
    with contextlib.suppress(RuntimeError):
        observer.join()


def _place(folder: Path) -> tuple[int, int] | None:
    """What tells one folder from another that has its name later, or ``None`` if there is none."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
