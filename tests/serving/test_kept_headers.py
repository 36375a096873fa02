"""The headers of a series are kept in one file, and never told when they are no longer those of its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from lib.serving import kept_headers
from lib.serving.dicomweb import InstanceHeader, value_of
from lib.serving.kept_headers import KeptHeaders
from lib.store.erase import erase_patient
from lib.store.images import Image, ImageKind, ImageState
from tests.serving.conftest import Here
from tests.serving.places import until
from tests.serving.test_dicomweb import put_series


@pytest.fixture
def kept(here: Here) -> KeptHeaders:
    put_series(here.studies / "ct", 1)
    here.look()
    return KeptHeaders(here.app.library)


def series(here: Here) -> Image:
    (image,) = (one for one in here.app.record.images.every(ImageState.OK) if one.kind is ImageKind.SERIES)
    return image


def headers(here: Here, kept: KeptHeaders) -> list[InstanceHeader]:
    image = series(here)
    return kept.of(image.id, here.app.library.files(image))


def files(here: Here) -> list[Path]:
    return list((here.data / "cache").glob("*-headers.json"))


def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets nobody read a DICOM file."""

    def refused(path: Path) -> InstanceHeader:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(kept_headers, "header_of", refused)


def test_kept_headers_are_those_of_the_files_and_open_none(
    here: Here, kept: KeptHeaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = headers(here, kept)
    kept.keep(series(here))
    unread(monkeypatch)

    assert headers(here, kept) == before
    assert [list(one.told) for one in headers(here, kept)] == [list(one.told) for one in before]
    assert len(before) == 6


def test_looking_only_writes_nothing(here: Here, kept: KeptHeaders) -> None:
    headers(here, kept)

    assert files(here) == []


def test_a_changed_file_is_read_again(here: Here, kept: KeptHeaders) -> None:
    kept.keep(series(here))
    path = here.studies / "ct" / "slice_003.dcm"
    dataset = pydicom.dcmread(path)
    dataset.SeriesDescription = "changed"
    dataset.save_as(path)

    told = [value_of(one.told, "SeriesDescription") for one in headers(here, kept) if one.path == path]

    assert told == ["changed"]


@pytest.mark.parametrize(
    "damage", [lambda text: "", lambda text: text[:-20], lambda text: text.split("\n")[0] + "\n{}"]
)
def test_a_damaged_file_of_headers_is_made_again(
    here: Here, kept: KeptHeaders, damage: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.keep(series(here))
    (file,) = files(here)
    whole = file.read_text()
    file.write_text(damage(whole))

    assert len(headers(here, kept)) == 6
    kept.keep(series(here))
    assert file.read_text() == whole


def test_nothing_is_kept_of_a_patient_who_is_erased(here: Here, kept: KeptHeaders) -> None:
    image = series(here)
    kept.keep(image)
    assert len(files(here)) == 1

    erase_patient(here.app.record, here.data, [image.patient])
    kept.keep(image)

    assert files(here) == []


def test_the_thread_keeps_what_was_there_and_what_comes(here: Here, kept: KeptHeaders) -> None:
    here.app.dicom.start()
    until(lambda: len(files(here)) == 1)
    put_series(here.studies / "later", 2)
    here.look()
    here.app.dicom.list_new()

    until(lambda: len(files(here)) == 2)
    here.app.dicom.stop()
