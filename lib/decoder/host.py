"""The process that decodes foreign files; each reading has a process of its own, forked from here.

It loads the readers once, gives up its rights and then waits. Whoever wants a reading sends one end of a connection,
which becomes a process that does this reading and ends; readings of masks, which need nothing but Python, numpy and
zlib, may follow each other in one. The host ends when nobody can ask it any more.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pickle
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lib.decoder.confinement import give_up_rights, limit_itself, private_bytes
from lib.decoder.protocol import MOST_SHARING, SHARING, Garbled, SharedRoom, close_all, receive, send, shared
from lib.errors import LabelRefineryError, UnreadableImage
from lib.opened import OpenFile
from lib.room import MOST_VOXEL_BYTES, make_room_by

CONTROL = 0
"""Number of the open file over which connections come."""

SPARE_BYTES = 256 << 20
"""What a reading may take beside the voxels."""

PROCESSOR_SECONDS = 600
"""Of one reading; whoever waits for it has a shorter patience."""

SYSTEM_FOLDERS = ("/usr/lib", "/lib", "/lib64", "/usr/share")
"""Where a Linux system keeps shared libraries and tables of characters and time zones."""

Reading = Callable[[list[OpenFile], Mapping[str, Any]], tuple[dict[str, Any], list[Any]]]
"""Files and arguments to what is told as JSON, and arrays that go with it."""


def _open(connection: socket.socket, number: int, name: str) -> OpenFile:
    """A file of the one who asks, which is opened there.

    Raises:
        UnreadableImage: if it cannot be opened; with the reason.
    """
    _tell(connection, {"open": number})
    message, files = receive(connection)
    if len(files) != 1:
        close_all(files)
        raise UnreadableImage(f"{name} cannot be opened: {message.decode(errors='replace')}.")
    return OpenFile(open(files[0], "rb"), name)


def _tell(connection: socket.socket, what: dict[str, Any], files: list[int] | None = None) -> None:
    send(connection, json.dumps(what, allow_nan=False).encode(), files or ())


def code_folders() -> list[Path]:
    """Where Python's own and this project's modules lie, which libraries load parts of when they need them."""
    own = Path(__file__).parents[1]
    folders = {own, Path(sys.prefix), Path(sys.base_prefix), *map(Path, sys.path[1:])} - {own.parent, Path()}
    return [*folders, *map(Path, SYSTEM_FOLDERS)]


def main(readings: str) -> None:
    """Waits for askers until there can be none.

    Args:
        readings: name of the module whose ``READINGS`` are done here.
    """
    table: Mapping[str, Reading] = importlib.import_module(readings).READINGS
    control = socket.socket(fileno=CONTROL)
    # Children end by themselves, and nobody asks how.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    memory_bytes = private_bytes() + MOST_VOXEL_BYTES + SPARE_BYTES
    is_confined = give_up_rights(code_folders())
    # What is never collected is not written to either, and so stays in the memory that all readings share.
    gc.disable()
    gc.freeze()
    os.write(1, b"confined\n" if is_confined else b"apart\n")
    while True:
        word, connections, _, _ = socket.recv_fds(control, 16, 1)
        if not word:
            return
        if not connections:
            continue
        if not os.fork():
            try:
                control.close()
                _read(socket.socket(fileno=connections[0]), table, memory_bytes)
            finally:
                os._exit(0)
        close_all(connections)


def _read(connection: socket.socket, table: Mapping[str, Reading], memory_bytes: int) -> None:
    """What a process does that was forked for one reading."""
    make_room_by(SharedRoom)
    limit_itself(memory_bytes, 2 * MOST_VOXEL_BYTES + SPARE_BYTES, PROCESSOR_SECONDS)
    # Once more, so that it reaches neither the host nor the readings beside it.
    give_up_rights(code_folders())
    me = os.pidfd_open(os.getpid())
    _tell(connection, {"begin": True}, [me])
    os.close(me)
    for _ in range(MOST_SHARING):
        if not _answer(connection, table):
            break


def _answer(connection: socket.socket, table: Mapping[str, Reading]) -> bool:
    """Does the reading that is asked for; tells whether another one may follow."""
    message, first = receive(connection)
    name, names, arguments = pickle.loads(message)
    memories: list[int] = []
    files: list[OpenFile] = []
    try:
        files = [OpenFile(open(file, "rb"), names[0]) for file in first] or [
            _open(connection, number, file) for number, file in enumerate(names)
        ]
        result, arrays = table[name](files, arguments)
        about = [shared(values) for values in arrays]
        memories = [file for _, file in about]
        answer = {"done": result, "arrays": [what for what, _ in about]}
    except Garbled as error:
        answer = {"refused": "UnreadableImage", "message": str(error)}
    except LabelRefineryError as error:
        answer = {"refused": type(error).__name__, "message": str(error), "modality": getattr(error, "modality", "")}
    except MemoryError:
        answer = {"refused": "MemoryError", "message": ""}
    except Exception as error:
        answer = {"unexpected": repr(error)[:1000], "traceback": traceback.format_exc()[-4000:]}
    _tell(connection, answer, memories)
    close_all(memories)
    for file in files:
        file.file.close()
    return name in SHARING and "done" in answer


if __name__ == "__main__":
    main(sys.argv[1])
