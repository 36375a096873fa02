"""The HTTP server: puts the app, the routes and the errors together, and starts everything.

What runs where. This process answers HTTP: the event loop only moves bytes; handlers run in threads, those that wait
for drafts in threads of their own. Networks run in the inference process, jobs in the worker process; both are
started here, both end when this one does. One thread looks at the folder of studies from time to time.

Locks: one server holds ``server.lock`` of its data folder. Inside, ``store/database.py`` says which lock comes first.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from lib import __version__, errors
from lib.serving.loop import LabelingLoop
from lib.serving.routes import activelearning, auth, datastore, infer, info, jobs, logs, model, ohif, pages, session

LOG = logging.getLogger(__name__)

STATUS: dict[type[errors.LabelRefineryError], int] = {
    errors.InvalidRequest: 422,
    errors.NotFound: 404,
    errors.StageConflict: 409,
    errors.UnacceptableFile: 422,
    errors.TooLarge: 413,
    errors.StorageFull: 507,
    errors.ComputationInterrupted: 503,
}
"""HTTP status of each kind of error; an error that is not listed has that of its nearest base."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def create_server(loop: LabelingLoop) -> FastAPI:
    """The ASGI application around a loaded app; its processes start and stop with it."""

    @asynccontextmanager
    async def lifespan(_server: FastAPI) -> AsyncIterator[None]:
        loop.start()
        yield
        loop.stop()

    server = FastAPI(
        title="Label Refinery", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan, debug=False
    )
    server.state.loop = loop
    routers = [pages.router, info.router, activelearning.router, datastore.router, infer.router, jobs.train]
    routers += [jobs.batch, jobs.scoring, session.router, model.router, auth.router, logs.router, ohif.router]
    for router in routers:
        server.include_router(router)
    server.add_middleware(OnlyFromThisMachine)
    server.add_exception_handler(errors.LabelRefineryError, _told)
    server.add_exception_handler(RequestValidationError, _told_invalid)
    server.add_exception_handler(HTTPException, _told_http)
    server.add_exception_handler(Exception, _told_unexpected)
    return server


def problem(status: int, title: str, detail: str) -> JSONResponse:
    """An error as problem JSON (RFC 9457)."""
    content = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return JSONResponse(content, status, media_type="application/problem+json")


def status_of(error: errors.LabelRefineryError) -> int:
    """The status of the nearest class in ``STATUS``; 500 for one that no request should meet."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


async def _told(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.LabelRefineryError)
    return problem(status_of(error), type(error).__name__, str(error))


async def _told_invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = "; ".join(
        f"{'.'.join(str(part) for part in entry['loc'])}: {entry['msg']}, found {str(entry.get('input'))[:100]!r}"
        for entry in error.errors()
    )
    return problem(422, "InvalidRequest", found)


async def _told_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    detail = error.detail
    if error.status_code == 404 and detail == "Not Found":
        detail = f"There is nothing at {request.url.path}. GET /docs lists all requests."
    response = problem(error.status_code, "HTTPError", detail)
    response.headers.update(error.headers or {})
    return response


async def _told_unexpected(request: Request, error: Exception) -> JSONResponse:
    LOG.error("%s %s failed.", request.method, request.url.path, exc_info=error)
    return problem(500, "InternalError", "Something unexpected happened; the server's log (/logs/) says what.")


class OnlyFromThisMachine:
    """Without sign-in, no web page of another host may use the server through somebody's browser."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses foreign Host and Origin headers."""
        refusal = _refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)


def _refusal(headers: Headers) -> JSONResponse | None:
    host, origin = _hostname(f"//{headers.get('host', '')}"), headers.get("origin")
    if host not in LOOPBACK:
        return problem(403, "ForeignHost", f"This server answers to {', '.join(LOOPBACK)} only, found Host {host!r}.")
    if origin is not None and _hostname(origin) not in LOOPBACK:
        return problem(403, "ForeignOrigin", f"Requests from pages of {origin} are refused.")
    return None


def _hostname(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def load_app(app_dir: Path, studies: str, conf: dict[str, str]) -> LabelingLoop:
    """Loads an app by MONAI Label's own loader."""
    from monailabel.interfaces.utils.app import app_instance, clear_cache

    # MONAI Label's cache knows an app by its folders only, not by its settings.
    clear_cache()
    app: LabelingLoop = app_instance(str(app_dir), studies, conf)
    return app
