"""A mask file that is lost or damaged costs its own case alone, and is never sent as if it were sound."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lib.serving.comparison import dice_of_tags
from lib.store.jobs import JobKind, JobState
from tests.serving.conftest import Here
from tests.serving.places import mask_bytes, put_label
from tests.serving.test_erased_meanwhile import label_all, trained


def gone(path: Path) -> None:
    path.unlink()


def flipped(path: Path) -> None:
    """One bit is another one, in the time of the archive's header, which nobody reads."""
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def another(path: Path) -> None:
    """A whole mask, but not this one."""
    path.write_bytes(mask_bytes(7))


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES = [flipped, cut, another, empty]


def mask_path(here: Here, image_id: str = "case_00", version: int = 1) -> Path:
    return here.app.record.masks.path(here.app.record.annotations.get(image_id, version).mask or "")


@pytest.mark.parametrize(
    "address",
    ["/annotations/latest?image=case_00", "/annotations/latest?image=case_00&format=seg",
     "/annotations/latest?image=case_00&format=rtstruct", "/annotations/latest?image=case_00&format=nrrd",
     "/datastore/label?label=case_00&tag=final"],
)  # fmt: skip
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_mask_is_refused_in_every_format(here: Here, damage: Callable[[Path], None], address: str) -> None:
    put_label(here.client, "case_00", mask_bytes(0))
    damage(mask_path(here))

    reply = here.client.get(address)

    assert (reply.status_code, reply.json()["title"]) == (409, "DamagedFile")
    assert "below masks is damaged: its bytes are not those that were stored." in reply.json()["detail"]
    assert "scripts.verify_store" in reply.json()["detail"]


@pytest.mark.parametrize("damage", [gone, *DAMAGES])
def test_the_data_set_is_sent_without_the_case_whose_mask_is_lost_and_says_so(
    here: Here, damage: Callable[[Path], None]
) -> None:
    for number in range(2):
        put_label(here.client, f"case_0{number}", mask_bytes(number))
    damage(mask_path(here))

    reply = here.client.get("/datastore/dataset")

    assert (reply.status_code, reply.headers["left-out"]) == (200, "1")
    with zipfile.ZipFile(io.BytesIO(reply.content)) as archive:
        names, told = set(archive.namelist()), json.loads(archive.read("metadata.json"))
    assert names == {"image/case_01.nii.gz", "label/case_01.nii.gz", "metadata.json"}
    assert (list(told["images"]), list(told["left_out"])) == (["case_01"], ["case_00"])
    assert [one["image"].rpartition("/")[2] for one in here.client.get("/datastore/?output=train").json()] == [
        "case_01.nii.gz"
    ]


def test_a_whole_data_set_says_that_nothing_is_left_out(here: Here) -> None:
    put_label(here.client, "case_00", mask_bytes(0))

    assert here.client.get("/datastore/dataset").headers["left-out"] == "0"


def test_an_image_that_is_lost_is_left_out_of_the_data_set(here: Here) -> None:
    for number in range(2):
        put_label(here.client, f"case_0{number}", mask_bytes(number))
    (here.studies / "case_00.nii.gz").unlink()

    assert here.client.get("/datastore/dataset").headers["left-out"] == "1"


@pytest.mark.parametrize("damage", [gone, another])
def test_a_training_leaves_a_case_out_whose_mask_is_lost(
    open_app: Callable[..., Here], damage: Callable[[Path], None]
) -> None:
    here = open_app(images=3)
    label_all(here, 3)
    damage(mask_path(here, "case_01"))

    job = trained(here, "segmentation")

    assert job["status"] == "DONE", job
    assert any(line.startswith("case_01 is left out:") for line in job["details"])


@pytest.mark.parametrize("damage", [gone, another])
def test_a_comparison_leaves_it_out(here: Here, damage: Callable[[Path], None]) -> None:
    for number in range(2):
        put_label(here.client, f"case_0{number}", mask_bytes(number))
    damage(mask_path(here))

    arguments = {"y": "final", "y_pred": "final"}
    assert list(dice_of_tags(here.app.record, here.app.library, arguments, lambda: None)["images"]) == ["case_01"]


@pytest.mark.parametrize("damage", [gone, another, cut])
def test_a_draft_that_is_lost_is_drawn_anew_and_mends_its_file(
    here: Here, weights: bytes, damage: Callable[[Path], None]
) -> None:
    here.put_weights(weights)
    before = here.client.post("/infer/segmentation?image=case_00&output=image").content
    damage(mask_path(here))

    assert here.client.post("/infer/segmentation?image=case_00&output=image").content == before
    assert here.app.record.masks.is_sound(here.app.record.annotations.history("case_00")[-1].mask or "")


def test_a_damaged_mask_is_not_accepted(here: Here) -> None:
    put_label(here.client, "case_00", mask_bytes(0), client_id="dr.lee")
    another(mask_path(here))

    reply: Any = here.client.post("/annotations/accept?image=case_00", data={"params": '{"client_id": "dr.kim"}'})

    assert (reply.status_code, reply.json()["title"]) == (409, "DamagedFile")
    assert len(here.app.record.annotations.history("case_00")) == 1


@pytest.mark.parametrize("damage", [*DAMAGES, gone])
def test_damaged_weights_draft_nothing_until_they_are_sent_again(
    here: Here, weights: bytes, damage: Callable[[Path], None]
) -> None:
    here.put_weights(weights)
    path = here.app.record.weights.path(here.app.record.models.every()[0].weights)
    damage(path)

    refused = here.client.post("/infer/segmentation?image=case_00&output=image")
    assert refused.status_code == (404 if damage is gone else 409)
    assert "below weights" in refused.json()["detail"] and "scripts.verify_store" in refused.json()["detail"]
    here.put_weights(weights)
    assert here.client.post("/infer/segmentation?image=case_00&output=image").status_code == 200


@pytest.mark.parametrize("damage", [another, cut])
def test_a_damaged_refiner_refines_nothing(
    here: Here, weights: bytes, refiner_weights: bytes, damage: Callable[[Path], None]
) -> None:
    here.put_weights(weights)
    here.put_refiner(refiner_weights)
    damage(here.app.record.weights.path(here.app.record.refiners.every()[0].weights))

    assert here.client.post("/infer/segmentation_refine?image=case_00").json()["title"] == "DamagedFile"


@pytest.mark.parametrize("damage", [another, cut])
def test_no_training_begins_from_damaged_weights(here: Here, weights: bytes, damage: Callable[[Path], None]) -> None:
    here.put_weights(weights)
    put_label(here.client, "case_00", mask_bytes(0))
    damage(here.app.record.weights.path(here.app.record.models.every()[0].weights))
    here.client.post("/train/segmentation", json={"max_epochs": 1})

    here.work()

    (job,) = here.app.record.jobs.every(JobKind.TRAIN)
    assert job.state is JobState.FAILED and "damaged" in str(job) and len(here.app.record.models.every()) == 1
