"""``/health`` and ``/metrics``: for those who look after the server."""

from __future__ import annotations

import shutil
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from lib.serving.measures import exposition
from lib.serving.problem import problem
from lib.serving.routes.common import App
from lib.store.disk import data_fault

router = APIRouter(tags=["Health"])

LEAST_FREE_MIB = 200
"""With less room than this the server says that it is not ready."""


@router.get("/health/live")
def live() -> dict[str, str]:
    """200 as long as the process answers."""
    return {"status": "ok"}


@router.get("/health/ready", response_model=None)
def ready(app: App) -> dict[str, Any] | JSONResponse:
    """200 if the record answers, the computing processes run and the disk has room; else 503 with the reason."""
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
    if missing:
        return problem(503, "NotReady", f"Not ready: {'; '.join(missing)}.")
    return {"status": "ok", **state}


@router.get("/metrics")
def metrics(app: App) -> PlainTextResponse:
    """Numbers for Prometheus."""
    return PlainTextResponse(exposition(app), media_type=CONTENT_TYPE_LATEST)
