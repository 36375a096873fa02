"""Structures that overlap, as clients send them: what one loses is told; one of which nothing is left is refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest

from lib.dicom.provenance import Provenance
from lib.dicom.structure_set import write_structure_set
from tests.dicom.drawing import stored
from tests.serving.conftest import Here
from tests.serving.drawn_series import NOON, TASK, put_series, source_of
from tests.serving.places import STRUCTURES, affine, image_bytes, voxels

SMALLER, LARGER = STRUCTURES


def in_layers(smaller: tuple[slice, ...], larger: tuple[slice, ...]) -> bytes:
    """A segmentation of 3D Slicer on the drawn image, each structure in a layer of its own."""
    shape, places = voxels(image_bytes(0)).shape, affine(image_bytes(0)) * np.array([[-1], [-1], [1], [1]])
    layers = np.zeros((2, *shape), np.uint8)
    layers[0][smaller] = layers[1][larger] = 1
    columns = " ".join(f"({','.join(f'{value:g}' for value in column)})" for column in places[:3, :3].T)
    header = [
        "NRRD0004", "type: uint8", "dimension: 4", "space: left-posterior-superior",
        f"sizes: 2 {' '.join(map(str, shape))}", f"space directions: none {columns}",
        "kinds: list domain domain domain", "endian: little", "encoding: gzip",
        f"space origin: ({','.join(f'{value:g}' for value in places[:3, 3])})",
    ]  # fmt: skip
    for number, name in enumerate((SMALLER, LARGER)):
        header += [
            f"Segment{number}_Name:={name}",
            f"Segment{number}_LabelValue:=1",
            f"Segment{number}_Layer:={number}",
        ]
    return "\n".join(header).encode() + b"\n\n" + gzip.compress(layers.tobytes(order="F"))


@pytest.fixture
def layered(here: Here) -> Callable[..., Any]:
    """Sends them."""

    def send(smaller: tuple[slice, ...], larger: tuple[slice, ...]) -> Any:
        return here.client.put(
            "/datastore/label",
            params={"image": "case_00"},
            data={"params": json.dumps({"client_id": "kim"})},
            files={"label": ("m.seg.nrrd", in_layers(smaller, larger))},
        )

    return send


BLOCK = (slice(2, 6), slice(2, 6), slice(2, 6))
WITHIN = (slice(3, 5), slice(3, 5), slice(3, 5))


def test_what_a_segment_loses_is_told_in_the_reply(layered: Callable[..., Any]) -> None:
    reply = layered(BLOCK, WITHIN)

    assert reply.status_code == 200, reply.text
    assert reply.json()["remarks"] == [f"8 voxels of {SMALLER} are {LARGER} too, and became that."]


def test_a_segment_of_which_nothing_would_be_left_is_refused_with_the_reason(
    here: Here, layered: Callable[..., Any]
) -> None:
    reply = layered(WITHIN, BLOCK)

    assert reply.status_code == 422
    assert f"'{SMALLER}' lies wholly within '{LARGER}', whose label value is larger" in reply.json()["detail"]
    assert here.client.get("/datastore/label/history", params={"image": "case_00"}).json() == []


def test_a_region_of_which_nothing_would_be_left_is_refused_with_the_reason(open_app: Callable[..., Here]) -> None:
    here = open_app(0)
    uid = put_series(here)
    source = source_of(here, uid)
    mask = np.zeros(source.grid.shape, np.uint8)
    mask[1:4, 2:5, :2] = TASK.values[SMALLER]
    dataset = write_structure_set(mask, TASK, source, Provenance("Plan", "a", NOON, "theirs"), looked_at=(SMALLER,))
    region, contours = dataset.StructureSetROISequence[0], dataset.ROIContourSequence[0]
    other, same = deepcopy(region), deepcopy(contours)
    other.ROIName, other.ROINumber, same.ReferencedROINumber = LARGER, 77, 77
    dataset.StructureSetROISequence.append(other)
    dataset.ROIContourSequence.append(same)
    body = b"--xx\r\nContent-Type: application/dicom\r\n\r\n" + stored(dataset) + b"\r\n--xx--\r\n"

    reply = here.client.post(
        "/dicomweb/studies", content=body,
        headers={"Content-Type": 'multipart/related; type="application/dicom"; boundary=xx'},
    )  # fmt: skip

    assert reply.status_code == 422
    assert f"'{SMALLER}' lies wholly within '{LARGER}'" in reply.text
    assert here.app.record.annotations.history(uid) == []
