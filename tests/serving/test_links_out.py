"""Who may write the studies shows nothing by it that only the server may read."""

from __future__ import annotations

import io
import json
import os
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.serving.conftest import Here
from tests.serving.drawn_series import put_series, source_of
from tests.serving.places import mask_bytes, put_label

SECRET = b"secret " * 1000


def _exchanged(here: Here, path: Path, *, is_folder: bool = False) -> None:
    """Puts a link in the place of a file, or of its folder, that leads to another file of the same name outside."""
    outside = here.data.parent / "outside"
    outside.mkdir(exist_ok=True)
    place = path.parent if is_folder else path
    secret = outside / place.name / path.name if is_folder else outside / path.name
    secret.parent.mkdir(exist_ok=True)
    secret.write_bytes(SECRET)
    if is_folder:
        shutil.rmtree(place)
    else:
        place.unlink()
    place.symlink_to(outside / place.name)


def test_an_image_that_was_exchanged_for_a_link_is_not_sent(here: Here) -> None:
    _exchanged(here, here.studies / "case_00.nii.gz")

    reply = here.client.get("/datastore/image", params={"image": "case_00"})

    assert reply.status_code == 422
    assert "leads out of its folder" in reply.json()["detail"]


def test_an_image_whose_folder_was_exchanged_for_a_link_is_not_sent(here: Here) -> None:
    (here.studies / "p1").mkdir()
    shutil.move(here.studies / "case_00.nii.gz", here.studies / "p1" / "case_00.nii.gz")
    here.look()
    _exchanged(here, here.studies / "p1" / "case_00.nii.gz", is_folder=True)

    reply = here.client.get("/datastore/image", params={"image": "case_00"})

    assert reply.status_code == 422
    assert "leads out of its folder" in reply.json()["detail"]


def test_a_file_that_is_exchanged_while_the_data_set_is_written_is_left_out(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    for image in ("case_00", "case_01"):
        put_label(here.client, image, mask_bytes(0))
    find = here.app.library.image_file

    def exchanged_after_it_was_found(image: Any) -> Path:
        path = find(image)
        if image.id == "case_00":
            _exchanged(here, here.studies / "case_00.nii.gz")
        return path

    monkeypatch.setattr(here.app.library, "image_file", exchanged_after_it_was_found)

    reply = here.client.get("/datastore/dataset")

    with zipfile.ZipFile(io.BytesIO(reply.content)) as archive:
        images = [name for name in archive.namelist() if name.startswith("image/")]
        assert images == ["image/case_01.nii.gz"]
        assert not any(SECRET in archive.read(name) for name in archive.namelist())
        assert "leads out of its folder" in json.loads(archive.read("metadata.json"))["left_out"]["case_00"]


def test_a_checksum_tells_nothing_of_a_file_that_a_link_leads_to(here: Here) -> None:
    _exchanged(here, here.studies / "case_00.nii.gz")

    reply = here.client.head("/datastore/image", params={"image": "case_00", "check_sum": "SHA256:00"})

    assert reply.status_code == 422


def test_a_link_within_the_studies_is_followed(here: Here) -> None:
    place = here.studies / "case_00.nii.gz"
    content = place.read_bytes()
    shutil.move(place, here.studies / "elsewhere.bin")
    place.symlink_to(here.studies / "elsewhere.bin")

    reply = here.client.get("/datastore/image", params={"image": "case_00"})

    assert (reply.status_code, reply.content) == (200, content)


@pytest.mark.parametrize("what", ["frames/1", "metadata", "", "bulkdata/7FE00010"])
def test_a_slice_that_was_exchanged_for_a_link_is_not_sent_to_viewers(here: Here, what: str) -> None:
    image_id = put_series(here)
    series = source_of(here, image_id)
    first = series.slices[0]
    secret = here.data.parent / "outside.dcm"
    shutil.copy(series.slices[1].path, secret)
    Path(first.path).unlink()
    Path(first.path).symlink_to(secret)

    address = f"/dicomweb/studies/{first.study_uid}/series/{first.series_uid}/instances/{first.instance_uid}/{what}"
    reply = here.client.get(address.rstrip("/"))

    assert reply.status_code in (404, 422), reply.content[:200]
    assert secret.read_bytes()[-100:] not in reply.content


@contextmanager
def _exchanging(place: Path, secret: Path) -> Iterator[None]:
    """File and link take each other's place all the time."""
    content, other = place.read_bytes(), place.with_name("other")
    is_over = threading.Event()

    def keep_exchanging() -> None:
        while not is_over.is_set():
            other.symlink_to(secret)
            os.replace(other, place)
            other.write_bytes(content)
            os.replace(other, place)

    thread = threading.Thread(target=keep_exchanging)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def test_a_file_that_is_exchanged_all_the_time_never_shows_another_one(open_app: Callable[..., Here]) -> None:
    here = open_app(images=1)
    secret = here.data.parent / "secret.nii.gz"
    secret.write_bytes(SECRET)
    found = set()

    with _exchanging(here.studies / "case_00.nii.gz", secret):
        for _ in range(200):
            reply = here.client.get("/datastore/image", params={"image": "case_00"})
            found.add(reply.status_code)
            assert SECRET[:7] not in reply.content

    assert found <= {200, 422}
