"""Whatever way a request ends, nothing of it stays below ``tmp``, ``cache`` or ``sessions``."""

from __future__ import annotations

import errno
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest

from lib.serving import formats, infer
from lib.serving.routes import infer as infer_routes
from tests.serving.conftest import Here
from tests.serving.drawn_series import put_series
from tests.serving.places import image_bytes, listing, mask_bytes, put_label

pytestmark = pytest.mark.filterwarnings("ignore")  # of pydicom about phantoms' names

WHERE = ("tmp", "cache", "sessions", "uploads")


def left(here: Here) -> set[str]:
    return {f"{folder}/{name}" for folder in WHERE for name in listing(here.data / folder)}


def full(write: Callable[..., Any]) -> Callable[..., Any]:
    """A function that writes, on a disk that is full when it has."""

    def written(*args: Any, **keywords: Any) -> Any:
        write(*args, **keywords)
        raise OSError(errno.ENOSPC, "No space left on device")

    return written


@pytest.mark.parametrize(
    ("owner", "name", "method", "address"),
    [
        (zipfile.ZipFile, "write", "GET", "/datastore/dataset"),
        (zipfile.ZipFile, "writestr", "GET", "/datastore/dataset"),
        (formats, "write_segments", "GET", "/annotations/latest?image=case_00&format=nrrd"),
        (pydicom.Dataset, "save_as", "GET", "/annotations/latest?image=case_00&format=seg"),
        (pydicom.Dataset, "save_as", "GET", "/annotations/latest?image=case_00&format=rtstruct"),
        (Path, "write_bytes", "GET", "/datastore/image?image=SERIES"),
        (infer, "write_volume", "POST", "/infer/segmentation?image=case_00&output=image"),
        (infer_routes, "_multipart", "POST", "/infer/segmentation?image=case_00"),
    ],
)  # fmt: skip
def test_a_disk_that_is_full_at_the_last_byte_keeps_nothing_of_the_request(
    here: Here, weights: bytes, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, method: str, address: str
) -> None:
    here.put_weights(weights)
    uid = put_series(here, "ct")
    put_label(here.client, "case_00", mask_bytes(0))
    here.client.post("/infer/segmentation", params={"image": "case_00"})
    before = left(here)
    monkeypatch.setattr(owner, name, full(getattr(owner, name)))

    reply = here.client.request(
        method,
        address.replace("SERIES", uid),
        data={"params": '{"result_extension": ".nrrd"}'} if method == "POST" else None,
    )

    assert reply.status_code == 507, reply.text
    # What a mask needs to be made of may be whole already.
    assert {name for name in left(here) - before if "-dicom" not in name} == set()


@pytest.mark.parametrize("wanted", ["bytes=0-3", "bytes=9-4", "bytes=99999999-", "bytes=nothing", "bytes=0-1,3-4"])
def test_a_temporary_file_goes_whatever_range_of_it_is_asked_for(here: Here, wanted: str) -> None:
    put_label(here.client, "case_00", mask_bytes(0))
    before = left(here)

    reply = here.client.get("/datastore/dataset", headers={"Range": wanted})

    assert reply.status_code in (200, 206, 400, 416)
    assert left(here) == before


@pytest.mark.parametrize("files", [{"files": ("a.exe", b"no image")}, {"files": ("a.zip", b"PK\3\4 no archive")}])
def test_a_session_that_is_refused_leaves_nothing(here: Here, files: Any) -> None:
    before = left(here)

    reply = here.client.put("/session/", params={"uncompress": "zip" in str(files)}, files=files)

    assert reply.status_code == 422
    assert left(here) == before


def test_a_refused_image_leaves_nothing(here: Here) -> None:
    before = left(here)

    for name, content in (("case_00.nii.gz", image_bytes(0)), ("new.nii.gz", b"no image"), ("new.exe", b"")):
        reply = here.client.put("/datastore/image", files={"file": (name, content)})
        assert reply.status_code in (409, 422)

    assert left(here) == before
