"""What kind of file begins with some bytes: a file must be what it is called."""

from __future__ import annotations

from lib.errors import UnreadableImage
from lib.opened import OpenFile

NEEDED_BYTES = 352
"""So many first bytes tell all kinds; NIfTI has its mark at 344."""

BEGINNINGS = {
    b"NRRD": "NRRD",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"PK\x03\x04": "ZIP",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"BM": "BMP",
    b"P2": "PGM",
    b"P5": "PGM",
    b"\x89HDF\r\n\x1a\n": "HDF5",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"ObjectType": "MetaImage",
    b"CDF": "NetCDF",
    b"GIF8": "GIF",
    b"RIFF": "RIFF",
    b"%PDF": "PDF",
    b"#!": "script",
    b"\x7fELF": "program",
}
"""The kinds that have their mark at the begin."""

MARKS = {(128, b"DICM"): "DICOM", (344, b"n+1\0"): "NIfTI", (4, b"n+2\0"): "NIfTI"}
"""Those that have it further behind."""

DETACHED = {(344, b"ni1\0"): "NIfTI header without voxels", (4, b"ni2\0"): "NIfTI header without voxels"}


def kind_of(first: bytes) -> str:
    """The kind of a file by its first 352 bytes, such as ``NRRD``; empty if it is none that is known here."""
    for (at, mark), kind in {**MARKS, **DETACHED}.items():
        if first[at:].startswith(mark):
            return kind
    return next((kind for begin, kind in BEGINNINGS.items() if first.startswith(begin)), "")


def refuse_other_kind(file: OpenFile, suffix: str, wanted: str) -> None:
    """Refuses a file that does not begin as its suffix says.

    Args:
        file: stands at its begin afterwards.
        suffix: what it is called, such as ``.nrrd``.
        wanted: the kind that this suffix stands for.

    Raises:
        UnreadableImage: with what was found.
    """
    first = file.first(NEEDED_BYTES)
    if not first:
        raise UnreadableImage(f"{file.name} is empty (0 bytes).")
    found = kind_of(first)
    if found == wanted:
        return
    what = f"begins like a {found} file" if found else f"begins with {first[:8]!r}"
    raise UnreadableImage(
        f"{file.name} is no readable image: it is called {suffix}, which is {wanted}, but {what}. Call it what it is, "
        "or export it again."
    )
