"""Studies that cannot be seen are away, not gone: it is told, nothing is lost, and they come back by themselves."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lib.serving.__main__ import _first_look
from lib.store.images import ImageState
from tests.serving.conftest import Here
from tests.serving.places import mask_bytes, put_label


def unmounted(here: Here) -> Path:
    """An empty folder takes the place of the studies."""
    mounted = here.studies.rename(here.studies.with_name("on the disk"))
    here.studies.mkdir()
    return mounted


def renamed(here: Here) -> Path:
    return here.studies.rename(here.studies.with_name("renamed"))


def replaced_by_a_file(here: Here) -> Path:
    mounted = here.studies.rename(here.studies.with_name("on the disk"))
    here.studies.write_text("no folder")
    return mounted


def put_back(here: Here, mounted: Path) -> None:
    here.studies.unlink() if here.studies.is_file() else here.studies.exists() and here.studies.rmdir()
    mounted.rename(here.studies)
    here.look()


WAYS = [unmounted, renamed, replaced_by_a_file]


def next_case(here: Here) -> Any:
    return here.client.post("/activelearning/first", json={"client_id": "dr.kim"})


def states(here: Here) -> set[ImageState]:
    return {image.state for image in here.app.record.images.every(*ImageState)}


@pytest.mark.parametrize("way", WAYS)
def test_studies_that_are_away_are_told_wherever_people_look(
    here: Here, capsys: pytest.CaptureFixture[str], way: Callable[[Here], Path]
) -> None:
    put_label(here.client, "case_00", mask_bytes(0))
    mounted = way(here)
    _first_look(here.app)

    away = f"The images are away: {here.studies}"
    assert away in here.client.get("/").text
    assert away in capsys.readouterr().out
    assert away in here.client.get("/datastore/").json()["unseen"]
    ready = here.client.get("/health/ready")
    assert (ready.status_code, away in ready.json()["detail"]) == (503, True)
    assert here.client.get("/datastore/").json()["completed"] == 1
    assert states(here) == {ImageState.OK}

    put_back(here, mounted)
    assert "away" not in here.client.get("/").text
    assert here.client.get("/datastore/").json()["unseen"] == ""
    assert next_case(here).json()["id"] == "case_01"


@pytest.mark.parametrize("looked", [True, False], ids=["told by a look", "before any look"])
@pytest.mark.parametrize("way", WAYS)
def test_who_wants_a_case_of_studies_that_are_away_is_told_and_loses_nothing(
    here: Here, way: Callable[[Here], Path], looked: bool
) -> None:
    mounted = way(here)
    if looked:
        here.look()

    image = here.client.get("/datastore/image", params={"image": "case_00"})
    for reply in (next_case(here), image):
        assert reply.status_code == 503
        assert f"The studies are away: {here.studies}: " in reply.json()["detail"]
    assert states(here) == {ImageState.OK}
    put_label(here.client, "case_00", mask_bytes(0))

    put_back(here, mounted)
    assert here.client.get("/datastore/image", params={"image": "case_00"}).status_code == 200


def test_a_server_that_starts_while_its_studies_are_not_mounted_knows_what_it_had(
    open_app: Callable[..., Here], capsys: pytest.CaptureFixture[str]
) -> None:
    first = open_app()
    mounted = unmounted(first)
    first.app.record.close()

    second = open_app(images=0)
    _first_look(second.app)

    assert "is its disk mounted?" in capsys.readouterr().out
    assert (states(second), next_case(second).status_code) == ({ImageState.OK}, 503)
    put_back(second, mounted)
    assert next_case(second).json()["id"] == "case_00"


def test_of_images_that_cannot_be_seen_the_others_are_offered(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, os, "stat", here.studies / "case_00.nii.gz", errno.EIO)

    assert next_case(here).json()["id"] == "case_01"
    reply = here.client.get("/datastore/image", params={"image": "case_00"})
    assert reply.status_code == 503
    assert (
        "case_00.nii.gz of image 'case_00' cannot be seen at the moment: Input/output error" in reply.json()["detail"]
    )
    assert states(here) == {ImageState.OK}


def test_a_folder_that_cannot_be_listed_is_told_at_the_start_and_on_the_pages(
    here: Here, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    closed = here.studies / "closed"
    closed.mkdir()
    with monkeypatch.context() as patch:
        refuse(patch, os, "scandir", closed, errno.EACCES)
        _first_look(here.app)

        told = f"{closed} cannot be seen (Permission denied)"
        assert told in capsys.readouterr().out
        assert told in here.client.get("/").text
        assert told in here.client.get("/datastore/").json()["unseen"]
        assert next_case(here).status_code == 200


def test_an_image_that_may_not_be_read_is_refused_before_any_of_it_is_sent_and_comes_back(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = here.studies / "case_00.nii.gz"
    access = os.access
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: Path(path) != file and access(path, mode))
        refuse(patch, os, "open", file, errno.EACCES)
        reply = here.client.get("/datastore/image", params={"image": "case_00"})

        assert reply.status_code == 422
        reason = "case_00.nii.gz of image 'case_00' cannot be read: Permission denied. It is tried again at each look."
        assert reply.json()["detail"] == reason
        here.look()
        assert here.client.get("/datastore/?output=all").json()["quarantined"]["case_00"]["reason"] == reason

    here.look()
    assert here.client.get("/datastore/image", params={"image": "case_00"}).status_code == 200


def test_an_image_that_was_asked_for_while_its_file_was_on_its_way_comes_back(here: Here) -> None:
    file = here.studies / "case_00.nii.gz"
    file.rename(here.studies.parent / "moved")
    assert here.client.get("/datastore/image", params={"image": "case_00"}).status_code == 422
    (here.studies.parent / "moved").rename(file)

    here.look()

    assert states(here) == {ImageState.OK}


def refuse(patch: pytest.MonkeyPatch, module: Any, name: str, place: Path, number: int) -> None:
    """Lets a call of the system refuse one place."""
    original = getattr(module, name)

    def refusing(path: Any, *arguments: Any, **options: Any) -> Any:
        if not isinstance(path, int) and Path(path) == place:
            raise OSError(number, os.strerror(number))
        return original(path, *arguments, **options)

    patch.setattr(module, name, refusing)
