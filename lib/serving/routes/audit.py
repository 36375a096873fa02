"""``/audit``: who changed what."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query

from lib.serving.routes.common import App

router = APIRouter(prefix="/audit", tags=["Others"])


@router.get("/")
def audit(app: App, count: Annotated[int, Query(ge=1, le=10_000)] = 100) -> list[dict[str, Any]]:
    """The last changes, newest first: moment in UTC, person, client and request."""
    return [{"time": moment.isoformat(), **asdict(change)} for moment, change in app.record.audit.newest(count)]
