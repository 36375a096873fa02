"""A patient is erased while somebody works on the images: nothing of it is published or written afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lib.errors import UnknownImage
from lib.serving import learning, learning_to_refine
from lib.serving.made_once import made_once
from lib.store.erase import erase_patient
from tests.serving.conftest import Here
from tests.serving.places import listing, mask_bytes, put_label
from tests.store.stored import files_in


def label_all(here: Here, count: int) -> None:
    for number in range(count):
        here.client.post("/activelearning/first", json={"client_id": "kim"})
        put_label(here.client, f"case_{number:02d}", mask_bytes(number), client_id="kim")


def erase(here: Here, image_id: str) -> list[str]:
    """Erases the patient of an image, and tells which versions learned from it."""
    patient = here.app.record.images.get(image_id).patient
    return erase_patient(here.app.record, here.data, [patient]).models


def erasing(here: Here, original: Callable[..., Any], *images: str, first: bool = False) -> Callable[..., Any]:
    """A step of a training, during whose first runs patients are erased, one each."""
    left = list(images)

    def step(*arguments: Any) -> Any:
        if left and first:
            erase(here, left.pop(0))
        result = original(*arguments)
        if left:
            erase(here, left.pop(0))
        return result

    return step


def trained(here: Here, model: str) -> dict[str, Any]:
    reply = here.client.post(f"/train/{model}", json={"seconds": 1, "max_epochs": 1})
    assert reply.status_code == 200, reply.text
    here.work()
    job: dict[str, Any] = here.client.get(f"/jobs/{reply.json()['id']}").json()
    return job


MODELS = [("segmentation", learning, "finetune"), ("segmentation_refine", learning_to_refine, "learn_to_refine")]


@pytest.mark.parametrize(("model", "module", "step"), MODELS, ids=["segmenter", "refiner"])
@pytest.mark.parametrize("first", [True, False], ids=["before it reads", "after it has learned"])
def test_a_training_during_which_a_patient_is_erased_starts_over_without_it(
    open_app: Callable[..., Here], monkeypatch: pytest.MonkeyPatch, model: str, module: Any, step: str, first: bool
) -> None:
    here = open_app(images=4)
    label_all(here, 4)
    monkeypatch.setattr(module, step, erasing(here, getattr(module, step), "case_01", first=first))

    job = trained(here, model)

    assert job["status"] == "DONE", job
    assert "1 of the images were erased meanwhile. The training starts over without them." in job["details"]
    (version,) = here.app.models_of(model).every()
    assert sorted({image for image, _ in version.training}) == ["case_00", "case_02", "case_03"]
    assert len(files_in(here.data / "weights")) == 1


def test_it_starts_over_for_each_erasure_and_for_a_patient_it_was_only_measured_on(
    open_app: Callable[..., Here], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = open_app(images=5)
    label_all(here, 5)
    monkeypatch.setattr(learning, "finetune", erasing(here, learning.finetune, "case_04", "case_00"))

    job = trained(here, "segmentation")

    assert sum("starts over" in line for line in job["details"]) == 2
    (version,) = here.app.record.models.every()
    assert sorted(image for image, _ in version.training) == ["case_01", "case_02", "case_03"]
    assert version.validation == []


def test_a_training_of_which_no_patient_is_left_fails_and_publishes_nothing(
    open_app: Callable[..., Here], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = open_app(images=1)
    label_all(here, 1)
    monkeypatch.setattr(learning, "finetune", erasing(here, learning.finetune, "case_00"))

    job = trained(here, "segmentation")

    assert (job["status"], here.app.record.models.every()) == ("ERROR", [])
    assert "There is no expert annotation to learn from" in job["result"]["error"]
    assert files_in(here.data / "weights") == {}


def test_an_erasure_after_the_publication_names_the_version(open_app: Callable[..., Here]) -> None:
    here = open_app(images=2)
    label_all(here, 2)
    trained(here, "segmentation")

    assert erase(here, "case_01") == ["model:segmentation@v1"]


def masks_and_drafts(here: Here, image_id: str) -> tuple[set[str], int]:
    return set(listing(here.data / "masks")), len(here.app.record.annotations.history(image_id))


@pytest.mark.parametrize("address", ["/infer/segmentation?image=case_00", "/batch/infer/segmentation?images=all"])
def test_a_draft_that_was_being_made_when_its_patient_was_erased_leaves_nothing(
    here: Here, weights: bytes, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    from lib.serving import inference

    here.put_weights(weights)
    original = inference.Draftsman.draft

    def draft(self: Any, order: Any) -> Any:
        made = original(self, order)
        if order.name == "case_00":
            erase(here, "case_00")
        return made

    monkeypatch.setattr(inference.Draftsman, "draft", draft)
    here.app.drafting.compute = inference.Draftsman().draft
    here.client.post(address)
    here.work()

    assert here.app.record.annotations.history("case_00") == []
    masks = {annotation.mask for annotation in here.app.record.annotations.history("case_01")}
    assert {Path(name).name.removesuffix(".nii.gz") for name in listing(here.data / "masks")} == masks


@pytest.mark.parametrize(
    "address",
    ["/dicomweb/studies/{study}/metadata", "/annotations/latest?image=case_00&format=seg",
     "/annotations/latest?image=case_00&format=rtstruct"],
)  # fmt: skip
def test_what_was_being_written_for_a_viewer_when_the_patient_was_erased_is_not_kept(
    here: Here, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    put_label(here.client, "case_00", mask_bytes(0))
    here.app.dicom.list_new()
    study = here.app.record.listings.of_images(["case_00"])["case_00"].study_uid

    def erased_then_made(target: Path, temporary: Path, write: Callable[[Path], object]) -> Path:
        made = made_once(target, temporary, write)
        if here.app.record.images.find("case_00").state != "erased":  # type: ignore[union-attr]
            erase_rows_only(here)
        return made

    def erase_rows_only(here: Here) -> None:
        """As an erasure does that has looked below ``cache`` before the file came."""
        before = {path: path.read_bytes() for path in (here.data / "cache").rglob("*") if path.is_file()}
        erase(here, "case_00")
        for path, content in before.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    monkeypatch.setattr("lib.serving.library.made_once", erased_then_made)
    reply = here.client.get(address.format(study=study))

    assert reply.status_code == 404
    assert "its patient was erased meanwhile" in reply.json()["detail"]
    assert listing(here.data / "cache") == {}
    assert listing(here.data / "tmp") == {}


def test_an_image_that_was_erased_is_not_listed_again(here: Here) -> None:
    here.app.dicom.list_new()
    (known,) = here.app.record.listings.of_images(["case_00"]).values()
    erase(here, "case_00")

    here.app.record.listings.put("case_00", known)

    assert here.app.record.listings.of_images(["case_00"]) == {}
    with pytest.raises(UnknownImage, match=r"no image 'case_00'"):
        here.app.record.images.get("case_00")
