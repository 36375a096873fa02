"""ZIP and tar archives that lead out of their folder, point at other files, or unpack to much."""

from __future__ import annotations

import bz2
import io
import lzma
import struct
import tarfile
import zipfile
from collections.abc import Callable

from lib.store import layout
from scripts.benchmarks.hostile.packing import bomb, deflated, members
from scripts.benchmarks.hostile.reach import Chance, Reach, spoiled


def _name(chance: Chance, reach: Reach) -> str:
    """Of a member."""
    return chance.choice(["slice.dcm", "a/b/c.dcm", "image.nii", reach.path(chance), f"../../{reach.ran.name}",
    str(reach.ran),
                          "..", ".", "", "/", "a\\..\\..\\b", "C:\\x", "x" * 5000, "a\0b", layout.ABOUT_SESSION,
                          ".archive", "\u202e.dcm", "nul"])  # fmt: skip


def _content(chance: Chance, reach: Reach) -> bytes:
    sound = list(reach.objects.values()) or [b"x"]
    return chance.choice([chance.choice(sound), chance.choice(sound), b"", b"x", chance.randbytes(1000)])


def zipped(chance: Chance, reach: Reach) -> bytes:
    """A ZIP archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", chance.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as packed:
        for _ in range(chance.choice([1, 1, 3, 300])):
            member = zipfile.ZipInfo(_name(chance, reach) or "x")
            if member.filename in packed.NameToInfo:
                continue
            if chance.random() < 0.3:
                # A symbolic link, as Unix programs store one.
                member.external_attr = 0o120777 << 16
                packed.writestr(member, reach.path(chance))
            else:
                packed.writestr(member, _content(chance, reach))
    content = file.getvalue()
    return chance.choice([
        lambda: content,
        lambda: content,
        lambda: spoiled(content, chance),
        lambda: content[:-22] + chance.randbytes(22),
        lambda: content.replace(b"PK\x01\x02", b"PK\x01\x02", 1)[:-6] + struct.pack("<IH", chance.choice([0, 2**31]),
        0),
        lambda: _zip_bomb(chance.choice([100, 2200])),
        lambda: _zip_of(content),
    ])()  # fmt: skip


def _zip_of(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("inside.zip", content)
    return file.getvalue()


def _zip_bomb(mib: int) -> bytes:
    """One member of many zeros that says it has a byte."""
    packed, name = deflated(b"", mib), b"image.nii"
    sizes = struct.pack("<III", 0, len(packed), 1)
    local = b"PK\x03\x04" + struct.pack("<5H", 20, 0, 8, 0, 0) + sizes + struct.pack("<2H", len(name), 0) + name
    central = (
        b"PK\x01\x02"
        + struct.pack("<6H", 20, 20, 0, 8, 0, 0)
        + sizes
        + struct.pack("<5H2I", len(name), *[0] * 6)
        + name
    )
    at = len(local) + len(packed)
    return local + packed + central + b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, 1, 1, len(central), at, 0)


def tarred(chance: Chance, reach: Reach) -> bytes:
    """A tar archive, plain or packed."""
    file = io.BytesIO()
    kinds = [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE,
             tarfile.DIRTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE]  # fmt: skip
    with tarfile.open(fileobj=file, mode="w", format=chance.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])) as packed:
        for _ in range(chance.choice([1, 1, 2, 300])):
            member = tarfile.TarInfo(_name(chance, reach).replace("\0", "") or "x")
            member.type = chance.choice([tarfile.REGTYPE, chance.choice(kinds)])
            member.linkname = reach.path(chance)
            if member.type == tarfile.REGTYPE:
                content = _content(chance, reach)
                member.size = len(content)
                packed.addfile(member, io.BytesIO(content))
            else:
                packed.addfile(member)
    content = file.getvalue()
    return chance.choice([
        lambda: content,
        lambda: members(content),
        lambda: bz2.compress(content),
        lambda: lzma.compress(content, preset=0),
        lambda: spoiled(content, chance),
        lambda: members(spoiled(content, chance)),
        lambda: bomb(content, chance.choice([100, 2200])),
        lambda: bomb(_lying_header(), 100),
    ])()  # fmt: skip


def _lying_header() -> bytes:
    """Of a file of eight GiB."""
    member = tarfile.TarInfo("image.nii")
    member.size = 8 << 30
    return member.tobuf(tarfile.GNU_FORMAT)


ARCHIVES: dict[str, Callable[[Chance, Reach], bytes]] = {
    ".zip": zipped,
    ".tar": tarred,
    ".tar.gz": tarred,
    ".tgz": tarred,
}
"""By the suffix of their names."""
