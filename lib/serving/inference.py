"""The inference process: one for the device, started once, so that networks stay warm and the server stays free.

The HTTP process hands orders over one by one, each asker in turn; a thread of it waits for the answers. The
process has a lower priority than the HTTP process. If it dies, the request that waited is told so, and the next
order starts a new one. If the HTTP process dies, the pipe closes and the process ends.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lib.errors import ComputationInterrupted, LabelRefineryError
from lib.serving.folder import read_image
from lib.serving.log import write_log
from lib.serving.settings import Settings
from lib.serving.turns import Turns
from lib.store.images import ImageKind
from lib.suitability import refuse_other_kind, refuse_other_values
from lib.task import Task
from lib.volume import Array, Volume, nifti_bytes

if TYPE_CHECKING:
    from lib.metrics.findings import Findings
    from lib.predictor import Predictor

LOG = logging.getLogger(__name__)

NICENESS = 5
"""How much the computing processes step back behind the HTTP process."""

WARM_NETWORKS = 2
"""Networks that stay in memory."""


def computing_threads() -> int:
    """Threads for one computing process: half of the cores, since inference and training may run together."""
    return max(1, (os.cpu_count() or 1) // 2)


@dataclass(frozen=True)
class Order:
    """What is to be drafted.

    Attributes:
        name: of the image, for messages.
        kind: a file, or the files of a series.
        paths: where it lies.
        task: what is to be found.
        weights: checkpoint file; ``None``: the task's rule drafts.
        asker: who wants it; askers take turns.
    """

    name: str
    kind: ImageKind
    paths: tuple[Path, ...]
    task: Task
    weights: Path | None
    asker: str = ""


@dataclass(frozen=True)
class Drafted:
    """A finished draft.

    Attributes:
        content: the mask as a gzipped NIfTI file on the image's grid.
        voxels: voxels per structure that the draft covers.
        findings: what the mask shows.
        seconds: time of each step.
    """

    content: bytes
    voxels: dict[str, int]
    findings: Findings
    seconds: dict[str, float]


class Draftsman:
    """Drafts in this process; keeps the last networks in memory. Not for several threads at once."""

    def __init__(self) -> None:
        self._predictors: OrderedDict[Path, Predictor] = OrderedDict()

    def draft(self, order: Order) -> Drafted:
        """Reads the image, finds the structures, packs the mask.

        Raises:
            UnreadableImage: if the image's voxels cannot be read, or are not what the task works on.
        """
        from lib.metrics.findings import findings

        begin = time.perf_counter()
        volume = read_image(order.kind, list(order.paths))
        refuse_other_kind(order.name, volume.grid, "", order.task)
        refuse_other_values(order.name, volume, order.task)
        read = time.perf_counter()
        mask, structures, steps = self._found(order, volume)
        packing = time.perf_counter()
        content = nifti_bytes(Volume(mask, volume.affine))
        counts = np.bincount(mask.ravel(), minlength=256)
        # What was not looked for is not absent.
        covered = tuple(s for s in order.task.structures if s.name in structures)
        shown = findings(mask, volume.grid, replace(order.task, structures=covered))
        end = time.perf_counter()
        seconds = {"read": read - begin, **steps, "write": end - packing, "total": end - begin}
        return Drafted(
            content=content,
            voxels={name: int(counts[value]) for name, value in structures.items()},
            findings=shown,
            seconds={step: round(spent, 4) for step, spent in seconds.items()},
        )

    def _found(self, order: Order, volume: Volume) -> tuple[Array, dict[str, int], dict[str, float]]:
        """The mask, the label values of the structures that were looked for, and the time of each step."""
        if order.weights is not None:
            predictor = self._predictor(order.weights)
            prediction = predictor.predict(volume)
            return prediction.mask, predictor.plan.structures, prediction.seconds
        from lib.drafts import RULES, looked_for

        begin = time.perf_counter()
        mask = RULES[order.task.draft_rule](volume, order.task)
        return mask, looked_for(order.task), {"network": time.perf_counter() - begin}

    def _predictor(self, weights: Path) -> Predictor:
        from lib.networks.checkpoint import Checkpoint
        from lib.predictor import Predictor

        if weights not in self._predictors:
            self._predictors[weights] = Predictor(Checkpoint.from_bytes(weights.read_bytes()), device())
        self._predictors.move_to_end(weights)
        while len(self._predictors) > WARM_NETWORKS:
            self._predictors.popitem(last=False)
        return self._predictors[weights]


def device() -> str:
    """The device that computes: a GPU if PyTorch sees one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def become_computing_process(settings: Settings) -> None:
    """Steps back behind the HTTP process, which alone ends it; shares its log, and takes its share of the cores."""
    write_log(settings, is_server=False)
    # Ctrl-C and system services send these to all processes at once; the HTTP process knows what to do with a job.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    import torch

    torch.set_num_threads(computing_threads())


