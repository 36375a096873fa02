"""What the published server does wrong and no other file guards; docs/benchmarks.md has the whole table."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import httpx2 as httpx
import pytest

from tests.serving.conftest import Here
from tests.serving.places import Server, image_bytes, mask_bytes, put_label


@pytest.mark.parametrize("strategy", ["random", "first"])
def test_a_removed_image_is_never_offered_again(here: Here, strategy: str) -> None:
    here.client.delete("/datastore/image", params={"id": "case_00"})

    offered = [here.client.post(f"/activelearning/{strategy}", json={"client_id": name}).json() for name in "ab"]

    assert [offer.get("id") for offer in offered] == ["case_01", None]


def test_a_label_is_looked_for_by_either_name_of_its_image(here: Here) -> None:
    put_label(here.client, "case_00", mask_bytes(0))

    for name in ("label", "image"):
        for ask in (here.client.head, here.client.get):
            assert ask("/datastore/label", params={name: "case_00", "tag": "final"}).status_code == 200
            assert ask("/datastore/label", params={name: "case_01", "tag": "final"}).status_code == 404


def test_a_label_that_is_not_there_cannot_be_deleted(here: Here) -> None:
    reply = here.client.delete("/datastore/label", params={"id": "case_00", "tag": "final"})

    assert reply.status_code == 404
    assert "no annotation tagged 'final'; it has none" in reply.json()["detail"]


def test_without_a_gpu_the_page_about_it_says_so(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: None)

    reply = here.client.get("/logs/gpu")

    assert reply.status_code == 200
    assert "no NVIDIA GPU" in reply.text


def test_of_four_drafts_asked_for_at_once_each_is_made_and_info_is_answered_meanwhile(
    running: Server, weights: bytes
) -> None:
    files = {"file": ("model.pt", weights)}
    assert running.client.put("/model/segmentation", files=files).status_code == 200

    def draft(seed: int) -> int:
        large = {"file": ("large.nii.gz", image_bytes(seed, (32, 32, 32)))}
        with httpx.Client(base_url=running.address, timeout=300) as client:
            reply = client.post("/infer/segmentation", params={"output": "json"}, files=large)
        assert reply.status_code == 200, reply.text
        return reply.status_code

    answered = 0
    with ThreadPoolExecutor(4) as people:
        drafts = [people.submit(draft, seed) for seed in range(4)]
        while not all(made.done() for made in drafts):
            running.get("/info/")
            answered += 1

    assert [made.result() for made in drafts] == [200] * 4
    assert answered >= 10


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/infer/segmentation?image=case_00"), ("PUT", "/datastore/image/info?image=case_00"),
     ("PUT", "/datastore/label/info?label=case_00")],
)  # fmt: skip
def test_json_where_a_form_is_wanted_is_refused_and_not_read_as_nothing(here: Here, method: str, path: str) -> None:
    put_label(here.client, "case_00", mask_bytes(0))

    reply = here.client.request(method, path, json={"result_extension": ".nrrd"})

    assert reply.status_code == 422
    assert "takes no JSON body: send a form (multipart/form-data)" in reply.json()["detail"]


def test_the_numbers_about_an_image_are_told(here: Here) -> None:
    here.app.record.scores.put(1, "dice:Anterior", {"case_00": 0.5, "case_01": 0.1})
    here.app.record.scores.put(2, "dice:Anterior", {"case_00": 0.75})
    here.app.record.scores.put(2, "dice:Posterior", {"case_00": None})

    told = here.client.get("/datastore/scores", params={"image": "case_00"}).json()

    assert [(score["model_version"], score["kind"], score["value"]) for score in told] == [
        (2, "dice:Anterior", 0.75), (2, "dice:Posterior", None), (1, "dice:Anterior", 0.5),
    ]  # fmt: skip
    assert all(score["created"].endswith("+00:00") for score in told)
    assert here.client.get("/datastore/scores", params={"image": "nobody"}).status_code == 404
