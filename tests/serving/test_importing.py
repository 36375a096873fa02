"""Weights from elsewhere become a version: whole ones may serve, parts only begin the next training."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch

from lib.errors import InvalidRequest, NoAnnotationsYet, UnacceptableFile
from lib.labels_folder import Meaning
from lib.networks.checkpoint import Checkpoint, NetworkPlan
from lib.networks.trial import tried
from lib.serving import importing
from lib.serving.importing import Brought, add_weights, read_weights
from lib.store.models import Model, ModelState
from lib.task import Task, numbered
from tests.networks.bundles import config, put_bundle, saved
from tests.serving.conftest import Here
from tests.serving.places import mask_bytes, put_label

NAMES = ("background", "Posterior", "Anterior")
SMALL = config(pixdim=[3.0, 3.0, 3.0])


def read(here: Here, path: Path, label_map: str = "") -> Brought:
    record = here.app.record
    return read_weights(path, record, record.task, Meaning.read(label_map, record.task).names)


def imported(here: Here, path: Path, *, is_to_serve: bool = False) -> Model:
    return add_weights(here.app.record, read(here, path), is_to_serve=is_to_serve)


def put(folder: Path, content: object, name: str = "model.pt") -> Path:
    (folder / name).write_bytes(content if isinstance(content, bytes) else saved(content))
    return folder / name


def trained(here: Here) -> Model:
    """The version that a short training on one correction makes."""
    put_label(here.client, "case_00", mask_bytes(0))
    assert here.client.post("/train/segmentation", json={"max_epochs": 1}).status_code == 200
    here.work()
    return here.app.record.models.every()[-1]


def test_a_weight_file_of_this_server_is_kept_until_somebody_lets_it_serve(
    here: Here, weights: bytes, tmp_path: Path
) -> None:
    model = imported(here, put(tmp_path, weights))

    total = len(Checkpoint.from_bytes(weights).weights)
    assert model.state is ModelState.KEPT
    assert model.reason == f"imported from model.pt: {total} of {total} tensors matched; not validated"
    assert here.app.record.weights.get(model.weights) == weights
    here.client.post("/model/serve/segmentation", params={"version": model.version})
    assert here.client.post("/infer/segmentation", params={"image": "case_00"}).status_code == 200


def test_weights_for_other_structures_are_refused(here: Here, weights: bytes, tmp_path: Path) -> None:
    task = Task("segmentation", "", numbered(["Posterior", "Anterior"]))

    with pytest.raises(UnacceptableFile, match=r"made for .*'Anterior': 1.*, this task has .*'Posterior': 1"):
        read_weights(put(tmp_path, weights), here.app.record, task, {})


def test_a_state_dict_of_the_serving_network_may_serve(here: Here, weights: bytes, tmp_path: Path) -> None:
    here.put_weights(weights)
    tensors = {f"module.{name}": tensor + 1 for name, tensor in Checkpoint.from_bytes(weights).weights.items()}

    model = imported(here, put(tmp_path, {"state_dict": tensors, "epoch": 3}), is_to_serve=True)

    stored = Checkpoint.from_bytes(here.app.record.weights.get(model.weights))
    assert model.state is ModelState.SERVING
    assert stored.plan == Checkpoint.from_bytes(weights).plan
    assert all(torch.equal(tensor, tensors[f"module.{name}"]) for name, tensor in stored.weights.items())


def test_a_part_of_a_network_never_serves_but_training_goes_on_from_it(
    here: Here, weights: bytes, tmp_path: Path
) -> None:
    tensors = {name: t for name, t in Checkpoint.from_bytes(weights).weights.items() if not name.startswith("class")}
    path = put(tmp_path, tensors)

    with pytest.raises(InvalidRequest, match=r"cannot serve: \d+ of \d+ tensors matched.*without --serve and train"):
        imported(here, path, is_to_serve=True)
    start = imported(here, path)
    after = trained(here)

    assert start.state is ModelState.KEPT
    assert (after.parent, after.state) == (start.version, ModelState.KEPT)
    assert after.reason.startswith("not validated, and learned from")


def test_a_state_dict_of_another_network_is_refused_with_the_report(here: Here, tmp_path: Path) -> None:
    with pytest.raises(UnacceptableFile, match=r"No tensor of model.pt fits .* residual_unet .*: other.weight\."):
        read(here, put(tmp_path, {"other.weight": torch.ones(3)}))


def test_without_images_a_state_dict_says_too_little(open_app, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(NoAnnotationsYet, match="does not say how its network looks"):
        read(open_app(images=0), put(tmp_path, {"a": torch.ones(3)}))


def test_a_path_that_leads_nowhere_is_refused(here: Here, tmp_path: Path) -> None:
    with pytest.raises(UnacceptableFile, match=r"There is no .*nothing"):
        read(here, tmp_path / "nothing")


def test_a_bundle_serves_drafts(here: Here, tmp_path: Path) -> None:
    model = imported(here, put_bundle(tmp_path / "bundle", SMALL, NAMES), is_to_serve=True)

    reply = here.client.post("/infer/segmentation", params={"image": "case_00", "output": "json"})

    assert NetworkPlan.from_json(model.network).structures == {"Posterior": 2, "Anterior": 1}
    assert reply.status_code == 200, reply.text
    (draft,) = here.app.record.annotations.history("case_00")
    assert draft.model_version == model.version
    assert set(draft.looked_at) == {"Anterior", "Posterior"}


def test_a_bundle_that_knows_a_part_drafts_that_and_training_adds_the_rest(here: Here, tmp_path: Path) -> None:
    folder = put_bundle(tmp_path / "bundle", SMALL, ("background", "aorta", "Anterior"))
    notes = read(here, folder).notes
    start = imported(here, folder, is_to_serve=True)
    drafted = here.client.post("/infer/segmentation", params={"image": "case_01", "output": "json"}).json()

    after = trained(here)

    assert "Classes that this task does not have count as background: aorta." in notes
    assert "Structures that it does not know, until a training adds them: Posterior." in notes
    assert here.app.record.annotations.history("case_01")[0].looked_at == ("Anterior",)
    assert "Posterior" not in drafted["summary"]
    assert after.parent == start.version
    plan = NetworkPlan.from_json(after.network)
    assert (plan.structures, plan.ignored) == ({"Anterior": 1, "Posterior": 2}, ())


def test_classes_of_a_bundle_may_be_mapped(here: Here, tmp_path: Path) -> None:
    folder = put_bundle(tmp_path / "bundle", SMALL, ("background", "one", "two"))

    plan = read(here, folder, "1=Posterior,two=Anterior").checkpoint.plan

    assert plan.structures == {"Posterior": 2, "Anterior": 1}


def test_a_bundle_with_a_part_of_its_weights_never_serves(here: Here, tmp_path: Path) -> None:
    whole = put_bundle(tmp_path / "whole", SMALL, NAMES)
    tensors = torch.load(whole / "models/model.pt", weights_only=True)
    tensors.popitem()

    with pytest.raises(InvalidRequest, match="cannot serve"):
        imported(here, put_bundle(tmp_path / "part", SMALL, NAMES, tensors), is_to_serve=True)


def test_a_serving_version_goes_before_an_imported_one(here: Here, weights: bytes, tmp_path: Path) -> None:
    here.put_weights(weights)
    imported(here, put_bundle(tmp_path / "bundle", SMALL, NAMES))

    assert trained(here).parent == 1


SPOILED = {"nan": float("nan"), "infinity": float("inf"), "too-large": 3e38}


def full_of(value: float, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: torch.full_like(t, value) if t.is_floating_point() else t for name, t in tensors.items()}


def spoiled(weights: bytes, value: float) -> bytes:
    checkpoint = Checkpoint.from_bytes(weights)
    return Checkpoint(checkpoint.plan, full_of(value, checkpoint.weights)).to_bytes()


def refused(here: Here, content: bytes, model: str = "segmentation") -> str:
    """Why an upload is refused; nothing is stored then, and nothing serves."""
    reply = here.client.put(f"/model/{model}", files={"file": ("model.pt", content)})
    assert reply.status_code == 422, reply.text
    assert here.app.models_of(model).every() == []
    assert [path for path in here.app.record.weights.folder.rglob("*") if path.is_file()] == []
    assert list(here.app.temporary.iterdir()) == []
    return str(reply.json()["detail"])


@pytest.mark.parametrize("value", SPOILED.values(), ids=SPOILED)
def test_uploaded_weights_that_find_nothing_but_nan_never_serve(here: Here, weights: bytes, value: float) -> None:
    assert "NaN" in refused(here, spoiled(weights, value))


@pytest.mark.parametrize("value", SPOILED.values(), ids=SPOILED)
def test_an_uploaded_refiner_that_finds_nothing_but_nan_never_serves(
    here: Here, refiner_weights: bytes, value: float
) -> None:
    assert "NaN" in refused(here, spoiled(refiner_weights, value), "segmentation_refine")


@pytest.mark.parametrize(
    ("entry", "value"),
    [("spacing_mm", [1e-9, 1, 1]), ("patch", [100_000] * 3), ("channels", [1_000_000, 8]), ("features", 10**9),
     ("window_hu", [0.0, 1e300]), ("strides", [[10**6, 1, 1]]), ("kernel", [9999, 3, 3])],
)  # fmt: skip
def test_an_uploaded_plan_that_no_image_suits_never_serves(
    here: Here, weights: bytes, entry: str, value: object
) -> None:
    found = torch.load(io.BytesIO(weights), weights_only=True)

    assert "plan" in refused(here, saved({**found, "plan": {**found["plan"], entry: value}}))


@pytest.mark.parametrize("value", SPOILED.values(), ids=SPOILED)
def test_a_state_dict_and_a_bundle_that_find_nothing_but_nan_are_not_brought(
    here: Here, weights: bytes, tmp_path: Path, value: float
) -> None:
    here.put_weights(weights)
    tensors = Checkpoint.from_bytes(spoiled(weights, value)).weights

    with pytest.raises(UnacceptableFile, match="NaN"):
        read(here, put(tmp_path, {"state_dict": tensors}))
    bundle = put_bundle(tmp_path / "bundle", SMALL, NAMES)
    file = bundle / "models" / "model.pt"
    inside = torch.load(file, weights_only=True)
    file.write_bytes(saved(full_of(value, inside)))
    with pytest.raises(UnacceptableFile, match="NaN"):
        read(here, bundle)


def test_uploaded_weights_are_tried_in_a_process_of_their_own(
    here: Here, weights: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "tried", tried)

    assert "were tried on a tiny image" in refused(here, spoiled(weights, float("nan")))
    here.put_weights(weights)
    assert here.client.post("/infer/segmentation", params={"image": "case_00"}).status_code == 200
