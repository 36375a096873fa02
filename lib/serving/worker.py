"""The worker process: does the jobs of the record one after the other, beside the server.

While no job waits it measures what experts changed, one image after the other.

It takes a job with a lease and renews it while it works. It publishes in the same transaction that ends the job, and
only if the job is still its own, so a cancelled job or an orphan changes nothing. It ends by itself when the server
is gone; the job then waits for the next worker.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from lib.decoder.client import Decoder, decoder, use
from lib.errors import LabelRefineryError, RecordAway, StorageFull
from lib.serving.drafting import Drafting
from lib.serving.inference import Draftsman, become_computing_process
from lib.serving.library import Library
from lib.serving.measuring import compare_next
from lib.serving.restarts import Restarts
from lib.serving.settings import Settings, StudiesServer
from lib.store.jobs import LEASE, Job, JobKind, JobState, LostLease
from lib.store.record import Record, open_record
from lib.task import Task

LOG = logging.getLogger(__name__)

POLL_SECONDS = 0.3
"""How often an idle worker looks for a job."""

REPORT_SECONDS = 1.0
"""How often a busy worker writes its progress."""


@dataclass(frozen=True)
class Workplace:
    """What a worker needs to know; plain values, handed over when the process starts."""

    task: Task
    studies: Path | StudiesServer
    settings: Settings


class ServerGone(Exception):
    """The process that started this worker has ended."""


def open_workplace(workplace: Workplace) -> tuple[Record, Library]:
    """The record and the images as the server has them."""
    settings = workplace.settings
    record = open_record(workplace.task, settings.data, settings.store)
    return record, Library(record, workplace.studies, settings.data)


def _work(workplace: Workplace, owner: str, server: int, readers: Decoder) -> None:
    """Main function of the worker process; ``server`` is the process that started it.

    The number comes from there: a server that dies while this process is still importing would not be missed here.
    """

    def check_server() -> None:
        if os.getppid() != server:
            raise ServerGone

    use(readers)
    with contextlib.suppress(ServerGone):
        check_server()
        become_computing_process(workplace.settings)
        record, library = open_workplace(workplace)
        try:
            while True:
                check_server()
                job = record.jobs.claim(owner, tuple(WORK))
                if job is not None:
                    run_job(record, library, job, check_server)
                elif not compare_next(record):
                    time.sleep(POLL_SECONDS)
        finally:
            record.jobs.give_back(owner)
            record.close()


def run_job(
    record: Record,
    library: Library,
    job: Job,
    check_server: Callable[[], None],
    work: Mapping[JobKind, Work] | None = None,
) -> None:
    """Does one claimed job; its errors end up in the job, not here.

    Args:
        record: what the work reads and writes.
        library: the images.
        job: what is to be done.
        check_server: raises if the job must stop because the server does.
        work: how each kind of job is done; ``None``: as the worker does it.

    Raises:
        ServerGone: if ``check_server`` finds that the server is gone.
    """
    diary = Diary(record, job, check_server)
    try:
        with diary.keeping_lease():
            (work or WORK)[job.kind](record, library, job, diary)
        LOG.info("Job %s (%s): %s", job.id, job.kind, record.jobs.get(job.id).log[-1])
    except LostLease:
        LOG.info("Job %s was cancelled or taken over.", job.id)
    except ServerGone:
        raise
    except LabelRefineryError as error:
        LOG.warning("Job %s (%s) failed: %s", job.id, job.kind, error)
        _fail(record, job, str(error))
    # A job may stumble over anything; it fails with its reason and the worker goes on.
    except Exception as error:
        LOG.exception("Job %s failed.", job.id)
        _fail(record, job, f"{type(error).__name__}: {error}")


def _fail(record: Record, job: Job, reason: str) -> None:
    with contextlib.suppress(LostLease):
        record.jobs.finish(job, JobState.FAILED, {"error": reason}, reason)


class Diary:
    """Writes a job's progress into the record, not more often than useful, and notices when the job is lost."""

    def __init__(self, record: Record, job: Job, check_server: Callable[[], None]) -> None:
        self._record = record
        self._job = job
        self._check_server = check_server
        self._written = 0.0
        self._progress: dict[str, Any] = {}
        self._lost = False

    def progress(self, numbers: dict[str, Any]) -> None:
        """Keeps the newest numbers for the next writing."""
        self._progress = numbers
        self.check()

    def line(self, text: str) -> None:
        """Writes one line at once."""
        LOG.info("%s", text)
        self._record.jobs.report(self._job, self._progress, [text])

    def check(self) -> None:
        """Raises ``LostLease`` or ``ServerGone`` when the job must stop."""
        self._check_server()
        if self._lost or time.monotonic() - self._written >= REPORT_SECONDS:
            self._record.jobs.report(self._job, self._progress)
            self._written = time.monotonic()

    @contextlib.contextmanager
    def keeping_lease(self) -> Iterator[None]:
        """Renews the lease beside the work, which may be busy reading for long."""
        done = threading.Event()

        def renew() -> None:
            while not done.wait(LEASE.total_seconds() / 4):
                try:
                    self._record.jobs.report(self._job, {})
                except LostLease:
                    self._lost = True
                    return
                # The record may answer again before the lease ends.
                except (RecordAway, StorageFull) as error:
                    LOG.warning("The lease of job %s is not renewed: %s", self._job.id, error)

        thread = threading.Thread(target=renew, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _train(record: Record, library: Library, job: Job, diary: Diary) -> None:
    from lib.serving.learning import Reporter, train
    from lib.serving.learning_to_refine import train_refiner

    learn = train_refiner if job.arguments.get("model") == record.refiners.name else train
    learn(record, library, job, Reporter(diary.progress, diary.line, diary.check))


def _batch_infer(record: Record, library: Library, job: Job, diary: Diary) -> None:
    drafting = Drafting(record, library, Draftsman().draft, needed=0)
    images = list(job.arguments["images"])
    result: dict[str, Any] = {}
    for done, image_id in enumerate(images):
        diary.progress({"epoch": done, "total_epochs": len(images)})
        try:
            annotation = drafting.of_image(image_id).annotation
            result[image_id] = {"label": image_id, "tag": "original", "version": annotation.version}
        except LabelRefineryError as error:
            result[image_id] = {"error": str(error)}
            diary.line(f"{image_id}: {error}")
    failed = sum("error" in entry for entry in result.values())
    line = f"Drafted {len(images) - failed} of {len(images)} images."
    record.jobs.finish(job, JobState.DONE, {"images": result}, line)


def _scoring(record: Record, library: Library, job: Job, diary: Diary) -> None:
    from lib.serving.comparison import METHODS

    result = METHODS[job.arguments["method"]](record, library, job.arguments, diary.check)
    is_about_models = not (job.arguments.get("y") or job.arguments.get("y_pred"))
    versions = set(result["model_versions"].values()) - {None} if is_about_models else set()
    with record.database.transaction():
        for version in versions:
            images = [image_id for image_id, made_by in result["model_versions"].items() if made_by == version]
            for structure in record.task.structures:
                values = {image_id: result["images"][image_id].get(structure.name) for image_id in images}
                record.scores.put(version, f"{job.arguments['method']}:{structure.name}", values)
        line = f"Compared {len(result['images'])} images."
        record.jobs.finish(job, JobState.DONE, result, line)


Work = Callable[[Record, Library, Job, Diary], None]
"""How a kind of job is done."""

WORK: dict[JobKind, Work] = {
    JobKind.TRAIN: _train,
    JobKind.BATCH_INFER: _batch_infer,
    JobKind.SCORING: _scoring,
}
"""What the worker process does."""


class Worker:
    """The server's side: starts the worker process and starts it again when it dies."""

    def __init__(self, record: Record, workplace: Workplace) -> None:
        self._record = record
        self._workplace = workplace
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._process: BaseProcess | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.is_alive()

    def start(self) -> None:
        """Starts the process and the thread that looks after it."""
        self._thread = threading.Thread(target=self._look_after, name="worker", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends both; the job at hand waits for the next start."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _look_after(self) -> None:
        restarts = Restarts()
        while not self._stopping.is_set():
            begin = time.monotonic()
            try:
                self._live()
            # Without memory or descriptors it cannot be started, and a record may be away: later it may go.
            except Exception:
                LOG.exception("The worker process cannot be looked after; trying again.")
            self._stopping.wait(restarts.pause_after(time.monotonic() - begin))

    def _live(self) -> None:
        """Starts the process and waits until it ends, or ends it when the server stops."""
        owner = str(uuid.uuid4())
        process = multiprocessing.get_context("spawn").Process(
            target=_work, args=(self._workplace, owner, os.getpid(), decoder()), name="worker", daemon=True
        )
        process.start()
        self._process = process
        LOG.info("worker process %s started.", process.pid)
        while process.is_alive() and not self._stopping.wait(0.2):
            pass
        if process.is_alive():
            process.kill()
            process.join()
            self._record.jobs.give_back(owner)
        else:
            LOG.error("The worker process ended with code %s; starting it again.", process.exitcode)
            self._record.jobs.release(owner)
