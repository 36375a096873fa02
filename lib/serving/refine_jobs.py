"""Refines what annotators store, beside the worker, which may be training for minutes."""

from __future__ import annotations

import threading
import uuid
from typing import Any

from lib.serving.refining import Refining
from lib.serving.worker import Diary, run_job
from lib.stages import PEOPLE, Stage
from lib.store.annotations import Annotation
from lib.store.jobs import Job, JobKind, JobState
from lib.store.record import Record

LOOK_SECONDS = 5.0
"""How often somebody looks for jobs that another server on the same record asked for."""


class RefineJobs:
    """A thread that does the jobs of this kind one after the other; the inference process computes."""

    def __init__(self, refining: Refining) -> None:
        self._refining = refining
        self._jobs = refining.record.jobs
        self._owner = str(uuid.uuid4())
        self._is_asked = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="refine", daemon=True)

    def ask(self, annotation: Annotation) -> Job | None:
        """Queues the refining of what an annotator stored; ``None`` if it is no such mask, or nothing refines yet."""
        is_juniors = annotation.role in PEOPLE and annotation.stage is Stage.DRAFT
        if not is_juniors or self._refining.record.refiners.serving() is None:
            return None
        job = self._jobs.ask(JobKind.REFINE, {"image": annotation.image, "version": annotation.version})
        self._is_asked.set()
        return job

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Lets the job at hand wait for the next start, and takes no other."""
        self._stopping.set()
        self._is_asked.set()
        self._jobs.give_back(self._owner)

    def join(self) -> None:
        """Waits until the thread has ended; what it waits for must have been stopped."""
        if self._thread.is_alive():
            self._thread.join()

    def do_all(self) -> None:
        """Does all waiting jobs."""
        while not self._stopping.is_set() and (job := self._jobs.claim(self._owner, (JobKind.REFINE,))) is not None:
            work = {JobKind.REFINE: self._refine}
            run_job(self._refining.record, self._refining.library, job, lambda: None, work)

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._is_asked.clear()
            self.do_all()
            self._is_asked.wait(LOOK_SECONDS)

    def _refine(self, record: Record, _library: Any, job: Job, _diary: Diary) -> None:
        image_id, version = job.arguments["image"], job.arguments["version"]
        refined = self._refining.of_image(image_id, version, asker=f"job {job.id}").annotation
        kept = refined.info["kept"]
        line = f"Version {version} of {image_id!r} is refined: version {refined.version}." + (
            f" It is as it was: {kept}." if kept else ""
        )
        result = {"image": image_id, "parent": version, "version": refined.version, "kept": kept}
        record.jobs.finish(job, JobState.DONE, result, line)
