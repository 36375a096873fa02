"""An image whose voxels prove unreadable is quarantined once, with its reason, until its files change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from lib.errors import UnreadableImage
from lib.serving.learning import case_of
from lib.serving.library import Library
from lib.split import Split
from lib.store.images import Image, ImageState
from lib.volume import Volume, nifti_bytes, write_volume
from tests.serving.conftest import Here
from tests.serving.drawn_series import put_series
from tests.serving.places import put_label


@pytest.fixture
def here(open_app: Callable[..., Here]) -> Here:
    """An app without images."""
    return open_app(0)


def offered(here: Here) -> str | None:
    """The image that is offered next to who does not need its checksum, for which it would be read."""
    return here.client.post("/activelearning/first?checksum=false", json={}).json().get("id")


def quarantined(here: Here) -> dict[str, str]:
    """Reason by image."""
    told = here.client.get("/datastore/?output=all").json()["quarantined"]
    return {image_id: entry["reason"] for image_id, entry in told.items()}


def broken_inside(here: Here) -> tuple[str, Path]:
    """A series that looks sound: its compressed pixels are noise in one slice; its id and that slice."""
    uid = put_series(here)
    path = sorted((here.studies / "ct").iterdir())[2]
    one = pydicom.dcmread(path)
    one.compress(pydicom.uid.RLELossless)
    one.PixelData = pydicom.encaps.encapsulate([b"\x02" + b"\xff" * 99])
    one.save_as(path)
    here.look()
    assert quarantined(here) == {}
    return uid, path


def as_htj2k(one: pydicom.FileDataset) -> None:
    """Says that the pixels are of a kind that nothing here decodes."""
    one.PixelData = pydicom.encaps.encapsulate([bytes(8)])
    one.file_meta.TransferSyntaxUID = pydicom.uid.HTJ2K


def void(here: Here) -> str:
    """A volume of which every voxel is NaN."""
    write_volume(here.studies / "void.nii", Volume(np.full((8, 8, 8), np.nan, np.float32), np.eye(4)))
    here.look()
    return "void"


@pytest.mark.parametrize(
    "damage",
    [
        lambda one: delattr(one, "PixelData"),
        lambda one: setattr(one, "PixelData", one.PixelData[:-100]),
        lambda one: setattr(one, "BitsAllocated", 13),
        as_htj2k,
    ],
    ids=["no pixels", "cut off", "13 bits", "syntax"],
)
@pytest.mark.parametrize("number", [0, 3])
def test_a_series_with_a_slice_that_cannot_be_read_is_never_offered(here, damage, number):
    uid = put_series(here)
    path = sorted((here.studies / "ct").iterdir())[number]
    one = pydicom.dcmread(path)
    damage(one)
    one.save_as(path)
    here.look()

    assert list(quarantined(here)) == [uid]
    assert path.name in quarantined(here)[uid]
    assert offered(here) is None


def test_a_series_that_proves_unreadable_is_no_longer_offered(here):
    uid, _ = broken_inside(here)
    assert offered(here) == uid

    first = here.client.get(f"/datastore/image?image={uid}")
    second = here.client.get(f"/datastore/image?image={uid}")

    assert (first.status_code, second.status_code) == (422, 422)
    assert quarantined(here)[uid] == first.json()["detail"]
    assert second.json()["detail"] == f"Image {uid!r} is quarantined: {quarantined(here)[uid]}"
    assert offered(here) is None


def test_it_takes_part_again_when_its_files_are_exchanged(here):
    uid, path = broken_inside(here)
    here.client.get(f"/datastore/image?image={uid}")
    here.look()
    assert list(quarantined(here)) == [uid]

    one = pydicom.dcmread(path)
    one.PixelData, one.file_meta.TransferSyntaxUID = bytes(one.Rows * one.Columns * 2), "1.2.840.10008.1.2.1"
    one["PixelData"].VR, one["PixelData"].is_undefined_length = "OW", False
    one.save_as(path)
    here.look()

    assert quarantined(here) == {}
    assert offered(here) == uid
    assert here.client.get(f"/datastore/image?image={uid}").status_code == 200


def test_a_volume_of_no_numbers_is_quarantined_by_its_first_draft(here, weights):
    image_id = void(here)
    here.put_weights(weights)

    reply = here.client.post(f"/infer/segmentation?image={image_id}")

    assert reply.status_code == 422
    assert "void.nii holds no number" in quarantined(here)[image_id]
    assert offered(here) is None


def test_a_volume_of_no_numbers_is_quarantined_when_a_viewer_asks_for_it(here):
    image_id = void(here)
    (series,) = here.client.get("/dicomweb/series").json()
    study, uid = (series[tag]["Value"][0] for tag in ("0020000D", "0020000E"))

    reply = here.client.get(f"/dicomweb/studies/{study}/series/{uid}/metadata")

    assert reply.status_code == 422
    assert "void.nii holds no number" in quarantined(here)[image_id]
    assert here.client.get(f"/open?image={image_id}", follow_redirects=False).status_code == 422


def test_a_volume_of_no_numbers_is_not_learned_from(here):
    image_id = void(here)
    put_label(here.client, image_id, nifti_bytes(Volume(np.ones((8, 8, 8), np.uint8), np.eye(4))))
    record = here.app.record
    (annotation,) = record.annotations.history(image_id)

    with pytest.raises(UnreadableImage, match=r"void\.nii holds no number"):
        case_of(record, here.app.library, annotation).load_volume()

    assert "void.nii holds no number" in quarantined(here)[image_id]
    assert [record.annotations.expert_labels(side) for side in Split] == [[]] * len(Split)


def test_a_mask_that_cannot_be_read_is_not_the_images_fault(here, refiner_weights):
    uid = put_series(here)
    here.put_refiner(refiner_weights)

    reply = here.client.post(f"/infer/segmentation_refine?image={uid}", files={"label": ("rough.nii.gz", b"no mask")})

    assert (reply.status_code, reply.json()["title"]) == (422, "UnreadableMask")
    assert quarantined(here) == {}


def test_a_file_that_changes_while_it_is_read_says_nothing_of_the_image(here):
    image: Image = here.app.record.images.get(void(here))
    library: Library = here.app.library

    with pytest.raises(UnreadableImage, match=r"half of it"), library.reading(image) as (path,):
        path.write_bytes(b"written just now")
        raise UnreadableImage("half of it is there")

    assert here.app.record.images.get(image.id).state is ImageState.OK


def test_an_image_that_was_hidden_meanwhile_stays_hidden(here):
    image: Image = here.app.record.images.get(void(here))
    here.client.delete(f"/datastore/image?id={image.id}")

    with pytest.raises(UnreadableImage, match=r"holds no number"):
        here.app.library.volume(image)

    found = here.app.record.images.find(image.id)
    assert found is not None and found.state is ImageState.HIDDEN
