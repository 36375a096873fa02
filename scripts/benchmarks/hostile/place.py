"""The server that is attacked: small studies, people of every role, canaries around its data, files to be spoiled."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np
from PIL import Image

from lib.phantoms import breast
from lib.phantoms.dicom_mammogram import write_mammogram
from lib.phantoms.dicom_series import write_dicom_series
from lib.picture import PICTURE_SUFFIXES
from lib.volume import Volume, nifti_bytes, write_volume
from scripts.benchmarks.common import ROOT, Served, apart, served
from scripts.benchmarks.hostile.calls import Known
from scripts.benchmarks.hostile.canaries import Canaries
from scripts.benchmarks.hostile.reach import Reach
from scripts.benchmarks.hostile.watching import Seen, Watch, end
from scripts.benchmarks.hostile.wire import Reply, send

SHAPE = (24, 20, 16)

CASES = 8

EXPENDABLE = 40
"""Uploaded images that requests may delete."""

PEOPLE = ("viewer", "annotator", "expert", "admin")

TASK = """[[structures]]
name = "Bright"
value = 1
range_hu = [70, 120]

[[structures]]
name = "Dark"
value = 2
range_hu = [-20, 30]
"""
"""Structures that a rule drafts: there is something to infer without any weights."""

CONF = {"auth": "tokens", "train_after": "0", "train_seconds": "2", "ahead": "0"}


def drawn(seed: int) -> tuple[Volume, Volume]:
    """A small grey image with two blocks, and its mask."""
    chance = np.random.default_rng(seed)
    mask = np.zeros(SHAPE, np.uint8)
    mask[3:10, 4:12, 3:11], mask[14:21, 4:12, 3:11] = 1, 2
    grey = np.choose(mask, [50, 90, 10]) + chance.normal(0, 3, SHAPE)
    return Volume(grey.astype(np.int16), np.eye(4)), Volume(mask, np.eye(4))


def write_studies(folder: Path) -> None:
    """Volumes in both formats, two DICOM series, a picture, and the task."""
    folder.mkdir(parents=True)
    (folder / "label-refinery.toml").write_text(TASK)
    for number in range(CASES):
        write_volume(folder / f"case_{number:02d}{'.nrrd' if number == CASES - 1 else '.nii.gz'}", drawn(number)[0])
    for number, modality in enumerate(("CT", "MR")):
        voxels = drawn(100 + number)[0].voxels
        write_dicom_series(
            folder / modality,
            voxels,
            np.diag([-1.0, -1.0, 1.0, 1.0]),
            modality=modality,
            patient_id=modality,
            seed=number,
        )  # type: ignore[arg-type]
    Image.fromarray(drawn(7)[0].voxels[:, :, 8].astype(np.uint8)).save(folder / f"picture{PICTURE_SUFFIXES[0]}")


def form(fields: dict[str, str], files: Sequence[tuple[str, str, bytes]]) -> tuple[bytes, bytes]:
    """A multipart form with files (field, name, content), and its Content-Type."""
    boundary = b"hostile-7d9f1c"
    parts = [f'name="{name}"\r\n\r\n{text}'.encode() for name, text in fields.items()]
    for name, filename, content in files:
        told = filename.replace('"', "%22").encode("utf-8", "surrogatepass")
        parts.append(b'name="%s"; filename="%s"\r\n\r\n' % (name.encode(), told) + content)
    body = b"".join(b"--%s\r\nContent-Disposition: form-data; %s\r\n" % (boundary, part) for part in parts)
    return body + b"--" + boundary + b"--\r\n", b"multipart/form-data; boundary=" + boundary


class Place:
    """A server in a folder of its own; it is started again whenever it ends.

    Attributes:
        reach: what hostile files may use.
        known: what requests may name.
        routes: the server's own description of what can be asked.
        seen: what the watch saw.
        restarts: why and when it was started again.
        opened: canaries that somebody opened.
    """

    def __init__(self, tree: Path = ROOT, most_mib: int = 3072) -> None:
        """Uses the code of ``tree``; a process larger than ``most_mib`` is ended."""
        self.tree = tree
        self.seen = Seen()
        self.restarts: list[str] = []
        self._most_mib = most_mib
        self._stack = ExitStack()
        self._life = ExitStack()
        self._guard = threading.Lock()
        self._served: Served
        self._is_started = False

    def __enter__(self) -> Place:
        """Starts it and asks for all that the attack needs."""
        folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="hostile-")))
        self.folder, self.data = folder, folder / "site" / "data"
        self.canaries = Canaries(folder / "elsewhere", self.data)
        self.data.mkdir(parents=True, mode=0o700)
        write_studies(folder / "studies")
        self.canaries.write()
        self.tokens = {role: self._token(role) for role in PEOPLE}
        self.opened = self._stack.enter_context(self.canaries.watched())
        self._start()
        try:
            self._prepare()
            # What the preparations took is not what the attack takes.
            self._watch.stop()
            self._look_on()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it and deletes its folder."""
        self.stop()
        self._stack.close()

    def stop(self) -> None:
        """Ends the server; its folder stays for a look."""
        if self._is_started:
            self._end_life()
            self._is_started = False

    def command(self, *words: str) -> str:
        """What a command of the project prints about this data folder."""
        command = [sys.executable, "-m", words[0], "--data", str(self.data), *words[1:]]
        return subprocess.run(command, cwd=self.tree, capture_output=True, text=True, check=False).stdout

    def _token(self, role: str) -> str:
        return self.command("scripts.tokens", "add", role, "--role", role).split()[-1]

    # Its life.

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._served.client.base_url.port or 0)

    def _start(self) -> None:
        self._served = self._life.enter_context(served(self.folder / "studies", self.data, CONF, tree=self.tree))
        self._is_started = True
        self._look_on()

    def _look_on(self) -> None:
        self._watch = Watch(self._served.process.pid, self.port, self._most_mib)

    def _end_life(self) -> str:
        seen = self._watch.stop()
        self.seen.add(seen)
        if not self.is_alive:
            end(self._served.process.pid)
        self._life.close()
        self._life = ExitStack()
        return seen.ended

    @property
    def is_alive(self) -> bool:
        """Whether its main process runs."""
        return self._served.process.poll() is None

    def revive(self, what: str, stuck_after: int | None = None) -> str:
        """Starts it again if it has ended; why it had, else empty.

        One that is stuck, and was started again ``stuck_after`` times before, is ended first.
        """
        with self._guard:
            if stuck_after == len(self.restarts):
                end(self._served.process.pid)
                self._served.process.wait()
            if self.is_alive:
                return ""
            told = self._end_life() or f"It ended by itself, code {self._served.process.returncode}."
            self.restarts.append(f"{what}: {told}")
            self._start()
            return told

    # Asking it.

    def authorization(self, role: str) -> bytes:
        """The header's value of somebody."""
        if role == "nobody":
            return b""
        return b"Bearer " + (self.tokens.get(role, "garbage") + ("" if role in self.tokens else role)).encode()

    def ask(self, role: str, method: str, path: str, body: bytes = b"", kind: bytes = b"") -> Reply:
        """A sound request."""
        lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: 127.0.0.1", b"Connection: close"]
        lines += [b"Authorization: " + self.authorization(role)] if role != "nobody" else []
        lines += [b"Content-Type: " + kind] if kind else []
        lines += [b"Content-Length: %d" % len(body)] if body or method in ("PUT", "POST") else []
        return send(self.port, b"\r\n".join([*lines, b"", b""]) + body, method)

    def json(self, path: str, role: str = "admin") -> Any:
        """The JSON of a reply that must be 200."""
        reply = self.ask(role, "GET", path)
        if reply.status != 200:
            raise RuntimeError(f"{path}: {reply.status} {reply.text}")
        return json.loads(reply.body)

    # What the attack needs.

    def _prepare(self) -> None:
        self.description = self.json("/openapi.json")
        self.tokens["ticket"] = self._ticket()
        self.expendable = [f"gone_{number:02d}" for number in range(EXPENDABLE)]
        for number, name in enumerate(self.expendable):
            body, kind = form({}, [("file", "x.nii.gz", nifti_bytes(drawn(200 + number)[0]))])
            self.ask("annotator", "PUT", f"/datastore/image?image={name}", body, kind)
        series = self._series()
        segmenter, refiner = apart(fresh_weights)
        self.reach = Reach(self.canaries.files, self.folder / "ran", SHAPE, self._objects(series), segmenter)
        self.ask("admin", "PUT", "/model/segmentation_refine", *form({}, [("file", "refiner.pt", refiner)]))
        self.known = self._known(series)

    def _ticket(self) -> str:
        body = f"token={quote(self.tokens['annotator'])}".encode()
        reply = self.ask("nobody", "POST", "/open", body, b"application/x-www-form-urlencoded")
        return parse_qs(urlsplit(reply.headers.get("location", "")).query).get("token", ["none"])[0]

    def _series(self) -> list[str]:
        """Images that are DICOM series."""
        objects = self.json("/datastore/?output=all")["objects"]
        return sorted(name for name in objects if "." in name)

    def _objects(self, series: Sequence[str]) -> dict[str, bytes]:
        """Sound DICOM files by kind; segmentation and contours are this server's own."""
        found = {kind: next((self.folder / "studies" / kind.upper()).iterdir()).read_bytes() for kind in ("ct", "mr")}
        phantom = breast.draw_mammogram(breast.random_parameters(1))
        write_mammogram(self.folder / "mg", phantom, laterality="L", view="CC", patient_id="mg", seed=1)
        found["mg"] = next((self.folder / "mg").iterdir()).read_bytes()
        affine = np.diag([-1.0, -1.0, 1.0, 1.0])
        body, kind = form({}, [("label", "x.nii.gz", nifti_bytes(Volume(drawn(0)[1].voxels, affine)))])
        self.ask("expert", "PUT", f"/datastore/label?image={quote(series[0])}", body, kind)
        for short, name in (("seg", "seg"), ("rt", "rtstruct")):
            reply = self.ask("viewer", "GET", f"/annotations/latest?image={quote(series[0])}&format={name}")
            if reply.status != 200:
                raise RuntimeError(f"No {name} to spoil: {reply.status} {reply.text}")
            found[short] = reply.body
        return found

    def _known(self, series: Sequence[str]) -> Known:
        images = [f"case_{number:02d}" for number in range(CASES)] + list(series)
        listed = self.json("/dicomweb/instances?limit=40", "viewer")
        uids = {name: sorted({entry[tag]["Value"][0] for entry in listed if tag in entry})
                for name, tag in (("study", "0020000D"), ("series", "0020000E"), ("instance", "00080018"))}  # fmt: skip
        body, kind = form({}, [("files", "x.nii.gz", nifti_bytes(drawn(1)[0]))])
        session = json.loads(self.ask("annotator", "PUT", "/session/", body, kind).body)["session_id"]
        job = json.loads(self.ask("expert", "POST", "/scoring/dice", b"{}", b"application/json").body or b"{}").get(
            "id", "1"
        )
        info = self.json("/info/")
        return Known({
            **uids, "image": images, "label": images, "id": images, "model": list(info["models"]),
            "strategy": list(info["strategies"]),
            "frames": ["1", "1,2"], "tag": ["final", "version_1", "original"], "version": ["1", "2"],
            "session_id": [session],
            "job_id": [str(job)], "format": ["nifti", "nrrd", "seg", "rtstruct"],
            "output": ["all", "json", "image", "stats", "train"],
            "method": list(info["scoring"]) or ["dice"], "name": list(PEOPLE),
            "path": ["index.html", "app-config.js", "../logs/"],
            "limit": ["5"], "offset": ["0"], "count": ["5"], "lines": ["5"], "role": ["expert"],
            "token": [self.tokens["viewer"]],
            "username": ["viewer"], "password": [self.tokens["viewer"]], "client_id": ["kim"],
            "more": ["rendered", "thumbnail"],
            "deeper": ["1/rendered"], "images": ["all", "labeled"], "limit_cases": ["1"], "expiry": ["5"],
            "PatientID": ["CT", "C*"],
            "check_sum": ["SHA256:00"], "refresh": ["0"], "tag_": ["7FE00010"],
        }, self.expendable)  # fmt: skip


def fresh_weights() -> tuple[bytes, bytes]:
    """Weights that have learned nothing, of a segmenter and a refiner for the task that is attacked."""
    import torch

    from lib.networks.checkpoint import Checkpoint
    from lib.networks.segmenter import seeded_network
    from lib.preprocessing import plan_for
    from lib.refinement.plan import refiner_plan
    from lib.task import Structure, Task

    torch.set_num_threads(1)
    structures = (Structure("Bright", 1, (255, 0, 0)), Structure("Dark", 2, (0, 255, 0)))
    task = Task("segmentation", "Two blocks", structures)
    plans = [make(task, [drawn(0)[0].grid]) for make in (plan_for, refiner_plan)]
    segmenter, refiner = (Checkpoint(plan, seeded_network(plan, 0).state_dict()).to_bytes() for plan in plans)
    return segmenter, refiner
