"""``/info/``: what the server can do and how far it has come."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from lib.serving.routes.common import App

router = APIRouter(prefix="/info", tags=["App"])


@router.get("/")
def info(app: App) -> dict[str, Any]:
    """Models, trainers, strategies, scoring methods and the state of the data set."""
    found: dict[str, Any] = app.info()
    return found
