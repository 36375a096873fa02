"""A full disk costs the request that met it, and nothing else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lib.store.record import open_existing
from lib.store.verify import verify
from lib.volume import Volume, nifti_bytes
from tests.serving.places import put_images, server

SIZE_MIB = 24

pytestmark = pytest.mark.e2e


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own with little room; only root may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(["mount", *options], check=False).returncode == 0
    if not mounted:
        assert os.environ.get("REQUIRE_SYSTEM") != "1", "mounting a small disk needs root"
        pytest.skip("mounting a small disk needs root: run the tests as root to include this one")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def mask(seed: int) -> bytes:
    """A mask of noise, which gzip cannot make small."""
    voxels = np.random.default_rng(seed).integers(0, 3, (24, 20, 16)).astype(np.uint8)
    return nifti_bytes(Volume(voxels, np.eye(4)))


def test_a_full_disk_is_told_and_the_server_serves_on(tmp_path: Path, small_disk: Path):
    put_images(tmp_path / "studies", 3)
    data = small_disk / "data"
    with server(tmp_path / "studies", data, {}) as running:

        def submit(seed: int) -> int:
            affine = {"label": ("label.nii.gz", mask(seed))}
            return running.client.put("/datastore/label", params={"image": "case_00"}, files=affine).status_code

        assert submit(0) == 200
        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(1 << 16))

        answers = [submit(seed) for seed in range(1, 60)]
        refused = running.client.put(
            "/datastore/label", params={"image": "case_00"}, files={"label": ("label.nii.gz", mask(99))}
        )
        while_full = running.get("/datastore/")
        filler.unlink()
        after = submit(1000)
        history = running.get("/datastore/label/history", image="case_00")

    assert set(answers) <= {200, 507}
    assert refused.status_code == 507
    assert "Free some space" in refused.json()["detail"]
    assert while_full["total"] == 3
    assert after == 200
    assert len(history) == 2 + answers.count(200)
    record = open_existing(data)
    assert verify(record) == []
    record.close()
