"""``/open``: the viewer, straight on a case; people sign in here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from string import Template
from typing import Annotated
from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import AfterValidator

from lib.errors import InvalidRequest, NotAllowed, NotSignedIn
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
<input type="hidden" name="address" value="$address">
<label>Your token: <input type="password" name="token" autocomplete="current-password" autofocus></label>
<button>Open the viewer</button></form>
</body></html>
""")


def _in_viewer(address: str) -> str:
    """An address within the viewer: whoever signs in must not be led elsewhere with their ticket."""
    if address and not address.startswith(OHIF):
        raise InvalidRequest(f"address is one of the viewer, which begins with {OHIF}; found {address[:80]!r}.")
    return address


@dataclass(frozen=True)
class Wanted:
    """What is to be opened.

    Attributes:
        image: id of a case; empty: the list of studies.
        address: of the viewer as it was before somebody was signed out, in place of a case.
    """

    image: str
    address: str


@router.get("/open", response_class=RedirectResponse, status_code=303)
def open_case(app: App, request: Request, image: ImageId = "", address: ImageId = "") -> Response:
    """Leads to the viewer on `image`, or on the list of studies; a browser is asked for a token first.

    `address` is that of a page of the viewer, which somebody who is signed out there comes back to.
    """
    wanted = Wanted(image, _in_viewer(address))
    if app.settings.auth == "none":
        return _to_viewer(app, wanted, "")
    token = bearer(request.headers)
    if token is None:
        return _sign_in(wanted, _who_gives_tokens(app.settings), 401)
    return _to_viewer(app, wanted, request.app.state.access.ticket(token))


@router.post("/open", response_class=RedirectResponse, status_code=303)
def sign_in(
    app: App,
    request: Request,
    image: Annotated[ImageId, AfterValidator(nfc), Form(description="id of the case; none: the list of studies")] = "",
    address: Annotated[ImageId, Form(description="of the viewer, in place of a case")] = "",
    token: Annotated[str, Form(description="of the person")] = "",
) -> Response:
    """The same with the token in a form."""
    wanted = Wanted(image, _in_viewer(address))
    if app.settings.auth == "none":
        return _to_viewer(app, wanted, "")
    try:
        ticket = request.app.state.access.ticket(token)
    except (NotSignedIn, NotAllowed) as error:
        told = request.app.state.refusing.told(request.scope, error)
        return _sign_in(wanted, str(told), status_of(told))
    return _to_viewer(app, wanted, ticket)


def _who_gives_tokens(settings: Settings) -> str:
    if settings.auth == "oidc":
        return f"Take a token of {settings.oidc_issuer}, or one that an administrator gives (scripts/tokens.py)."
    return "An administrator gives tokens (scripts/tokens.py)."


def _to_viewer(app: LabelingLoop, wanted: Wanted, ticket: str) -> Response:
    query = {"token": ticket} if ticket else {}
    path, image = "", wanted.image
    if wanted.address:
        before = urlsplit(wanted.address)
        query = {**dict(parse_qsl(before.query)), **query}
        return _led_to(before.path, query)
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
    return _led_to(f"{OHIF}{path}", query)


def _led_to(path: str, query: Mapping[str, str]) -> Response:
    address = f"{path}?{urlencode(query)}" if query else path
    return RedirectResponse(address, 303, {"Cache-Control": "no-store"})


def _sign_in(wanted: Wanted, reason: str, status: int) -> Response:
    page = SIGN_IN.substitute(
        style=STYLE, reason=escape(reason), image=escape(wanted.image), address=escape(wanted.address)
    )
    return HTMLResponse(page, status, {"Cache-Control": "no-store"})
