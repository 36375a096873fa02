"""Whatever is sent or lies in the folder: a sentence says what was found and what is accepted, and nothing stops."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.volume import Volume, nifti_bytes, write_volume
from tests.serving.conftest import Here
from tests.serving.places import image_bytes, listing, mask_bytes, put_label

BROKEN = {
    "garbage.nii.gz": (b"this is no image", "is no readable image"),
    "garbage.nrrd": (b"\x00\xff" * 50, "is no readable image"),
    "truncated.nii": (
        nifti_bytes(Volume(np.zeros((24, 20, 16), np.uint8), np.eye(4)), compressed=False)[:2000],
        "is cut off",
    ),
    "truncated.nii.gz": (image_bytes(3)[:4000], "is cut off"),
    "empty.nii.gz": (b"", r"is empty \(0 bytes\)"),
    "notes.txt": (b"remember the milk", "is no image: neither DICOM nor one of .nii"),
    "empty.dcm": (b"", r"is empty \(0 bytes\)"),
}
"""Files in the folder of studies, and the reason why each is no image."""


def refused(response: Any, status: int, *words: str) -> str:
    """The sentence of a refusal, which must be problem JSON with this status and hold these words."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    sentence: str = problem["detail"]
    assert [word for word in words if word not in sentence] == [], sentence
    return sentence


def put(here: Here, content: bytes, image: str = "case_00", name: str = "label.nii.gz", params: str = "{}") -> Any:
    return here.client.put(
        "/datastore/label", params={"image": image}, data={"params": params}, files={"label": (name, content)}
    )


def upload(here: Here, image_id: str, content: bytes = image_bytes(0), name: str = "a.nii.gz") -> Any:
    return here.client.put("/datastore/image", params={"image": image_id}, files={"file": (name, content)})


def mask_file(voxels: Any, affine: Any = None) -> bytes:
    return nifti_bytes(Volume(np.asarray(voxels), np.eye(4) if affine is None else affine))


# Another patient's mask.


@pytest.mark.parametrize("shape", [(24, 20, 13), (10, 10, 10)], ids=["another patient", "no finding"])
@pytest.mark.parametrize("name", ["label.nii.gz", "label.nrrd", "label.seg.nrrd"])
def test_a_mask_of_a_smaller_image_is_never_an_experts_label(
    here: Here, tmp_path: Path, name: str, shape: tuple[int, int, int]
) -> None:
    write_volume(tmp_path / name, Volume(np.zeros(shape, np.uint8), np.eye(4)))

    size = "x".join(map(str, shape))
    refused(
        put(here, (tmp_path / name).read_bytes(), name=name), 422, f"is {size} voxels", "is 24x20x16 voxels",
        "that of another image", "Export the mask with the image as reference volume",
    )  # fmt: skip

    assert here.client.get("/datastore/label/history?image=case_00").json() == []


# Keys of ``params``.


@pytest.mark.parametrize(
    ("key", "meant"), [("clientid", "client_id"), ("clientId", "client_id"), ("label_infos", "label_info"),
                       ("structure", "structures"), ("Seconds", "seconds")],
)  # fmt: skip
def test_a_misspelt_key_is_refused_with_the_one_that_is_meant(here: Here, key: str, meant: str) -> None:
    refused(put(here, mask_bytes(0), params=json.dumps({key: "kim"})), 422, repr(key), f"{meant!r} may be meant")

    assert here.client.get("/datastore/label/history?image=case_00").json() == []


def test_a_key_that_nothing_reads_is_kept_and_named_in_the_reply(here: Here) -> None:
    reply = put(here, mask_bytes(0), params='{"client_id": "kim", "ward": "7b", "user": "lee"}').json()

    assert (reply["author"], reply["notes"]) == ("kim", ["ward", "user"])
    assert here.client.get("/datastore/label/info?label=case_00").json()["ward"] == "7b"


