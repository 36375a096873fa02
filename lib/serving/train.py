"""MONAI Label's train task on top of the job queue."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from monailabel.interfaces.tasks.train import TrainTask

from lib.errors import NoAnnotationsYet
from lib.serving.requests import TrainRequest
from lib.serving.settings import Settings
from lib.split import Split
from lib.store.jobs import Job, JobKind, JobState
from lib.store.models import Models
from lib.store.record import Record

STATUS = {
    JobState.QUEUED: "SUBMITTED",
    JobState.RUNNING: "RUNNING",
    JobState.DONE: "DONE",
    JobState.FAILED: "ERROR",
    JobState.CANCELLED: "STOPPED",
}
"""MONAI Label's words for the states of a job."""

IDLE: dict[str, Any] = {"id": "", "status": "IDLE", "request": {}, "start_ts": "", "details": [], "progress": {}}
"""The answer before the first job."""

DETAILS = 20
"""Log lines that a client gets."""


class FineTuneTask(TrainTask):
    """Queues a training of the segmenter on all expert annotations."""

    learns_from = "the expert annotations"

    def __init__(self, record: Record, settings: Settings, models: Models) -> None:
        super().__init__(f"{record.task.description}: learn from {self.learns_from}")
        self._record = record
        self._settings = settings
        self._models = models

    def info(self) -> dict[str, Any]:
        """What ``/info/`` tells, with the structures by name."""
        return {**super().info(), "labels": self._record.task.positions}

    def config(self) -> dict[str, Any]:
        """Defaults that a client may change."""
        return {"seconds": self._settings.train_seconds}

    def stats(self) -> dict[str, Any]:
        """What OHIF's panel shows: the open or last training and the best validation Dice."""
        job = self._record.jobs.open_or_last(JobKind.TRAIN, self._models.name)
        if job is None:
            return {}
        progress = job.progress
        dices = [model.metrics.get("mean_dice") for model in self._models.every()]
        measured = [dice for dice in dices if dice is not None]
        # 3D Slicer takes a training with a total_time for ended, and divides by total_epochs.
        duration = "total_time" if job.ended is not None else "current_time"
        return {
            "status": STATUS[job.state],
            "epoch": progress.get("epoch", 0),
            "total_epochs": max(1, progress.get("total_epochs") or 1),
            "start_ts": _seconds(job.started),
            duration: _duration(job),
            "best_metric": max(measured) if measured else 0.0,
        }

    def __call__(self, request: dict[str, Any], datastore: Any) -> dict[str, Any]:
        """Queues a training, or joins the one that will learn the same.

        Raises:
            NoAnnotationsYet: if there is nothing to learn from.
            InvalidRequest: if an option is malformed.
        """
        return shown(self.ask(TrainRequest.from_monailabel(request)))

    def ask(self, request: TrainRequest) -> Job:
        """As a call, with a typed request."""
        if not self._record.annotations.expert_labels(Split.TRAINING):
            raise NoAnnotationsYet(
                "There is no expert annotation to learn from: submit corrected masks first, then train."
            )
        arguments = {
            "seconds": request.seconds or self._settings.train_seconds,
            "max_epochs": request.max_epochs,
            **self._which(),
        }
        return self._record.jobs.ask(JobKind.TRAIN, arguments, self._record.annotations.newest_expert_id())

    def ask_if_due(self) -> Job | None:
        """Queues a training if enough came to learn from since the last one was asked for."""
        if self._settings.train_after == 0:
            return None
        job = self._record.jobs.last(JobKind.TRAIN, self._models.name)
        if self._count_since(job.newest_annotation if job is not None else 0) < self._settings.train_after:
            return None
        if not self._record.annotations.expert_labels(Split.TRAINING):
            return None
        return self.ask(TrainRequest(None, None))

    def _which(self) -> dict[str, str]:
        """Arguments of the job that say what is trained; none: the segmenter."""
        return {}

    def _count_since(self, annotation_id: int) -> int:
        """How many annotations to learn from were stored after the one given."""
        return self._record.annotations.expert_count_since(annotation_id)


class LearnToRefineTask(FineTuneTask):
    """Queues a training of the refiner on all pairs of a draft and what an expert made of it."""

    learns_from = "drafts and what experts made of them"

    def _which(self) -> dict[str, str]:
        return {"model": self._models.name}

    def _count_since(self, annotation_id: int) -> int:
        return self._record.annotations.expert_count_since(annotation_id, is_corrected=True)


def shown(job: Job) -> dict[str, Any]:
    """A job in MONAI Label's words."""
    told: dict[str, Any] = {
        "id": job.id,
        "status": STATUS[job.state],
        "request": job.arguments,
        "start_ts": _time(job.started or job.created),
        "details": list(job.log[-DETAILS:]),
        "progress": job.progress,
        "result": job.result,
    }
    if job.ended is not None:
        told["end_ts"] = _time(job.ended)
    return told


def _duration(job: Job) -> str:
    """Hours, minutes and seconds that a job has run."""
    if job.started is None:
        return str(timedelta(0))
    end = job.ended or datetime.now(job.started.tzinfo)
    return str(timedelta(seconds=max(0, round((end - job.started).total_seconds()))))


def _time(moment: datetime) -> str:
    """In the machine's time zone, as MONAI Label tells it."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _seconds(moment: datetime | None) -> int:
    return int(moment.timestamp()) if moment is not None else 0
