"""What takes time is done before a writer's turn: others write meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.dicom.provenance import Provenance
from lib.dicom.segmentation import write_segmentation
from lib.serving import infer, saving, stow
from tests.dicom.drawing import ohif, stored
from tests.serving.conftest import Here
from tests.serving.drawn_series import NOON


def segmentation(here: Here, seed: str, rows: int) -> bytes:
    """A segmentation of the derived series of ``case_00`` as OHIF stores it."""
    source = here.app.dicom.files.source(here.app.library.readable("case_00"))
    mask = np.zeros(source.grid.shape, np.uint8)
    mask[2 : 2 + rows, 3:9, 1:3], mask[10:12, 1:3, 5] = 1, 2
    return stored(ohif(write_segmentation(mask, here.app.record.task, source, Provenance("x", "a", NOON, seed))))


def post(here: Here, *contents: bytes) -> Any:
    body = b"".join(b"--xx\r\nContent-Type: application/dicom\r\n\r\n" + one + b"\r\n" for one in contents)
    kind = 'multipart/related; type="application/dicom"; boundary="xx"'
    return here.client.post("/dicomweb/studies", content=body + b"--xx--\r\n", headers={"Content-Type": kind})


def may_write(here: Here) -> bool:
    """Whether somebody else gets a turn to write just now."""
    other = threading.Thread(target=lambda: here.app.record.images.note("case_01", {"seen": True}), daemon=True)
    other.start()
    other.join(timeout=5)
    return not other.is_alive()


@pytest.mark.parametrize("objects", [1, 2])
def test_objects_are_read_and_masks_are_packed_while_others_may_write(
    here: Here, monkeypatch: pytest.MonkeyPatch, objects: int
) -> None:
    contents = [segmentation(here, f"s{number}", number + 2) for number in range(objects)]
    turns: dict[str, list[bool]] = {"read": [], "packed": []}
    content, pack = stow.Received.content.fget, saving.nifti_bytes  # type: ignore[attr-defined]

    def reading(received: stow.Received) -> bytes:
        turns["read"].append(may_write(here))
        return bytes(content(received))

    def packing(*given: Any) -> bytes:
        turns["packed"].append(may_write(here))
        return pack(*given)

    monkeypatch.setattr(stow.Received, "content", property(reading))
    monkeypatch.setattr(saving, "nifti_bytes", packing)

    reply = post(here, *contents)

    assert reply.status_code == 200, reply.text
    assert turns == {"read": [True] * objects, "packed": [True] * objects}
    for number in range(1, objects + 1):
        tag = f"version_{number}"
        told = here.client.get("/datastore/label/info", params={"label": "case_00", "tag": tag}).json()
        assert told["voxels"] == {"Anterior": (number + 1) * 12, "Posterior": 4}


def test_a_refused_request_leaves_no_file_of_any_of_its_objects(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    from lib.errors import StorageFull

    contents = [segmentation(here, f"s{number}", number + 2) for number in range(2)]
    save, calls = stow.save_packed, []

    def full_at_the_second(*given: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise StorageFull("The disk is full.")
        return save(*given, **more)

    monkeypatch.setattr(stow, "save_packed", full_at_the_second)

    assert post(here, *contents).status_code == 507
    files = [path for name in ("masks", "segmentations") for path in (here.data / name).rglob("*") if path.is_file()]
    assert files == []
    assert here.client.get("/datastore/label/history", params={"image": "case_00"}).json() == []


def test_a_stored_draft_is_sent_without_unpacking_its_voxels(
    here: Here, weights: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.put_weights(weights)
    ask = {"params": {"image": "case_00", "output": "json"}}
    first = here.client.post("/infer/segmentation", **ask).json()

    def unpacked(*_: Any, **__: Any) -> Any:
        raise AssertionError("The voxels are unpacked.")

    for name in ("read_volume", "renumbered"):
        monkeypatch.setattr(infer, name, unpacked)
    again = here.client.post("/infer/segmentation", **ask)

    assert again.status_code == 200, again.text
    assert again.json()["volume_ml"] == first["volume_ml"]
    assert first["volume_ml"] == {name: round(count / 1000, 3) for name, count in first["voxels"].items()}
    whole = here.client.post("/infer/segmentation", params={"image": "case_00", "output": "image"})
    annotation = here.app.record.annotations.tagged("case_00", "original")
    assert whole.content == here.app.record.mask_file(annotation).read_bytes()


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd"])
def test_volumes_are_told_in_any_format_by_the_voxels_of_the_image(
    open_app: Callable[..., Here], weights: bytes, tmp_path: Path, suffix: str
) -> None:
    import json

    from lib.volume import Volume, nifti_bytes
    from tests.training.shapes import drawn

    here = open_app()
    (here.studies / "oblique.nii.gz").write_bytes(
        nifti_bytes(
            Volume(drawn(3)[0].voxels, np.array([[0.5, 0.1, 0, 9], [0, 0.7, 0, 9], [0, 0, 3, 9], [0, 0, 0, 1.0]]))
        )
    )
    here.look()
    here.put_weights(weights)

    told = here.client.post(
        "/infer/segmentation",
        params={"image": "oblique", "output": "json"},
        data={"params": json.dumps({"result_extension": suffix})},
    ).json()

    assert told["voxels"] and told["volume_ml"] == {
        name: round(count * 0.5 * 0.7 * 3 / 1000, 3) for name, count in told["voxels"].items()
    }
