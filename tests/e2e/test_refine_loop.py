"""The refinement loop with real processes, by HTTP and by the bar: a junior saves, it is refined, an expert stores."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Route, expect

from lib.serving.tokens import TokenFile
from lib.stages import Role
from lib.store import layout
from lib.volume import Volume, nifti_bytes
from tests.e2e.browser import viewer
from tests.refinement.pairs import rough
from tests.serving.places import ENDED, STRUCTURES, Server, put_images, server, until, voxels
from tests.training.shapes import drawn

REFINER = "segmentation_refine"


KEPT = "Anterior: nothing would be left of it; Posterior: its volume would be 3.00 times as large"


def kept_by(route: Route) -> None:
    """Passes on a reply to a refining as if two structures had been left as they were."""
    reply = route.fetch()
    route.fulfill(response=reply, json=reply.json() | {"kept": KEPT})


class People:
    """A junior and an expert, each with a token, at one server."""

    def __init__(self, server: Server, tokens: dict[str, str]) -> None:
        self.server = server
        self.tokens = tokens

    def call(self, who: str, method: str, path: str, **more: Any) -> Any:
        """The JSON of a reply that must be 200."""
        headers = {"Authorization": f"Bearer {self.tokens[who]}"}
        reply = self.server.client.request(method, path, headers=headers, **more)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def save(self, who: str, image_id: str, mask: np.ndarray) -> Any:
        """Stores a mask."""
        files = {"label": ("label.nii.gz", nifti_bytes(Volume(mask, np.eye(4))))}
        return self.call(who, "PUT", "/datastore/label", params={"image": image_id}, files=files)

    def mask(self, image_id: str, version: int) -> np.ndarray:
        """A stored mask."""
        headers = {"Authorization": f"Bearer {self.tokens['kim']}"}
        query = {"image": image_id, "tag": f"version_{version}"}
        return voxels(self.server.client.get("/datastore/label", params=query, headers=headers).content)

    def marks(self, image_id: str, version: int) -> dict[str, int]:
        """How many voxels of each structure a stored mask has."""
        mask = self.mask(image_id, version)
        return {name: np.count_nonzero(mask == value) for value, name in enumerate(STRUCTURES, start=1)}

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


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    """Eight images; from five, which the junior drew roughly and the expert corrected, both models have learned."""
    place = tmp_path_factory.mktemp("loop")
    put_images(place / "studies", 8)
    tokens = TokenFile(place / "data" / layout.TOKENS)
    given = {"lee": tokens.add("lee", Role.ANNOTATOR), "kim": tokens.add("kim", Role.EXPERT)}
    with server(place / "studies", place / "data", {"auth": "tokens", "train_seconds": "3"}) as running:
        people = People(running, given)
        for number in range(5):
            image_id = people.call("lee", "POST", "/activelearning/first")["id"]
            people.save("lee", image_id, rough(number))
            people.save("kim", image_id, drawn(number)[1])
        people.train("segmentation", max_epochs=1)
        people.train(REFINER, max_epochs=20)
        yield people


def test_a_juniors_mask_is_refined_accepted_and_learned_from(people: People) -> None:
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


@pytest.mark.e2e
def test_the_bar_refines_a_juniors_mask_and_trains(people: People) -> None:
    with viewer(people.server.address) as screen:
        # The junior.
        screen.open_as(people.tokens["lee"], image="case_06")
        screen.says("case", "segmentation · case_06 · no draft yet")
        accept = screen.page.locator("#case-bar [data-action=accept]")
        screen.press("draft")
        screen.says("case", "DRAFT model segmentation v1 (v1)")
        screen.press("refine")
        screen.says("case", "segmentation · case_06 · REFINED (v2)")
        screen.is_done()
        expect(accept).to_be_disabled()
        expect(accept).to_have_attribute("title", "Annotations are accepted by experts")
        # The brush is as large as the image, and may find all of it marked already.
        screen.brush(0.5, 0.5, is_new=False)
        screen.press("save")
        screen.says("message", re.compile(r"Saved as version 3\. It is being refined \(job \S+\)\."))
        screen.says("job", re.compile(r"refined: version 4\..* Press Refine to open it\."))
        screen.press("refine")
        screen.says("case", "segmentation · case_06 · REFINED (v4)")
        screen.is_done()
        expect(screen.page.locator("#case-bar [data-part=job]")).to_be_empty()
        screen.page.route("**/infer/*_refine?*", kept_by)
        screen.press("refine")
        screen.says("message", f"Not changed: {KEPT}.")

        # The expert.
        screen.open_as(people.tokens["kim"], image="case_06")
        screen.says("case", "segmentation · case_06 · REFINED (v4)")
        screen.is_done()
        expect(accept).to_be_enabled()
        screen.press("save")
        screen.says("message", "Saved as version 5.")
        history = people.call("kim", "GET", "/datastore/label/history", params={"image": "case_06"})
        assert [(one["stage"], one["author"].partition("@")[0], one["parent"]) for one in history] == [
            ("draft", "model:segmentation", None),
            ("refined", f"model:{REFINER}", 1),
            ("draft", "lee", 2),
            ("refined", f"model:{REFINER}", 3),
            ("expert", "kim", 4),
        ]
        refined, stored = (people.mask("case_06", version) for version in (4, 5))
        assert np.count_nonzero(refined) > 0
        np.testing.assert_array_equal(stored, refined)

        # The model.
        screen.press("train")
        screen.says("job", re.compile(r"Training, epoch \d+"))
        screen.says("job", "Version 2 is")
        _, new = people.call("kim", "GET", "/model/versions/segmentation")
        assert screen.part("job") == f"Version 2 is {new['state']}: {new['reason']}."
        screen.open_next()
        screen.says("case", "no draft yet")
        screen.press("draft")
        screen.says("case", f"DRAFT model segmentation v{2 if new['state'] == 'serving' else 1} (v1)")
        assert screen.foreign == []


@pytest.mark.e2e
def test_an_expert_looks_at_the_mask_before_refinement_and_loses_nothing_by_it(people: People) -> None:
    image_id = "case_07"
    saved = people.save("lee", image_id, rough(7))
    refined = people.ended(saved["refining"])["result"]["version"]
    junior_marks, refined_marks = (people.marks(image_id, version) for version in (saved["version"], refined))
    assert junior_marks != refined_marks

    with viewer(people.server.address) as screen:
        screen.open_as(people.tokens["kim"], image=image_id)
        screen.says("case", f"segmentation · {image_id} · REFINED (v{refined})")
        screen.lists(*STRUCTURES)
        screen.is_done()
        assert screen.marks() == refined_marks
        screen.choose(STRUCTURES[0])
        screen.brush(0.5, 0.5)
        drawn_marks = screen.marks()
        assert drawn_marks[STRUCTURES[0]] > refined_marks[STRUCTURES[0]]

        before = screen.page.locator("[data-action=before]")
        screen.press("before")
        screen.says("message", f"Version {saved['version']} is shown, DRAFT lee: what version {refined} was made from.")
        expect(before).to_have_attribute("aria-pressed", "true")
        for action in ("draft", "refine", "accept", "save", "no-finding"):
            expect(screen.page.locator(f"[data-action={action}]")).to_be_disabled()
        assert screen.marks() == junior_marks
        screen.page.locator(".cornerstone-canvas").click()
        screen.says("message", "What was before cannot be changed.")
        assert screen.marks() == junior_marks

        screen.press("before")
        screen.is_done()
        expect(before).to_have_attribute("aria-pressed", "false")
        assert screen.marks() == drawn_marks
        screen.press("next")
        screen.says("message", "Your drawing is not saved.")
        screen.press("save")
        screen.says("message", f"Saved as version {refined + 1}.")

        assert people.marks(image_id, refined + 1) == drawn_marks
        earlier, stored = (people.mask(image_id, version) for version in (refined, refined + 1))
        changed = stored != earlier
        assert len(np.unique(np.nonzero(changed)[2])) == 1, "slice that the brush touched"
        assert set(np.unique(stored[changed])) == {1}
        # The mask that was drawn on is not taken for what it was made from.
        screen.press("before")
        screen.says("message", f"Version {refined} is shown, REFINED: what version {refined + 1} was made from.")
        assert screen.marks() == refined_marks
        screen.press("before")
        screen.is_done()
        assert screen.marks() == drawn_marks
        # The form to sign in comes with status 401.
        assert [problem for problem in screen.problems if "401" not in problem] == []
