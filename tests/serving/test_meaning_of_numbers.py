"""What a client says of the numbers in a mask is the whole meaning, by whichever way the mask comes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from pydicom.sr.codedict import codes

from lib.dataset import read_dataset
from lib.volume import Volume, nifti_bytes
from tests.dicom.drawing import stored as bytes_of
from tests.serving.conftest import Here
from tests.serving.drawn_series import put_series, source_of
from tests.serving.places import STRUCTURES, put_label
from tests.serving.test_slicer_contract import segmentation, stored
from tests.serving.test_turned_series import store
from tests.training.shapes import drawn

FIRST, SECOND = STRUCTURES


def mask_with(*values: int) -> np.ndarray:
    """A mask of one plane of each value."""
    mask = np.zeros((24, 20, 16), np.uint8)
    for number, value in enumerate(values):
        mask[4 * number + 2] = value
    return mask


def sent(here: Here, mask: np.ndarray, listed: list[tuple[str, int]]) -> Any:
    """The reply to a mask with these names and numbers."""
    info = [{"name": name, "idx": number} for name, number in listed]
    return here.client.put(
        "/datastore/label",
        params={"image": "case_00"},
        data={"params": json.dumps({"label_info": info})},
        files={"label": ("m.nii.gz", nifti_bytes(Volume(mask, np.eye(4))))},
    )


@pytest.mark.parametrize(
    ("listed", "values", "said"),
    [
        # 3D Slicer counts a segment that it does not send.
        ([(FIRST, 2), (SECOND, 3)], (1, 2), "label values [1], which are not among those that are named"),
        ([(SECOND, 3), (FIRST, 4)], (1, 2), "label values [1, 2]"),
        ([(SECOND, 1)], (1, 2), "label values [2]"),
        ([(FIRST, 0), (SECOND, 1)], (1,), "0 is the background"),
        ([(FIRST, 5), (SECOND, 1)], (1, 2, 5, 51), "--leave-out 2,51"),
        ([(FIRST, 1), (SECOND, 2)], (1, 255), "label values [255]"),
    ],
)
def test_a_number_that_label_info_does_not_list_is_refused_and_nothing_is_stored(
    here: Here, listed: list[tuple[str, int]], values: tuple[int, ...], said: str
) -> None:
    reply = sent(here, mask_with(*values), listed)

    assert (reply.status_code, said in reply.json()["detail"]) == (422, True), reply.text
    assert here.app.record.annotations.history("case_00") == []


@pytest.mark.parametrize("name", ["background", "foreground_scribbles"])
def test_a_number_that_is_listed_as_no_structure_is_left_out_and_the_reply_says_so(here: Here, name: str) -> None:
    reply = sent(here, mask_with(1, 2, 255), [(FIRST, 1), (SECOND, 2), (name, 255)])

    assert reply.json()["remarks"] == [f"320 voxels of the value 255 ({name}) were left out; they are no structure."]
    np.testing.assert_array_equal(stored(here, "case_00"), mask_with(1, 2))


def test_a_segment_of_scribbles_is_left_out_of_what_slicer_sends(here: Here, tmp_path: Path) -> None:
    content = segmentation(tmp_path / "m.seg.nrrd", mask_with(1, 2, 3), [FIRST, SECOND, "background_scribbles"])

    saved = put_label(here.client, "case_00", content, "m.seg.nrrd")

    assert saved["remarks"] == [
        "320 voxels of the value 3 (background_scribbles) were left out; they are no structure."
    ]
    np.testing.assert_array_equal(stored(here, "case_00"), mask_with(1, 2))


def test_a_mask_that_is_to_be_refined_is_read_by_the_same_rule(
    here: Here, weights: bytes, refiner_weights: bytes
) -> None:
    here.put_weights(weights)
    here.put_refiner(refiner_weights)
    info = [{"name": SECOND, "idx": 3}]

    reply = here.client.post(
        "/infer/segmentation_refine",
        params={"image": "case_00"},
        data={"params": json.dumps({"label_info": info})},
        files={"label": ("m.nii.gz", nifti_bytes(Volume(drawn(0)[1], drawn(0)[0].affine)))},
    )

    assert reply.status_code == 422, reply.text
    assert "label values [1, 2], which are not among those that are named" in reply.json()["detail"]


def overlapping(here: Here, uid: str, names: tuple[str, str], rows: tuple[slice, slice]) -> bytes:
    """A DICOM segmentation of two segments on the second slice."""
    source = source_of(here, uid)
    images = [read_dataset(one.path, with_pixels=False) for one in source.slices]
    frames = np.zeros((*source.grid.shape[::-1], 2), np.uint8)
    for segment, part in enumerate(rows):
        frames[1, part, 2:8, segment] = 1
    about = [
        hd.seg.SegmentDescription(number, name, codes.SCT.Tissue, codes.SCT.Tissue, "MANUAL")
        for number, name in enumerate(names, start=1)
    ]
    return bytes_of(hd.seg.Segmentation(images, frames, "BINARY", about, hd.UID(), 1, hd.UID(), 1, "m", "m", "1", "1"))


@pytest.mark.parametrize("names", [(FIRST, SECOND), (SECOND, FIRST)])
def test_voxels_that_a_structure_loses_to_another_are_told_in_the_reply_of_stow(
    here: Here, names: tuple[str, str]
) -> None:
    uid = put_series(here)

    told = store(here, overlapping(here, uid, names, (slice(2, 6), slice(4, 8))))

    comment = told.json()["00081199"]["Value"][0]["00000902"]["Value"][0]
    assert comment == f"12 voxels of {FIRST} are {SECOND} too, and became that."
    assert here.app.record.annotations.history(uid)[0].voxels == {FIRST: 12, SECOND: 24}


@pytest.mark.parametrize("names", [(FIRST, SECOND), (SECOND, FIRST)])
def test_a_structure_of_which_nothing_would_be_left_is_refused_in_the_reply_of_stow(
    here: Here, names: tuple[str, str]
) -> None:
    uid = put_series(here)
    rows = (slice(4, 6), slice(2, 8)) if names[0] == FIRST else (slice(2, 8), slice(4, 6))
    content = overlapping(here, uid, names, rows)

    reply = here.client.post(
        "/dicomweb/studies",
        content=b"--xx\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--xx--\r\n",
        headers={"Content-Type": 'multipart/related; type="application/dicom"; boundary="xx"'},
    )

    comment = reply.json()["00081198"]["Value"][0]["00000902"]["Value"][0]
    assert reply.status_code == 422
    assert comment.startswith(f"{FIRST!r} lies wholly within {SECOND!r}, whose label value is larger")
    assert here.app.record.annotations.history(uid) == []
