"""``/open``: the viewer, straight on a case; people sign in here."""

from __future__ import annotations

from html import escape
from string import Template
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import AfterValidator

from lib.errors import NotAllowed, NotSignedIn
from lib.serving.gate import bearer
from lib.serving.loop import LabelingLoop
from lib.serving.one_form import nfc
from lib.serving.problem import status_of
from lib.serving.routes.common import App, ImageId, viewable
from lib.serving.routes.pages import STYLE
from lib.serving.settings import Settings
from lib.serving.viewer import OHIF

router = APIRouter(tags=["Viewer"])

SIGN_IN = Template("""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Sign in</title>$style</head>
<body><h1>Sign in</h1><p>$reason</p>
<form method="post" action="open"><input type="hidden" name="image" value="$image">
<label>Your token: <input type="password" name="token" autocomplete="current-password" autofocus></label>
<button>Open the viewer</button></form>
</body></html>
""")


@router.get("/open", response_class=RedirectResponse, status_code=303)
def open_case(app: App, request: Request, image: ImageId = "") -> Response:
    """Leads to the viewer on `image`, or on the list of studies; a browser is asked for a token first."""
    if app.settings.auth == "none":
        return _to_viewer(app, image, "")
    token = bearer(request.headers)
    if token is None:
        return _sign_in(image, _who_gives_tokens(app.settings), 401)
    return _to_viewer(app, image, request.app.state.access.ticket(token))


@router.post("/open", response_class=RedirectResponse, status_code=303)
def sign_in(
    app: App,
    request: Request,
    image: Annotated[ImageId, AfterValidator(nfc), Form(description="id of the case; none: the list of studies")] = "",
    token: Annotated[str, Form(description="of the person")] = "",
) -> Response:
    """The same with the token in a form."""
    if app.settings.auth == "none":
        return _to_viewer(app, image, "")
    try:
        ticket = request.app.state.access.ticket(token)
    except (NotSignedIn, NotAllowed) as error:
        told = request.app.state.refusing.told(request.scope, error)
        return _sign_in(image, str(told), status_of(told))
    return _to_viewer(app, image, ticket)


def _who_gives_tokens(settings: Settings) -> str:
    if settings.auth == "oidc":
        return f"Take a token of {settings.oidc_issuer}, or one that an administrator gives (scripts/tokens.py)."
    return "An administrator gives tokens (scripts/tokens.py)."


def _to_viewer(app: LabelingLoop, image: str, ticket: str) -> Response:
    query = {"token": ticket} if ticket else {}
    path = ""
    if image:
        listing = viewable(app, image)
        app.ahead.opened(image)
        path = "segmentation"
        # The first of these that OHIF shows; of radiographs in one series it takes the one with this instance.
        first = (
            {"initialSOPInstanceUID": listing.instance_uid}
            if listing.instance_uid
            else {"initialSeriesInstanceUID": listing.series_uid}
        )
        query = {"StudyInstanceUIDs": listing.study_uid, **first, **query}
    address = f"{OHIF}{path}?{urlencode(query)}" if query else OHIF
    return RedirectResponse(address, 303, {"Cache-Control": "no-store"})


def _sign_in(image: str, reason: str, status: int) -> Response:
    page = SIGN_IN.substitute(style=STYLE, reason=escape(reason), image=escape(image))
    return HTMLResponse(page, status, {"Cache-Control": "no-store"})