# The folder of studies.


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_listed_with_its_reason_and_stops_nothing(here: Here, name: str) -> None:
    import re

    content, reason = BROKEN[name]
    counted = "no_image" if name == "notes.txt" else "quarantined"
    (here.studies / name).write_bytes(content)

    here.look()

    listed = here.client.get("/datastore/?output=all").json()
    (found,) = listed[counted].values()
    assert found["source"] == name
    assert re.search(reason, found["reason"])
    assert sorted(listed["objects"]) == ["case_00", "case_01"]
    counts = here.client.get("/datastore/").json()
    assert counts[counted] == counts["quarantined"] + counts["no_image"] == 1


def test_a_request_for_a_quarantined_image_says_why(here: Here) -> None:
    (here.studies / "empty.nii.gz").write_bytes(b"")
    here.look()

    refused(here.client.get("/datastore/image?image=empty"), 422, "'empty' is quarantined", "0 bytes")
    refused(put(here, mask_bytes(0), "empty"), 422, "'empty' is quarantined")
    refused(here.client.post("/infer/segmentation?image=empty"), 422, "'empty' is quarantined")


def test_a_request_for_a_file_that_is_no_image_says_so(here: Here) -> None:
    (here.studies / "readme.txt").write_text("About these images.")
    here.look()

    refused(here.client.get("/datastore/image?image=readme"), 422, "readme.txt is no image")


def test_notes_beside_the_studies_give_their_id_to_an_upload(here: Here) -> None:
    (here.studies / "new.txt").write_text("About an image that comes later.")
    here.look()

    assert upload(here, "new").status_code == 200

    assert here.app.record.images.get("new").source == "new.nii.gz"
    assert list(here.client.get("/datastore/?output=all").json()["no_image"]) == ["new.txt"]


def test_patterns_keep_masks_beside_the_images_out(open_app: Callable[..., Here]) -> None:
    here = open_app(ignore="*_mask.nii.gz, masks")
    for name in ("case_00_mask.nii.gz", "masks/case_00.nii.gz", "derivatives/case_00.nii.gz"):
        (here.studies / name).parent.mkdir(exist_ok=True)
        (here.studies / name).write_bytes(mask_bytes(0))

    here.look()

    assert here.app.record.images.ids() == ["case_00", "case_01"]


def test_a_repaired_file_takes_part_again(here: Here) -> None:
    (here.studies / "late.nii.gz").write_bytes(b"half a fi")
    here.look()
    (here.studies / "late.nii.gz").write_bytes(image_bytes(5))

    here.look()

    assert (
        here.client.get("/datastore/").json() | {"total": 3, "quarantined": 0} == here.client.get("/datastore/").json()
    )


def test_a_deleted_file_is_never_offered(here: Here) -> None:
    (here.studies / "case_00.nii.gz").unlink()

    # Nobody has looked at the folder since.
    case = here.client.post("/activelearning/first", json={}).json()

    assert case["id"] == "case_01"
    listed = here.client.get("/datastore/?output=all").json()
    assert listed["quarantined"]["case_00"]["reason"] == (
        "case_00.nii.gz of image 'case_00' is gone from the studies. It is tried again at each look."
    )


# Masks.


def test_a_mask_on_another_grid_is_refused_with_both_grids(here: Here) -> None:
    refused(put(here, mask_bytes(0, (28, 20, 16))), 422, "28x20x16", "24x20x16")
    refused(
        put(here, mask_file(np.zeros((24, 20, 16), np.uint8), np.diag([1, 1, 2.5, 1]))),
        422,
        "1.00x1.00x2.50 mm",
        "1.00x1.00x1.00 mm",
    )


def test_unknown_label_values_are_refused_with_both_lists(here: Here) -> None:
    mask = np.zeros((24, 20, 16), np.uint8)
    mask[0, 0, :2] = 7, 9

    refused(put(here, mask_file(mask)), 422, "[7, 9]", "Anterior=1, Posterior=2")


def test_fractions_are_no_label_values(here: Here) -> None:
    refused(put(here, mask_file(np.full((24, 20, 16), 0.5, np.float32))), 422, "whole numbers", "0.5")


