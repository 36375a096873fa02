"""What compressed objects claim, looked at before a decoder makes room for it."""

from __future__ import annotations

import struct
import zlib
from typing import Any

from pydicom.encaps import generate_frames
from pydicom.filereader import read_dataset, read_preamble
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, RLELossless

from lib.errors import TooLarge, UnreadableImage
from lib.opened import OpenFile, Source, opened

JPEG, JPEG_2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"
"""How frames of JPEG or JPEG-LS, and those of JPEG 2000, begin."""

BOX = b"\0\0\0\x0cjP  \r\n\x87\n"
"""How a file of JPEG 2000 begins, which some send instead of the frame in it."""

SIZES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG (ITU-T T.81 table B.1) and JPEG-LS behind which the size of the picture stands."""

MOST_TIMES = 2
"""A compressed frame is not larger than so many times its pixels; RLE that only repeats itself reaches that."""

HEAD_BYTES = 1 << 16
"""Room for what stands around the pixels of a compressed frame."""

PIECE_BYTES = 1 << 20

ITEM = b"\xfe\xff\x00\xe0"
"""How encapsulated pixels begin (PS3.5 section A.4)."""

UNDEFINED = 0xFFFFFFFF
"""Length of a value that is as long as it is (PS3.5 section 7.1.1)."""


def refuse_other_encapsulation(begin: bytes, length: int, wanted: int, syntax: UID, what: str) -> None:
    """Refuses pixels that are encapsulated where the transfer syntax says that they are not, or the other way round.

    Readers take the heads of the fragments for pixels then, and say nothing.

    Args:
        begin: the first bytes of the pixels.
        length: how many there are, or ``UNDEFINED``.
        wanted: how many there are without compression.
        syntax: the transfer syntax.
        what: to call the object in the message.

    Raises:
        UnreadableImage: with what was found.
    """
    is_packed = begin.startswith(ITEM)
    if syntax.is_encapsulated and not is_packed:
        raise UnreadableImage(
            f"{what} says that its pixels are compressed ({syntax.name}), but they do not begin as compressed ones do. "
            "Write it again with the transfer syntax that it has."
        )
    is_plain = length != UNDEFINED and (not is_packed or length in (wanted, wanted + wanted % 2))
    if not syntax.is_encapsulated and not is_plain:
        raise UnreadableImage(
            f"{what} says that its pixels are not compressed ({syntax.name}), but they lie in fragments as compressed "
            "ones do. Some programs write this by mistake, among them OHIF 3.12 before its release, and others read "
            "something else in it: write it again with another version."
        )


def refuse_other_size(dataset: Any) -> None:
    """Refuses compressed frames that claim another size than their object, or could not be those of its size.

    Args:
        dataset: with PixelData.

    Raises:
        UnreadableImage: with what was found.
    """
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    most_bytes = HEAD_BYTES + MOST_TIMES * rows * columns * int(dataset.BitsAllocated) // 8
    frames = generate_frames(dataset.PixelData, number_of_frames=int(dataset.get("NumberOfFrames") or 1))
    is_silent = dataset.file_meta.TransferSyntaxUID == RLELossless
    for number, frame in enumerate(frames, start=1):
        claimed = (rows, columns, 1) if is_silent else _claimed_size(frame)
        if claimed is None:
            raise UnreadableImage(
                f"The compressed frame {number} begins with {frame[:8]!r} and does not tell its size as JPEG, JPEG-LS "
                "and JPEG 2000 do: it is damaged."
            )
        if claimed[2] != 1:
            raise UnreadableImage(f"The compressed frame {number} has {claimed[2]} values a pixel; wanted is one.")
        if claimed[:2] != (rows, columns) or len(frame) > most_bytes:
            raise UnreadableImage(
                f"The compressed frame {number} has {len(frame)} bytes for {claimed[1]}x{claimed[0]} pixels, the "
                f"object says that it has {columns}x{rows}: it is damaged."
            )


def _claimed_size(frame: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and values of a pixel of a frame as it tells itself; ``None`` if it does not."""
    try:
        if frame.startswith(BOX):
            frame = frame[frame.index(JPEG_2000) :]
        if frame.startswith(JPEG_2000):
            # XSiz, YSiz, XOSiz, YOSiz and, behind four numbers about tiles, Csiz (ITU-T T.800 section A.5.1).
            right, below, left, above = struct.unpack_from(">4I", frame, 8)
            return below - above, right - left, struct.unpack_from(">H", frame, 40)[0]
        return _claimed_by_jpeg(frame) if frame.startswith(JPEG) else None
    # It ends before it has said it.
    except (struct.error, ValueError, IndexError):
        return None


def _claimed_by_jpeg(frame: bytes) -> tuple[int, int, int] | None:
    at = len(JPEG)
    while frame[at] == 0xFF:
        marker, length = frame[at + 1], int.from_bytes(frame[at + 2 : at + 4], "big")
        if marker in SIZES:
            rows, columns, values = struct.unpack_from(">2HB", frame, at + 5)
            return rows, columns, values
        # Any number of bytes FF may stand before a marker.
        at += 1 if marker == 0xFF else 2 + length
    return None


def refuse_large_when_inflated(source: Source, most_bytes: int) -> None:
    """Refuses a file that is compressed as a whole and has more bytes than that when it is not.

    Raises:
        TooLarge: if it has.
        InvalidDicomError: if it is no DICOM.
    """
    with opened(source) as file:
        if is_larger_when_inflated(file, most_bytes):
            raise TooLarge(f"A part of the body has more than {most_bytes >> 20} MiB when it is decompressed.")


def is_larger_when_inflated(file: OpenFile, most_bytes: int) -> bool:
    """Whether a DICOM file is compressed as a whole and has more bytes than that when it is not.

    Raises:
        InvalidDicomError: if it is no DICOM.
    """
    file.file.seek(0)
    read_preamble(file.file, force=False)
    meta = read_dataset(
        file.file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, vr, length: tag.group != 2
    )
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return False
    inflater, room = zlib.decompressobj(-zlib.MAX_WBITS), most_bytes
    while not inflater.eof and (piece := inflater.unconsumed_tail or file.file.read(PIECE_BYTES)):
        room -= len(inflater.decompress(piece, PIECE_BYTES))
        if room < 0:
            return True
    return False
