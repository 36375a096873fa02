"""How the decoder and those who ask it speak: messages with a length in front, and open files beside them.

What goes to the decoder is pickled; what comes back is JSON, since it may have been taken over by what it reads.
"""

from __future__ import annotations

import array
import json
import mmap
import os
import socket
import struct
from collections.abc import Sequence
from fcntl import F_ADD_SEALS, F_GET_SEALS, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE, fcntl
from math import prod
from typing import Any

import numpy as np

from lib.room import Room
from lib.volume import Array

LENGTH = struct.Struct("=I")

LONGEST = 1 << 24
"""Bytes of a message."""

MOST_FILES = 8
"""Open files beside one message."""

SHARING = frozenset(("mask", "grid", "doubt", "has_one_meaning"))
"""Readings by Python, numpy and zlib alone, several of which one process may do; all others have one of their own."""

MOST_SHARING = 16
"""So many of them."""

SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE
"""What lies in memory for both no longer changes, so that nobody stumbles over a part that is gone."""

KINDS = frozenset("buif")
"""Of numbers that an array may hold."""


class Ended(Exception):
    """The other side is gone."""


class Garbled(Exception):
    """The other side does not keep to the rules."""


def send(connection: socket.socket, message: bytes, files: Sequence[int] = ()) -> None:
    """Sends one message, and copies of open files with it.

    Raises:
        Ended: if nobody is there.
        Garbled: if it is too long.
    """
    if len(message) > LONGEST:
        raise Garbled(f"A message of {len(message)} bytes is too long; at most {LONGEST}.")
    try:
        socket.send_fds(connection, [LENGTH.pack(len(message))], files)
        connection.sendall(message)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise Ended from error


def receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """The next message and the open files that came with it, which the caller closes.

    Raises:
        Ended: if nobody is there.
        Garbled: if it is too long.
        TimeoutError: if the connection has a time limit.
    """
    files: list[int] = []
    try:
        head = b""
        while len(head) < LENGTH.size:
            head += _piece(connection, LENGTH.size - len(head), files)
        (length,) = LENGTH.unpack(head)
        if length > LONGEST or len(files) > MOST_FILES:
            raise Garbled(f"A message of {length} bytes and {len(files)} files is no message.")
        message = bytearray()
        while len(message) < length:
            message += _piece(connection, min(length - len(message), 1 << 20), files)
    except BaseException:
        close_all(files)
        raise
    return bytes(message), files


def _piece(connection: socket.socket, most: int, files: list[int]) -> bytes:
    room = socket.CMSG_SPACE(MOST_FILES * array.array("i").itemsize)
    try:
        piece, ancillary, _flags, _address = connection.recvmsg(most, room, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError as error:
        raise Ended from error
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers = array.array("i")
            numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
            files.extend(numbers)
    if not piece:
        raise Ended
    return piece


def close_all(files: Sequence[int]) -> None:
    """Closes open files."""
    for file in files:
        os.close(file)


def told(message: bytes) -> dict[str, Any]:
    """A message of the decoder.

    Raises:
        Garbled: if it is no JSON object.
    """
    try:
        found = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise Garbled("A message of the decoder is no JSON.") from error
    if not isinstance(found, dict):
        raise Garbled("A message of the decoder is no JSON object.")
    return found


def memory_file() -> int:
    """An open file that lies in memory only, to be written and then given away by ``shared``."""
    return os.memfd_create("array", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


class SharedRoom(Room):
    """Voxels in memory that can be given away as they are; what was read is written there and nowhere else."""

    def __init__(self, count: int, kind: np.dtype[Any]) -> None:
        self._bytes, self._kind = count * kind.itemsize, kind
        self._file = _MemoryFile()

    def put(self, at: int, voxels: Array) -> None:
        """Puts some of them, (N,), behind so many others."""
        left, offset = np.ascontiguousarray(voxels, self._kind).data.cast("B"), at * self._kind.itemsize
        while left:
            written = os.pwrite(self._file.number, left, offset)
            left, offset = left[written:], offset + written

    def whole(self) -> Array:
        """All of them, (N,), which can be read only."""
        if not self._bytes:
            return np.empty(0, self._kind)
        os.ftruncate(self._file.number, self._bytes)
        # Nobody else writes to a private mapping, so that it does not keep the file from being sealed.
        memory = _Memory(self._file.number, self._bytes, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
        memory.file = self._file
        return np.frombuffer(memory, self._kind)


class _MemoryFile:
    """A ``memory_file`` that is closed when nobody has it any more.

    Attributes:
        number: of the open file.
    """

    def __init__(self) -> None:
        self.number = memory_file()

    def __del__(self) -> None:
        os.close(self.number)


class _Memory(mmap.mmap):
    """Where the voxels of a ``SharedRoom`` lie.

    Attributes:
        file: is open as long as they are there.
    """

    file: _MemoryFile


def _memory_of(values: Array) -> _Memory | None:
    """The memory of which an array is the whole."""
    base: Any = values
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    is_whole = isinstance(base, _Memory) and values.nbytes == len(base)
    return base if is_whole and (values.flags.f_contiguous or values.flags.c_contiguous) else None


def shared(values: Array | int) -> tuple[dict[str, Any], int]:
    """An array as memory that another process can have: what to say of it, and the open file.

    Args:
        values: an array, or a ``memory_file`` whose bytes are one.
    """
    if isinstance(values, int):
        fcntl(values, F_ADD_SEALS, SEALS)
        return {"shape": [os.fstat(values).st_size], "type": "|u1", "order": "C"}, values
    order = "F" if values.flags.f_contiguous and not values.flags.c_contiguous else "C"
    about = {"shape": list(values.shape), "type": values.dtype.str, "order": order}
    if (memory := _memory_of(values)) is not None:
        fcntl(memory.file.number, F_ADD_SEALS, SEALS)
        return about, os.dup(memory.file.number)
    flat = values.T if order == "F" else np.ascontiguousarray(values)
    file = memory_file()
    try:
        with open(file, "wb", closefd=False) as copy:
            copy.write(flat.data.cast("B") if flat.size else b"")
        fcntl(file, F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(file)
        raise
    return about, file


def array_of(about: Any, file: int) -> Array:
    """The array that the decoder says lies in an open file; what is written to it stays in this process.

    Raises:
        Garbled: if it cannot lie there.
    """
    try:
        shape, kind, order = tuple(map(int, about["shape"])), np.dtype(str(about["type"])), str(about["order"])
    except (KeyError, TypeError, ValueError) as error:
        raise Garbled("The decoder does not say what its array is.") from error
    if order not in ("C", "F") or kind.kind not in KINDS or min(shape, default=0) < 0:
        raise Garbled(f"The decoder tells of an array {shape} of {kind}.")
    wanted = prod(shape) * kind.itemsize
    try:
        is_sealed = fcntl(file, F_GET_SEALS) & SEALS == SEALS
    except OSError:
        is_sealed = False
    found = os.fstat(file).st_size
    if not is_sealed or found != wanted:
        raise Garbled(f"The decoder tells of an array {shape} of {kind}, and gives {found} bytes.")
    if not wanted:
        return np.zeros(shape, kind)
    memory = mmap.mmap(file, wanted, access=mmap.ACCESS_COPY)
    return np.ndarray(shape, kind, memory, order="F" if order == "F" else "C")
