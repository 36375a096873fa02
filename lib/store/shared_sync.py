"""Bringing a file to the disk for good, once for all who wait for it."""

from __future__ import annotations

import os
import threading
from pathlib import Path


class SharedSync:
    """Syncs one file that many threads append to; those that come while a sync is under way share the next one."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._changed = threading.Condition()
        self._wanted = self._done = 0
        self._is_syncing = False
        self._inode = 0

    def wait(self) -> None:
        """Returns when all that this thread has written before is on the disk.

        A file that is gone counts as such: what was in it lies elsewhere by then.

        Raises:
            OSError: if the disk fails.
        """
        with self._changed:
            self._wanted += 1
            mine = self._wanted
            self._changed.wait_for(lambda: self._done >= mine or not self._is_syncing)
            if self._done >= mine:
                return
            self._is_syncing, reached = True, self._wanted
        is_synced = False
        try:
            self._sync()
            is_synced = True
        finally:
            with self._changed:
                self._is_syncing = False
                self._done = max(self._done, reached if is_synced else 0)
                self._changed.notify_all()

    def _sync(self) -> None:
        try:
            handle = os.open(self.file, os.O_RDONLY)
        except FileNotFoundError:
            return
        try:
            os.fsync(handle)
            inode = os.fstat(handle).st_ino
        finally:
            os.close(handle)
        if inode != self._inode:
            # A new file: its name must last too.
            folder = os.open(self.file.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
            self._inode = inode
