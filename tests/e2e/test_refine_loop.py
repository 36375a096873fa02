"""The refinement loop over HTTP with real processes: a junior saves, the refiner refines, an expert accepts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.serving.tokens import TokenFile
from lib.stages import Role
from lib.store import layout
from lib.volume import Volume, nifti_bytes
from tests.refinement.pairs import rough
from tests.serving.places import ENDED, Server, put_images, server, until
from tests.training.shapes import drawn

REFINER = "segmentation_refine"


class People:
    """A junior and an expert, each with a token, at one server."""

    def __init__(self, server: Server, tokens: dict[str, str]) -> None:
        self.server = server
        self._tokens = tokens

    def call(self, who: str, method: str, path: str, **more: Any) -> Any:
        """The JSON of a reply that must be 200."""
        headers = {"Authorization": f"Bearer {self._tokens[who]}"}
        reply = self.server.client.request(method, path, headers=headers, **more)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def save(self, who: str, image_id: str, mask: np.ndarray) -> Any:
        """Stores a mask."""
        files = {"label": ("label.nii.gz", nifti_bytes(Volume(mask, np.eye(4))))}
        return self.call(who, "PUT", "/datastore/label", params={"image": image_id}, files=files)

    def train(self, model: str, max_epochs: int) -> None:
        """Trains for a number of epochs, which gives the same weights however busy the machine is."""
        asked = {"seconds": 300, "max_epochs": max_epochs}
        self.ended(self.call("kim", "POST", f"/train/{model}", json=asked)["id"])

    def ended(self, job_id: str) -> Any:
        """A job once it has ended; it must succeed."""

        def looked() -> Any:
            job = self.call("kim", "GET", f"/jobs/{job_id}")
            return job if job["status"] in ENDED else None

        job = until(looked, seconds=300, what=f"the job {job_id}")
        assert job["status"] == "DONE", job["details"]
        return job


@pytest.fixture
def people(tmp_path: Path) -> Iterator[People]:
    """Seven images, five of which the junior has drawn roughly and the expert corrected."""
    put_images(tmp_path / "studies", 7)
    tokens = TokenFile(tmp_path / "data" / layout.TOKENS)
    given = {"lee": tokens.add("lee", Role.ANNOTATOR), "kim": tokens.add("kim", Role.EXPERT)}
    with server(tmp_path / "studies", tmp_path / "data", {"auth": "tokens"}) as running:
        people = People(running, given)
        for number in range(5):
            image_id = people.call("lee", "POST", "/activelearning/first")["id"]
            people.save("lee", image_id, rough(number))
            people.save("kim", image_id, drawn(number)[1])
        yield people


def test_a_juniors_mask_is_refined_accepted_and_learned_from(people: People) -> None:
    people.train("segmentation", max_epochs=1)
    people.train(REFINER, max_epochs=20)
    (first,) = people.call("kim", "GET", f"/model/versions/{REFINER}")
    assert (first["state"], first["metrics"]["pairs"]["recorded"]) == ("serving", 4), first["reason"]

    # The junior.
    image_id = people.call("lee", "POST", "/activelearning/first")["id"]
    assert image_id == "case_05"
    draft = {"image": image_id, "output": "json"}
    assert people.call("lee", "POST", "/infer/segmentation", params=draft)["annotation_version"] == 1
    saved = people.save("lee", image_id, rough(5))
    assert saved["version"] == 2
    refined = people.ended(saved["refining"])["result"]
    assert (refined["parent"], refined["version"]) == (2, 3)

    # The expert.
    (case,) = people.call("kim", "GET", "/queue", params={"role": "expert"})["cases"]
    assert (case["image"], case["current"], len(case["versions"])) == (image_id, 3, 3)
    assert people.call("kim", "POST", "/activelearning/first")["id"] == image_id
    accept = {"image": image_id}
    assert people.call("kim", "POST", "/annotations/accept", params=accept)["version"] == 4
    assert people.call("kim", "POST", "/annotations/accept", params=accept)["new"] is False
    assert people.call("kim", "GET", "/queue")["cases"] == []

    history = people.call("kim", "GET", "/datastore/label/history", params={"image": image_id})
    assert [(one["version"], one["stage"], one["author"], one["parent"]) for one in history] == [
        (1, "draft", "model:segmentation@v1", None),
        (2, "draft", "lee", 1),
        (3, "refined", f"model:{REFINER}@v1", 2),
        (4, "expert", "kim", 3),
    ]
    assert history[3]["name"] == history[2]["name"] != history[1]["name"]

    # The next training.
    people.train(REFINER, max_epochs=1)
    second = people.call("kim", "GET", f"/model/versions/{REFINER}")[-1]
    assert second["parent"] == 1
    learned = [pair for pair in second["metrics"]["recorded_pairs"] if pair["image"] == image_id]
    assert learned == [{"image": image_id, "draft": draft, "expert": 4} for draft in (1, 2, 3)]