def test_an_unknown_structure_name_is_refused_with_the_known_ones(here: Here) -> None:
    params = json.dumps({"label_info": [{"name": "liver", "idx": 1}]})

    refused(put(here, mask_bytes(0), params=params), 422, "'liver'", "Anterior=1, Posterior=2")


def test_a_mask_for_an_unknown_image_is_refused(here: Here) -> None:
    refused(put(here, mask_bytes(0), "nobody"), 404, "'nobody'", "/datastore/?output=all")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("label.nii.gz", b"garbage"), ("label.nii.gz", b""), ("label.nii.gz", mask_bytes(0)[:60]),
        ("label.nrrd", b"garbage"), ("label.seg.nrrd", b""), ("virus.exe", b"MZ\x90"), ("label", mask_bytes(0)),
        ("label.bin", b"\0" * 17), ("", mask_bytes(0)),
    ],
)  # fmt: skip
def test_a_file_that_is_no_mask_is_refused(here: Here, name: str, content: bytes) -> None:
    response = put(here, content, name=name)

    assert response.status_code == 422
    assert len(response.json()["detail"]) > 20
    assert here.client.get("/datastore/label/history?image=case_00").json() == []


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ("{no", "no valid JSON"),
        ("[1]", "found list"),
        ("5", "found int"),
        ('{"label_info": {"name": "Anterior"}}', "must be a list"),
        ('{"label_info": [{"name": "Anterior"}]}', '{"name": text, "idx": number}'),
        ('{"label_info": [{"name": "Anterior", "idx": "one"}]}', '{"name": text, "idx": number}'),
        ('{"label_info": [{"name": "Anterior", "idx": Infinity}]}', "Infinity is no number"),
        ('{"label_info": [{"name": "Anterior", "idx": 1e999}]}', "1e999 is no number"),
        ('{"note": NaN}', "NaN is no number"),
        ('{"note": "\\ud800"}', "surrogates not allowed"),
        ('{"client_id": "a\\u0000b"}', "printable"),
        ("[" * 100_000, "nested deeper than 32 levels"),
        ('{"label_info": [{"name": "Anterior", "idx": 1}, {"name": "Posterior", "idx": 1}]}', "names one idx twice"),
        ('{"structures": "Anterior"}', "must be a list of names"),
        ('{"structures": ["liver"]}', "['liver']"),
        ('{"parent": "first"}', "parent must be the number of a version, or 0 for none, found 'first'"),
        ('{"parent": -1}', "found -1"),
        ('{"parent": 1.5, "anyway": true}', "found 1.5"),
        ('{"anyway": 1}', "anyway must be true or false, found 1"),
        ('{"parent": 99}', "99"),
        ('{"seconds": -1}', "seconds must be a number from 0 on, found -1"),
        ('{"seconds": true}', "seconds must be a number from 0 on, found True"),
        ('{"client_id": 5}', "client_id must be a name"),
    ],
)
def test_params_of_another_form_are_refused_and_nothing_is_stored(here: Here, params: str, found: str) -> None:
    response = put(here, mask_bytes(0), params=params)

    assert 400 <= response.status_code < 500, response.text
    refused(response, response.status_code, found)
    assert here.client.get("/datastore/label/history?image=case_00").json() == []


def test_a_timer_that_counts_whole_seconds_may_say_zero(here: Here) -> None:
    assert put(here, mask_bytes(0), params='{"seconds": 0}').status_code == 200

    assert here.client.get("/datastore/label/history?image=case_00").json()[0]["seconds"] == 0.0


@pytest.mark.parametrize("key", ["stages", "result_compress"])
@pytest.mark.parametrize("value", ['"false"', "3", "[]"])
def test_a_switch_is_true_or_false_and_nothing_else_that_might_mean_it(here: Here, key: str, value: str) -> None:
    response = here.client.post("/infer/segmentation?image=case_00", data={"params": f'{{"{key}": {value}}}'})

    refused(response, 422, f"{key} must be true or false, found {value}.")


