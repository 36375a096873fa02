"""The HTTP server: puts the app, the routes and the errors together, and starts everything.

What runs where. This process answers HTTP: the event loop only moves bytes; handlers run in threads, so many at once
as ``turnstile.py`` says, those that wait for drafts in threads of their own. Networks run in the inference process,
jobs in the worker process; both are started here, both end when this one does. One thread looks at the folder of
studies from time to time.

Locks: one server holds that of its data folder (``store/lock.py``). Inside, ``store/database.py`` says
which lock comes first.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

from lib import __version__, errors
from lib.serving.access import Access
from lib.serving.gate import SECURITY_HEADERS, Gate, Refusing, SecurityHeaders
from lib.serving.log import LONGEST_TEXT
from lib.serving.loop import LabelingLoop
from lib.serving.problem import problem, problem_of
from lib.serving.routes import (
    activelearning,
    annotators,
    audit,
    auth,
    cases,
    datastore,
    dicomweb,
    entry,
    health,
    infer,
    info,
    jobs,
    logs,
    model,
    ohif,
    pages,
    queue,
    session,
)
from lib.serving.routes.annotations import router as annotations_router
from lib.serving.turnstile import THREADS
from lib.store.files import is_trouble_with, trouble_with

LOG = logging.getLogger(__name__)


def create_server(loop: LabelingLoop) -> FastAPI:
    """The ASGI application around a loaded app; its processes start and stop with it."""

    @asynccontextmanager
    async def lifespan(_server: FastAPI) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = THREADS
        loop.start()
        yield
        loop.stop()

    server = FastAPI(
        title="Label Refinery", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan, debug=False
    )
    server.state.loop = loop
    # Routers are tried in this order, and viewers ask for every slice by itself.
    routers = [
        dicomweb.router,
        pages.router,
        info.router,
        activelearning.router,
        datastore.router,
        infer.router,
        jobs.train,
    ]
    routers += [
        jobs.jobs,
        jobs.batch,
        health.router,
        jobs.scoring,
        session.router,
        model.router,
        auth.router,
        logs.router,
        audit.router,
        cases.router,
        annotations_router,
        queue.router,
        ohif.router,
        entry.router,
        annotators.router,
    ]
    for router in routers:
        server.include_router(router)
    server.state.access, server.state.refusing = Access(loop.settings), Refusing()
    server.add_middleware(
        Gate, record=loop.record, settings=loop.settings, access=server.state.access, refusing=server.state.refusing
    )
    if origins := loop.settings.allowed_origins:
        server.add_middleware(CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"])
    server.add_middleware(SecurityHeaders)
    server.add_exception_handler(errors.LabelRefineryError, _told)
    server.add_exception_handler(RequestValidationError, _told_invalid)
    server.add_exception_handler(HTTPException, _told_http)
    server.add_exception_handler(ClientDisconnect, _given_up)
    server.add_exception_handler(Exception, _told_unexpected)
    return server


async def _told(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.LabelRefineryError)
    return problem_of(request.app.state.refusing.told(request.scope, error))


async def _told_invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = "; ".join(
        f"{'.'.join(str(part) for part in entry['loc'])}: {entry['msg']}, found {str(entry.get('input'))[:100]!r}"
        for entry in error.errors()
    )
    return problem(422, "InvalidRequest", found)


async def _told_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    # FastAPI calls whatever went wrong while it received a body a bad request.
    if trouble := _trouble_of_disk(request, error.__cause__):
        return trouble
    if isinstance(error.__cause__, errors.LabelRefineryError):
        return problem_of(error.__cause__)
    detail = error.detail
    if error.status_code == 404 and detail == "Not Found":
        detail = f"There is nothing at {request.url.path}. GET /docs lists all requests."
    response = problem(error.status_code, "HTTPError", detail)
    response.headers.update(error.headers or {})
    return response


def _trouble_of_disk(request: Request, error: BaseException | None) -> JSONResponse | None:
    """The reply if an error of the system is about the data folder, wherever it came up."""
    data: Path = request.app.state.loop.settings.data
    if not (isinstance(error, OSError) and is_trouble_with(data, error)):
        return None
    LOG.error("%s %s: %s", request.method, request.url.path, error)
    below = Path(os.fsdecode(error.filename)).relative_to(data).parts if _is_named(error, data) else ()
    return problem_of(trouble_with(data / below[0] if below else data, error))


def _is_named(error: OSError, data: Path) -> bool:
    """Whether the error names something below the data folder."""
    return isinstance(error.filename, str | Path) and Path(error.filename).is_relative_to(data)


async def _given_up(request: Request, _error: Exception) -> JSONResponse:
    """Who went away before the request had come as a whole gets no reply; it is no fault of ours."""
    LOG.info("%s %s was given up by the client.", request.method, quote(request.url.path)[:LONGEST_TEXT])
    return problem(400, "InvalidRequest", "The request was given up before all of it had come.")


async def _told_unexpected(request: Request, error: Exception) -> JSONResponse:
    if trouble := _trouble_of_disk(request, error):
        return trouble
    LOG.error("%s %s failed.", request.method, request.url.path, exc_info=error)
    response = problem(500, "InternalError", "Something unexpected happened; the server's log (/logs/) says what.")
    # This reply is given outside of all middleware.
    response.headers.update(SECURITY_HEADERS)
    return response


def load_app(app_dir: Path, studies: str, conf: dict[str, str]) -> LabelingLoop:
    """Loads an app by MONAI Label's own loader."""
    from monailabel.interfaces.utils.app import app_instance, clear_cache

    # MONAI Label's cache knows an app by its folders only, not by its settings.
    clear_cache()
    app: LabelingLoop = app_instance(str(app_dir), studies, conf)
    return app
