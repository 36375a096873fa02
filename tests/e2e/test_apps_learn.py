"""Every app works out of the box on its sample images: draft, correct, train, better prediction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lib.volume import read_volume
from tests.serving.places import ENDED, Server, app_server, put_label, until

SAMPLES = Path(__file__).resolve().parents[2] / "sample-data"

FIRST = 5
"""Cases that are corrected before the first training; all others before the second. Every fifth is for validation."""

EPOCHS = {"hemorrhage": 50, "mass": 15, "segmentation": 12}
"""Of the second training, by app; the first one has one. Five rare types take longer to learn."""

ENOUGH_SECONDS = 900.0
"""Epochs end the trainings, which gives the same weights however busy the machine is."""


class Robot:
    """Corrects with the true masks of the sample images."""

    def __init__(self, server: Server, app: str) -> None:
        self.server, self.app = server, app
        folder = SAMPLES / f"{app}-truth"
        suffix = ".nii.gz"
        self.truths = {path.name.removesuffix(suffix): path for path in sorted(folder.glob(f"*{suffix}"))}
        images = server.get("/datastore/", output="all")["objects"]
        self.by_image = {image_id: self.truth_of(image_id, images[image_id]) for image_id in sorted(images)}
        self.order = self._validated_on_the_largest()

    def _validated_on_the_largest(self) -> list[str]:
        """All images, so that those which show most come fifth and tenth, on the side of the validation."""
        by_size = sorted(
            self.by_image, key=lambda image_id: -np.count_nonzero(read_volume(self.by_image[image_id]).voxels)
        )
        first, second, *others = by_size
        return [*others[:4], first, *others[4:8], second, *others[8:]]

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

    def train(self, epochs: int) -> None:
        """Trains and waits; it must succeed."""
        self.server.post(f"/train/{self.app}", {"seconds": ENOUGH_SECONDS, "max_epochs": epochs})
        job = until(self._ended, seconds=ENOUGH_SECONDS, what="the training")
        assert job["status"] == "DONE", job["details"]

    def _ended(self) -> dict[str, object] | None:
        job: dict[str, object] = self.server.get("/train/")
        return job if job["status"] in ENDED else None

    def draft(self) -> tuple[int, dict[str, object]]:
        """Status and what the server tells of a draft of the first validation image."""
        params = {"image": self.order[FIRST - 1], "output": "json"}
        reply = self.server.client.post(f"/infer/{self.app}", params=params)
        return reply.status_code, reply.json()


@pytest.mark.parametrize("app", ["hemorrhage", "mass", "segmentation"])
def test_corrections_on_the_sample_images_make_a_better_model(app: str, tmp_path: Path) -> None:
    with app_server(app, SAMPLES / app, tmp_path / "data", {"train_after": "0", "rescan": "0"}) as server:
        robot = Robot(server, app)

        status, first = robot.draft()
        if app == "segmentation":
            assert status == 409 and "No model yet" in str(first["detail"])
        else:
            assert first["author"] == f"rule:{app}"
            assert first["summary"]

        robot.correct(robot.order[:FIRST])
        robot.train(epochs=1)
        robot.correct(robot.order[FIRST:])
        robot.train(epochs=EPOCHS[app])

        early, late = server.get(f"/model/versions/{app}")
        assert late["metrics"]["mean_dice"] > early["metrics"]["mean_dice"]
        # A rule goes on drafting until a version is better.
        serving = [version for version in (early, late) if version["state"] == "serving"]
        wanted = f"model:{app}@v{serving[0]['version']}" if serving else f"rule:{app}"
        assert robot.draft()[1]["author"] == wanted
