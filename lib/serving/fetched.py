"""Images of a DICOMweb server, fetched when first needed and kept while there is room.

A series lies in a folder of its own, a radiograph too. Several processes share them: who reads a folder holds a lock
on it (``flock``), and only a folder that nobody holds is deleted, the one that was used longest ago first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from lib.serving.one_at_a_time import OneAtATime
from lib.serving.remote import Remote
from lib.store.files import full_disk_told

UNFINISHED = ".new-"
"""Begin of the name of a folder that is being filled or emptied; no UID begins like that."""


class Fetched:
    """The images that were fetched from one server.

    A path is ``STUDY/SERIES``, or ``STUDY/SERIES/INSTANCE`` for a radiograph.
    """

    def __init__(self, remote: Remote, folder: Path, most_bytes: int) -> None:
        self.remote = remote
        self.folder = folder
        self.most_bytes = most_bytes
        self._fetching = OneAtATime()

    def has(self, path: str) -> bool:
        """Whether an image is here."""
        return (self.folder / path).is_dir()

    @contextlib.contextmanager
    def using(self, path: str) -> Iterator[list[Path]]:
        """The files of an image, fetched if need be; they stay at least as long as the block lasts.

        Raises:
            StudiesAway, StudiesRefused, NotFound: if they must be fetched and cannot.
        """
        folder = self.folder / path
        while (handle := _held(folder, fcntl.LOCK_SH)) is None:
            self._fetch(path, folder)
        try:
            os.utime(folder)
            yield sorted(folder.glob("*.dcm"))
        finally:
            os.close(handle)

    def forget(self, path: str) -> None:
        """Deletes an image that has changed at the server, unless it is in use just now."""
        self._delete(self.folder / path)

    def sweep(self) -> None:
        """Deletes what interrupted fetches left behind; only for whoever alone writes here."""
        for left in self.folder.glob(f"{UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)

    def _fetch(self, path: str, folder: Path) -> None:
        with self._fetching.making(path):
            if folder.is_dir():
                return
            unfinished = self._unfinished()
            try:
                with full_disk_told(self.folder):
                    unfinished.mkdir(parents=True)
                    self.remote.retrieve(address_of(path), unfinished)
                    folder.parent.mkdir(parents=True, exist_ok=True)
                    unfinished.rename(folder)
            except OSError:
                # Another process has fetched it meanwhile.
                if not folder.is_dir():
                    raise
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
        self._make_room(folder)

    def _make_room(self, newest: Path) -> None:
        """Deletes what was used longest ago until the rest fits; what is new or in use stays."""
        kept = sorted(_images(self.folder))
        total = sum(size for _, size, _ in kept)
        for _, size, folder in kept:
            if total <= self.most_bytes:
                return
            if folder != newest and self._delete(folder):
                total -= size

    def _delete(self, folder: Path) -> bool:
        handle = _held(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if handle is None:
            return False
        try:
            away = self._unfinished()
            folder.rename(away)
            shutil.rmtree(away, ignore_errors=True)
        finally:
            os.close(handle)
        return True

    def _unfinished(self) -> Path:
        return self.folder / f"{UNFINISHED}{uuid.uuid4().hex}"


def address_of(path: str) -> str:
    """The address at the server of what has this path."""
    uids = zip(("studies", "series", "instances"), path.split("/"), strict=False)
    return "/".join(f"{level}/{uid}" for level, uid in uids)


def _held(folder: Path, how: int) -> int | None:
    """A handle that holds a lock on a folder; ``None`` if it is not there, or somebody else's."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, how)
        # It may have been moved away, and another one put in its place, before the lock was had.
        if os.path.samestat(os.fstat(handle), os.stat(folder)):
            return handle
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(handle)
    return None


def _images(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """When each image was last used, its bytes, and its folder."""
    for name, folders, files in os.walk(folder):
        folders[:] = [inner for inner in folders if not inner.startswith(UNFINISHED)]
        if files:
            place = Path(name)
            # Another process may delete it meanwhile.
            with contextlib.suppress(FileNotFoundError):
                yield place.stat().st_mtime, sum((place / file).stat().st_size for file in files), place
