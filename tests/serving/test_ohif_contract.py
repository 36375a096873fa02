"""What OHIF's MONAI Label extensions send, and what they read in the replies."""

from __future__ import annotations

import json

import numpy as np

from lib.phantoms.breast import BreastParameters, draw_mammogram
from lib.phantoms.dicom_mammogram import write_mammogram
from tests.serving.conftest import Here
from tests.serving.places import mask_bytes, put_label, voxels
from tests.training.shapes import drawn

PARAMS = {"result_extension": ".nrrd", "result_dtype": "uint8", "result_compress": False, "restore_label_idx": False}


def submit(here: Here, content: bytes, image_id: str = "case_00") -> dict[str, object]:
    """As the panel of OHIF v2: a raw buffer, no tag, no user."""
    response = here.client.put(
        "/datastore/label",
        params={"image": image_id},
        data={"params": json.dumps({"label_info": [{"name": "Anterior", "idx": 1}, {"name": "Posterior", "idx": 2}]})},
        files={"label": ("label.bin", content, "application/octet-stream")},
    )
    assert response.status_code == 200, response.text
    reply: dict[str, object] = response.json()
    return reply


def test_a_raw_buffer_is_read_with_the_first_axis_fastest(here: Here) -> None:
    mask = drawn(0)[1]

    saved = submit(here, mask.tobytes(order="F"))

    assert saved["tag"] == "final"
    stored = voxels(here.client.get("/datastore/label", params={"label": "case_00"}).content)
    np.testing.assert_array_equal(stored, mask)


def test_a_raw_buffer_may_have_two_bytes_a_voxel(here: Here) -> None:
    mask = drawn(0)[1]

    submit(here, mask.astype("<u2").tobytes(order="F"))

    np.testing.assert_array_equal(voxels(here.client.get("/datastore/label?label=case_00").content), mask)


def test_a_submission_without_a_name_is_the_system_users(here: Here) -> None:
    from lib.serving.annotator import system_user

    assert submit(here, drawn(0)[1].tobytes(order="F"))["author"] == system_user()


def test_a_draft_is_one_uncompressed_nrrd_file(here: Here, weights: bytes) -> None:
    here.put_weights(weights)

    reply = here.client.post(
        "/infer/segmentation", params={"image": "case_00", "output": "image"}, data={"params": json.dumps(PARAMS)}
    )

    assert reply.status_code == 200
    header, _, content = reply.content.partition(b"\n\n")
    assert header.startswith(b"NRRD")
    assert b"encoding: raw" in header
    assert b"sizes: 24 20 16" in header
    assert len(content) == 24 * 20 * 16


def series_uid(here: Here, patient: str) -> str:
    """SeriesInstanceUID under which viewers find an image."""
    told, *_ = here.client.get("/dicomweb/series", params={"PatientID": patient}).json()
    uid: str = told["0020000E"]["Value"][0]
    return uid


def test_an_image_may_be_named_by_the_series_as_which_viewers_show_it(here: Here, weights: bytes) -> None:
    here.put_weights(weights)

    reply = here.client.post("/infer/segmentation", params={"image": series_uid(here, "case_01"), "output": "json"})

    assert (reply.status_code, reply.json()["annotation_version"]) == (200, 1)
    (draft,) = here.app.record.annotations.history("case_01")
    assert draft.version == 1


def test_a_series_of_several_radiographs_names_none_of_them(here: Here) -> None:
    phantom = draw_mammogram(BreastParameters(seed=2, shape=(65, 80)))
    for side in ("L", "R"):
        write_mammogram(here.studies / "breast", phantom, laterality=side, view="CC", patient_id="p", seed=1)
    here.look()
    uid = series_uid(here, "p")

    reply = here.client.post("/infer/segmentation", params={"image": uid, "output": "json"})

    assert reply.status_code == 404
    assert f"There is no image {uid!r}" in reply.json()["detail"]


def test_the_next_case_tells_its_study_which_the_panel_opens(here: Here) -> None:
    (study,) = here.client.get("/dicomweb/studies", params={"PatientID": "case_00"}).json()

    case = here.client.post("/activelearning/first", json={}).json()

    assert (case["id"], case["PatientID"]) == ("case_00", "case_00")
    assert case["StudyInstanceUID"] == study["0020000D"]["Value"][0]
    assert case["SeriesInstanceUID"] == series_uid(here, "case_00")


def test_a_training_is_asked_for_by_model_name(here: Here) -> None:
    put_label(here.client, "case_00", mask_bytes(0))

    reply = here.client.post("/train/", json={"segmentation": {"seconds": 3, "max_epochs": 2}})

    assert reply.status_code == 200
    # The refiner, which is a trainer too, is not trained along.
    assert list(reply.json()) == ["segmentation"]
    assert reply.json()["segmentation"]["result"]["status"] == "SUBMITTED"
    assert here.client.get("/train/").json()["request"] == {"seconds": 3.0, "max_epochs": 2}


def test_the_panel_sees_by_the_status_whether_training_runs(here: Here) -> None:
    assert here.client.get("/train/?check_if_running=true").status_code == 404

    put_label(here.client, "case_00", mask_bytes(0))
    here.client.post("/train/", json={"segmentation": {}})

    assert here.client.get("/train/?check_if_running=true").status_code == 200


def test_the_progress_bar_counts_all_and_completed(here: Here) -> None:
    put_label(here.client, "case_00", mask_bytes(0))

    datastore = here.client.get("/info/").json()["datastore"]

    assert (datastore["total"], datastore["completed"]) == (2, 1)
