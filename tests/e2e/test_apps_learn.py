"""Every app works out of the box on its sample images: draft, correct, train, better prediction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lib.metrics.overlap import dice
from lib.volume import onto_grid, read_volume
from tests.serving.places import ENDED, Server, app_server, put_label, until

SAMPLES = Path(__file__).resolve().parents[2] / "sample-data"

FIRST = 4
"""Cases that are corrected before the first training; all others but the held-out ones before the second."""

HELD_OUT = 3
"""Cases that nobody corrects, to measure on."""


class Robot:
    """Corrects with the true masks of the sample images."""

    def __init__(self, server: Server, app: str) -> None:
        self.server, self.app = server, app
        folder = SAMPLES / f"{app}-truth"
        suffix = ".nii.gz"
        self.truths = {path.name.removesuffix(suffix): path for path in sorted(folder.glob(f"*{suffix}"))}
        images = server.get("/datastore/", output="all")["objects"]
        self.by_image = {image_id: self.truth_of(image_id, images[image_id]) for image_id in sorted(images)}
        shown = [image_id for image_id, truth in self.by_image.items() if read_volume(truth).voxels.any()]
        self.held_out = shown[-HELD_OUT:]
        self.others = [image_id for image_id in self.by_image if image_id not in self.held_out]

    def truth_of(self, image_id: str, told: dict[str, object]) -> Path:
        """A DICOM series is called by its UID; its folder has the truth's name."""
        if image_id in self.truths:
            return self.truths[image_id]
        (name,) = (name for name in self.truths if f"{name}/" in f"{told}/".replace("'", "/"))
        return self.truths[name]

    def correct(self, image_ids: list[str]) -> None:
        """Stores the true masks of these images as an expert's."""
        for image_id in image_ids:
            put_label(self.server.client, image_id, self.by_image[image_id].read_bytes(), label_info=[])

    def train(self, seconds: float) -> None:
        """Trains and waits; it must succeed."""
        self.server.post(f"/train/{self.app}", {"seconds": seconds})
        job = until(self._ended, seconds=400, what="the training")
        assert job["status"] == "DONE", job["details"]

    def _ended(self) -> dict[str, object] | None:
        job: dict[str, object] = self.server.get("/train/")
        return job if job["status"] in ENDED else None

    def prediction(self, image_id: str, folder: Path) -> tuple[float, dict[str, object]]:
        """Mean Dice of the structures that the truth shows, and what the server told."""
        params = {"image": image_id, "output": "json"}
        told = self.server.client.post(f"/infer/{self.app}", params=params)
        assert told.status_code == 200, told.text
        mask = self.server.client.post(f"/infer/{self.app}", params={**params, "output": "image"})
        file = folder / "mask.nii.gz"
        file.write_bytes(mask.content)
        truth = read_volume(self.by_image[image_id])
        found = onto_grid(read_volume(file), truth.grid, image_id)
        values = [value for value in np.unique(truth.voxels) if value]
        return float(np.mean([dice(truth.voxels == value, found == value) for value in values])), told.json()

    def mean_dice(self, folder: Path) -> float:
        """Over the cases that nobody corrected."""
        return float(np.mean([self.prediction(image_id, folder)[0] for image_id in self.held_out]))


@pytest.mark.parametrize("app", ["hemorrhage", "mass", "segmentation"])
def test_corrections_on_the_sample_images_make_a_better_model(app: str, tmp_path: Path) -> None:
    with app_server(app, SAMPLES / app, tmp_path / "data", {"train_after": "0", "rescan": "0"}) as server:
        robot = Robot(server, app)

        first = server.client.post(f"/infer/{app}", params={"image": robot.held_out[0], "output": "json"})
        if app == "segmentation":
            assert first.status_code == 409 and "No model yet" in first.text
        else:
            assert first.json()["author"] == f"rule:{app}"
            assert first.json()["summary"]

        robot.correct(robot.others[:FIRST])
        robot.train(seconds=1.0)
        early = robot.mean_dice(tmp_path)
        robot.correct(robot.others[FIRST:])
        robot.train(seconds=25.0)
        late = robot.mean_dice(tmp_path)

        assert late > early
        assert robot.prediction(robot.held_out[0], tmp_path)[1]["author"] == f"model:{app}@v2"
