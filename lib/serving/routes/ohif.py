"""``/ohif``: the viewer that comes inside the monailabel wheel."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

from lib.errors import NotFound

router = APIRouter(prefix="/ohif", tags=["Viewer"])


def viewer_folder() -> Path:
    """Where monailabel keeps its OHIF build."""
    spec = find_spec("monailabel")
    if spec is None or spec.origin is None:
        raise NotFound("monailabel is not installed, so there is no viewer.")
    return Path(spec.origin).parent / "endpoints" / "static" / "ohif"


@router.get("/{path:path}", include_in_schema=False)
def ohif(path: str) -> FileResponse:
    """A file of the viewer; its own pages are all drawn by ``index.html``."""
    folder = viewer_folder().resolve()
    wanted = _file_below(folder, path) or folder / "index.html"
    if not wanted.is_file():
        raise NotFound("This installation of monailabel has no OHIF build.")
    return FileResponse(wanted)


def _file_below(folder: Path, path: str) -> Path | None:
    try:
        wanted = (folder / path).resolve()
        return wanted if wanted.is_relative_to(folder) and wanted.is_file() else None
    # No file can have such a name: it holds a zero byte, or is too long.
    except (ValueError, OSError):
        return None
