"""``/auth``: 3D Slicer asks whether it has to show its dialog for name and password."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from lib.serving.routes.common import Who

router = APIRouter(prefix="/auth", tags=["Auth"])


@router.get("/")
def auth() -> dict[str, Any]:
    """Says that nobody needs to sign in: the server listens on this machine only."""
    return {"enabled": False, "client_id": "label-refinery", "realm": ""}


@router.post("/token")
def token() -> dict[str, None]:
    """Without sign-in there is no token."""
    return {"access_token": None, "token_type": None}


@router.get("/token/valid")
def valid(who: Who) -> dict[str, Any]:
    """The local person."""
    annotator = who(None)
    return {"username": annotator.name, "email": None, "name": annotator.name, "roles": [annotator.role]}
