"""Sessions and ids at the border: names are data, never paths, and an archive unpacks to no more than is accepted."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lib.errors import InvalidRequest, TooLarge, UnknownSession, UnreadableImage
from lib.serving import sessions
from lib.serving.intake import checked_id
from lib.serving.sessions import Session, Sessions
from tests.serving.places import image_bytes

IMAGE = image_bytes(0)
LIMIT = 2**20


@pytest.fixture
def kept(tmp_path: Path) -> Sessions:
    return Sessions(tmp_path / "sessions", LIMIT)


@pytest.fixture
def unpack(kept: Sessions, tmp_path: Path) -> Callable[[bytes], Session]:
    """Opens a session with an archive; whatever happens, nothing is written beside the sessions."""

    def open_it(content: bytes) -> Session:
        received = tmp_path / "received"
        received.write_bytes(content)
        return kept.add([(received, "archive")], 0, unpack=True)

    return open_it


def nothing_is_left(kept: Sessions) -> bool:
    received = kept.folder.parent / "received"
    received.unlink(missing_ok=True)
    return list(kept.folder.parent.rglob("*")) == [kept.folder]


def zipped(*members: tuple[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, compression)
    return content.getvalue()


def tarred(*members: tuple[tarfile.TarInfo | str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for named, data in members:
            info = tarfile.TarInfo(named) if isinstance(named, str) else named
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return content.getvalue()


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.devmajor, info.devminor = kind, link, 1, 3
    return info


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda content: content, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress,
}  # fmt: skip


@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
def test_a_tar_archive_of_any_kind_becomes_its_image(
    unpack: Callable[[bytes], Session], packed: Callable[[bytes], bytes]
) -> None:
    (file,) = unpack(packed(tarred(("folder/ct.nii.gz", IMAGE)))).files

    assert file.read_bytes() == IMAGE and file.name.endswith(".nii.gz")


def test_a_zip_archive_becomes_its_image(unpack: Callable[[bytes], Session]) -> None:
    (file,) = unpack(zipped(("folder/", b""), ("folder/ct.nii.gz", IMAGE))).files

    assert file.read_bytes() == IMAGE and file.name.endswith(".nii.gz")


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize(
    "name",
    ["session.json/../ct.nii.gz", "../ct.nii.gz", "a/../../ct.nii.gz", "/ct.nii.gz", "..\\ct.nii.gz", "\\ct.nii"],
)
def test_a_member_that_leads_out_of_the_archive_is_refused(
    kept: Sessions, unpack: Callable[[bytes], Session], make: Callable[..., bytes], name: str
) -> None:
    with pytest.raises(InvalidRequest, match=r"leads out of its folder: "):
        unpack(make((name, IMAGE)))

    assert nothing_is_left(kept)


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize(
    "name",
    [
        "session.json.nii.gz",
        "~root/ct.nii.gz",
        "x" * 250 + ".nii.gz",
        "a\nb\x1b[31m.nii.gz",
        "C:ct.nii.gz",
        "ä/🫁.nii.gz",
    ],
)
def test_any_other_name_only_tells_the_format(
    kept: Sessions, unpack: Callable[[bytes], Session], make: Callable[..., bytes], name: str
) -> None:
    (file,) = unpack(make((name, IMAGE))).files

    assert file.name == "00000.nii.gz" and file.parent.parent == kept.folder


@pytest.mark.parametrize(
    "member",
    [
        special("ct.nii.gz", tarfile.SYMTYPE, "/etc/passwd"), special("ct.nii.gz", tarfile.SYMTYPE, "../../secret"),
        special("ct.nii.gz", tarfile.SYMTYPE, "inside.nii.gz"), special("ct.nii.gz", tarfile.LNKTYPE, "/etc/passwd"),
        special("ct.nii.gz", tarfile.CHRTYPE), special("ct.nii.gz", tarfile.BLKTYPE),
        special("ct.nii.gz", tarfile.FIFOTYPE),
    ],
    ids=["link out", "link up", "link inside", "hard link", "device", "disk", "pipe"],
)  # fmt: skip
def test_what_is_no_plain_file_is_refused(
    kept: Sessions, unpack: Callable[[bytes], Session], member: tarfile.TarInfo
) -> None:
    with pytest.raises(InvalidRequest, match=r"archive holds 'ct\.nii\.gz', which is no plain file"):
        unpack(tarred(("first.nii.gz", IMAGE), (member, b"")))

    assert nothing_is_left(kept)


def test_a_sparse_file_is_refused(kept: Sessions, unpack: Callable[[bytes], Session]) -> None:
    info = tarfile.TarInfo("ct.nii")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**50),
                        "GNU.sparse.name": "ct.nii"}  # fmt: skip

    with pytest.raises(InvalidRequest, match=r"no plain file|cannot be unpacked"):
        unpack(tarred((info, b"1\n0\n1\n".ljust(512, b"\0"))))

    assert nothing_is_left(kept)


BOMBS = {
    "zip": lambda: zipped(("ct.nii", b"\0" * (8 * LIMIT))),
    "zip of many": lambda: zipped(*[(f"{number}.nii", b"\0" * (LIMIT // 4)) for number in range(5)]),
    "tar": lambda: gzip.compress(tarred(("ct.nii", b"\0" * (8 * LIMIT)))),
    "tar of many": lambda: bz2.compress(tarred(*[(f"{n}.nii", b"\0" * (LIMIT // 4)) for n in range(5)])),
    "tar with a long name": lambda: lzma.compress(tarred(("x" * 40 * LIMIT, b""))),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_an_archive_that_unpacks_to_too_much_is_refused_while_it_is_unpacked(
    kept: Sessions, unpack: Callable[[bytes], Session], bomb: Callable[[], bytes]
) -> None:
    content = bomb()
    assert len(content) < LIMIT / 20

    with pytest.raises(TooLarge, match=r"unpacks to more than \d+ MiB \(--conf max_upload_mib\)"):
        unpack(content)

    assert nothing_is_left(kept)


def test_a_size_that_a_zip_archive_claims_is_not_believed(kept: Sessions, unpack: Callable[[bytes], Session]) -> None:
    honest = zipped(("ct.nii", b"\0" * (8 * LIMIT)))
    claimed = honest.replace((8 * LIMIT).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert claimed != honest

    with pytest.raises((TooLarge, InvalidRequest), match=r"unpacks to more|cannot be unpacked"):
        unpack(claimed)

    assert nothing_is_left(kept)


def test_refusing_a_bomb_takes_little_memory(unpack: Callable[[bytes], Session]) -> None:
    bomb = zipped(("ct.nii", b"\0" * (64 * LIMIT)))
    tracemalloc.start()
    with pytest.raises(TooLarge, match=r"unpacks to more"):
        unpack(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 10 * LIMIT


@pytest.mark.parametrize("make", [zipped, tarred])
def test_an_archive_of_too_many_members_is_refused(
    kept: Sessions, unpack: Callable[[bytes], Session], make: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MOST_MEMBERS", 20)

    with pytest.raises(TooLarge, match=r"The archive has more than 20 members"):
        unpack(make(*[(f"{number}/", b"") for number in range(21)]))

    assert nothing_is_left(kept)
    assert sessions.MOST_MEMBERS == 20


def encrypted() -> bytes:
    content = bytearray(zipped(("ct.nii.gz", IMAGE)))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def astray() -> bytes:
    """Its directory lies before its begin, by what its last record says."""
    content = bytearray(zipped(("ct.nii.gz", IMAGE)))
    content[-6:-2] = (2**31).to_bytes(4, "little")
    return bytes(content)


def misnamed(where: bytes) -> bytes:
    """A name in it is said to be UTF-8 and is not, in the directory or before the member."""
    name = "ct_\u00e4.nii.gz"
    content = zipped((name, IMAGE))
    at = content.index(name.encode(), content.index(where))
    return content[:at] + b"ct_\xff\xff" + content[at + 5 :]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"garbage", b"PK\x03\x04garbage", zipped(("ct.nii.gz", IMAGE))[:-30], b"\x1f\x8bgarbage", b"BZhgarbage",
        b"\xfd7zXZgarbage", gzip.compress(tarred(("ct.nii.gz", IMAGE)))[:-2000], tarred(("ct.nii.gz", IMAGE))[:900],
        zipped(("ct.nii.gz", IMAGE)).replace(IMAGE[100:120], b"\0" * 20), encrypted(), bz2.compress(b"x" * 999)[:-9],
        astray(), misnamed(b"PK\x01\x02"), misnamed(b"PK\x03\x04"),
    ],
    ids=["empty", "garbage", "zip garbage", "cut zip", "gzip garbage", "bzip2 garbage", "xz garbage", "cut tar.gz",
         "cut tar", "damaged zip", "encrypted zip", "cut bzip2", "zip astray", "zip with a broken name",
         "zip with two names"],
)  # fmt: skip
def test_a_damaged_archive_is_refused(kept: Sessions, unpack: Callable[[bytes], Session], content: bytes) -> None:
    with pytest.raises((InvalidRequest, UnreadableImage), match=r"archive cannot be unpacked|Send one NIfTI"):
        unpack(content)

    assert nothing_is_left(kept)


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize("members", [[], [("readme.txt", b"hello")], [("a.nii", b"x"), ("b.nii", b"x")]], ids=len)
def test_an_archive_without_one_image_or_series_is_refused(
    kept: Sessions,
    unpack: Callable[[bytes], Session],
    make: Callable[..., bytes],
    members: list[tuple[str, bytes]],
) -> None:
    with pytest.raises(
        UnreadableImage, match=r"Send one NIfTI, NRRD or picture file, or the DICOM files of one series; found"
    ):
        unpack(make(*members))

    assert nothing_is_left(kept)


@pytest.mark.parametrize("session_id", ["", "..", "../x", "/etc", "x", "a" * 9999, "\0", "0" * 31, "session.json"])
def test_a_session_id_is_no_path(kept: Sessions, session_id: str) -> None:
    (kept.folder.parent / "x").mkdir()
    for use in (kept.get, kept.remove):
        with pytest.raises(UnknownSession, match=r"is no session id"):
            use(session_id)

    assert (kept.folder.parent / "x").is_dir()


def test_a_session_of_another_spelling_of_its_id_is_the_same(kept: Sessions, tmp_path: Path) -> None:
    (tmp_path / "received").write_bytes(IMAGE)
    session = kept.add([(tmp_path / "received", "../../ct.nii.gz")], 0, unpack=False)

    assert kept.get(session.name.upper()) == session
    kept.remove("{" + session.name + "}")
    assert nothing_is_left(kept)


def test_a_received_file_is_named_by_us_and_only_its_end_is_the_clients(kept: Sessions, tmp_path: Path) -> None:
    (tmp_path / "received").write_bytes(IMAGE)
    session = kept.add([(tmp_path / "received", "/etc/../x\0y.NII.GZ")], 0, unpack=False)

    assert [path.name.lower() for path in session.files] == ["image.nii.gz"]
    assert os.path.dirname(session.files[0]) == session.path


# Image ids.


@pytest.mark.parametrize(
    "image_id", ["ct_017", "a/b/c", "Röntgen 7", "患者/1", "a.b-c+d (2)", "a" * 200, "1.2.840.1", "a..b"]
)
def test_a_plain_relative_path_is_an_id(image_id: str) -> None:
    assert checked_id(image_id) == image_id


def test_an_id_is_kept_in_one_unicode_form() -> None:
    assert checked_id("Ro\u0308ntgen") == "R\u00f6ntgen"


@pytest.mark.parametrize(
    "image_id",
    ["", "/", "/x", "//x", "x/", "../x", "a/../b", "a/..", "..", ".", "./x", "a/./b", "a//b", ".x", "a/.x", "~/../x",
     "a\0b", "\0", "a\\b", "..\\x", "C:\\x", "a\nb", "a\rb", "a\tb", "a\x7fb", "a\x1b[31mb", "\u202eabc", "a\u200bb",
     "\ud800", "\ufdd0", "x" * 201, "ä" * 101, "/".join("x" * 150 for _ in range(10)), "a/" * 600 + "b"],
    ids=ascii,
)  # fmt: skip
def test_anything_else_is_refused(image_id: str) -> None:
    with pytest.raises(InvalidRequest, match=r"cannot be an image id\. Use letters, digits and signs"):
        checked_id(image_id)
