"""Watches a server from a process of its own: memory, open files, and how long it takes to say that it lives."""

from __future__ import annotations

import http.client
import os
import signal
import time
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

PROBE_S = 0.05
"""Between two questions."""

SILENCE_S = 20.0
"""A server that does not answer for so long is ended: it would not come back."""


@dataclass
class Seen:
    """What was seen so far.

    Attributes:
        waited_s: for each answer of ``/health/live``.
        peak_mib: the most memory by process: what it is called, and its id.
        descriptors: most open files of the main process.
        threads: most threads of it.
        ended: why the server was ended; empty: it was not.
    """

    waited_s: list[float] = field(default_factory=list)
    peak_mib: dict[str, int] = field(default_factory=dict)
    descriptors: int = 0
    threads: int = 0
    ended: str = ""

    def add(self, other: Seen) -> None:
        """Adds what was seen of another start of the server."""
        self.waited_s += other.waited_s
        self.peak_mib |= other.peak_mib
        self.descriptors = max(self.descriptors, other.descriptors)
        self.threads = max(self.threads, other.threads)


class Watch:
    """Watches one process with all that it starts, from its begin until ``stop``."""

    def __init__(self, pid: int, port: int, most_mib: int) -> None:
        """Begins; a server of whose processes one grows beyond ``most_mib`` is ended before the machine is."""
        context = get_context("spawn")
        self._pipe, remote = context.Pipe()
        self._process = context.Process(target=_watch, args=(remote, pid, port, most_mib), daemon=True)
        self._process.start()
        remote.close()

    def stop(self) -> Seen:
        """Ends it and tells what it saw."""
        try:
            self._pipe.send(None)
            seen: Seen = self._pipe.recv()
        except (EOFError, OSError):
            seen = Seen(ended="The watch itself ended.")
        self._process.join(timeout=10)
        return seen


def _watch(orders: Connection, pid: int, port: int, most_mib: int) -> None:
    seen = Seen()
    probe = _Probe(port)
    next_at = time.monotonic()
    while not orders.poll(max(0.0, next_at - time.monotonic())):
        next_at = time.monotonic() + PROBE_S
        waited = probe.waited_s()
        if waited is not None:
            seen.waited_s.append(waited)
        look(pid, seen)
        if not seen.ended:
            seen.ended = _why_to_end(seen, waited, most_mib)
            if seen.ended:
                end(pid)
    orders.recv()
    orders.send(seen)


def _why_to_end(seen: Seen, waited: float | None, most_mib: int) -> str:
    large = [f"{name}: {peak} MiB" for name, peak in seen.peak_mib.items() if peak > most_mib]
    if large:
        return f"Ended: {large[0]}."
    if waited is not None and waited >= SILENCE_S:
        return f"Ended: /health/live gave no answer for {SILENCE_S:g} s."
    return ""


def end(pid: int) -> None:
    """Ends a server that was started in a session of its own, with all its processes."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


class _Probe:
    """Asks ``/health/live`` on one connection, as a load balancer does."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: http.client.HTTPConnection | None = None

    def waited_s(self) -> float | None:
        """Seconds until the answer came; ``None`` if nobody listens."""
        begin = time.monotonic()
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=SILENCE_S)
            self._connection.request("GET", "/health/live")
            self._connection.getresponse().read()
        except TimeoutError:
            self._forget()
            return SILENCE_S
        except (OSError, http.client.HTTPException):
            # A connection that was idle may be closed; the next one counts.
            self._forget()
            return None
        return time.monotonic() - begin

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def look(pid: int, seen: Seen) -> None:
    """Notes the memory of a process and of all that it started, and its files and threads (Linux)."""
    for one in tree(pid):
        try:
            status = Path(f"/proc/{one}/status").read_text()
        except OSError:
            continue
        if "VmHWM:" in status:
            peak = int(status.split("VmHWM:")[1].split()[0]) // 1024
            name = f"{'http' if one == pid else 'child'} {one}"
            seen.peak_mib[name] = max(seen.peak_mib.get(name, 0), peak)
        if one == pid and "Threads:" in status:
            seen.threads = max(seen.threads, int(status.split("Threads:")[1].split()[0]))
    try:
        seen.descriptors = max(seen.descriptors, len(os.listdir(f"/proc/{pid}/fd")))
    except OSError:
        pass


def tree(pid: int) -> list[int]:
    """A process and all that it started, theirs included (Linux)."""
    found = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [each for child in path.read_text().split() for each in tree(int(child))]
        except OSError:
            continue
    return found


def summary(seen: Seen) -> dict[str, Any]:
    """For the report."""
    from scripts.benchmarks.common import percentile

    ordered = sorted(seen.peak_mib.items(), key=lambda entry: -entry[1])
    return {
        "probes": len(seen.waited_s),
        "live_p50_ms": round(1000 * percentile(seen.waited_s, 0.5), 1),
        "live_p99_ms": round(1000 * percentile(seen.waited_s, 0.99), 1),
        "live_max_ms": round(1000 * max(seen.waited_s, default=float("nan")), 1),
        "peak_mib": dict(ordered[:6]),
        "descriptors": seen.descriptors,
        "threads": seen.threads,
    }
