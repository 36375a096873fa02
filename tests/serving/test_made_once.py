"""What is made when it is first asked for is made once, and is whole or not there."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lib.decoder import foreign
from lib.errors import StorageFull, UnreadableImage
from lib.serving import dicom_files
from lib.serving.dicom_files import DicomFiles
from lib.serving.made_once import MAKERS, made_once, unfinished
from tests.serving.conftest import Here
from tests.serving.drawn_series import put_series
from tests.serving.places import listing, mask_bytes, put_label

AT_ONCE = 24
PATIENCE = 30.0

pytestmark = pytest.mark.filterwarnings("ignore")  # of pydicom about phantoms' names


def all_at_once(ask: Any, count: int = AT_ONCE) -> list[Any]:
    """The answers of so many threads that ask at the same moment."""
    together = threading.Barrier(count)

    def asked(_number: int) -> Any:
        together.wait(PATIENCE)
        return ask()

    with ThreadPoolExecutor(count) as people:
        return list(people.map(asked, range(count)))


def test_many_who_ask_at_once_for_a_file_get_one_that_was_made_once(tmp_path: Path) -> None:
    made: list[Path] = []

    def write(name: Path) -> None:
        made.append(name)
        threading.Event().wait(0.05)
        name.write_text("whole")

    found = all_at_once(lambda: made_once(tmp_path / "cache" / "a", tmp_path / "tmp", write).read_text())

    assert found == ["whole"] * AT_ONCE
    assert len(made) == 1
    assert not list((tmp_path / "tmp").iterdir())


def test_many_who_ask_at_once_for_a_folder_get_a_whole_one(tmp_path: Path) -> None:
    def write(name: Path) -> None:
        name.mkdir()
        for number in range(20):
            (name / str(number)).write_text("")

    found = all_at_once(lambda: len(list(made_once(tmp_path / "series", tmp_path / "tmp", write).iterdir())))

    assert found == [20] * AT_ONCE


def test_who_wants_something_else_need_not_wait(tmp_path: Path) -> None:
    is_made = threading.Event()

    def slow(name: Path) -> None:
        assert is_made.wait(PATIENCE)
        name.write_text("slow")

    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(made_once, tmp_path / "slow", tmp_path / "tmp", slow)
        quick = made_once(tmp_path / "quick", tmp_path / "tmp", lambda name: name.write_text("quick"))
        is_made.set()
        assert waiting.result(PATIENCE).read_text() == "slow"
    assert quick.read_text() == "quick"


def test_only_so_many_are_made_at_once_as_the_machine_has_room_for(tmp_path: Path) -> None:
    guard, at_work, most = threading.Lock(), 0, 0
    numbers = iter(range(AT_ONCE))

    def write(name: Path) -> None:
        nonlocal at_work, most
        with guard:
            at_work += 1
            most = max(most, at_work)
        threading.Event().wait(0.02)
        with guard:
            at_work -= 1
        name.write_text("")

    all_at_once(lambda: made_once(tmp_path / f"{next(numbers)}", tmp_path / "tmp", write))

    assert most <= MAKERS


def test_what_needs_another_thing_to_be_made_first_never_waits_for_itself(tmp_path: Path) -> None:
    numbers = iter(range(AT_ONCE))

    def write(name: Path) -> None:
        series = made_once(tmp_path / "series", tmp_path / "tmp", lambda inner: inner.write_text("series"))
        name.write_text(series.read_text())

    found = all_at_once(lambda: made_once(tmp_path / f"{next(numbers)}", tmp_path / "tmp", write).read_text())

    assert found == ["series"] * AT_ONCE


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_fails_half_way_leaves_nothing_and_is_made_by_the_next(tmp_path: Path, kind: str) -> None:
    def fail(name: Path) -> None:
        if kind == "folder":
            name.mkdir()
            name = name / "slice"
        name.write_text("half")
        raise UnreadableImage("It is damaged.")

    with pytest.raises(UnreadableImage, match="damaged"):
        made_once(tmp_path / "cache" / "a", tmp_path / "tmp", fail)

    assert listing(tmp_path) == {}
    assert made_once(tmp_path / "a", tmp_path / "tmp", lambda name: name.write_text("whole")).read_text() == "whole"


def test_a_full_disk_is_told_and_what_was_there_before_stays(tmp_path: Path) -> None:
    target = tmp_path / "kept"
    target.write_text("before")

    with pytest.raises(StorageFull, match="Free some space"), unfinished(target, tmp_path / "tmp") as name:
        name.write_text("half")
        raise OSError(28, "No space left on device")

    assert target.read_text() == "before"
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("wanted", ["nifti", "derived", "seg", "rtstruct"])
def test_each_file_for_clients_is_made_once_for_all_who_ask_at_once(
    here: Here, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    uid = put_series(here, "ct")
    put_label(here.client, "case_00", mask_bytes(0))
    files = DicomFiles(here.app.record, here.app.library)
    annotation = here.app.record.annotations.tagged("case_00", "final")
    ask, module, maker = {
        "nifti": (lambda: here.app.library.image_file(here.app.library.readable(uid)), foreign, "sent"),
        "derived": (lambda: files.of_image(here.app.library.readable("case_00")), foreign, "derived_files"),
        "seg": (lambda: files.segmentation(annotation), dicom_files, "provenance_of"),
        "rtstruct": (lambda: files.structure_set(annotation), dicom_files, "provenance_of"),
    }[wanted]
    calls, make = [], getattr(module, maker)

    def noted(*args: Any, **keywords: Any) -> Any:
        calls.append(maker)
        threading.Event().wait(0.05)
        return make(*args, **keywords)

    monkeypatch.setattr(module, maker, noted)

    found = all_at_once(ask)

    assert found == found[:1] * AT_ONCE
    assert len(calls) == 1
    assert not listing(here.data / "tmp")
