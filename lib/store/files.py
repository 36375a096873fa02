"""Mask and weight files that are named by their content and never change."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib.errors import DamagedFile, LabelRefineryError, StorageFull, StorageUnusable, UnknownAnnotation

UNFINISHED = ".new-"
"""Begin of the name of a file that is being written."""

FULL = (errno.ENOSPC, errno.EDQUOT)

UNUSABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EIO, errno.ENODEV, errno.ESTALE,
            errno.ENOTCONN)  # fmt: skip
"""The system's numbers for a folder that is not as it was made."""

LOOK = "Run .venv/bin/python -m scripts.verify_store, and restore the file from a backup."


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
            StorageUnusable: if the folder cannot be written to.
        """
        digest = digest_of(content)
        target = self.path(digest)
        # A damaged one is mended by whoever brings the bytes again.
        if not self.is_sound(digest):
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

    def digests(self) -> Iterator[str]:
        """Of all files that are there."""
        for path in self.folder.glob(f"*/*{self.suffix}"):
            yield path.name.removesuffix(self.suffix)

    def get(self, digest: str) -> bytes:
        """The bytes with this digest, which no others are taken for.

        Raises:
            UnknownAnnotation: if the file is gone from the disk.
            DamagedFile: if it holds other bytes.
            StorageUnusable: if the system does not let it be read.
        """
        return read_sound(self.path(digest))

    def sound(self, digest: str) -> Path:
        """Where the file lies, for who reads it by its name; raises as ``get``."""
        self.get(digest)
        return self.path(digest)

    def is_sound(self, digest: str) -> bool:
        """Whether the file is there and holds the bytes that were stored."""
        try:
            self.get(digest)
        except (UnknownAnnotation, DamagedFile):
            return False
        return True


def read_sound(path: Path) -> bytes:
    """The bytes of a file of such a folder, for who knows only where it lies; raises as ``FileStore.get``."""
    digest, folder = path.name.partition(".")[0], path.parents[1]
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise UnknownAnnotation(f"The file {digest[:12]}… is missing below {folder.name}. {LOOK}") from error
    except OSError as error:
        raise trouble_with(folder, error) from error
    if digest_of(content) != digest:
        raise DamagedFile(
            f"The file {digest[:12]}… below {folder.name} is damaged: its bytes are not those that were stored. {LOOK}"
        )
    return content


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


def trouble_with(folder: Path, error: OSError) -> LabelRefineryError:
    """What the system's error means for a folder of ours, as a sentence that a client can read."""
    if is_full_disk(error):
        return StorageFull(f"The disk that holds {folder.name} is full. Free some space and send it again.")
    return StorageUnusable(
        f"The folder {folder.name} of the server's data cannot be used: {error.strerror or error}. Its administrator "
        "looks whether it is there, on a disk that works and may be written to, and belongs to the server's account; "
        "then send it again."
    )


def is_trouble_with(folder: Path, error: BaseException | None) -> bool:
    """Whether an error of the system is about a folder of ours: its disk is full, or something in it is unusable."""
    if not isinstance(error, OSError):
        return False
    is_about = isinstance(error.filename, str | Path) and Path(error.filename).is_relative_to(folder)
    return is_full_disk(error) or error.errno == errno.EROFS or (error.errno in UNUSABLE and is_about)


@contextmanager
def full_disk_told(folder: Path) -> Iterator[None]:
    """Turns a full disk, and a folder that cannot be used, into a sentence that a client can read."""
    try:
        yield
    except OSError as error:
        if not is_trouble_with(folder, error):
            raise
        raise trouble_with(folder, error) from error


def made_anew(folder: Path) -> Path:
    """A folder for what is temporary, which is made again if somebody deleted it.

    Raises:
        StorageFull, StorageUnusable: if that cannot be done.
    """
    with full_disk_told(folder):
        folder.mkdir(exist_ok=True)
    return folder