def test_a_structure_outside_the_covered_ones_is_refused(here: Here) -> None:
    response = put(here, mask_bytes(0), params='{"structures": ["Anterior"]}')

    refused(response, 422, "['Posterior']", "['Anterior']")


# Images.


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.nii.gz", b"garbage"), ("a.nii.gz", b""), ("a.nii.gz", image_bytes(0)[:50]), ("a.exe", image_bytes(0)),
        ("a.nrrd", image_bytes(0)), ("", image_bytes(0)),
    ],
)  # fmt: skip
def test_an_upload_that_is_no_image_is_refused_and_nothing_is_kept(here: Here, name: str, content: bytes) -> None:
    before = listing(here.data / "uploads") | listing(here.data / "tmp")

    assert upload(here, "new", content, name).status_code == 422

    assert listing(here.data / "uploads") | listing(here.data / "tmp") == before
    assert "new" not in here.client.get("/datastore/?output=all").text


@pytest.mark.parametrize(
    "image_id",
    [
        "../outside", "a/../../outside", "/outside", "a\0b", "x" * 5000, "a/" * 1000 + "b", "é" * 150,
        "..", ".", "a//b", "a/",
        "..\\outside", "C:\\outside", ".hidden", "new\nline", "\u202eabc",
    ],
)  # fmt: skip
def test_an_id_that_leads_elsewhere_is_refused_and_nothing_is_written(here: Here, image_id: str) -> None:
    folder = here.data.parent
    before = listing(here.studies), listing(here.data / "uploads")
    beside = sorted(folder.iterdir())

    response = upload(here, image_id)

    refused(response, 422, "cannot be an image id")
    assert (listing(here.studies), listing(here.data / "uploads")) == before
    assert sorted(folder.iterdir()) == beside


@pytest.mark.parametrize("image_id", ["../../etc/passwd", "/etc/passwd", "a\0b", "x" * 5000, "..\\x", "%2e%2e/x"])
def test_an_odd_id_is_just_an_unknown_image_everywhere(here: Here, image_id: str) -> None:
    client = here.client
    replies = [
        client.get("/datastore/image", params={"image": image_id}),
        client.get("/datastore/image/info", params={"image": image_id}),
        client.get("/datastore/label", params={"label": image_id, "tag": "final"}),
        client.get("/datastore/label/info", params={"label": image_id, "tag": "final"}),
        client.delete("/datastore/image", params={"id": image_id}),
        client.delete("/datastore/label", params={"id": image_id, "tag": "final"}),
        client.post("/infer/segmentation", params={"image": image_id}),
        put(here, mask_bytes(0), image_id),
    ]

    assert [reply.status_code for reply in replies] == [404] * len(replies)


@pytest.mark.parametrize("tag", ["../../x", "/x", "a\0b", "version_99", "version_x", "x" * 150])
def test_a_tag_is_a_word_and_never_a_path(here: Here, tag: str) -> None:
    before = listing(here.studies)
    label = {"label": ("a.nii.gz", mask_bytes(0))}
    saved = here.client.put("/datastore/label", params={"image": "case_00", "tag": tag}, files=label)

    assert saved.status_code in (200, 422)
    assert listing(here.studies) == before
    assert not (here.data.parent / "x").exists()


def test_an_id_that_is_taken_is_refused(here: Here) -> None:
    refused(upload(here, "case_00"), 409, "There is an image 'case_00' already")


def test_an_upload_beyond_the_limit_is_refused(open_app: Callable[..., Here]) -> None:
    here = open_app(max_upload_mib="1")

    refused(upload(here, "big", bytes(2**20 + 1)), 413, "at most 1 MiB")


def test_nothing_is_ever_written_to_the_studies(here: Here, weights: bytes) -> None:
    before = listing(here.studies)

    upload(here, "new")
    put_label(here.client, "case_00", mask_bytes(0))
    here.put_weights(weights)
    here.client.post("/infer/segmentation?image=case_01")
    here.client.delete("/datastore/image?id=case_01")
    here.look()

    assert listing(here.studies) == before


