"""Packed bytes that are much larger than they look."""

from __future__ import annotations

import struct
import zlib
from functools import cache

ZEROS = bytes(1 << 20)


@cache
def _packed_zeros() -> bytes:
    """A piece of a deflate stream that unpacks to a MiB of zeros and may be repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(ZEROS) + packer.flush(zlib.Z_FULL_FLUSH)


@cache
def _sum_of_zeros(mib: int) -> int:
    checksum = 0
    for _ in range(mib):
        checksum = zlib.crc32(ZEROS, checksum)
    return checksum


def deflated(begin: bytes, mib: int) -> bytes:
    """A raw deflate stream: the bytes, then so many MiB of zeros, a thousandth of that in size."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(begin) + packer.flush(zlib.Z_FULL_FLUSH) + _packed_zeros() * mib + b"\x03\x00"


def bomb(begin: bytes, mib: int) -> bytes:
    """The same as a gzip file with the right checksum and length."""
    checksum = zlib.crc32(begin)
    for _ in range(mib if begin else 0):
        checksum = zlib.crc32(ZEROS, checksum)
    checksum = checksum if begin else _sum_of_zeros(mib)
    length = (len(begin) + mib * len(ZEROS)) % 2**32
    return b"\x1f\x8b\x08\0\0\0\0\0\x02\x03" + deflated(begin, mib) + struct.pack("<II", checksum, length)


def members(content: bytes, count: int = 0) -> bytes:
    """A gzip file; with a count one of so many members, some of them empty."""
    if not count:
        return _member(content)
    step = max(1, len(content) // count)
    pieces = [content[at : at + step] for at in range(0, len(content), step)]
    return b"".join(_member(piece) + _member(b"") for piece in pieces)


def _member(content: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    return packer.compress(content) + packer.flush()
