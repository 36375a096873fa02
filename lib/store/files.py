"""Mask and weight files that are named by their content and never change."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib.errors import StorageFull, UnknownAnnotation

UNFINISHED = ".new-"
"""Begin of the name of a file that is being written."""

FULL = (errno.ENOSPC, errno.EDQUOT)


class FileStore:
    """A folder of files; each lies at ``ab/abcdef…`` where the name is the SHA-256 of its bytes."""

    def __init__(self, folder: Path, suffix: str) -> None:
        self.folder = folder
        self.suffix = suffix
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Where the file with this digest lies."""
        return self.folder / digest[:2] / f"{digest}{self.suffix}"

    def put(self, content: bytes) -> str:
        """Keeps the bytes and returns their digest once they are on the disk for good.

        Raises:
            StorageFull: if there is no room; nothing is left behind.
        """
        digest = digest_of(content)
        target = self.path(digest)
        if not target.exists():
            with full_disk_told(self.folder):
                if not target.parent.exists():
                    target.parent.mkdir(exist_ok=True)
                    _sync_folder(self.folder)
                write_durably(target, content)
        return digest

    def keep(self, digest: str, content: bytes) -> None:
        """Puts the bytes back if erasing or pruning deleted equal ones; in the transaction that stores their row."""
        if not self.path(digest).exists():
            self.put(content)

    def sweep(self) -> int:
        """Deletes what interrupted writes left behind; only for whoever alone writes here.

        Returns:
            Files deleted.
        """
        left = sorted(self.folder.glob(f"*/{UNFINISHED}*"))
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)

    def get(self, digest: str) -> bytes:
        """The bytes with this digest.

        Raises:
            UnknownAnnotation: if the file is gone from the disk.
        """
        try:
            return self.path(digest).read_bytes()
        except FileNotFoundError as error:
            raise UnknownAnnotation(f"The file {digest[:12]}… is missing below {self.folder.name}.") from error


def digest_of(content: bytes) -> str:
    """The name of a file with these bytes."""
    return hashlib.sha256(content).hexdigest()


def write_durably(target: Path, content: bytes) -> None:
    """Writes a file so that after a crash it is either whole or not there.

    The bytes go to another name, to the disk, and only then under their own name (rename is atomic on POSIX).
    """
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=UNFINISHED)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_full_disk(error: BaseException | None) -> bool:
    """Whether an error is the system's "no space left"."""
    return isinstance(error, OSError) and error.errno in FULL


@contextmanager
def full_disk_told(folder: Path) -> Iterator[None]:
    """Turns the system's "no space left" into a sentence that a client can read."""
    try:
        yield
    except OSError as error:
        if not is_full_disk(error):
            raise
        raise StorageFull(f"The disk that holds {folder.name} is full. Free some space and send it again.") from error