def test_what_a_client_notes_about_an_image_cannot_break_the_next_sample(here: Here) -> None:
    notes = {"strategy": 5, "path": "/etc/passwd", "id": "other", "state": "hidden", "weight": []}
    here.client.put("/datastore/image/info?image=case_00", data={"info": json.dumps(notes)})

    case = here.client.post("/activelearning/first", json={})

    assert case.status_code == 200
    assert (case.json()["id"], case.json()["state"]) == ("case_00", "ok")
    assert case.json()["path"] == str(here.studies / "case_00.nii.gz")


# Inference.


@pytest.mark.parametrize("key", ["image", "image_path", "path", "file", "label", "session", "model", "files"])
def test_params_cannot_name_another_input(here: Here, weights: bytes, key: str) -> None:
    here.put_weights(weights)

    reply = here.client.post("/infer/segmentation?image=case_00", data={"params": json.dumps({key: "/etc/passwd"})})

    refused(reply, 422, f"must not hold {key}")


def test_a_draft_without_a_model_says_how_to_get_one(open_app: Callable[..., Here]) -> None:
    here = open_app(train_after="4")

    refused(here.client.post("/infer/segmentation?image=case_00"), 409, "No model yet: store 4 corrections and train")


@pytest.mark.parametrize("params", ["{no", "[1]", '{"result_extension": ".exe"}', '{"result_extension": 5}'])
def test_a_malformed_infer_request_is_refused(here: Here, weights: bytes, params: str) -> None:
    here.put_weights(weights)

    refused(here.client.post("/infer/segmentation?image=case_00", data={"params": params}), 422)


def test_a_file_that_is_no_image_is_not_drafted(here: Here, weights: bytes) -> None:
    here.put_weights(weights)

    for name, content in [("a.nii.gz", b"garbage"), ("a.exe", image_bytes(0)), ("a.nii.gz", b""), ("", b"x")]:
        reply = here.client.post("/infer/segmentation", files={"file": (name, content)})
        assert reply.status_code == 422, reply.text


# Sessions.


def archive(kind: str, member: str) -> bytes:
    content = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(content, "w") as packed:
            packed.writestr(member, image_bytes(0))
    else:
        with tarfile.open(fileobj=content, mode="w") as tar:
            info = tarfile.TarInfo(member)
            info.size = len(image_bytes(0))
            tar.addfile(info, io.BytesIO(image_bytes(0)))
    return content.getvalue()


def open_session(here: Here, name: str, content: bytes, **query: str) -> Any:
    return here.client.put("/session/", params=query, files=[("files", (name, content))])


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("member", ["../outside.nii.gz", "/outside.nii.gz", "a/../../outside.nii.gz"])
def test_an_archive_that_leads_out_of_its_folder_is_refused(here: Here, kind: str, member: str) -> None:
    response = open_session(here, f"a.{kind}", archive(kind, member), uncompress="true")

    refused(response, 422)
    assert list(here.data.parent.rglob("outside*")) == []
    assert list((here.data / "sessions").iterdir()) == []


def test_a_link_in_an_archive_is_refused(here: Here) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        link = tarfile.TarInfo("a.nii.gz")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)

    refused(open_session(here, "a.tar", content.getvalue(), uncompress="true"), 422, "archive")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_with_one_image_is_a_session(here: Here, kind: str) -> None:
    response = open_session(here, f"a.{kind}", archive(kind, "folder/a.nii.gz"), uncompress="true")

    assert response.status_code == 200
    session = response.json()["session_id"]
    assert here.client.get(f"/session/{session}?image=true").content == image_bytes(0)


@pytest.mark.parametrize(("name", "content"), [("a.zip", b"PK garbage"), ("a.exe", b"MZ"), ("a.nii.gz", b"garbage")])
def test_a_session_of_garbage_is_refused_at_the_latest_when_it_is_drafted(
    here: Here, weights: bytes, name: str, content: bytes
) -> None:
    here.put_weights(weights)
    response = open_session(here, name, content)
    if response.status_code == 200:
        response = here.client.post("/infer/segmentation", params={"session_id": response.json()["session_id"]})

    refused(response, 422)


