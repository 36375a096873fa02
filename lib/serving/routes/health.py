"""``/health`` and ``/metrics``: for those who look after the server."""

from __future__ import annotations

import shutil
from typing import Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from lib.errors import ComputationInterrupted
from lib.serving.measures import exposition
from lib.serving.routes.common import App

router = APIRouter(tags=["Health"])

LEAST_FREE_MIB = 200
"""With less room than this the server says that it is not ready."""


@router.get("/health/live")
def live() -> dict[str, str]:
    """200 as long as the process answers."""
    return {"status": "ok"}


@router.get("/health/ready")
def ready(app: App) -> dict[str, Any]:
    """200 if the record answers, the computing processes run and the disk has room; else 503 with the reason."""
    app.record.images.counts()
    free_mib = shutil.disk_usage(app.settings.data).free // 2**20
    state = {"inference": app.inference.is_alive, "worker": app.worker.is_alive, "free_mib": free_mib}
    if not (state["inference"] and state["worker"]) or free_mib < LEAST_FREE_MIB:
        raise ComputationInterrupted(f"Not ready: {state}; at least {LEAST_FREE_MIB} MiB must be free.")
    return {"status": "ok", **state}


@router.get("/metrics")
def metrics(app: App) -> PlainTextResponse:
    """Numbers for Prometheus."""
    return PlainTextResponse(exposition(app), media_type=CONTENT_TYPE_LATEST)
