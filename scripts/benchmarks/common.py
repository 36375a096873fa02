"""What all benchmarks share: their options, finished rows, and a server of their own."""

from __future__ import annotations

import argparse
import json
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import util
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

if TYPE_CHECKING:
    from lib.task import Task

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]

START_SECONDS = 900.0
"""A server that indexes a hundred thousand images for the first time needs minutes."""

LOOK_SECONDS = 2.0

STILL = 0.05
"""Share of a processor that a server without work takes at most."""


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    options = argparse.ArgumentParser(prog=f"python -m scripts.benchmarks.{name}", description=description)
    options.add_argument("--dataset", type=Path, metavar="DIR", help="read-only folder of a data set")
    options.add_argument("--seed", type=int, default=0, metavar="N", help="of everything random [%(default)s]")
    options.add_argument("--quick", action="store_true", help="at most ten minutes on two cores, same shape of result")
    options.add_argument("--out", type=Path, metavar="DIR", help="keeps finished rows; they are not done again")
    return options


class Rows:
    """Finished rows of a benchmark, kept in a file of JSON lines if there is a folder for it."""

    def __init__(self, out: Path | None, name: str) -> None:
        self.path = out / f"{name}.jsonl" if out else None
        if out:
            out.mkdir(parents=True, exist_ok=True)
        text = self.path.read_text() if self.path and self.path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if self.path and whole != text:
            # A run was killed while it wrote its last row, which is measured again.
            self.path.write_text(whole)
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]

    def find(self, **key: Any) -> dict[str, Any] | None:
        """The finished row with these values."""
        return next((row for row in self.rows if all(row.get(name) == value for name, value in key.items())), None)

    def add(self, row: dict[str, Any]) -> None:
        """Keeps a row."""
        self.rows.append(row)
        if self.path:
            with self.path.open("a") as file:
                file.write(json.dumps(plain(row)) + "\n")


def plain(value: Any) -> Any:
    """The value without NaN and infinity, which JSON does not know."""
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that this share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def task_of(app: str) -> Task:
    """The task of a folder below ``apps``."""
    spec = util.spec_from_file_location(f"apps_{app}", ROOT / "apps" / app / "main.py")
    if spec is None or spec.loader is None:
        raise ValueError(f"There is no app {app!r} below {ROOT / 'apps'}.")
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return next(value.TASK for name, value in vars(module).items() if name.endswith("App") and hasattr(value, "TASK"))


def apart(function: Callable[..., T], *arguments: Any) -> T:
    """What a function of a module returns in a process of its own, whose memory counts for nobody else."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


@dataclass
class Served:
    """A running server.

    Attributes:
        client: asks it.
        process: its main process.
        start_s: from the start of the process to the first answer.
    """

    client: httpx.Client
    process: subprocess.Popen[bytes]
    start_s: float

    @property
    def rss_mib(self) -> float:
        """Resident memory of the main process (Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    @property
    def cpu_s(self) -> float:
        """Processor time of the main process so far (Linux)."""
        times = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")

    def settle(self) -> None:
        """Waits until it has done what it does by itself: lists its images for viewers, keeps the headers of series."""
        self.client.get("/dicomweb/studies?limit=1", timeout=START_SECONDS).raise_for_status()
        before = -math.inf
        while (spent := self.cpu_s) > before + STILL * LOOK_SECONDS:
            before = spent
            time.sleep(LOOK_SECONDS)


@contextmanager
def served(
    studies: Path,
    data: Path,
    conf: Mapping[str, str],
    app: str = "segmentation",
    *,
    tree: Path = ROOT,
    port: int | None = None,
) -> Iterator[Served]:
    """Starts a server with an app, waits for its first answer, and ends it afterwards.

    Its code is that of ``tree``, which may be another checkout than this one; without ``port`` it takes a free one.
    """
    port = port or free_port()
    command = [sys.executable, "-m", "lib.serving", "--app", f"apps/{app}", "--studies", str(studies)]
    command += ["--data", str(data), "--port", str(port)]
    for key, value in conf.items():
        command += ["--conf", key, value]
    data.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    with (data / "server.out").open("ab") as screen:
        process = subprocess.Popen(
            command, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, stdout=screen, stderr=screen,
            start_new_session=True,
        )  # fmt: skip
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120)
    try:
        while not _answers(client):
            if process.poll() is not None or time.monotonic() - begin > START_SECONDS:
                raise RuntimeError(f"The server did not start:\n{(data / 'server.out').read_text()[-2000:]}")
            time.sleep(0.05)
        yield Served(client, process, time.monotonic() - begin)
    finally:
        client.close()
        process.terminate()
        process.wait()


def free_port() -> int:
    """A port of this machine that nobody uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health/live").status_code == 200
    except httpx.TransportError:
        return False
