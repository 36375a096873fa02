"""What compressed objects claim, looked at before a decoder makes room for it."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

from pydicom.encaps import generate_frames
from pydicom.filereader import read_dataset, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian

from lib.errors import TooLarge, UnreadableImage

JPEG, JPEG_2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"
"""How frames of JPEG or JPEG-LS, and those of JPEG 2000, begin."""

SIZES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG (ITU-T T.81 table B.1) and JPEG-LS behind which the size of the picture stands."""

MOST_TIMES = 2
"""A compressed frame is not larger than so many times its pixels; RLE that only repeats itself reaches that."""

HEAD_BYTES = 1 << 16
"""Room for what stands around the pixels of a compressed frame."""

PIECE_BYTES = 1 << 20


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
    for number, frame in enumerate(frames, start=1):
        claimed = _claimed_size(frame) or (rows, columns)
        if claimed != (rows, columns) or len(frame) > most_bytes:
            raise UnreadableImage(
                f"The compressed frame {number} has {len(frame)} bytes for {claimed[1]}x{claimed[0]} pixels, the "
                f"object says that it has {columns}x{rows}: it is damaged."
            )


def _claimed_size(frame: bytes) -> tuple[int, int] | None:
    """Rows and columns of a frame as it tells itself; ``None`` if it does not."""
    if frame.startswith(JPEG_2000):
        # XSiz, YSiz, XOSiz, YOSiz (ITU-T T.800 section A.5.1).
        right, below, left, above = struct.unpack_from(">4I", frame, 8)
        return below - above, right - left
    at = len(JPEG)
    while frame.startswith(JPEG) and frame[at] == 0xFF:
        marker, length = frame[at + 1], int.from_bytes(frame[at + 2 : at + 4], "big")
        if marker in SIZES:
            rows, columns = struct.unpack_from(">2H", frame, at + 5)
            return rows, columns
        # Any number of bytes FF may stand before a marker.
        at += 1 if marker == 0xFF else 2 + length
    return None


def refuse_large_when_inflated(path: Path, most_bytes: int) -> None:
    """Refuses a file that is compressed as a whole and has more bytes than that when it is not.

    Raises:
        TooLarge: if it has.
        InvalidDicomError: if it is no DICOM.
    """
    with path.open("rb") as file:
        read_preamble(file, force=False)
        meta = read_dataset(
            file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, vr, length: tag.group != 2
        )
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return
        inflater, room = zlib.decompressobj(-zlib.MAX_WBITS), most_bytes
        while not inflater.eof and (piece := inflater.unconsumed_tail or file.read(PIECE_BYTES)):
            room -= len(inflater.decompress(piece, PIECE_BYTES))
            if room < 0:
                raise TooLarge(f"A part of the body has more than {most_bytes >> 20} MiB when it is decompressed.")