def _serve(orders: Connection, settings: Settings) -> None:
    """Main function of the inference process."""
    become_computing_process(settings)
    # MONAI takes seconds to import: now, not when the first order comes.
    importlib.import_module("lib.predictor")
    draftsman = Draftsman()
    while True:
        try:
            order = orders.recv()
        except (EOFError, OSError):
            return
        try:
            answer: Drafted | Exception = draftsman.draft(order)
        except LabelRefineryError as error:
            answer = error
        # Whatever a network or a reader stumbles over belongs to this order and must not end the process.
        except Exception as error:
            LOG.exception("Drafting %s failed.", order.name)
            answer = RuntimeError(f"Drafting {order.name} failed: {error!r}")
        try:
            orders.send(answer)
        except OSError:
            return


class Inference:
    """The HTTP process's side: takes orders from any thread, answers them in turn."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._context = multiprocessing.get_context("spawn")
        self._orders: Turns[tuple[Order, Future[Drafted]]] = Turns()
        self._process: BaseProcess
        self._pipe: Connection
        self._thread: threading.Thread | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._thread is not None and self._process.is_alive()

    def start(self) -> None:
        """Starts the process and the thread that feeds it; does nothing if they run."""
        if self._thread is None:
            self._start_process()
            self._thread = threading.Thread(target=self._feed, name="inference", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ends both; orders that still wait are told so."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        waiting = self._orders.close()
        self._process.kill()
        self._process.join()
        thread.join()
        for _, answer in waiting:
            answer.set_exception(ComputationInterrupted("The server was stopped before this draft was made."))

    def draft(self, order: Order) -> Drafted:
        """Has a draft made and waits for it.

        Raises:
            ComputationInterrupted: if the process died over it, or the server stops.
            UnreadableImage: if the image's voxels cannot be read.
        """
        answer: Future[Drafted] = Future()
        self._orders.put(order.asker, (order, answer))
        return answer.result()

    def _start_process(self) -> None:
        self._pipe, remote = self._context.Pipe()
        self._process = self._context.Process(
            target=_serve, args=(remote, self._settings), name="inference", daemon=True
        )
        self._process.start()
        remote.close()
        LOG.info("inference process %s started.", self._process.pid)

    def _feed(self) -> None:
        while (next_one := self._orders.get()) is not None:
            order, answer = next_one
            try:
                result = self._exchange(order)
            except (EOFError, OSError):
                answer.set_exception(self._restarted(order))
                continue
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)

    def _exchange(self, order: Order) -> Drafted | Exception:
        if not self._process.is_alive():
            self._start_process()
        self._pipe.send(order)
        result: Drafted | Exception = self._pipe.recv()
        return result

    def _restarted(self, order: Order) -> ComputationInterrupted:
        self._process.join(timeout=5)
        code = self._process.exitcode
        if self._thread is None:
            return ComputationInterrupted(f"The server was stopped while {order.name} was drafted.")
        self._start_process()
        LOG.error("The inference process ended with code %s over %s; started again.", code, order.name)
        return ComputationInterrupted(
            f"The inference process stopped (exit code {code}) while {order.name} was drafted. "
            "It has been started again; send the request once more. If it happens again, the image may need more "
            "memory than this machine has."
        )
