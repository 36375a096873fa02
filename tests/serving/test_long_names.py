"""An image may be called whatever a file system takes: everything that is made of it is made all the same."""

from __future__ import annotations

import zipfile
from io import BytesIO

import pytest

from lib.store.erase import erase_patient
from tests.serving.conftest import Here
from tests.serving.drawn_series import put_series
from tests.serving.places import image_bytes, mask_bytes, put_label

pytestmark = pytest.mark.filterwarnings("ignore")  # of pydicom about phantoms' names

SUFFIX = ".nii.gz"
LONGEST = 255 - len(SUFFIX)
NAMES = {
    "latin": "a" * LONGEST,
    "japanese": "脳" * (LONGEST // 3),
    "path": "/".join(["folder" * 40, "脳" * 80, "b" * 240, "c" * 240]),
    "two emoji a letter": "👩‍⚕️" * 19,
    "signs of a pattern": "[*]?" * 60,
}


@pytest.fixture(params=NAMES.values(), ids=NAMES.keys())
def image_id(here: Here, request: pytest.FixtureRequest) -> str:
    path = here.studies / f"{request.param}{SUFFIX}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(image_bytes(7))
    here.look()
    put_label(here.client, request.param, mask_bytes(7))
    return str(request.param)


@pytest.mark.parametrize("wanted", ["nifti", "nrrd", "seg", "rtstruct"])
def test_a_mask_of_a_long_name_comes_in_every_format(here: Here, image_id: str, wanted: str) -> None:
    reply = here.client.get("/annotations/latest", params={"image": image_id, "format": wanted})

    assert reply.status_code == 200, reply.text
    assert len(reply.content) > 100


def test_viewers_see_and_open_an_image_of_a_long_name(here: Here, image_id: str) -> None:
    listing = here.app.record.listings.of_image(image_id)
    assert listing is None
    here.app.dicom.list_new()
    listing = here.app.record.listings.of_image(image_id)
    assert listing is not None

    metadata = here.client.get(f"/dicomweb/studies/{listing.study_uid}/metadata")

    assert metadata.status_code == 200, metadata.text
    assert here.client.get("/open", params={"image": image_id}, follow_redirects=False).status_code == 303


def test_files_of_a_long_name_are_sent(here: Here, image_id: str) -> None:
    for reply in (
        here.client.get("/datastore/image", params={"image": image_id}),
        here.client.get("/datastore/label", params={"label": image_id, "tag": "final"}),
    ):
        assert reply.status_code == 200, reply.text
    archive = zipfile.ZipFile(BytesIO(here.client.get("/datastore/dataset").content))
    assert {f"image/{image_id}{SUFFIX}", f"label/{image_id}{SUFFIX}"} <= set(archive.namelist())


def test_what_is_kept_of_a_long_name_goes_with_its_patient(here: Here, image_id: str) -> None:
    for wanted in ("seg", "rtstruct"):
        here.client.get("/annotations/latest", params={"image": image_id, "format": wanted})
    image = here.app.record.images.get(image_id)
    assert len(list((here.data / "cache").iterdir())) == 3  # the series that stands for it, the mask in two forms

    erase_patient(here.app.record, here.data, [image.patient])

    assert list((here.data / "cache").iterdir()) == []


def test_a_series_comes_as_nifti_whatever_its_folder_is_called(here: Here) -> None:
    image_id = put_series(here, "脳" * 85)

    assert here.client.get("/datastore/image", params={"image": image_id}).status_code == 200
