"""An Orthanc of the tests' own, with its DICOMweb plugin, from Debian's packages."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pydicom
from pydicom.dataset import Dataset

from tests.postgresql import skip_or_fail

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
MISSING = "Orthanc is not installed, so no server of studies is tested: sudo apt-get install orthanc orthanc-dicomweb"

NAME, PASSWORD = "label", "secret:word"

START_SECONDS = 30.0


@dataclass
class Orthanc:
    """A server that can be stopped and started again; only this machine reaches it, with name and password."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", auth=(NAME, PASSWORD), timeout=30)

    @property
    def address(self) -> str:
        """Root of its DICOMweb."""
        return f"http://127.0.0.1:{self.port}/dicom-web"

    def start(self) -> None:
        """Starts it on what it had before."""
        settings = {
            "StorageDirectory": str(self.folder), "IndexDirectory": str(self.folder), "Plugins": [str(PLUGIN)],
            "HttpPort": self.port, "DicomServerEnabled": False, "RemoteAccessAllowed": False, "HttpThreadsCount": 4,
            "AuthenticationEnabled": True, "RegisteredUsers": {NAME: PASSWORD},
            "LuaScripts": [str(path) for path in self.folder.glob("*.lua")],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }  # fmt: skip
        (self.folder / "orthanc.json").write_text(json.dumps(settings))
        with (self.folder / "orthanc.log").open("ab") as log:
            command = ["Orthanc", str(self.folder / "orthanc.json")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "orthanc.log").read_text()[-2000:]
            assert time.monotonic() < deadline, "Orthanc did not start"
            time.sleep(0.05)

    def stop(self) -> None:
        """Ends it; what it stores stays."""
        if self.process is not None:
            # Asked to end it sleeps for seconds; what it has answered for lies on the disk by then.
            self.process.kill()
            self.process.wait(20)
            self.process = None

    def _answers(self) -> bool:
        try:
            return self.client.get("/system").status_code == 200
        except httpx.TransportError:
            return False

    def put(self, paths: Iterable[Path]) -> None:
        """Stores files as a scanner or another viewer does."""
        for path in paths:
            self.client.post("/instances", content=path.read_bytes()).raise_for_status()

    def obey(self, lua: str) -> None:
        """Starts again with a rule, such as one that leaves objects out."""
        self.stop()
        (self.folder / "rules.lua").write_text(lua)
        self.start()

    def series(self, modality: str) -> list[str]:
        """SeriesInstanceUIDs of all that it has of a modality."""
        found: list[dict[str, Any]] = self.client.get("/dicom-web/series", params={"Modality": modality}).json()
        return [one["0020000E"]["Value"][0] for one in found]

    def instances(self, modality: str) -> list[Dataset]:
        """All that it has of a modality, as it is stored."""
        found = self.client.post("/tools/find", json={"Level": "Instance", "Query": {"Modality": modality}}).json()
        return [pydicom.dcmread(BytesIO(self.client.get(f"/instances/{one}/file").content)) for one in found]

    def delete_series(self, series_uid: str) -> None:
        """Deletes a series."""
        (found,) = self.client.post("/tools/lookup", content=series_uid).json()
        self.client.delete(found["Path"]).raise_for_status()


@contextmanager
def orthanc() -> Iterator[Orthanc]:
    """A new server that runs as long as the block."""
    if shutil.which("Orthanc") is None or not PLUGIN.is_file():
        skip_or_fail(MISSING)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="orthanc-") as folder:
        server = Orthanc(Path(folder), port)
        try:
            server.start()
            yield server
        finally:
            server.stop()
            server.client.close()
