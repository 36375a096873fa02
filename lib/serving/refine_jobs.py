"""Refines what annotators store, beside the worker, which may be training for minutes.

A save asks for its own job. What was stored while nothing refined, and what a crash between a save and its job left
behind, is found in the record whenever another refiner serves than at the last look, at first thus after each start.
For these masks jobs are asked one by one, when no other waits: a new save never stands behind them.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import deque
from typing import Any

from lib.errors import ComputationInterrupted
from lib.serving.refining import Refining
from lib.serving.worker import Diary, run_job
from lib.stages import PEOPLE, Stage, current
from lib.store.annotations import Annotation
from lib.store.images import ImageState
from lib.store.jobs import Job, JobKind, JobState, LostLease
from lib.store.record import Record

LOG = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""How often somebody looks for jobs that another server on the same record asked for."""

RETRY_SECONDS = 60.0
"""Until the next look when the last one failed, unless somebody asks before."""


class RefineJobs:
    """A thread that does the jobs of this kind one after the other; the inference process computes."""

    def __init__(self, refining: Refining) -> None:
        self._refining = refining
        self._jobs = refining.record.jobs
        self._owner = str(uuid.uuid4())
        self._is_asked = threading.Event()
        self._stopping = threading.Event()
        self._refiner: int | None = None
        self._unrefined: deque[tuple[str, int]] = deque()
        self._thread = threading.Thread(target=self._work, name="refine", daemon=True)

    def ask(self, annotation: Annotation) -> Job | None:
        """Queues the refining of what an annotator stored, and wakes the thread.

        ``None`` if it is no such mask, nothing refines yet, or another version counts: an expert's mostly.
        """
        is_juniors = annotation.role in PEOPLE and annotation.stage is Stage.DRAFT
        if not is_juniors or self._refining.record.refiners.serving() is None:
            return None
        job = self._ask(annotation.image, annotation.version)
        self._is_asked.set()
        return job

    def _ask(self, image_id: str, version: int) -> Job | None:
        image = self._refining.record.images.find(image_id)
        if image is None or image.state is not ImageState.OK or image.current != version:
            return None
        return self._jobs.ask(JobKind.REFINE, {"image": image_id, "version": version})

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Takes no other job; the one at hand is done if the inference process still does it."""
        self._stopping.set()
        self._is_asked.set()

    def join(self) -> None:
        """Waits until the thread has ended, which needs the inference process or its end; its job waits again."""
        if self._thread.is_alive():
            self._thread.join()
        self._jobs.give_back(self._owner)

    def do_all(self) -> None:
        """Does all waiting jobs, then those of masks that nobody asked for."""
        while not self._stopping.is_set() and (job := self._next()) is not None:
            work = {JobKind.REFINE: self._refine}
            run_job(self._refining.record, self._refining.library, job, lambda: None, work)

    def _next(self) -> Job | None:
        """The job that waits longest, else that of the oldest mask that nobody asked for."""
        self._look_for_unrefined()
        job = self._jobs.claim(self._owner, (JobKind.REFINE,))
        # Another server's job may run.
        while job is None and self._unrefined and not self._jobs.count_open(JobKind.REFINE):
            self._ask(*self._unrefined[0])
            self._unrefined.popleft()
            job = self._jobs.claim(self._owner, (JobKind.REFINE,))
        return job

    def _look_for_unrefined(self) -> None:
        """Notes the masks that wait unrefined, if another refiner serves than at the last look."""
        serving = self._refining.record.refiners.serving()
        version = serving.version if serving is not None else None
        if version == self._refiner:
            return
        found = self._refining.record.queue.unrefined() if version is not None else []
        asked = {(job.arguments["image"], job.arguments["version"]) for job in self._jobs.open(JobKind.REFINE)}
        self._unrefined = deque(mask for mask in found if mask not in asked)
        self._refiner = version

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._is_asked.clear()
            pause = LOOK_SECONDS
            try:
                self.do_all()
            # The record may be away for a while, or its disk full. What waits is kept there.
            except Exception:
                LOG.exception("Refining what annotators stored failed; trying again in %g s.", RETRY_SECONDS)
                pause = RETRY_SECONDS
            if not self._stopping.is_set():
                self._is_asked.wait(pause)

    def _refine(self, record: Record, _library: Any, job: Job, _diary: Diary) -> None:
        image_id, version = job.arguments["image"], job.arguments["version"]
        now = current(record.annotations.history(image_id))
        if now is None or version not in (now.version, now.parent if now.stage is Stage.REFINED else None):
            line = f"Version {version} of {image_id!r} is not refined: it was taken back or replaced meanwhile."
            record.jobs.finish(job, JobState.DONE, {"image": image_id, "parent": version, "version": None}, line)
            return
        try:
            refined = self._refining.of_image(image_id, version, asker=f"job {job.id}").annotation
        except ComputationInterrupted as error:
            # Where the server stops, the job waits for its next start; else it counts as tried.
            if not self._stopping.is_set():
                self._jobs.release(self._owner)
            raise LostLease(str(error)) from error
        kept = refined.info["kept"]
        line = f"Version {version} of {image_id!r} is refined: version {refined.version}." + (
            f" It is as it was: {kept}." if kept else ""
        )
        result = {"image": image_id, "parent": version, "version": refined.version, "kept": kept}
        record.jobs.finish(job, JobState.DONE, result, line)
