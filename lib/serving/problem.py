"""Errors as HTTP: the one table from error to status, and problem JSON (RFC 9457)."""

from __future__ import annotations

from fastapi.responses import JSONResponse

from lib import errors

STATUS: dict[type[errors.LabelRefineryError], int] = {
    errors.InvalidRequest: 422,
    errors.NotSignedIn: 401,
    errors.NotAllowed: 403,
    errors.NotFound: 404,
    errors.StageConflict: 409,
    errors.UnacceptableFile: 422,
    errors.TooLarge: 413,
    errors.StorageFull: 507,
    errors.StorageUnusable: 503,
    errors.TooManyRequests: 429,
    errors.ComputationInterrupted: 503,
    errors.RecordAway: 503,
    errors.SignInAway: 503,
    errors.StudiesAway: 503,
    errors.StudiesRefused: 502,
}
"""HTTP status of each kind of error; an error that is not listed has that of its nearest base."""

MEANWHILE = "Label-Refinery-Meanwhile"
"""Header of a refusal: the version that was saved after the one a request was made from."""


def problem(status: int, title: str, detail: str) -> JSONResponse:
    """An error as problem JSON."""
    content = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse(content, status, headers, media_type="application/problem+json")


def problem_of(error: errors.LabelRefineryError) -> JSONResponse:
    """One of our errors as problem JSON."""
    response = problem(status_of(error), type(error).__name__, str(error))
    response.headers.update(headers_of(error))
    return response


def headers_of(error: errors.LabelRefineryError) -> dict[str, str]:
    """What programs are told of an error beside its sentence."""
    if isinstance(error, errors.TooManyRequests):
        return {"Retry-After": str(error.retry_seconds)}
    return {MEANWHILE: str(error.version)} if isinstance(error, errors.SavedMeanwhile) else {}


def status_of(error: errors.LabelRefineryError) -> int:
    """The status of the nearest class in ``STATUS``; 500 for one that no request should meet."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
