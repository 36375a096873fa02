"""Voxels read piece by piece, and only as many as a header claims: a small packed file may unfold to any size."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lib.errors import UnreadableImage
from lib.opened import OpenFile

PIECE_BYTES = 1 << 20
"""So many bytes are in memory at once beside what they are put into; a multiple of the size of every voxel."""

MOST_TIMES = 1032
"""Deflate makes no more bytes than so many times what it reads (zlib's technical details)."""


class Reader(Protocol):
    """What bytes are read from, packed or not, such as ``gzip.GzipFile``."""

    def read(self, count: int, /) -> bytes:
        """The next bytes, at most so many; fewer only at the end."""


def pieces(reader: Reader, count: int, name: str, before: int = 0) -> Iterator[bytes]:
    """The next bytes of a reader, piece by piece.

    Args:
        reader: stands at the first of them.
        count: how many the header claims.
        name: of the file, for the message.
        before: bytes of the file that were read already, for the message.

    Raises:
        UnreadableImage: if there are fewer.
    """
    left = count
    while left:
        piece = reader.read(min(left, PIECE_BYTES))
        left -= len(piece)
        if left and len(piece) < min(left + len(piece), PIECE_BYTES):
            raise cut_off(name, before + count, before + count - left)
        yield piece


def cut_off(name: str, wanted: int, found: int) -> UnreadableImage:
    """What to raise about a file that has fewer bytes than its header says."""
    return UnreadableImage(
        f"{name} is cut off: its header promises {wanted} bytes, {found} are there. Copy the file again."
    )


def voxels_of(
    reader: Reader, count: int, kind: np.dtype[Any], name: str, before: int = 0
) -> Iterator[tuple[slice, NDArray[Any]]]:
    """The next voxels of a reader, piece by piece, each with where it belongs among all of them.

    Args:
        reader: stands at the first of them.
        count: how many the header claims.
        kind: their type in the file; they come in this machine's order of bytes.
        name: of the file, for the message.
        before: as in ``pieces``.

    Raises:
        UnreadableImage: if there are fewer.
    """
    at = 0
    for piece in pieces(reader, count * kind.itemsize, name, before):
        voxels = np.frombuffer(piece, kind)
        yield slice(at, at + voxels.size), voxels.astype(kind.newbyteorder("="), copy=False)
        at += voxels.size


def gzip_tells(file: OpenFile, length: int) -> bool:
    """Whether a gzip file ends with the length of its content that it should have, as one of a single member does.

    It is a quick look for who reads many headers: a file that was cut off does not, and one that could not hold so
    much by its own size does not either. Only reading tells for certain.
    """
    if length > file.size * MOST_TIMES:
        return False
    file.file.seek(-4, io.SEEK_END)
    return int.from_bytes(file.file.read(4), "little") == length % (1 << 32)
