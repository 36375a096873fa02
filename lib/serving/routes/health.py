"""``/health`` and ``/metrics``: for those who look after the server."""

from __future__ import annotations

import shutil
from typing import Any

from anyio import CapacityLimiter, move_on_after, to_thread
from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from lib.serving.loop import LabelingLoop
from lib.serving.measures import exposition
from lib.serving.problem import problem
from lib.serving.routes.common import App
from lib.store.disk import data_fault

router = APIRouter(tags=["Health"])

LEAST_FREE_MIB = 200
"""With less room than this the server says that it is not ready."""

RECORD_SECONDS = 5.0
"""A record that takes longer does not answer."""

LOOKING = CapacityLimiter(2)
"""Threads that look how things stand, apart from those that answer everything else."""


@router.get("/health/live")
async def live() -> dict[str, str]:
    """200 as long as the process answers."""
    return {"status": "ok"}


@router.get("/health/ready", response_model=None)
async def ready(app: App) -> dict[str, Any] | JSONResponse:
    """200 if the record answers, the computing processes run and the disk has room; else 503 with the reason."""
    found: tuple[dict[str, Any], list[str]] | None = None
    with move_on_after(RECORD_SECONDS):
        found = await to_thread.run_sync(_found, app, abandon_on_cancel=True, limiter=LOOKING)
    if found is None:
        found = {}, [f"the record does not answer within {RECORD_SECONDS:g} s"]
    state, missing = found
    if missing:
        return problem(503, "NotReady", f"Not ready: {'; '.join(missing)}.")
    return {"status": "ok", **state}


def _found(app: LabelingLoop) -> tuple[dict[str, Any], list[str]]:
    """How things stand, and what is missing."""
    app.record.images.counts()
    free_mib = shutil.disk_usage(app.settings.data).free // 2**20
    state = {"inference": app.inference.is_alive, "worker": app.worker.is_alive, "free_mib": free_mib}
    missing = [f"the {name} process does not run" for name in ("inference", "worker") if not state[name]]
    if app.intake.are_studies_away:
        missing.append(app.studies_fault.rstrip("."))
    if fault := data_fault(app.settings.data):
        missing.append(fault.rstrip("."))
    if free_mib < LEAST_FREE_MIB:
        missing.append(f"{free_mib} MiB are free below the data folder, at least {LEAST_FREE_MIB} must be")
    return state, missing


@router.get("/metrics")
def metrics(app: App) -> PlainTextResponse:
    """Numbers for Prometheus."""
    return PlainTextResponse(exposition(app), media_type=CONTENT_TYPE_LATEST)
