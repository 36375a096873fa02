"""``python -m lib.serving``: what ``scripts/run`` starts once everything is installed."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from lib import errors
from lib.options import parser
from lib.serving.hosts import is_loopback
from lib.serving.log import log_file, write_log
from lib.serving.settings import StudiesServer, default_data, read_settings, studies_place
from lib.serving.viewer import fetched
from lib.store.lock import FolderLock, holder_of
from lib.store.private import make_private

if TYPE_CHECKING:
    from lib.serving.loop import LabelingLoop


LAST_PORT = 65535

HOME = Path(__file__).resolve().parents[2]
"""The project's folder."""


def main(argv: Sequence[str] | None = None) -> None:
    """Starts the server and serves until Ctrl-C."""
    options = parser().parse_args(argv)
    app_dir = _app_folder(options.app)
    conf = dict(options.conf)
    data = Path(options.data or conf.get("data") or default_data(app_dir.name)).expanduser().absolute()
    conf["data"] = str(data)
    studies = options.studies or str(HOME / "sample-data" / app_dir.name)
    try:
        _refuse_other_hosts(options.host, conf)
        if not (app_dir / "main.py").is_file():
            found = ", ".join(sorted(path.parent.name for path in (HOME / "apps").glob("*/main.py")))
            raise errors.SetupError(f"--app {options.app} holds no main.py. There are apps/ with {found}.")
        settings = read_settings(conf, app_dir.name)
        _refuse_data_among(studies_place(studies, settings), data)
        lock = _lock(data)
        listener = _bound(options.host, options.port)
        write_log(settings, is_server=True)
        print(f"Studies (only read): {studies}\nData (everything that is written): {data}", flush=True)
        print("Loading the app …", flush=True)
        # Torch and MONAI take seconds to import: not before the options are known to be good.
        from lib.serving.connections import guarded_server
        from lib.serving.server import create_server, load_app

        app = load_app(app_dir, studies, conf)
        _first_look(app)
    # Whatever is wrong with the record, the disk or the studies is told, not shown as a traceback.
    except (errors.LabelRefineryError, OSError) as error:
        sys.exit(f"The server cannot start: {error}")
    _print_addresses(options.host, listener.getsockname()[1], data)
    server = guarded_server(create_server(app), settings.trusted_proxies)
    server.handle_exit = _telling(server.handle_exit)  # type: ignore[assignment, method-assign]
    with lock, contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])


def _telling(stop: Callable[[int, FrameType | None], None]) -> Callable[[int, FrameType | None], None]:
    """What handles Ctrl-C, and says so first: requests and processes that compute take seconds to end."""

    def handle(signal: int, frame: FrameType | None) -> None:
        # Not by print, which may be at work just now.
        with contextlib.suppress(OSError):
            os.write(1, "Stopping …\n".encode())
        stop(signal, frame)

    return handle


def _app_folder(app: str) -> Path:
    """The folder as typed, or else the one of that name in this project."""
    typed = Path(app).expanduser().absolute()
    return typed if typed.is_dir() else HOME / app


def _refuse_other_hosts(host: str, conf: dict[str, str]) -> None:
    if not is_loopback(host) and conf.get("auth", "none") == "none":
        raise errors.SetupError(
            f"--host {host} would open the server to everybody who reaches this machine. Turn sign-in on with "
            "--conf auth tokens (.venv/bin/python -m scripts.tokens add NAME --role expert gives them), or use "
            "127.0.0.1."
        )


def _bound(host: str, port: int) -> socket.socket:
    """Takes the port before the app is loaded: one that is taken is told at once."""
    if not 0 <= port <= LAST_PORT:
        raise errors.SetupError(f"--port is a number from 0 to {LAST_PORT}, found {port}.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise errors.SetupError(f"It cannot listen at {host}, port {port}: {error}. Choose another --port.") from error
    return listener


def _refuse_data_among(studies: Path | StudiesServer, data: Path) -> None:
    """Refuses to write into the folder of studies, which is only read; what lies there would pass for images."""
    if isinstance(studies, Path) and data.resolve().is_relative_to(studies.resolve()):
        raise errors.SetupError(
            f"--data {data} lies in the folder of studies {studies}, which is only read. Name a folder elsewhere."
        )


def _lock(data: Path) -> FolderLock:
    """Keeps a second server away from the same data folder, and closes the folder to others at this machine."""
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FolderLock.taken(data)
        if lock is None:
            raise errors.SetupError(
                f"Another server (process {holder_of(data)}) uses {data}. Stop it, or name another --data."
            )
        make_private(data)
        lock.note_holder()
    except OSError as error:
        raise errors.SetupError(
            f"--data {data} is no folder that can be written to ({error.strerror or error}). Name another one."
        ) from error
    return lock


def _first_look(app: LabelingLoop) -> None:
    from tqdm import tqdm

    with tqdm(desc="Reading headers of new images", unit=" files", disable=None) as bar:

        def report(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        try:
            app.look(report)
        except (errors.StudiesAway, errors.StudiesRefused) as error:
            print(error, f"It is asked again every {app.settings.rescan:g} s." if app.settings.rescan else "")
    status = app.datastore().status()
    print(f"{status['total']} images, {status['completed']} labelled, {status['quarantined']} quarantined.")
    if status["unseen"]:
        print(f"  {status['unseen']}")
    if status["no_image"]:
        print(f"  {status['no_image']} others are no images for this task; --conf ignore PATTERN leaves files out.")
    if status["quarantined"]:
        print("  Quarantined images cannot be read; GET /datastore/?output=all says why, one by one.")
    if status["split_warning"]:
        print(f"  {status['split_warning']}")


def reachable_name(host: str) -> str:
    """The host as others write it into an address; one that stands for all of this machine is its name."""
    if host in ("", "0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _print_addresses(host: str, port: int, data: Path) -> None:
    address = f"http://{reachable_name(host)}:{port}"
    print(
        f"\n  Start page           {address}/\n"
        f"  3D Slicer            module MONAI Label, server address {address}\n"
        f"  All requests         {address}/docs\n"
        f"  Viewer (OHIF)        {address}/ohif/{_what_viewer_lacks()}\n"
        f"  Log                  {log_file(data)}\n\nCtrl-C stops the server.",
        flush=True,
    )


def _what_viewer_lacks() -> str:
    return "" if fetched() else " (shows images and drafts; it cannot store: OHIF 3.12 was not fetched)"


if __name__ == "__main__":
    main()
