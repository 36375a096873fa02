"""Files that are open already: what reads foreign bytes takes one of these, so that it opens nothing by itself."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lib.errors import UnreadableImage


@dataclass(frozen=True)
class OpenFile:
    """A file that is open for reading.

    Attributes:
        file: binary and seekable. Readers begin at its first byte wherever it stands, and leave it open.
        name: without folders; its suffix names the format, and messages repeat it.
    """

    file: BinaryIO
    name: str

    @property
    def size(self) -> int:
        """How many bytes it has; where it stands is kept."""
        at = self.file.tell()
        size = self.file.seek(0, io.SEEK_END)
        self.file.seek(at)
        return size

    def first(self, count: int) -> bytes:
        """Its first bytes; it stands at its begin afterwards."""
        self.file.seek(0)
        found = self.file.read(count)
        self.file.seek(0)
        return found


_FENCES: set[Path] = set()


def fence(folder: Path) -> None:
    """Says that what is opened below a folder must lie in it, whatever links lead elsewhere; links within it are fine.

    Who may write into a folder of images must not show, by that, files that only this program may read.
    """
    _FENCES.add(folder.absolute())


def _refuse_outside(descriptor: int, path: Path) -> None:
    """Of the file that is open, not of what lies at the path: that may be another one by now."""
    fences = [folder for folder in _FENCES if path.is_relative_to(folder)]
    if not fences:
        return
    innermost = max(fences, key=lambda folder: len(folder.parts))
    if not Path(os.readlink(f"/proc/self/fd/{descriptor}")).is_relative_to(innermost.resolve()):
        raise UnreadableImage(
            f"{path.name} is a link, or lies behind one, that leads out of its folder; such are not followed."
        )


Source = Path | OpenFile
"""What readers take: a path is opened once, and closed when it has been read."""


@contextmanager
def opened(source: Source) -> Iterator[OpenFile]:
    """A source at its begin, open as long as the block lasts; one that came open stays so.

    Raises:
        UnreadableImage: if it is no file but a folder, a pipe or a device, or lies outside of its ``fence``.
        OSError: if it cannot be opened.
    """
    if isinstance(source, OpenFile):
        source.file.seek(0)
        yield source
        return
    # A pipe that nobody writes to must not hold up who opens it.
    descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _refuse_outside(descriptor, source)
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        file = os.fdopen(descriptor, "rb") if is_file else None
    except BaseException:
        os.close(descriptor)
        raise
    if file is None:
        os.close(descriptor)
        raise UnreadableImage(f"{source.name} is no file but a folder, a pipe or a device.")
    with file:
        yield OpenFile(file, source.name)
