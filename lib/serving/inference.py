"""The inference process: one for the device, started once, so that networks stay warm and the server stays free.

The HTTP process hands orders over one by one, each asker in turn; a thread of it waits for the answers. The
process has a lower priority than the HTTP process. If it dies, the request that waited is told so and not tried again
by itself; a new process is started by the next order, or else soon without one. If the HTTP process dies, the pipe
closes and the process ends.
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
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lib.decoder import foreign
from lib.decoder.client import Decoder, decoder, use
from lib.errors import ComputationInterrupted, LabelRefineryError, UnreadableImage, UnreadableMask
from lib.label_table import NamedValue
from lib.labels import voxels_per_structure
from lib.serving.log import write_log
from lib.serving.restarts import Restarts
from lib.serving.settings import Settings
from lib.serving.turns import Turns
from lib.store.files import read_sound
from lib.store.images import ImageKind
from lib.suitability import refuse_other_shape, refuse_other_values
from lib.task import Task
from lib.volume import Array, Volume, nifti_bytes

if TYPE_CHECKING:
    from lib.metrics.findings import Findings
    from lib.networks.checkpoint import Checkpoint
    from lib.predictor import Predictor
    from lib.refinement.refine import Refiner

LOG = logging.getLogger(__name__)

NICENESS = 5
"""How much the computing processes step back behind the HTTP process."""

LOOK_SECONDS = 0.5
"""How often it is looked whether the process lives."""

WARM_NETWORKS = 2
"""Networks that stay in memory: one that drafts and one that refines."""


def computing_threads() -> int:
    """Threads for one computing process: half of the cores, since inference and training may run together."""
    return max(1, (os.cpu_count() or 1) // 2)


@dataclass(frozen=True)
class RoughMask:
    """A mask that is to be refined.

    Attributes:
        path: where it lies: in the record, or as a client sent it.
        looked_at: names of the structures that its author covered; no other one is added.
        label_info: what the client says about its numbers; ``None``: nothing. Empty: they are the task's.
        wants_stages: the mask of every stage is wanted, too.
    """

    path: Path
    looked_at: tuple[str, ...]
    label_info: tuple[NamedValue, ...] | None = ()
    wants_stages: bool = False


@dataclass(frozen=True)
class Order:
    """What is to be drafted or refined.

    Attributes:
        name: of the image, for messages.
        kind: a file, or the files of a series.
        paths: where it lies.
        task: what is to be found.
        weights: checkpoint file; ``None``: the task's rule drafts.
        asker: who wants it; askers take turns. ``None``: nobody waits for it.
        rough: the mask to be refined, by the weights of a refiner; ``None``: the image is drafted.
    """

    name: str
    kind: ImageKind
    paths: tuple[Path, ...]
    task: Task
    weights: Path | None
    asker: str | None = ""
    rough: RoughMask | None = None


@dataclass(frozen=True)
class Drafted:
    """A finished draft, or refined mask.

    Attributes:
        content: the mask as a gzipped NIfTI file on the image's grid.
        voxels: voxels per structure that the draft covers.
        findings: what the mask shows.
        seconds: time of each step.
        kept: why the rough mask is left as it was; empty: it was refined, or there was none.
        stages: where they are wanted, the rough mask and that of each stage as a gzipped NIfTI file (I, J, K, S).
        stage_voxels: voxels per structure of each of these masks.
        remarks: what of a rough mask was not taken as it came.
    """

    content: bytes
    voxels: dict[str, int]
    findings: Findings
    seconds: dict[str, float]
    kept: str = ""
    stages: bytes = b""
    stage_voxels: tuple[dict[str, int], ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Found:
    """What a network or a rule found.

    Attributes:
        mask: uint8 (I, J, K) of label values on the image's grid.
        structures: label values by name of what was looked for.
        seconds: time of each step.
        kept: see ``Drafted``.
        stages: the rough mask and that of each stage, like ``mask``.
        remarks: see ``Drafted``.
    """

    mask: Array
    structures: dict[str, int]
    seconds: dict[str, float]
    kept: str = ""
    stages: tuple[Array, ...] = ()
    remarks: tuple[str, ...] = ()


def _maker(order: Order) -> str:
    """Who speaks of what was found."""
    if order.weights is None:
        return "rule"
    return "model" if order.rough is None else "refiner"


class Draftsman:
    """Drafts and refines in this process; keeps the last networks in memory. Not for several threads at once."""

    def __init__(self) -> None:
        self._networks: OrderedDict[Path, Any] = OrderedDict()

    def draft(self, order: Order) -> Drafted:
        """Reads the image, finds the structures or refines their mask, packs it.

        Raises:
            UnreadableImage: if the image's voxels cannot be read, or are not what the task works on.
            GridMismatch, UnknownStructure, UnreadableMask: if a mask to be refined does not belong to the image or the
                task, or cannot be read.
        """
        from lib.metrics.findings import findings

        begin = time.perf_counter()
        volume = foreign.volume(order.paths, is_series=order.kind is ImageKind.SERIES)
        refuse_other_shape(order.name, volume.grid, order.task)
        refuse_other_values(order.name, volume, order.task)
        read = time.perf_counter()
        found = self._found(order, volume)
        packing = time.perf_counter()
        content = nifti_bytes(Volume(found.mask, volume.affine))
        # What was not looked for is not absent.
        covered = tuple(s for s in order.task.structures if s.name in found.structures)
        looked_for = replace(order.task, structures=covered)
        shown = findings(found.mask, volume.grid, looked_for, _maker(order), is_measured=volume.is_measured)
        end = time.perf_counter()
        seconds = {"read": read - begin, **found.seconds, "write": end - packing, "total": end - begin}
        return Drafted(
            content=content,
            voxels=voxels_per_structure(found.mask, covered),
            findings=shown,
            seconds={step: round(spent, 4) for step, spent in seconds.items()},
            kept=found.kept,
            stages=nifti_bytes(Volume(np.stack(found.stages, axis=-1), volume.affine)) if found.stages else b"",
            stage_voxels=tuple(voxels_per_structure(mask, covered) for mask in found.stages),
            remarks=found.remarks,
        )

    def _found(self, order: Order, volume: Volume) -> _Found:
        if order.weights is not None:
            if order.rough is not None:
                return self._refined(order, order.rough, order.weights, volume)
            predictor = self._predictor(order.weights)
            prediction = predictor.predict(volume)
            return _Found(prediction.mask, predictor.plan.structures, prediction.seconds)
        from lib.drafts import RULES, looked_for

        begin = time.perf_counter()
        mask = RULES[order.task.draft_rule](volume, order.task)
        return _Found(mask, looked_for(order.task), {"network": time.perf_counter() - begin})

    def _refined(self, order: Order, rough: RoughMask, weights: Path, volume: Volume) -> _Found:
        begin = time.perf_counter()
        try:
            draft, remarks = foreign.mask(rough.path, volume.grid, rough.label_info, order.task, order.name)
        except UnreadableImage as error:
            raise UnreadableMask(str(error)) from error
        covered = {name: value for name, value in order.task.values.items() if name in rough.looked_at}
        refiner = self._refiner(weights)
        refining = time.perf_counter()
        refined = refiner.refine(volume, draft, looked_at=covered.values())
        seconds = {
            "prepare": refining - begin,
            "network": refined.seconds["network"],
            "restore": refined.seconds["all"] - refined.seconds["network"],
        }
        stages = (draft, *refined.stages) if rough.wants_stages else ()
        return _Found(refined.mask, covered, seconds, refined.kept, stages, remarks)

    def _predictor(self, weights: Path) -> Predictor:
        from lib.predictor import Predictor

        predictor: Predictor = self._warm(weights, Predictor)
        return predictor

    def _refiner(self, weights: Path) -> Refiner:
        from lib.refinement.refine import Refiner

        refiner: Refiner = self._warm(weights, Refiner)
        return refiner

    def _warm(self, weights: Path, build: Callable[[Checkpoint, str], Any]) -> Any:
        """What was built of a weight file when it was first asked for."""
        from lib.networks.checkpoint import Checkpoint

        if weights not in self._networks:
            self._networks[weights] = build(Checkpoint.from_bytes(read_sound(weights)), device())
        self._networks.move_to_end(weights)
        while len(self._networks) > WARM_NETWORKS:
            self._networks.popitem(last=False)
        return self._networks[weights]


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


def _serve(orders: Connection, settings: Settings, readers: Decoder) -> None:
    """Main function of the inference process."""
    use(readers)
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
        self._started = 0.0
        # Held while the process is exchanged for another one, or ended.
        self._starting = threading.Lock()
        self._stopping = threading.Event()
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
            threading.Thread(target=self._keep_alive, name="inference-watch", daemon=True).start()

    def stop(self) -> None:
        """Ends both; orders that still wait are told so."""
        self._stopping.set()
        with self._starting:
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
        if not self._orders.put(order.asker, (order, answer)):
            raise ComputationInterrupted("The server is stopping and makes no draft any more.")
        return answer.result()

    def hurry(self, name: str, asker: str) -> None:
        """Lets somebody wait for the draft of an image that nobody has waited for so far."""
        self._orders.adopt(asker, lambda waiting: waiting[0].name == name)

    def _start_process(self) -> None:
        self._pipe, remote = self._context.Pipe()
        self._process = self._context.Process(
            target=_serve, args=(remote, self._settings, decoder()), name="inference", daemon=True
        )
        self._process.start()
        self._started = time.monotonic()
        remote.close()
        LOG.info("inference process %s started.", self._process.pid)

    def _feed(self) -> None:
        while (next_one := self._orders.get()) is not None:
            order, answer = next_one
            result = self._exchange(order)
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)

    def _exchange(self, order: Order) -> Drafted | Exception:
        try:
            process, pipe = self._running()
        except ComputationInterrupted as error:
            return error
        except OSError as error:
            return ComputationInterrupted(f"The inference process cannot be started ({error}). Send it again later.")
        try:
            pipe.send(order)
            result: Drafted | Exception = pipe.recv()
            return result
        except (EOFError, OSError):
            return self._restarted(process, order)

    def _running(self) -> tuple[BaseProcess, Connection]:
        """The process and its pipe; started again if it is dead."""
        with self._starting:
            if self._thread is None:
                raise ComputationInterrupted("The server is stopping and makes no draft any more.")
            if not self._process.is_alive():
                self._start_process()
            return self._process, self._pipe

    def _keep_alive(self) -> None:
        """Starts a process again that died, also while nobody orders anything."""
        restarts = Restarts()
        while not self._stopping.is_set():
            while self._process.is_alive() and not self._stopping.wait(LOOK_SECONDS):
                pass
            if self._stopping.wait(restarts.pause_after(time.monotonic() - self._started)):
                return
            before = self._process
            try:
                if self._running()[0] is not before:
                    LOG.error("The inference process ended with code %s; started again.", before.exitcode)
            except ComputationInterrupted:
                return
            except OSError as error:
                LOG.error("The inference process cannot be started (%s); trying again later.", error)

    def _restarted(self, process: BaseProcess, order: Order) -> ComputationInterrupted:
        process.join(timeout=5)
        code = process.exitcode
        if self._stopping.is_set():
            return ComputationInterrupted(f"The server was stopped while {order.name} was drafted.")
        # If it cannot be started now, it is tried again later.
        with contextlib.suppress(ComputationInterrupted, OSError):
            self._running()
        LOG.error("The inference process ended with code %s over %s; started again.", code, order.name)
        return ComputationInterrupted(
            f"The inference process stopped (exit code {code}) while {order.name} was drafted. "
            "It has been started again; send the request once more. If it happens again, the image may need more "
            "memory than this machine has."
        )
