"""Images that an app cannot work on: each is left out with a sentence, and the others are served."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from starlette.testclient import TestClient

from lib.phantoms.breast import draw_mammogram
from lib.phantoms.breast import random_parameters as random_breast
from lib.phantoms.dicom_series import write_dicom_series
from lib.serving.inference import Draftsman
from lib.serving.loop import LabelingLoop
from lib.serving.server import create_server, load_app
from lib.volume import Volume, write_volume
from tests.serving.conftest import APPS

HEAD = np.random.default_rng(0).integers(-1000, 1000, (16, 14, 6)).astype(np.int16)
AFFINE = np.diag([-2.0, -2.0, 5.0, 1.0])


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """Opens an app on ``studies`` in the process of the test; drafts are made here, too. Keywords are settings."""
    apps: list[LabelingLoop] = []

    def open_it(name: str, **conf: str) -> TestClient:
        app = load_app(APPS / name, str(tmp_path / "studies"), {"data": str(tmp_path / "data"), **conf})
        app.drafting.compute = Draftsman().draft
        app.look()
        apps.append(app)
        return TestClient(create_server(app), base_url="http://127.0.0.1", raise_server_exceptions=False)

    yield open_it
    for app in apps:
        app.record.close()


def series(folder: Path, modality: str = "CT", voxels: np.ndarray = HEAD) -> list[Path]:
    """A readable series of slices along the body."""
    write_dicom_series(folder, voxels, AFFINE, modality=modality, patient_id="p", seed=1)
    return sorted(folder.iterdir())


def change(path: Path, **attributes: object) -> None:
    dataset = pydicom.dcmread(path)
    for name, value in attributes.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    dataset.save_as(path)


def without_spacing(folder: Path) -> None:
    for path in series(folder):
        change(path, PixelSpacing=None)


def with_a_gap(folder: Path) -> None:
    series(folder)[2].unlink()


def in_colour(folder: Path) -> None:
    for path in series(folder):
        change(path, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)


def in_one_file(folder: Path) -> None:
    for path in series(folder)[1:]:
        path.unlink()
    change(next(folder.iterdir()), NumberOfFrames=6)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (without_spacing, "PixelSpacing"),
        (with_a_gap, "A slice is probably missing; send the series again"),
        (in_colour, "is a colour image"),
        (in_one_file, "holds 6 frames in one file"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_series_that_is_no_head_ct_is_left_out_with_its_reason(opened, tmp_path, make, reason):
    make(tmp_path / "studies" / "series")

    listing = opened("hemorrhage").get("/datastore/?output=all").json()

    assert listing["objects"] == {}
    assert any(reason in entry["reason"] for entry in listing["quarantined"].values())


@pytest.mark.parametrize("is_whole", [True, False], ids=["whole", "with a gap"])
def test_a_series_of_another_modality_is_no_image_of_the_task_and_says_so(opened, tmp_path, is_whole):
    slices = series(tmp_path / "studies" / "mr", "MR", np.abs(HEAD))
    if not is_whole:
        slices[2].unlink()
    client = opened("hemorrhage")

    listing, counts = client.get("/datastore/?output=all").json(), client.get("/datastore/").json()
    (image_id,) = listing["no_image"]
    reply = client.post(f"/infer/hemorrhage?image={image_id}")
    sent = client.put(f"/datastore/image?image={image_id}", files={"file": ("head.nii.gz", b"another one")})

    assert (listing["objects"], listing["quarantined"]) == ({}, {})
    assert (counts["total"], counts["quarantined"], counts["no_image"]) == (0, 0, 1)
    assert "id" not in client.post("/activelearning/first", json={}).json()
    assert client.get("/dicomweb/studies").json() == []
    assert reply.status_code == 422
    assert "is MR, the task hemorrhage works on CT. Keep it elsewhere, or" in reply.json()["detail"]
    assert sent.status_code == 409


def of_three_modalities(folder: Path) -> None:
    """A series of CT, MR and PET each."""
    series(folder / "ct")
    series(folder / "mr", "MR", np.abs(HEAD))
    for number, path in enumerate(series(folder / "pt", "MR", np.abs(HEAD)), start=1):
        change(path, Modality="PT", SeriesInstanceUID="1.2.3", SOPInstanceUID=f"1.2.3.{number}")


def modalities(client: TestClient) -> tuple[list[str], list[str]]:
    """Of the images that are offered, and of those that are none of the task."""
    listing = client.get("/datastore/?output=all").json()
    left_out = [re.findall(r" is (\w+), the task", entry["reason"])[0] for entry in listing["no_image"].values()]
    return sorted(client.get(f"/datastore/image/info?image={one}").json()["modality"] for one in listing["objects"]), (
        sorted(left_out)
    )


def test_a_task_without_a_modality_offers_series_of_all_and_with_one_only_its_own(opened, tmp_path):
    of_three_modalities(tmp_path / "studies")

    assert modalities(opened("segmentation", labels="liver")) == (["CT", "MR", "PT"], [])
    assert modalities(opened("segmentation", labels="liver", data=str(tmp_path / "other"), modality="CT")) == (
        ["CT"],
        ["MR", "PT"],
    )


def test_a_modality_that_is_set_later_reaches_known_series_and_can_be_taken_back(opened, tmp_path, caplog):
    of_three_modalities(tmp_path / "studies")
    first = opened("segmentation", labels="liver")
    ids = list(first.get("/datastore/?output=all").json()["objects"])
    for one in ids:
        first.post(f"/cases/no-finding?image={one}")

    narrowed = opened("segmentation", labels="liver", modality="CT")

    assert modalities(narrowed) == (["CT"], ["MR", "PT"])
    assert narrowed.get("/datastore/").json()["completed"] == 1
    told = "By the present settings 2 known series are of another modality and left out."
    assert caplog.messages.count(told) == 1

    again = opened("segmentation", labels="liver")

    assert modalities(again) == (["CT", "MR", "PT"], [])
    assert again.get("/datastore/").json()["completed"] == 3
    assert caplog.messages.count(told) == 1


def test_values_that_are_no_hu_are_told_when_a_draft_is_wanted(opened, tmp_path):
    (tmp_path / "studies").mkdir()
    write_volume(tmp_path / "studies" / "brain.nii.gz", Volume(np.abs(HEAD), AFFINE))
    client = opened("hemorrhage")

    reply = client.post("/infer/hemorrhage?image=brain")

    assert reply.status_code == 422
    assert "brain holds values from 0 to 1000; a CT in HU has air near -1000" in reply.json()["detail"]
    assert "export it in HU" in client.get("/datastore/?output=all").json()["quarantined"]["brain"]["reason"]


@pytest.mark.parametrize("slices", [1, 2])
def test_a_head_ct_of_hardly_any_slices_is_drafted(opened, tmp_path, slices):
    series(tmp_path / "studies" / "series", voxels=HEAD[:, :, :slices])
    client = opened("hemorrhage")
    (image_id,) = client.get("/datastore/?output=all").json()["objects"]

    reply = client.post(f"/infer/hemorrhage?image={image_id}&output=json")

    assert reply.status_code == 200, reply.text
    assert reply.json()["author"] == "rule:hemorrhage"
    assert not reply.json()["flag"]["positive"]


def test_a_tilted_gantry_is_drafted_on_its_own_lattice(opened, tmp_path):
    """Each slice lies 2 mm behind the one below, as a gantry tilted by 22 degrees moves them."""
    for number, path in enumerate(series(tmp_path / "studies" / "series")):
        x, y, z = pydicom.dcmread(path).ImagePositionPatient
        change(path, ImagePositionPatient=[x, float(y) + 2.0 * number, z])
    client = opened("hemorrhage")
    (image_id,) = client.get("/datastore/?output=all").json()["objects"]

    reply = client.post(f"/infer/hemorrhage?image={image_id}&output=json")

    assert reply.status_code == 200, reply.text


def test_a_volume_in_the_folder_of_mammograms_is_left_out_with_its_reason(opened, tmp_path):
    (tmp_path / "studies").mkdir()
    write_volume(tmp_path / "studies" / "chest.nii.gz", Volume(HEAD, AFFINE))

    listing = opened("mass").get("/datastore/?output=all").json()

    assert "works on single images of one slice" in listing["no_image"]["chest"]["reason"]


def test_an_uploaded_volume_is_refused_by_the_mass_app(opened, tmp_path):
    (tmp_path / "studies").mkdir()
    write_volume(tmp_path / "chest.nii.gz", Volume(HEAD, AFFINE))

    reply = opened("mass").post(
        "/infer/mass", files={"file": ("chest.nii.gz", (tmp_path / "chest.nii.gz").read_bytes())}
    )

    assert reply.status_code == 422
    assert "works on single images of one slice" in reply.json()["detail"]


def test_one_wrong_file_does_not_keep_a_mammogram_away(opened, tmp_path):
    phantom = draw_mammogram(random_breast(3))
    (tmp_path / "studies").mkdir()
    write_volume(tmp_path / "studies" / "film.nii.gz", Volume(phantom.image, phantom.affine))
    write_volume(tmp_path / "studies" / "chest.nii.gz", Volume(HEAD, AFFINE))

    reply = opened("mass").post("/infer/mass?image=film&output=json")

    assert reply.status_code == 200, reply.text
    assert all({"area_mm2", "longest_diameter_mm", "contour"} <= lesion.keys() for lesion in reply.json()["lesions"])
