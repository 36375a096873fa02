"""What a process takes from itself, for good, before it looks at foreign bytes.

Landlock (Linux 5.13 and newer, https://docs.kernel.org/userspace-api/landlock.html) lets a process without any rights
give up files, connections and signals. The standard library does not know it, and glibc has no names for its calls.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from collections.abc import Iterable
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""Numbers of the system calls, alike on all processors."""

ASK_VERSION = 1
"""Flag of CREATE_RULESET."""

PATH_BENEATH = 1
"""Kind of a rule: what may be done below a folder."""

READ_FILE, READ_DIR = 1 << 2, 1 << 3

FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
"""By the version that brought the last of them: how many rights to files there are; all are given up."""

NET_RIGHTS, SCOPES = {4: 2}, {6: 2}
"""The same for binding and connecting, and for sockets without a file and signals, both to other processes."""

SET_DUMPABLE, SET_NO_NEW_PRIVILEGES = 4, 38
"""Of ``prctl``."""

LIBC = ctypes.CDLL(None, use_errno=True)


def landlock_version() -> int:
    """Which Landlock the kernel has; 0: none, or it is switched off."""
    return max(0, int(LIBC.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ASK_VERSION)))


def give_up_rights(readable: Iterable[Path] = ()) -> bool:
    """Gives up opening files, connecting, and reaching other processes, for this process and all that it starts.

    What is open stays open. May be called again: what is given up adds up, and processes that did so apart from each
    other cannot reach each other either.

    Args:
        readable: folders below which files may still be read, such as those of the program itself.

    Returns:
        Whether the kernel took them; without Landlock it did not.
    """
    LIBC.prctl(SET_DUMPABLE, 0, 0, 0, 0)
    LIBC.prctl(SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    version = landlock_version()
    if not version:
        return False
    handled = (_rights(FILE_RIGHTS, version), _rights(NET_RIGHTS, version), _rights(SCOPES, version))
    # A kernel refuses a longer structure than its own unless the rest of it is 0, which it is.
    ruleset = _called(CREATE_RULESET, struct.pack("=3Q", *handled), ctypes.c_size_t(24), 0)
    try:
        for folder in readable:
            _allow_reading(ruleset, folder)
        _called(RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return True


def _rights(by_version: dict[int, int], version: int) -> int:
    """All rights of one kind that a version knows, one bit each."""
    return (1 << max((count for since, count in by_version.items() if since <= version), default=0)) - 1


def _allow_reading(ruleset: int, folder: Path) -> None:
    if not folder.is_dir():
        return
    parent = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        _called(ADD_RULE, ruleset, PATH_BENEATH, struct.pack("=Qi", READ_FILE | READ_DIR, parent), 0)
    finally:
        os.close(parent)


def _called(number: int, *arguments: object) -> int:
    result = int(LIBC.syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock, system call {number}: {os.strerror(code)}")
    return result


def limit_itself(memory_bytes: int, file_bytes: int, processor_seconds: int) -> None:
    """Ends what takes too much: memory ends in MemoryError, files in OSError, time in the end of the process.

    Args:
        memory_bytes: private memory, with what the process has now (``private_bytes``).
        file_bytes: of one file, also of one that lies in memory only.
        processor_seconds: from now on.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    for kind, most in (
        (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + processor_seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (allowed, allowed))


def private_bytes() -> int:
    """Private memory of this process, as the system counts it against a limit."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0
