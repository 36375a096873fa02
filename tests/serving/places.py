"""Small studies, masks and servers that the tests of the edge share."""

from __future__ import annotations

import gzip
import os
import re
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
import nibabel as nib
import numpy as np
import SimpleITK as sitk

from lib.serving.log import log_file
from lib.volume import Volume, nifti_bytes
from scripts.benchmarks.common import served
from tests.itk import volume_of_sitk
from tests.training.shapes import drawn

STRUCTURES = ("Anterior", "Posterior")
CONF = {"labels": ",".join(STRUCTURES), "train_after": "0", "rescan": "0", "ahead": "0"}
"""Two structures, and nothing that happens by itself."""

LABEL_INFO = [{"name": "Anterior", "idx": 1}, {"name": "Posterior", "idx": 2}]


def image_bytes(seed: int, size: tuple[int, int, int] = (24, 20, 16)) -> bytes:
    """A drawn image as a NIfTI file."""
    return nifti_bytes(drawn(seed, size)[0])


def mask_bytes(seed: int, size: tuple[int, int, int] = (24, 20, 16)) -> bytes:
    """The mask of the same image."""
    volume, mask = drawn(seed, size)
    return nifti_bytes(Volume(mask, volume.affine))


def put_images(folder: Path, count: int) -> list[str]:
    """Fills a folder with drawn images ``case_00`` … and returns their ids."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = [f"case_{number:02d}" for number in range(count)]
    for number, image_id in enumerate(ids):
        (folder / f"{image_id}.nii.gz").write_bytes(image_bytes(number))
    return ids


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder with size and time of change."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def voxels(content: bytes) -> np.ndarray:
    """The voxels of a NIfTI or NRRD file in memory."""
    return opened(content).voxels


def affine(content: bytes) -> np.ndarray:
    """Its affine, in RAS mm."""
    return opened(content).affine


def opened(content: bytes) -> Volume:
    """A file as a client opens it: NRRD by ITK, NIfTI by nibabel."""
    if content.startswith(b"NRRD"):
        with tempfile.NamedTemporaryFile(suffix=".nrrd") as file:
            file.write(content)
            file.flush()
            return volume_of_sitk(sitk.ReadImage(file.name))
    image = nib.Nifti1Image.from_bytes(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
    return Volume(np.asarray(image.dataobj), np.asarray(image.affine))


def until(condition: Callable[[], Any], seconds: float = 90.0, what: str = "it") -> Any:
    """The first true value of a condition; asked again and again, at most for so long."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.05)
    return value


ENDED = ("DONE", "ERROR", "STOPPED")


@dataclass
class Server:
    """A server process of its own, with everything it started."""

    client: httpx.Client
    pid: int
    data: Path
    studies: Path

    @property
    def address(self) -> str:
        return str(self.client.base_url)

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of a reply that must be 200."""
        response = self.client.get(path, params=query)
        assert response.status_code == 200, response.text
        return response.json()

    def post(self, path: str, body: Any = None, **query: Any) -> Any:
        """The JSON of a reply that must be 200."""
        response = self.client.post(path, json=body, params=query)
        assert response.status_code == 200, response.text
        return response.json()

    def submit(self, image_id: str, seed: int, client: str = "dr.kim", **params: Any) -> dict[str, Any]:
        """Stores the true mask of a drawn image as somebody's correction."""
        return put_label(self.client, image_id, mask_bytes(seed), client_id=client, **params)

    def ended(self, path: str = "/train/") -> dict[str, Any]:
        """The newest job once it has ended."""
        job: dict[str, Any] = until(lambda: self._ended(path), what=f"the job at {path}")
        return job

    def _ended(self, path: str) -> Any:
        job = self.get(path)
        return job if job["status"] in ENDED else None

    def pid_of(self, process: str) -> int:
        """Process id of the newest ``inference`` or ``worker`` process."""
        found = re.findall(rf"{process} process (\d+) started", log_file(self.data).read_text())
        return int(found[-1])

    def children(self) -> list[int]:
        """Process ids of all that this server started (Linux)."""
        return children_of(self.pid)


def put_label(client: Any, image_id: str, content: bytes, name: str = "label.nii.gz", **params: Any) -> Any:
    """Submits a mask; the reply must be 200."""
    import json

    response = client.put(
        "/datastore/label",
        params={"image": image_id},
        data={"params": json.dumps({"label_info": LABEL_INFO, **params})},
        files={"label": (name, content)},
    )
    assert response.status_code == 200, response.text
    return response.json()


def children_of(pid: int) -> list[int]:
    """Process ids of all children of a process, theirs included (Linux)."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            found += [child, *children_of(child)]
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs; a finished one that nobody waited for does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@contextmanager
def app_server(app: str, studies: Path, data: Path, conf: Mapping[str, str]) -> Iterator[Server]:
    """A running server with one of the apps."""
    with served(studies, data, conf, app) as process:
        base = str(process.client.base_url)
        with httpx.Client(base_url=base, timeout=120) as client:
            yield Server(client, process.process.pid, data, studies)


@contextmanager
def server(studies: Path, data: Path, conf: Mapping[str, str]) -> Iterator[Server]:
    """A running server with the segmentation app and two structures."""
    with app_server("segmentation", studies, data, {**CONF, **conf}) as running:
        yield running


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A block in which a process stands still."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
