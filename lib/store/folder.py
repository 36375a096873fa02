"""What a folder shows: its files, with what tells a changed one from a renamed one without opening any."""

from __future__ import annotations

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


class Folder:
    """A folder that is only read; no link leads out of it."""

    def __init__(self, path: Path, skipped: Skipped) -> None:
        self.path = path
        self.skipped = skipped

    def walk(self, start: str = "") -> Iterator[Seen]:
        """The files of a folder in it, with all that lies deeper; by default all files."""
        waiting = [start]
        while waiting:
            above = waiting.pop()
            try:
                with os.scandir(self.path / above) as found:
                    entries = sorted(found, key=lambda entry: entry.name)
            except OSError:
                continue
            for entry in entries:
                path = f"{above}/{entry.name}" if above else entry.name
                if self.skipped.names(path):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                elif seen := self.seen(path):
                    yield seen

    def at(self, path: str) -> Iterator[Seen]:
        """The file at a path, or all files of the folder there; nothing if it is skipped or behind a link."""
        place = self.path / path
        if self.skipped.covers(path) or place.parent.resolve() != self.path.resolve() / Path(path).parent:
            return
        if place.is_dir() and not place.is_symlink():
            yield from self.walk(path)
        elif seen := self.seen(path):
            yield seen

    def seen(self, path: str) -> Seen | None:
        """The file as it is, or ``None`` for what is no regular file or leads out of the folder."""
        place = os.path.join(self.path, path)
        try:
            status = os.stat(place, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                if not Path(place).resolve().is_relative_to(self.path.resolve()):
                    return None
                status = os.stat(place)
        # A link that leads to itself is a RuntimeError.
        except (OSError, RuntimeError):
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        return Seen(shown(path), status.st_size, status.st_mtime_ns, status.st_ino)


def shown(path: str) -> str:
    """A path as text; of a name that is not UTF-8, and could not be stored as it is, the bytes are shown."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
