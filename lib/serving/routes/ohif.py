"""``/ohif/`` and ``/ohif-monai/``: the viewer OHIF, with settings of ours."""

from __future__ import annotations

import json
import mimetypes
import os
import re
from pathlib import Path
from stat import S_ISREG
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from lib.errors import NotFound
from lib.serving.routes.common import App
from lib.serving.routes.dicomweb import PREFIX
from lib.serving.viewer import BEFORE_ADDRESS, OHIF, OHIF_OF_MONAILABEL, Build, at_address, fetched, of_monailabel

router = APIRouter(tags=["Viewer"])

STATIC = Path(__file__).resolve().parents[1] / "static"
"""Our own scripts for the viewer."""

BAR = "/ohif-bar/"
"""Address of the scripts of our bar inside the viewer."""

SCRIPTS = {path.name: path for path in sorted((STATIC / "bar").iterdir())}
"""They lie beside each other, since they name each other by their files."""

CONFIG = "app-config.js"
"""What OHIF reads first."""

HASHED = re.compile(r"\b[0-9a-f]{20}\.\w+$")
"""Names of files that hold a digest of their content."""

KEPT, ASKED = "public, max-age=31536000, immutable", "no-cache"
"""How browsers keep files: those with a digest in their name for good; of others they ask whether they are still so."""


class Files(StaticFiles):
    """The files of one build at an address; all pages of OHIF are drawn by its ``index.html``."""

    def __init__(self, build: Build, address: str) -> None:
        super().__init__(directory=build.folder, check_dir=False)
        self.build = build
        self.address = address

    def reply(self, path: str, scope: Scope) -> Response:
        """A file, or the one page there is.

        Raises:
            NotFound: if there is no such file, and the name is that of one.
        """
        for name in (path, "index.html"):
            try:
                found, status = self.lookup_path(name)
                if status is not None and S_ISREG(status.st_mode):
                    return self.file_response(found, status, scope)
            # No file can have such a name: it holds a zero byte, or is too long.
            except (ValueError, OSError):
                pass
            if Path(name).suffix:
                break
        raise NotFound(f"The viewer has no file {path[:80]!r}.")

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """The file as it is, or fitted to another address than it was made for."""
        path = Path(full_path)
        if self.address == self.build.made_for or path.suffix not in BEFORE_ADDRESS:
            response = super().file_response(full_path, stat_result, scope, status_code)
        else:
            text = at_address(path.name, path.read_text(encoding="utf-8"), self.build.made_for, self.address)
            response = Response(text, status_code, media_type=mimetypes.guess_type(path.name)[0])
        response.headers["Cache-Control"] = KEPT if HASHED.search(path.name) else ASKED
        return response


@router.get(f"{OHIF}{{path:path}}", include_in_schema=False)
def ohif(path: str, app: App, request: Request) -> Response:
    """A file of the viewer: of OHIF 3.12, or else of the build that cannot store."""
    return _reply(path, app, request, Files(fetched() or of_monailabel(), OHIF))


@router.get(f"{OHIF_OF_MONAILABEL}{{path:path}}", include_in_schema=False)
def ohif_of_monailabel(path: str, app: App, request: Request) -> Response:
    """A file of the viewer with MONAI Label's panel."""
    return _reply(path, app, request, Files(of_monailabel(), OHIF_OF_MONAILABEL))


@router.get(f"{BAR}{{name}}", include_in_schema=False)
def bar(name: str) -> Response:
    """A script of our bar inside the viewer, or how it looks."""
    if name not in SCRIPTS:
        raise NotFound(f"The bar has no file {name[:80]!r}.")
    return FileResponse(SCRIPTS[name], headers={"Cache-Control": ASKED})


def _reply(path: str, app: App, request: Request, files: Files) -> Response:
    if path != CONFIG:
        return files.reply(path, request.scope)
    server: dict[str, Any] = {
        "address": files.address,
        "dicomweb": PREFIX,
        "signIn": app.settings.auth != "none",
        "canStore": files.build.can_store,
        "bar": f"{BAR}bar" if files.build.can_store else None,
    }
    content = (STATIC / "ohif-config.js").read_text(encoding="utf-8")
    headers = {"Cache-Control": ASKED}
    return Response(f"const server = {json.dumps(server)};\n{content}", 200, headers, "text/javascript")
