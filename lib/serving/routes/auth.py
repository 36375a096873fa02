"""``/auth``: 3D Slicer asks whether it has to show its dialog for name and password."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request

from lib.errors import NotSignedIn
from lib.serving.annotator import Annotator
from lib.serving.one_form import nfc
from lib.serving.routes.common import App, Name, Who

router = APIRouter(prefix="/auth", tags=["Auth"])


@router.get("/")
def auth(app: App) -> dict[str, Any]:
    """Whether people have to sign in."""
    settings = app.settings
    return {"enabled": settings.auth != "none", "client_id": settings.oidc_audience, "realm": settings.oidc_issuer}


@router.post("/token")
def token(
    app: App, request: Request, username: Annotated[Name, Form()] = "", password: Annotated[str, Form()] = ""
) -> dict[str, str | None]:
    """Takes a name and, as its password, the token of that person; 3D Slicer offers nothing else."""
    if app.settings.auth == "none":
        return {"access_token": None, "token_type": None}
    name, _ = request.app.state.access.identify(password)
    if name != nfc(username):
        raise NotSignedIn(f"This token is not that of {username!r}.")
    return {"access_token": password, "token_type": "bearer"}


@router.post("/ticket")
def ticket(app: App, request: Request, token: Annotated[str, Form(description="of the person")] = "") -> dict[str, Any]:
    """What a viewer that is open shows from now on: signs the person of a token in anew, without leaving the page."""
    if app.settings.auth == "none":
        return {"token": None, "ends": None}
    access = request.app.state.access
    given = access.ticket(token)
    name, role = access.identify(given)
    return {"token": given, "username": name, "roles": [role], "ends": access.seconds_left(given)}


@router.get("/token/valid")
def valid(who: Who) -> dict[str, Any]:
    """The person behind the request."""
    annotator: Annotator = who(None)
    return {"username": annotator.name, "email": None, "name": annotator.name, "roles": [annotator.role]}
