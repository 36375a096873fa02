"""What a DICOM file tells of its pixels before they are decoded: whether they are all there and can be read here."""

from __future__ import annotations

import os
import struct
from functools import lru_cache
from typing import IO, Any

from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from lib.errors import UnreadableImage

BITS_ALLOCATED = (1, 8, 16, 32, 64)
"""Bits of a pixel that there can be (PS3.5 section 8.1.1)."""

PIXEL_DATA = (0x7FE0, 0x0010)

UNDEFINED = 0xFFFFFFFF
"""Length of a value that is as long as it is (PS3.5 section 7.1.1)."""


def pixels_at(file: IO[bytes], header: Any) -> int | None:
    """Where the value of PixelData begins in a file that was read up to there (PS3.5 section 7.1).

    Returns:
        ``None`` if there is none, or the file is compressed as a whole. The file stands behind the begin of PixelData.
    """
    return found[0] if (found := _place(file, header)) is not None else None


def refuse_lacking_pixels(file: IO[bytes], header: Any, name: str) -> None:
    """Refuses pixels that are not all there, have impossible sizes, or are coded as nothing here decodes them.

    Only the twelve bytes behind the header are read. Whether compressed pixels are whole shows when they are decoded.

    Args:
        file: was read up to its pixels.
        header: what was read.
        name: of the file, for messages.

    Raises:
        UnreadableImage: with what was found.
    """
    bits = int(header.get("BitsAllocated") or 0)
    if bits not in BITS_ALLOCATED:
        raise UnreadableImage(
            f"{name} says that it has {bits} bits a pixel (BitsAllocated); there can be "
            f"{', '.join(map(str, BITS_ALLOCATED))}. Send it again."
        )
    syntax = UID(str(header.file_meta.get("TransferSyntaxUID") or ""))
    if not _is_decoded(syntax):
        raise UnreadableImage(
            f"{name} is compressed as nothing here can decode: {syntax.name} (transfer syntax {syntax}). Send it "
            "uncompressed."
        )
    if syntax == DeflatedExplicitVRLittleEndian:
        return
    place = _place(file, header)
    if place is None:
        raise UnreadableImage(f"{name} has no pixels (PixelData). Send it again.")
    begin, length = place
    if length == UNDEFINED or syntax.is_compressed:
        return
    pixels = int(header.Rows) * int(header.Columns) * int(header.get("NumberOfFrames") or 1)
    wanted = (pixels * bits + 7) // 8
    found = min(length, os.fstat(file.fileno()).st_size - begin)
    if found < wanted:
        raise UnreadableImage(
            f"{name} is cut off: its header promises {wanted} bytes of pixels, {found} are there. Send it again."
        )


def _place(file: IO[bytes], header: Any) -> tuple[int, int] | None:
    """Where the value of PixelData begins, and its length as it is told."""
    is_implicit, is_little = header.original_encoding
    order = "<" if is_little else ">"
    begin, head = file.tell(), file.read(12)
    is_there = len(head) == 12 and struct.unpack_from(f"{order}2H", head) == PIXEL_DATA
    if not is_there or header.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        return None
    length_at = 4 if is_implicit else 8
    return begin + length_at + 4, struct.unpack_from(f"{order}I", head, length_at)[0]


@lru_cache(maxsize=64)
def _is_decoded(syntax: UID) -> bool:
    """Whether something here decodes a transfer syntax; of a private one or none that shows when it is tried."""
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return not syntax or syntax.is_private
