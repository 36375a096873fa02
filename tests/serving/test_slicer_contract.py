"""What 3D Slicer's MONAI Label plugin sends, and what it reads in the replies."""

from __future__ import annotations

import hashlib
import json
import re
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from lib.volume import Volume, nifti_bytes
from tests.serving.conftest import Here
from tests.serving.places import affine, image_bytes, mask_bytes, put_label, voxels
from tests.training.shapes import drawn

INFER = {
    "client_id": "user-xyz", "device": "cpu", "result_extension": ".nrrd", "result_dtype": "uint8",
    "result_compress": False,
}  # fmt: skip


def parts(response: Any) -> dict[str, Any]:
    """The parts of a multipart reply by name."""
    head = b"content-type: " + response.headers["content-type"].encode() + b"\r\n\r\n"
    message = BytesParser().parsebytes(head + response.content)
    return {str(part.get_param("name", header="content-disposition")): part for part in message.get_payload()}


def segmentation(path: Path, mask: np.ndarray, names: list[str]) -> bytes:
    """A mask as Slicer's segment editor writes it, its segments named in the header."""
    image = sitk.GetImageFromArray(mask.transpose(2, 1, 0))
    # RAS millimetres with an identity matrix are this direction in DICOM's axes.
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    for number, name in enumerate(names):
        image.SetMetaData(f"Segment{number}_Name", name)
        image.SetMetaData(f"Segment{number}_LabelValue", str(number + 1))
        image.SetMetaData(f"Segment{number}_Layer", "0")
    sitk.WriteImage(image, str(path))
    return path.read_bytes()


def stored(here: Here, image_id: str) -> np.ndarray:
    return voxels(here.client.get("/datastore/label", params={"label": image_id, "tag": "final"}).content)


def test_a_model_is_listed_before_it_has_weights(here: Here) -> None:
    info = here.client.get("/info/").json()

    assert info["models"]["segmentation"]["config"]["ready"] is False
    assert info["models"]["segmentation"]["type"] == "segmentation"
    assert info["labels"] == ["Anterior", "Posterior"]
    assert {"trainers", "strategies", "scoring", "train_stats", "datastore"} <= info.keys()


def test_the_model_that_drafts_is_listed_first_since_slicer_chooses_that(here: Here) -> None:
    info = here.client.get("/info/").json()

    assert list(info["models"]) == list(info["trainers"]) == ["segmentation", "segmentation_refine"]
    assert {model["type"] for model in info["models"].values()} == {"segmentation"}


def test_every_value_of_a_config_has_a_type_that_the_option_table_knows(here: Here, weights: bytes) -> None:
    def values() -> list[Any]:
        info = here.client.get("/info/").json()
        return [
            value for kind in ("models", "trainers") for each in info[kind].values()
            for value in each["config"].values()
        ]  # fmt: skip

    before = values()
    here.put_weights(weights)

    assert all(isinstance(value, bool | int | float | str | list) for value in [*before, *values()])


def test_a_draft_comes_as_nrrd_with_the_names_of_its_values(here: Here, weights: bytes, tmp_path: Path) -> None:
    here.put_weights(weights)

    reply = here.client.post(
        "/infer/segmentation", params={"image": "case_00"}, data={"params": json.dumps(INFER)}
    )  # fmt: skip

    found = parts(reply)
    assert json.loads(found["params"].get_payload())["label_names"] == {"Anterior": 1, "Posterior": 2}
    name = found["image"].get_filename()
    assert name.endswith(".nrrd")
    assert "/" not in name
    (tmp_path / name).write_bytes(found["image"].get_payload(decode=True))
    draft = sitk.ReadImage(str(tmp_path / name))
    assert draft.GetSize() == (24, 20, 16)
    assert draft.GetPixelIDTypeAsString() == "8-bit unsigned integer"


def test_two_drafts_have_different_file_names(here: Here, weights: bytes) -> None:
    here.put_weights(weights)

    names = [
        parts(here.client.post("/infer/segmentation", params={"image": "case_00"}))["image"].get_filename()
        for _ in range(2)
    ]

    assert names[0] != names[1]


def test_next_sample_opens_the_image_and_finds_the_draft_that_is_there(here: Here, weights: bytes) -> None:
    here.put_weights(weights)
    here.client.post("/infer/segmentation", params={"image": "case_00"})

    case = here.client.post("/activelearning/first", json={"client_id": "user-xyz"}).json()

    assert Path(case["path"]).is_file()
    assert re.fullmatch(r"case_00-[0-9a-f]{12}\.nii\.gz", case["name"])
    draft = here.client.get("/datastore/?output=all").json()["objects"][case["id"]]["labels"]["original"]["info"]
    assert draft["params"]["label_names"] == {"Anterior": 1, "Posterior": 2}


def test_a_checksum_is_told_only_if_it_is_that_of_the_file(here: Here) -> None:
    case = here.client.post("/activelearning/first", json={"client_id": "user-xyz"}).json()

    sent = here.client.get("/datastore/image", params={"image": case["id"]}).content
    assert case["checksum"] == f"SHA256:{hashlib.sha256(sent).hexdigest()}"
    not_wanted = here.client.post("/activelearning/first?checksum=false", json={"client_id": "user-xyz"}).json()
    assert not_wanted["checksum"] is None


def test_a_mask_named_by_its_local_path_is_stored_as_sent(here: Here) -> None:
    saved = put_label(here.client, "case_00", mask_bytes(0), "/home/kim/Slicer/tmp/0/case_00.nii.gz", client_id="kim")

    assert (saved["author"], saved["tag"], saved["stage"]) == ("kim", "final", "expert")
    np.testing.assert_array_equal(stored(here, "case_00"), drawn(0)[1])


