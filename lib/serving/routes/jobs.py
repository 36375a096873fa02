"""``/train``, ``/batch/infer`` and ``/scoring``: work that outlives a request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from lib.errors import InvalidRequest, UnknownJob, UnknownMethod
from lib.serving.comparison import METHODS
from lib.serving.loop import LabelingLoop
from lib.serving.routes.common import App, JsonObject, JsonRoute, Name
from lib.serving.train import IDLE, shown
from lib.stages import Standing
from lib.store.jobs import JobKind

jobs = APIRouter(prefix="/jobs", tags=["Jobs"])
train = APIRouter(prefix="/train", tags=["Train"], route_class=JsonRoute)
batch = APIRouter(prefix="/batch", tags=["Infer"], route_class=JsonRoute)
scoring = APIRouter(prefix="/scoring", tags=["Scoring"], route_class=JsonRoute)

EVENT_SECONDS = 0.5
"""How often a job is looked at for those who listen to its events."""


def _status(app: LabelingLoop, kind: JobKind, all: bool, check_if_running: bool) -> Any:
    """The open or last job, or all of them; MONAI Label's clients read 404 as "nothing is running"."""
    if check_if_running:
        first = app.record.jobs.first_open(kind)
        if first is None:
            raise UnknownJob(f"No {kind} job is running or waiting.")
        return shown(first)
    if all:
        return [shown(job) for job in app.record.jobs.every(kind)]
    job = app.record.jobs.open_or_last(kind)
    return shown(job) if job is not None else IDLE


def _stopped(app: LabelingLoop, kind: JobKind) -> dict[str, Any] | None:
    stopped = app.record.jobs.cancel(kind)
    return shown(stopped) if stopped is not None else None


def _refuse_sync(run_sync: bool) -> None:
    if run_sync:
        raise InvalidRequest("run_sync=true is not offered: it would hold the connection open. Ask for the status.")


@train.get("/")
def train_status(app: App, all: bool = False, check_if_running: bool = False) -> Any:
    """The training that runs or waits, else the last one; `check_if_running=true` answers 404 if none does."""
    return _status(app, JobKind.TRAIN, all, check_if_running)


@train.post("/", include_in_schema=False)
def train_all(app: App, params: JsonObject = None, run_sync: bool = False) -> dict[str, Any]:
    """Queues a training of the models that the body names, or else of every model."""
    _refuse_sync(run_sync)
    asked = params or {}
    found: dict[str, Any] = {}
    trainers = app.info()["trainers"]
    for model in [name for name in trainers if name in asked] or trainers:
        own = asked.get(model) or {}
        if not isinstance(own, dict):
            raise InvalidRequest(f"The entry {model!r} must be a JSON object such as {{}}, found {own!r}.")
        found[model] = {"result": app.train({**asked, **own, "model": model}), "detail": None}
    return found


@train.post("/{model}")
def train_model(
    model: Name, app: App, params: JsonObject = None, run_sync: bool = False, enqueue: bool = False
) -> dict[str, Any]:
    """Queues a training, or joins the one that will learn the same."""
    _refuse_sync(run_sync)
    return app.train({**(params or {}), "model": model})


@train.delete("/")
def train_stop(app: App) -> dict[str, Any] | None:
    """Stops the training; the model that serves stays."""
    return _stopped(app, JobKind.TRAIN)


@jobs.get("/{job_id}")
def job(job_id: Name, app: App) -> dict[str, Any]:
    """One job with its progress and its last log lines."""
    return shown(app.record.jobs.get(job_id))


@jobs.get("/{job_id}/events")
async def job_events(job_id: Name, app: App, request: Request) -> StreamingResponse:
    """The job again and again while it changes, as server-sent events, until it has ended."""
    await run_in_threadpool(app.record.jobs.get, job_id)

    async def events() -> AsyncIterator[str]:
        told = ""
        while not await request.is_disconnected():
            found = await run_in_threadpool(app.record.jobs.get, job_id)
            content = json.dumps(shown(found))
            if content != told:
                yield f"data: {content}\n\n"
                told = content
            if found.ended is not None:
                return
            await asyncio.sleep(EVENT_SECONDS)

    return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


class Images(StrEnum):
    """Which images a batch covers."""

    ALL = "all"
    LABELED = "labeled"
    UNLABELED = "unlabeled"


STANDINGS: dict[Images, tuple[Standing, ...]] = {
    Images.ALL: (),
    Images.LABELED: (Standing.LABELLED,),
    Images.UNLABELED: (Standing.UNTOUCHED, Standing.DRAFTED, Standing.WAITING),
}


@batch.get("/infer")
def batch_status(app: App, all: bool = False, check_if_running: bool = False) -> Any:
    """The batch of drafts that runs or waits, else the last one."""
    return _status(app, JobKind.BATCH_INFER, all, check_if_running)


@batch.post("/infer/{model}")
def batch_infer(
    model: Name, app: App, images: Images = Images.ALL, params: JsonObject = None, run_sync: bool = False
) -> dict[str, Any]:
    """Queues drafts of many images; those that have one are not computed again."""
    _refuse_sync(run_sync)
    if app.find_infer(model) is not app.find_infer(app.record.models.name):
        raise InvalidRequest(f"Many images are drafted at once, by {app.record.models.name}; masks are refined singly.")
    app.drafting.source()
    ids = app.record.images.ids(*STANDINGS[images])
    limit = (params or {}).get("max_batch_size") or 0
    if not isinstance(limit, int) or limit < 0:
        raise InvalidRequest(f"max_batch_size must be 0 or more, found {limit!r}.")
    arguments = {"model": model, "images": ids[:limit] if limit else ids}
    return shown(app.record.jobs.ask(JobKind.BATCH_INFER, arguments))


@batch.delete("/infer")
def batch_stop(app: App) -> dict[str, Any] | None:
    """Stops the batch; drafts that are made stay."""
    return _stopped(app, JobKind.BATCH_INFER)


@scoring.get("/")
def scoring_status(app: App, all: bool = False, check_if_running: bool = False) -> Any:
    """The newest scoring."""
    return _status(app, JobKind.SCORING, all, check_if_running)


@scoring.post("/", include_in_schema=False)
def score_all(app: App, params: JsonObject = None, run_sync: bool = False) -> dict[str, Any]:
    """Queues every scoring method."""
    return {method: {"result": score(method, app, params, run_sync), "detail": None} for method in METHODS}


@scoring.post("/{method}")
def score(method: Name, app: App, params: JsonObject = None, run_sync: bool = False) -> dict[str, Any]:
    """Queues a comparison of two tags, `y` and `y_pred`, of all labelled images."""
    _refuse_sync(run_sync)
    if method not in METHODS:
        raise UnknownMethod(f"There is no scoring method {method!r}; accepted are {', '.join(METHODS)}.")
    tags = {key: str((params or {})[key]) for key in ("y", "y_pred") if (params or {}).get(key)}
    newest = app.record.annotations.newest_expert_id()
    return shown(app.record.jobs.ask(JobKind.SCORING, {"method": method, **tags}, newest))


@scoring.delete("/")
def scoring_stop(app: App) -> dict[str, Any] | None:
    """Stops the scoring."""
    return _stopped(app, JobKind.SCORING)
