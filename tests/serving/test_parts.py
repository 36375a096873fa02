"""A body of several parts is taken apart while it comes, into files that do not stay."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from lib.errors import InvalidRequest, StorageFull, TooLarge
from lib.serving import parts
from lib.serving.parts import ReceivedParts

TYPE = 'multipart/related; type="application/dicom"; boundary="xx"'


def body(*contents: bytes, end: bytes = b"--xx--\r\n") -> bytes:
    return b"".join(b"--xx\r\nContent-Type: application/dicom\r\n\r\n" + one + b"\r\n" for one in contents) + end


def taken(folder: Path, content: bytes, piece: int = 1 << 16, content_type: str = TYPE) -> list[bytes]:
    """The parts of a body that comes in pieces of so many bytes."""
    with ReceivedParts(content_type, folder) as files:
        for start in range(0, len(content), piece):
            files.write(content[start : start + piece])
        return [path.read_bytes() for path in files.files()]


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_parts_come_out_as_they_were_put_in_however_the_body_is_cut(tmp_path: Path, piece: int) -> None:
    contents = [b"", b"\r\n--x", bytes(range(256)) * 3, b"--xx-", b"\r\n\r\n"]

    assert taken(tmp_path, body(*contents), piece) == contents


@pytest.mark.parametrize(
    "content_type",
    ["multipart/related; boundary=xx", 'Multipart/Related;type=application/dicom;boundary="xx"'],
)
def test_the_boundary_may_be_quoted_or_not(tmp_path: Path, content_type: str) -> None:
    assert taken(tmp_path, body(b"a"), content_type=content_type) == [b"a"]


def test_what_stands_around_the_parts_is_passed_over(tmp_path: Path) -> None:
    assert taken(tmp_path, b"\r\n" + body(b"a") + b"\r\nmore") == [b"a"]


@pytest.mark.parametrize(
    "content_type",
    ["", "application/dicom", "multipart/related", "multipart/form-data; boundary=xx", "multipart/related; boundary="],
)
def test_another_type_is_refused_with_the_one_wanted(tmp_path: Path, content_type: str) -> None:
    with pytest.raises(InvalidRequest, match=r"body cannot be taken apart .*Send multipart/related; type="):
        ReceivedParts(content_type, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "The body has no part"),
        (b"x", "The body cannot be taken apart"),
        (b"--xx", "The body has no part"),
        (body(b"a", end=b""), "ends before its last boundary"),
        (body(b"a" * 100)[:60], "ends before its last boundary"),
        (body(b"a", b"b")[:-30], "ends before its last boundary"),
    ],
)
def test_a_body_that_is_cut_short_or_none_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        taken(tmp_path, content)

    assert list(tmp_path.iterdir()) == []


def test_no_file_stays_whether_it_goes_well_or_not(tmp_path: Path) -> None:
    taken(tmp_path, body(b"a", b"b"))
    assert list(tmp_path.iterdir()) == []

    with pytest.raises(ZeroDivisionError), ReceivedParts(TYPE, tmp_path) as files:
        files.write(body(b"a", b"b")[:-20])
        assert len(list(tmp_path.rglob("*.dcm"))) == 2
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_is_too_large_is_refused_while_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "LARGEST_PART_MIB", 1)
    whole = b"a" * 2**20

    assert taken(tmp_path, body(whole, whole)) == [whole, whole]
    with pytest.raises(TooLarge, match="A part of the body is larger than 1 MiB"):
        taken(tmp_path, body(whole, whole + b"a"))


def test_too_many_parts_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MOST_PARTS", 2)

    with pytest.raises(TooLarge, match="more than 2 parts"):
        taken(tmp_path, body(b"a", b"b", b"c"))


def test_a_full_disk_is_told_and_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageFull, match="full"), ReceivedParts(TYPE, tmp_path) as files:
        files.write(body(b"a")[:30])
        monkeypatch.setattr(Path, "open", full)
        files.write(body(b"a", b"b")[30:])

    assert list(tmp_path.iterdir()) == []
