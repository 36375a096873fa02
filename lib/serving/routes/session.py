"""``/session``: images for a while."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, UploadFile
from fastapi.responses import FileResponse, JSONResponse, Response

from lib.errors import InvalidRequest
from lib.serving.routes.common import App, Count, Name, Who, received, sent

router = APIRouter(prefix="/session", tags=["Session"])

Files = Annotated[list[UploadFile], File(description="one image, the slices of a series, or an archive")]


@router.put("/")
def create(app: App, who: Who, files: Files, uncompress: bool = False, expiry: Count = 0) -> dict[str, Any]:
    """Opens a session with one image file, the DICOM files of a series, or an archive of them."""
    paths: list[tuple[Path, str]] = []
    try:
        for file in files:
            paths.append((received(app, file), Path(file.filename or "").name))
        session = app.sessions().add(paths, expiry, unpack=uncompress, owner=who(None).name)
    finally:
        for path, _ in paths:
            path.unlink(missing_ok=True)
    return {"session_id": session.name, "session_info": session.to_json()}


@router.get("/{session_id}", response_model=None)
def get(session_id: Name, app: App, update_ts: bool = False, image: bool = False) -> Response | FileResponse:
    """What is known of a session, or its image file."""
    session = app.sessions().get(session_id, touch=update_ts)
    if not image:
        return JSONResponse(session.to_json())
    if len(session.files) != 1:
        raise InvalidRequest(f"The session holds {len(session.files)} files; only a single image can be sent.")
    return sent(session.files[0], session.files[0].name)


@router.delete("/{session_id}")
def remove(session_id: Name, app: App) -> dict[str, Any]:
    """Closes a session."""
    session = app.sessions().get(session_id)
    app.sessions().remove(session_id)
    return session.to_json()
