"""One round of ``bench_kill``: start, let it write, kill, look what is there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from lib.store import layout
from lib.store.database import Database
from lib.store.record import default_url, open_existing
from lib.store.verify import verify
from scripts.benchmarks.common import ROOT, Served, served

Acknowledged = set[tuple[str, int, str]]
"""Image, version and digest of the mask."""


def lost_and_unclean(data: Path, acknowledged: Acknowledged) -> tuple[int, int]:
    """How many acknowledged annotations are not there bit for bit, and how much else is wrong after a clean-up."""
    record = open_existing(data)
    try:
        record.masks.sweep()
        record.weights.sweep()
        histories = record.annotations.all_histories()
        kept = {(a.image, a.version, a.mask) for history in histories.values() for a in history}
        whole = {
            digest
            for _, _, digest in acknowledged
            if record.masks.path(digest).is_file()
            and hashlib.sha256(record.masks.path(digest).read_bytes()).hexdigest() == digest
        }
        lost = sum(entry not in kept or entry[2] not in whole for entry in acknowledged)
        return lost, len(verify(record))
    finally:
        record.close()


class RecordRounds:
    """Kills a process that only writes to the record."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.acknowledged: Acknowledged = set()

    def run(self, number: int, chance: random.Random) -> dict[str, Any]:
        """One kill; every tenth while a record of the first revision is brought up to date."""
        if number % 10 == 9:
            self.data = self.data.with_name(f"{self.data.name}_{number}")
            self.data.mkdir(parents=True)
            self.acknowledged = set()
            old = Database(default_url(self.data))
            old.migrate("0001")
            old.close()
        before = len(self.acknowledged)
        process = subprocess.Popen(
            [sys.executable, "-m", "scripts.benchmarks.kill_target", str(self.data), str(number)],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        time.sleep(chance.uniform(0.2, 3.0))
        process.kill()
        printed = process.communicate()[0]
        # A line that was cut by the kill was not acknowledged.
        for line in printed.splitlines(keepends=True):
            if line.endswith("\n"):
                image, version, digest = line.split()
                self.acknowledged.add((image, int(version), digest))
        result = {"acknowledged": len(self.acknowledged) - before, "lost": 0, "unclean": 0, "failed_starts": 0}
        if (self.data / layout.RECORD).exists() and (self.acknowledged or number % 10 == 9):
            try:
                result["lost"], result["unclean"] = lost_and_unclean(self.data, self.acknowledged)
            except Exception as error:
                # A record without its task was killed before anything could be acknowledged.
                if self.acknowledged:
                    print(f"round {number}: {error!r}", file=sys.stderr)
                    result["failed_starts"] = 1
        return result


class ServerRounds:
    """Kills a whole server while clients save, upload and train."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.studies = folder / "studies"
        self.acknowledged: Acknowledged = set()

    def run(self, number: int, chance: random.Random) -> dict[str, Any]:
        """One kill; sometimes of the main process only, so that the others have to notice."""
        data = self.folder / "data"
        if not self.studies.is_dir():
            self._draw()
        before = len(self.acknowledged)
        conf = {"labels": "anterior,posterior", "train_after": "2", "train_seconds": "3"}
        try:
            with served(self.studies, data, conf) as server:
                self._use(server, number, chance)
                kill = os.kill if chance.random() < 0.3 else os.killpg
                kill(server.process.pid, signal.SIGKILL)
                server.process.wait()
        except RuntimeError as error:
            print(f"round {number}: {error}", file=sys.stderr)
            return {"acknowledged": 0, "lost": 0, "unclean": 0, "failed_starts": 1}
        time.sleep(1)  # an orphan that notices late must not publish; give it the time to try
        lost, unclean = lost_and_unclean(data, self.acknowledged)
        return {
            "acknowledged": len(self.acknowledged) - before, "lost": lost, "unclean": unclean, "failed_starts": 0
        }  # fmt: skip

    def _draw(self) -> None:
        from lib.volume import Volume, nifti_bytes

        self.studies.mkdir(parents=True)
        for number in range(12):
            voxels = np.random.default_rng(number).normal(size=(24, 24, 24)).astype(np.float32)
            voxels[8:16, 8:16, 8:16] += 5
            (self.studies / f"image_{number}.nii.gz").write_bytes(nifti_bytes(Volume(voxels, np.eye(4))))

    def _use(self, server: Served, number: int, chance: random.Random) -> None:
        """Saves and uploads from several threads until the time is over; training starts by itself."""
        stop = threading.Event()
        threads = [
            threading.Thread(target=self._save, args=(server.client.base_url, stop, [number, thread]), daemon=True)
            for thread in range(3)
        ]
        for thread in threads:
            thread.start()
        time.sleep(chance.uniform(0.3, 5.0))
        stop.set()

    def _save(self, address: httpx.URL, stop: threading.Event, seed: list[int]) -> None:
        from lib.volume import Volume, nifti_bytes

        drawn = np.random.default_rng(seed)
        count = 0
        # The server is killed under these requests: that they fail then is what is wanted.
        with contextlib.suppress(httpx.TransportError), httpx.Client(base_url=address, timeout=30) as client:
            while not stop.is_set():
                mask = np.zeros((24, 24, 24), np.uint8)
                mask[8:16, 8:16, 8:16] = drawn.integers(0, 3, (8, 8, 8))
                content = nifti_bytes(Volume(mask, np.eye(4)))
                image = f"image_{drawn.integers(12)}"
                reply = client.put("/datastore/label", params={"image": image}, files={"label": ("m.nii.gz", content)})
                if reply.status_code == 200:
                    digest = hashlib.sha256(content).hexdigest()
                    self.acknowledged.add((image, reply.json()["version"], digest))
                count += 1
                if count % 5 == 0:
                    name = f"upload_{seed[0]}_{seed[1]}_{count}"
                    client.put("/datastore/image", params={"image": name}, files={"file": ("i.nii.gz", content)})
