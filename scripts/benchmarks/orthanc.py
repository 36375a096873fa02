"""Debian's Orthanc with its DICOMweb plugin, on a free port and in a folder of its own."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")

START_SECONDS = 60.0


def orthanc_program() -> str:
    """Path of the program.

    Raises:
        SystemExit: if it is not installed.
    """
    found = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if found is None or not PLUGIN.is_file():
        raise SystemExit("Orthanc with its DICOMweb plugin is needed: apt-get install orthanc orthanc-dicomweb.")
    return found


@contextmanager
def orthanc(folder: Path) -> Iterator[int]:
    """Starts Orthanc with its defaults (SQLite), gives its port, and ends it afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    folder.mkdir(parents=True)
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    configuration = folder / "orthanc.json"
    configuration.write_text(json.dumps(settings))
    with (folder / "orthanc.out").open("wb") as screen:
        process = subprocess.Popen([orthanc_program(), str(configuration)], stdout=screen, stderr=screen)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Orthanc did not start:\n{(folder / 'orthanc.out').read_text()[-2000:]}")
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/system")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def upload(port: int, files: Iterable[Path]) -> None:
    """Stores files in it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for path in files:
        connection.request("POST", "/instances", path.read_bytes())
        reply = connection.getresponse()
        told = reply.read()
        if reply.status != 200:
            raise RuntimeError(f"Orthanc did not take {path.name}: {told.decode()[:500]}")
    connection.close()
