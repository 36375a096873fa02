"""Locks between processes that nobody ends by deleting or exchanging a file: the system lets go of one with its holder.

A lock on a file (``flock``) is one on the file itself, not on its name: who deletes the name lets the next process
lock another file. So each holder looks whether the name still stands for what it locked, and a server locks its data
folder as well, which cannot be deleted while anything lies in it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from lib.store import layout

NO_FOLDER_LOCKS = (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)
"""What network disks answer to a lock on a folder; there the lock on the file has to do."""

PRIVATE = 0o600


class FolderLock:
    """Held by the one process that may use a data folder as a server does."""

    def __init__(self, handles: list[int]) -> None:
        self._handles = handles

    @classmethod
    def taken(cls, data: Path) -> FolderLock | None:
        """The lock on a data folder, or ``None`` if somebody else holds it.

        The file ``server.lock`` is locked beside the folder: earlier servers lock only that, and not every network
        disk has locks on folders.
        """
        handles: list[int] = []
        try:
            folder = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
            handles.append(folder)
            _lock_folder(folder)
            handles.append(_locked_file(data / layout.LOCK, waits=False))
        except BlockingIOError:
            _close(handles)
            return None
        except BaseException:
            _close(handles)
            raise
        return cls(handles)

    def note_holder(self) -> None:
        """Writes the number of this process into the file, for ``holder_of``."""
        os.ftruncate(self._handles[-1], 0)
        os.pwrite(self._handles[-1], str(os.getpid()).encode(), 0)

    def close(self) -> None:
        """Lets go of the lock."""
        _close(self._handles)

    def __enter__(self) -> FolderLock:
        """The lock, held as long as the block lasts."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Lets go of it."""
        self.close()


def holder_of(data: Path) -> str:
    """The number of the process that noted itself as holder of a data folder; ``unknown`` if none did."""
    try:
        return (data / layout.LOCK).read_text(encoding="utf-8", errors="replace").strip() or "unknown"
    except OSError:
        return "unknown"


@contextlib.contextmanager
def alone_with(file: Path) -> Iterator[None]:
    """Waits until no other process or thread is in such a block for the same lock file, which is made if need be."""
    handle = _locked_file(file, waits=True)
    try:
        yield
    finally:
        os.close(handle)


def _lock_folder(folder: int) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_FOLDER_LOCKS:
            raise


def _locked_file(file: Path, *, waits: bool) -> int:
    """A handle of a file that is locked, and that its name stands for.

    Raises:
        BlockingIOError: if somebody else holds the lock, unless it is waited for.
    """
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
            # It may have been deleted, and another one made in its place, before the lock was had.
            if os.path.samestat(os.fstat(handle), os.stat(file)):
                return handle
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _close(handles: list[int]) -> None:
    while handles:
        os.close(handles.pop())
