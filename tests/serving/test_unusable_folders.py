"""A folder of the data that cannot be used is named to who meets it and to who looks after the server."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lib.store.disk import data_fault
from lib.store.files import is_trouble_with
from tests.serving.conftest import Here
from tests.serving.places import mask_bytes, put_label


def save(here: Here) -> Any:
    return here.client.put(
        "/datastore/label", params={"image": "case_00"}, files={"label": ("label.nii.gz", mask_bytes(0))}
    )


NUMBERS = [errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENODEV]


@pytest.fixture
def refusing(here: Here, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """The system's errors for new files below a folder of the data."""
    numbers: dict[str, int] = {}
    original = tempfile.mkstemp

    def made(*arguments: Any, **options: Any) -> Any:
        folder = Path(options["dir"])
        for name, number in numbers.items():
            if folder.is_relative_to(here.data / name):
                raise OSError(number, os.strerror(number), str(folder / "new"))
        return original(*arguments, **options)

    monkeypatch.setattr(tempfile, "mkstemp", made)
    yield numbers


@pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.get)
@pytest.mark.parametrize("folder", ["masks", "tmp"])
def test_a_save_into_a_folder_that_refuses_names_it(
    here: Here, refusing: dict[str, int], folder: str, number: int
) -> None:
    refusing[folder] = number
    reply = save(here)

    assert (reply.status_code, reply.json()["title"]) == (503, "StorageUnusable")
    assert f"The folder {folder} of the server's data cannot be used: {os.strerror(number)}." in reply.json()["detail"]
    refusing.clear()
    assert save(here).status_code == 200


def test_a_quota_that_is_used_up_is_a_full_disk(here: Here, refusing: dict[str, int]) -> None:
    refusing["masks"] = errno.EDQUOT

    assert save(here).status_code == 507


def test_a_deleted_folder_of_temporary_files_is_made_anew(here: Here) -> None:
    shutil.rmtree(here.data / "tmp")

    put_label(here.client, "case_00", mask_bytes(0))
    shutil.rmtree(here.data / "tmp")
    assert here.client.get("/datastore/dataset").status_code == 200
    shutil.rmtree(here.data / "tmp")
    assert data_fault(here.data) == ""
    assert (here.data / "tmp").is_dir()


def test_deleted_masks_are_not_replaced_by_an_empty_folder(here: Here) -> None:
    shutil.rmtree(here.data / "masks")

    reply = save(here)

    assert (reply.status_code, "The folder masks of the server's data cannot be used" in reply.text) == (503, True)
    assert not (here.data / "masks").exists()


@pytest.mark.parametrize("folder", ["masks", "weights", "segmentations"])
def test_a_server_without_one_of_its_folders_is_not_ready(here: Here, folder: str) -> None:
    shutil.rmtree(here.data / folder)

    ready = here.client.get("/health/ready")

    assert ready.status_code == 503
    assert f"The folder {folder} is gone: put back {here.data / folder}" in ready.json()["detail"]


def test_a_server_that_may_not_write_into_its_folders_is_not_ready(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "masks")

    assert f"make {here.data / 'masks'} writable for the server's account" in here.client.get("/health/ready").text


def test_an_error_about_something_else_is_no_trouble_with_the_data(tmp_path: Path) -> None:
    assert not is_trouble_with(tmp_path, FileNotFoundError(errno.ENOENT, "No such file", "/elsewhere"))
    assert not is_trouble_with(tmp_path, ValueError("no error of the system"))
    assert is_trouble_with(tmp_path, FileNotFoundError(errno.ENOENT, "No such file", str(tmp_path / "masks" / "a")))
