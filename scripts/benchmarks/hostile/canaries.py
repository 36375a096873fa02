"""Files that nobody may read: if one of them is opened, or its content comes back in any form, a border has a hole."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

MARK = b"LR-CANARY:"
"""How each line of a canary begins."""

LINE_BYTES = 32
"""As many as the server's key for tickets has."""

LINES = 2048

PASSWD = b"root:x:0:0:root:"
"""How a file begins that is on every machine and that nobody may read through the server either."""

GZIP = b"\x1f\x8b\x08"

MOST_BYTES = 4 << 20
"""Of a reply, and of each packed place in it, that are looked through as numbers."""

MOST_PLACES = 10
"""Places in a reply where something packed may begin."""

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


def line(name: str) -> bytes:
    """The line of which a canary consists."""
    return MARK + hashlib.sha256(name.encode()).hexdigest()[: LINE_BYTES - len(MARK)].encode()


@dataclass(frozen=True)
class Canaries:
    """Canaries around a data folder.

    Attributes:
        folder: outside of all that the server needs.
        data: the server's data folder, in which some lie too: uploads can name them by ``../``.
    """

    folder: Path
    data: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """Where they lie."""
        here = [
            self.folder / "bird.raw",
            self.folder / "bird_1.raw",
            self.folder / "bird.nii",
            self.folder / "bird.img",
        ]
        return (*here, self.data.parent / "bird.raw", self.data / "bird.raw", self.data / "bird.key")

    @property
    def keys(self) -> tuple[Path, ...]:
        """The server's own key for tickets, whose content marks it too; the server alone opens it."""
        # Where it lies, and where it did: the attack is made on earlier versions, too.
        return self.data / "keys" / "tickets.key", self.data / "tickets.key"

    def write(self) -> None:
        """Puts them there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.files:
            path.write_bytes((line(str(path)) * LINES)[: LINE_BYTES * LINES])
        for key in self.keys:
            key.parent.mkdir(mode=0o700, exist_ok=True)
            key.touch(mode=0o600)
            key.write_bytes(line("key"))

    @contextmanager
    def watched(self) -> Iterator[list[str]]:
        """The canaries that somebody opened while the block runs."""
        handler, observer = _Opened(), Observer()
        for path in self.files:
            observer.schedule(handler, str(path), event_filter=None)
        observer.start()
        try:
            yield handler.paths
        finally:
            observer.stop()
            observer.join()


class _Opened(FileSystemEventHandler):
    """Collects whatever happens to a file."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Notes it."""
        self.paths.append(f"{event.event_type} {event.src_path!s}")


# Looking for their content.


def _steps(text: bytes) -> bytes:
    """Differences of neighbours: what stays the same when all values are shifted."""
    return np.diff(np.frombuffer(text, np.uint8)).tobytes()


def _both_ways(text: bytes) -> tuple[bytes, bytes]:
    return _steps(text), _steps(text[::-1])


NEEDLES = (*_both_ways(MARK), *_both_ways(PASSWD))


def holds_canary(content: bytes) -> bool:
    """Whether a canary stands in these bytes: as it is, packed, shifted, reversed, or as numbers of any width."""
    return MARK in content or any(_holds(part[:MOST_BYTES]) for part in _parts(content))


def _holds(content: bytes) -> bool:
    return any(needle in view for view in _views(content) for needle in NEEDLES)


def _parts(content: bytes) -> Iterator[bytes]:
    """The bytes, and what is packed in them."""
    yield content
    at, places = content.find(GZIP), 0
    while at >= 0 and places < MOST_PLACES:
        try:
            yield zlib.decompressobj(31).decompress(content[at:], MOST_BYTES)
        except zlib.error:
            pass
        at, places = content.find(GZIP, at + 1), places + 1


def _views(content: bytes) -> Iterator[bytes]:
    """Differences of the bytes, read as whole numbers and as floating-point numbers of each width."""
    data = np.frombuffer(content, np.uint8)
    for width in (1, 2, 4, 8):
        for offset in range(width):
            yield np.diff(data[offset::width]).tobytes()
    for width in (4, 8):
        for offset in range(min(width, len(content))):
            whole = content[offset : offset + (len(content) - offset) // width * width]
            for order in "<>":
                yield np.diff(_rounded(np.frombuffer(whole, f"{order}f{width}"))).tobytes()


def _rounded(numbers: np.ndarray[Any, np.dtype[Any]]) -> Bytes:
    with np.errstate(all="ignore"):
        small = np.where(np.isfinite(numbers) & (np.abs(numbers) < 1e6), numbers, 0)
        return np.rint(small).astype(np.int64).astype(np.uint8)


def files_with_canary(folder: Path, canaries: Canaries) -> list[str]:
    """Files below a folder that hold a canary's content and are none."""
    known = {*canaries.files, *canaries.keys}
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return [str(path) for path in found if path not in known and holds_canary(path.read_bytes())]