def test_an_unknown_session_is_refused(here: Here) -> None:
    for session in ("nobody", "../../x", "00000000-0000-0000-0000-000000000000"):
        refused(here.client.get("/session/" + session.replace("/", "%2F")), 404)
        refused(here.client.post("/infer/segmentation", params={"session_id": session}), 404, "session")


# Names of what is not there.


def test_unknown_names_are_refused_with_the_known_ones(here: Here) -> None:
    client = here.client

    refused(client.post("/infer/liver?image=case_00"), 404, "'liver'", "segmentation")
    refused(client.post("/train/liver", json={}), 404, "'liver'", "segmentation")
    refused(client.post("/batch/infer/liver", json={}), 404, "'liver'", "segmentation")
    refused(client.get("/model/liver"), 404, "'liver'", "segmentation")
    refused(client.post("/activelearning/best", json={}), 404, "'best'", "first", "random")
    refused(client.post("/scoring/iou", json={}), 404, "'iou'", "dice")
    refused(client.post("/model/serve/segmentation?version=9"), 404, "version 9")
    refused(client.get("/datastore/label?label=case_00&tag=version_9"), 404)
    refused(client.get("/nothing/here"), 404, "/nothing/here", "/docs")


def test_a_training_of_nothing_is_refused(here: Here) -> None:
    refused(here.client.post("/train/segmentation", json={}), 409, "submit corrected masks first")


@pytest.mark.parametrize("body", [{"seconds": "long"}, {"seconds": 0}, {"max_epochs": -1}, {"seconds": True}])
def test_a_malformed_training_is_refused(here: Here, body: dict[str, Any]) -> None:
    put_label(here.client, "case_00", mask_bytes(0))

    refused(here.client.post("/train/segmentation", json=body), 422, "must be a number above 0")


@pytest.mark.parametrize("content", [b"garbage", b"", b"PK\x03\x04broken"])
def test_garbage_weights_are_refused_and_the_model_stays(here: Here, weights: bytes, content: bytes) -> None:
    here.put_weights(weights)

    refused(here.client.put("/model/segmentation", files={"file": ("model.pt", content)}), 422)

    assert here.client.get("/model/info/segmentation").json()["version"] == 1


def test_bodies_that_are_no_json_object_are_refused(here: Here) -> None:
    for path in ("/train/segmentation", "/activelearning/first", "/scoring/dice", "/batch/infer/segmentation"):
        for body in (b"{no", b"[1]", b"5", b'"text"', b"\xff\xfe"):
            reply = here.client.post(path, content=body, headers={"content-type": "application/json"})
            refused(reply, 422)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/datastore/?output=video"), ("GET", "/datastore/dataset?limit_cases=-1"), ("GET", "/logs/?lines=-1"),
        ("GET", "/logs/?lines=many"), ("POST", "/batch/infer/segmentation?images=some"), ("GET", "/datastore/image"),
        ("PUT", "/datastore/label"), ("PUT", "/session/"), ("DELETE", "/datastore/label?id=case_00"),
        ("HEAD", "/datastore/image?image=case_00&check_sum=CRC:12"), ("POST", "/model/serve/segmentation?version=x"),
    ],
)  # fmt: skip
def test_a_malformed_query_is_refused(here: Here, method: str, path: str) -> None:
    assert here.client.request(method, path).status_code == 422


def test_another_host_is_refused(here: Here) -> None:
    foreign = here.client.get("/info/", headers={"host": "evil.example"})
    page = here.client.put("/datastore/label?image=case_00", headers={"origin": "https://evil.example"})

    refused(foreign, 403, "evil.example")
    refused(page, 403, "evil.example")


def test_a_label_info_may_be_missing(here: Here) -> None:
    assert put_label(here.client, "case_00", mask_bytes(0), label_info=None)["version"] == 1
