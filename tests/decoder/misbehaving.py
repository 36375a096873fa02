"""Readings that do what a reader does which was taken over by a file, each told whether it came to that."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lib.decoder.protocol import send
from lib.errors import NoImage, UnknownStructure
from lib.opened import OpenFile

Answer = tuple[dict[str, Any], list[Any]]


def content(files: list[OpenFile], arguments: Mapping[str, Any]) -> Answer:
    """Reads all files and gives their bytes back."""
    read = [file.file.read() for file in files]
    return {"names": [file.name for file in files]}, [np.frombuffer(one, np.uint8) for one in read]


def process(files: list[OpenFile], arguments: Mapping[str, Any]) -> Answer:
    """Tells which process it is; refuses if that is wanted."""
    if arguments.get("is_refused"):
        raise UnknownStructure("refused")
    return {"process": os.getpid()}, []


def doubled(files: list[OpenFile], arguments: Mapping[str, Any]) -> Answer:
    return {}, [arguments["values"] * 2]


def opens(files: list[OpenFile], arguments: Mapping[str, Any]) -> Answer:
    """Tries to open, list, write, delete and run files."""
    path = arguments["path"]
    tries = {
        "read": lambda: Path(path).read_bytes(),
        "list": lambda: os.listdir(Path(path).parent),
        "write": lambda: Path(path).write_bytes(b"changed"),
        "delete": lambda: Path(path).unlink(),
        "link": lambda: Path(path).with_name("link").symlink_to(path),
        "run": lambda: os.posix_spawn("/bin/true", ["true"], {}),
        "through_proc": lambda: Path(f"/proc/{os.getppid()}/root{path}").read_bytes(),
        "environment": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
    }
    return {name: _came_of(attempt) for name, attempt in tries.items()}, []


def reaches(files: list[OpenFile], arguments: Mapping[str, Any]) -> Answer:
    """Tries to reach other processes."""
    libc = ctypes.CDLL(None, use_errno=True)

    def attach(process: int) -> None:
        if libc.ptrace(16, process, 0, 0) < 0:
            raise OSError(ctypes.get_errno(), "ptrace")

    def connect() -> None:
        with socket.create_connection(("127.0.0.1", arguments["port"]), timeout=5):
            pass

    tries = {
        "kill_starter": lambda: os.kill(arguments["starter"], 0),
        "kill_host": lambda: os.kill(os.getppid(), 0),
        "attach_host": lambda: attach(os.getppid()),
        "connect": connect,
    }
    return {name: _came_of(attempt) for name, attempt in tries.items()}, []


def _came_of(attempt: Any) -> str:
    try:
        attempt()
    except OSError as error:
        return type(error).__name__
    return "done"


def takes_memory(files: list[OpenFile], arguments: Mapping[str, Any]) -> Answer:
    return {"sum": float(np.ones(arguments["bytes"], np.uint8)[:10].sum())}, []


def runs_for_ever(files: list[OpenFile], arguments: Mapping[str, Any]) -> Answer:
    time.sleep(3600)
    return {}, []


def dies(files: list[OpenFile], arguments: Mapping[str, Any]) -> Answer:
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}, []


def refuses(files: list[OpenFile], arguments: Mapping[str, Any]) -> Answer:
    raise {"UnknownStructure": UnknownStructure("no such structure"), "NoImage": NoImage("a report", "SR"),
           "other": KeyError("odd")}[arguments["kind"]]  # fmt: skip


def lies(files: list[OpenFile], arguments: Mapping[str, Any]) -> Answer:
    """Answers by hand, with what is given, beside a piece of memory of eight bytes."""
    (connection,) = (socket.socket(fileno=number) for number in range(1, 30) if _is_socket(number))
    memory = os.memfd_create("lie", os.MFD_ALLOW_SEALING)
    os.write(memory, bytes(8))
    send(connection, arguments["answer"], [memory] if arguments["with_memory"] else [])
    os._exit(0)


def _is_socket(number: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:
        return False


READINGS = {
    "mask": process, "volume": process,
    "content": content, "doubled": doubled, "opens": opens, "reaches": reaches, "takes_memory": takes_memory,
    "runs_for_ever": runs_for_ever, "dies": dies, "refuses": refuses, "lies": lies,
}  # fmt: skip
