"""What a folder shows: its files, with what tells a changed one from a renamed one without opening any."""

from __future__ import annotations

import errno
import os
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import accumulate
from pathlib import Path

SKIPPED_FOLDERS = frozenset(("labels", "derivatives"))
"""First-level folders that hold no images: MONAI Label puts its label files into the one, BIDS masks into the other."""


ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
"""The system's numbers for what is not there; after any other error a file may well be there."""

OF_MACHINE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT,
              errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.EREMOTEIO)  # fmt: skip
"""Its numbers for what is no fault of the file that it was asked for: a moment later it may answer."""


@dataclass(frozen=True)
class Skipped:
    """What is no image by its name.

    Attributes:
        at_top: names directly below the folder.
        patterns: shell patterns for paths below the folder, and for names of files and folders anywhere in it.
    """

    at_top: frozenset[str] = frozenset()
    patterns: tuple[str, ...] = ()

    def names(self, path: str) -> bool:
        """Whether a file or folder is meant by its own name or path."""
        name = path.rpartition("/")[2]
        if name.startswith(".") or (name == path and (name in self.at_top or name in SKIPPED_FOLDERS)):
            return True
        words = {unicodedata.normalize("NFC", path), unicodedata.normalize("NFC", name)} if self.patterns else ()
        return any(fnmatchcase(word, pattern) for pattern in self.patterns for word in words)

    def covers(self, path: str) -> bool:
        """Whether a file or folder, or one that it lies in, is meant."""
        return any(self.names(part) for part in accumulate(path.split("/"), lambda above, name: f"{above}/{name}"))


ALWAYS_SKIPPED = Skipped()
"""What is skipped in every folder."""


@dataclass(frozen=True)
class Seen:
    """A file as the folder shows it."""

    path: str
    size: int
    modified_ns: int
    inode: int

    @property
    def identity(self) -> tuple[int, int, int]:
        """What a file keeps when it is renamed."""
        return self.size, self.modified_ns, self.inode


@dataclass(frozen=True)
class Unseen:
    """What the system would not show, so that nobody knows what is there; that is not the same as nothing.

    Attributes:
        path: of the file, or of the folder with all that lies in it; empty: the whole folder.
        reason: in the system's words.
    """

    path: str
    reason: str

    def covers(self, path: str) -> bool:
        """Whether a file is meant by its own path, or lies in what is meant."""
        return not self.path or path == self.path or path.startswith(f"{self.path}/")


class Folder:
    """A folder that is only read; no link leads out of it."""

    def __init__(self, path: Path, skipped: Skipped) -> None:
        self.path = path
        self.skipped = skipped
        # On which disk each folder was that held something, if that is another one than the whole folder's.
        self._disks: dict[str, int] = {}
        self._place: tuple[int, int] | None = None

    @property
    def was_filled(self) -> bool:
        """Whether anything was seen in it since the start."""
        return self._place is not None

    def walk(self, start: str = "") -> Iterator[Seen | Unseen]:
        """The files of a folder in it, with all that lies deeper; by default all files.

        A folder that cannot be listed, or whose disk was taken away, is told as such.
        """
        waiting = [start]
        while waiting:
            above = waiting.pop()
            try:
                entries = self._listed(above)
            except OSError as error:
                if not above or error.errno not in ABSENT:
                    yield Unseen(shown(above), words_of(error))
                continue
            for entry in entries:
                path = f"{above}/{entry.name}" if above else entry.name
                try:
                    is_folder = entry.is_dir(follow_symlinks=False)
                except OSError as error:
                    yield Unseen(shown(path), words_of(error))
                    continue
                if is_folder:
                    waiting.append(path)
                elif seen := self.seen(path):
                    yield seen

    def _listed(self, folder: str) -> list[os.DirEntry[str]]:
        """What lies in a folder and is not skipped, by name.

        Raises:
            OSError: if the system does not show all of it, or it is empty where another disk was.
        """
        place = self.path / folder
        status = place.stat()
        with os.scandir(place) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        above = f"{folder}/" if folder else ""
        entries = [entry for entry in entries if not self.skipped.names(f"{above}{entry.name}")]
        if entries:
            self._note_place(folder, status)
        elif self._was_elsewhere(folder, status):
            raise OSError(errno.ENODEV, "It is empty and on another disk than before; is that mounted?")
        return entries

    def _note_place(self, folder: str, status: os.stat_result) -> None:
        if not folder:
            self._place = (status.st_dev, status.st_ino)
        elif self._place is not None and status.st_dev != self._place[0]:
            self._disks[folder] = status.st_dev
        else:
            self._disks.pop(folder, None)

    def _was_elsewhere(self, folder: str, status: os.stat_result) -> bool:
        if folder:
            return self._disks.get(folder, status.st_dev) != status.st_dev
        return self._place is not None and self._place != (status.st_dev, status.st_ino)

    def at(self, path: str) -> Iterator[Seen | Unseen]:
        """The file at a path, or all files of the folder there; nothing if it is skipped or behind a link."""
        if self.skipped.covers(path):
            return
        if away := self._away(path):
            yield away
            return
        place = self.path / path
        try:
            if place.parent.resolve() != self.path.resolve() / Path(path).parent:
                return
            is_folder = place.is_dir() and not place.is_symlink()
        except (OSError, RuntimeError):
            is_folder = False
        if is_folder:
            yield from self.walk(path)
        elif seen := self.seen(path):
            yield seen

    def _away(self, path: str) -> Unseen | None:
        """What a path lies in that was taken away: the whole folder, or one that was on a disk of its own."""
        above = ["", *(folder for folder in self._disks if Unseen(folder, "").covers(path))]
        for folder in above:
            try:
                is_other = self._was_elsewhere(folder, (self.path / folder).stat())
                reason = "It is another folder than before."
            except OSError as error:
                is_other, reason = True, words_of(error)
            if is_other:
                return Unseen(shown(folder), reason)
        return None

    def seen(self, path: str) -> Seen | Unseen | None:
        """The file as it is, or ``None`` for what is no regular file or leads out of the folder."""
        place = os.path.join(self.path, path)
        try:
            status = os.stat(place, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                if not Path(place).resolve().is_relative_to(self.path.resolve()):
                    return None
                status = os.stat(place)
        except OSError as error:
            return None if error.errno in ABSENT else Unseen(shown(path), words_of(error))
        # A link that leads to itself.
        except RuntimeError:
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        return Seen(shown(path), status.st_size, status.st_mtime_ns, status.st_ino)


def refusal(path: Path) -> OSError | None:
    """Why the system does not let a file be read; ``None`` if it does."""
    try:
        # What was a file a moment ago may be a pipe by now, which nobody should wait for.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            os.read(handle, 1)
        finally:
            os.close(handle)
    except OSError as error:
        return error
    return None


def words_of(error: OSError) -> str:
    """What the system says."""
    return error.strerror or str(error)


def shown(path: str) -> str:
    """A path as text; of a name that is not UTF-8, and could not be stored as it is, the bytes are shown."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
