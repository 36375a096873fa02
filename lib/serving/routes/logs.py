"""``/logs``: the last lines of the server's log."""

from __future__ import annotations

import shutil
import subprocess
from collections import deque
from html import escape
from string import Template
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response

from lib.serving.log import log_file
from lib.serving.routes.common import App, Count

router = APIRouter(prefix="/logs", tags=["Others"])

MOST_LINES = 1_000_000
"""More than the log has."""

PAGE = Template("""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Log</title>$refresh
<style>body{font:13px/1.5 ui-monospace,monospace;margin:1rem;white-space:pre-wrap;overflow-wrap:anywhere}</style>
<body>$lines<script>scrollTo(0, document.body.scrollHeight)</script></body></html>
""")


@router.get("/", response_model=None)
def logs(
    app: App,
    lines: Annotated[int, Query(ge=0, le=MOST_LINES)] = 300,
    html: bool = True,
    text: bool = False,
    refresh: Count = 0,
) -> Response:
    """The log as a page or as plain text; `lines=0` is the whole file."""
    path = log_file(app.settings.data)
    if lines == 0:
        return FileResponse(path, media_type="text/plain")
    with path.open(encoding="utf-8", errors="replace") as file:
        last = "".join(deque(file, lines))
    if text or not html:
        return PlainTextResponse(last)
    again = f'<meta http-equiv="refresh" content="{max(refresh, 3)}">' if refresh else ""
    return HTMLResponse(PAGE.substitute(lines=escape(last), refresh=again))


@router.get("/gpu", response_class=PlainTextResponse)
def gpu() -> str:
    """What `nvidia-smi` says."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "This machine has no NVIDIA GPU (nvidia-smi is not installed); the CPU computes.\n"
    try:
        found = subprocess.run([program], capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return "nvidia-smi did not answer within 20 s.\n"
    return found.stdout or found.stderr