def test_values_numbered_by_position_are_stored_as_the_tasks(here: Here) -> None:
    # Only the second structure was drawn: for Slicer it is the first segment.
    only_second = [{"name": "Posterior", "idx": 1}]
    mask = (drawn(0)[1] == 2).astype(np.uint8)

    put_label(here.client, "case_00", mask_content(mask), label_info=only_second)

    np.testing.assert_array_equal(stored(here, "case_00"), 2 * mask)
    info = here.client.get("/datastore/label/info?label=case_00&tag=final").json()
    assert info["voxels"] == {"Anterior": 0, "Posterior": int(mask.sum())}


def mask_content(mask: np.ndarray) -> bytes:
    return nifti_bytes(Volume(mask, np.eye(4)))


def test_names_of_segments_are_compared_without_case(here: Here) -> None:
    swapped = [{"name": "POSTERIOR", "idx": 1}, {"name": "anterior", "idx": 2}]

    put_label(here.client, "case_00", mask_bytes(0), label_info=swapped)

    mask = drawn(0)[1]
    np.testing.assert_array_equal(stored(here, "case_00"), np.choose(mask, [0, 2, 1]))


def test_a_segmentation_file_names_its_segments_itself(here: Here, tmp_path: Path) -> None:
    mask = (drawn(0)[1] == 2).astype(np.uint8)
    content = segmentation(tmp_path / "Segmentation.seg.nrrd", mask, ["Posterior"])

    put_label(here.client, "case_00", content, "C:/Users/kim/Segmentation.seg.nrrd", label_info=[])

    np.testing.assert_array_equal(stored(here, "case_00"), 2 * mask)


def test_a_segmentation_that_ends_where_its_segments_end_is_stored_on_the_images_grid(
    here: Here, tmp_path: Path
) -> None:
    mask = (drawn(0)[1] == 2).astype(np.uint8)
    ends = [int(places.max()) + 1 for places in np.nonzero(mask)]
    cropped = mask[: ends[0], : ends[1], : ends[2]]
    content = segmentation(tmp_path / "Segmentation.seg.nrrd", cropped, ["Posterior"])

    put_label(here.client, "case_00", content, "C:/Users/kim/Segmentation.seg.nrrd", label_info=[])

    assert cropped.size < mask.size
    np.testing.assert_array_equal(stored(here, "case_00"), 2 * mask)


def test_an_empty_segmentation_is_stored_as_nothing_found(here: Here, tmp_path: Path) -> None:
    """Slicer writes one voxel of value 0 with the first voxel of no image."""
    content = segmentation(tmp_path / "Segmentation.seg.nrrd", np.zeros((1, 1, 1), np.uint8), ["Anterior"])
    content = content.replace(b"space origin: (0,0,0)", b"space origin: (0.25,-3,99)")

    put_label(here.client, "case_00", content, "C:/Users/kim/Segmentation.seg.nrrd", label_info=[])

    assert not stored(here, "case_00").any()
    info = here.client.get("/datastore/label/info?label=case_00&tag=final").json()
    assert info["voxels"] == {"Anterior": 0, "Posterior": 0}


def test_what_of_a_mask_was_not_taken_as_it_came_is_told_in_the_reply(here: Here) -> None:
    mask = drawn(0)[1]
    beside = np.eye(4)
    beside[2, 3] = 0.004

    exact = put_label(here.client, "case_00", mask_bytes(0))
    saved = put_label(here.client, "case_00", nifti_bytes(Volume(mask.astype(np.float32) + 2e-4, beside)))

    assert exact["remarks"] == []
    assert [remark.split(",")[0] for remark in saved["remarks"]] == [
        "The voxels of the mask lie up to 0.004 mm beside those of the image",
        f"{mask.size} voxels of the mask were up to 0.0002 away from whole numbers",
    ]
    np.testing.assert_array_equal(stored(here, "case_00"), mask)


def test_what_was_stored_comes_back_on_the_images_grid(here: Here) -> None:
    put_label(here.client, "case_00", mask_bytes(0))

    reply = here.client.get("/datastore/label", params={"label": "case_00", "tag": "final"})

    assert reply.headers["content-disposition"].endswith('filename="case_00.nii.gz"')
    np.testing.assert_array_equal(affine(reply.content), affine(image_bytes(0)))


def test_the_progress_bar_finds_what_it_divides_by(here: Here) -> None:
    put_label(here.client, "case_00", mask_bytes(0))
    here.client.post("/train/segmentation", json={"seconds": 1})

    # Slicer looks at the first trainer only.
    stats, _ = here.client.get("/info/").json()["train_stats"].values()

    # The plugin computes 100 * epoch / total_epochs and takes a training with a total_time for ended.
    assert stats["total_epochs"] >= 1
    assert "total_time" not in stats


def test_a_stopped_training_has_a_last_line_to_show(here: Here) -> None:
    put_label(here.client, "case_00", mask_bytes(0))
    here.client.post("/train/segmentation", json={"seconds": 1})

    assert here.client.request("DELETE", "/train/").json()["details"][-1] == "Stopped by a person."


@pytest.mark.parametrize("strategy", ["first", "random"])
def test_no_case_left_is_a_reply_without_id_and_with_a_kind_sentence(here: Here, strategy: str) -> None:
    for number in range(2):
        put_label(here.client, f"case_{number:02d}", mask_bytes(number), client_id="user-xyz")

    reply = here.client.post(f"/activelearning/{strategy}", json={"client_id": "user-xyz"})

    assert reply.status_code == 200
    assert "id" not in reply.json()
    assert reply.json()["message"] == "Nothing is left for you: 2 of 2 images are labelled. Thank you!"
