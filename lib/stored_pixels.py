"""The pixels of a DICOM file: what it tells of them before they are decoded, and their stored values."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from lib.compressed import refuse_other_encapsulation, refuse_other_size
from lib.dataset import read_dataset
from lib.errors import UnreadableImage
from lib.opened import OpenFile

PLAIN = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
"""Transfer syntaxes in which pixels lie in the file as they lie in memory."""

BITS_ALLOCATED = (1, 8, 16, 32, 64)
"""Bits of a pixel that there can be (PS3.5 section 8.1.1)."""

PIXEL_DATA = (0x7FE0, 0x0010)


def pixels_at(file: IO[bytes], header: Any) -> int | None:
    """Where the value of PixelData begins in a file that was read up to there (PS3.5 section 7.1).

    Returns:
        ``None`` if there is none, or the file is compressed as a whole. The file stands behind the begin of PixelData.
    """
    return found[0] if (found := _place(file, header)) is not None else None


def refuse_lacking_pixels(file: IO[bytes], header: Any, name: str) -> None:
    """Refuses pixels that are not all there, have impossible sizes, or are coded as nothing here decodes them.

    Only the sixteen bytes behind the header are read. Whether compressed pixels are whole shows when they are decoded.

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
    used = int(header.get("BitsStored") or bits)
    if not 1 <= used <= bits:
        raise UnreadableImage(f"{name} says that {used} of {bits} bits are used, which cannot be. Send it again.")
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
    pixels = int(header.Rows) * int(header.Columns) * int(header.get("NumberOfFrames") or 1)
    wanted = (pixels * bits + 7) // 8
    if not syntax.is_private:
        file.seek(begin)
        refuse_other_encapsulation(file.read(4), length, wanted, syntax, name)
    if syntax.is_compressed:
        return
    found = min(length, file.seek(0, io.SEEK_END) - begin)
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


def stored_type(header: Any) -> np.dtype[Any]:
    """The type of stored values: that of BitsAllocated, with a sign if PixelRepresentation says so."""
    kind = "i" if int(header.get("PixelRepresentation") or 0) else "u"
    bits = int(header.get("BitsAllocated") or 16)
    return np.dtype(f"{kind}{max(bits // 8, 1) if bits in BITS_ALLOCATED else 8}")


def stored_frames(file: OpenFile, frames: Sequence[int]) -> tuple[Any, Iterator[NDArray[Any]]]:
    """Stored values of frames; bits beside those of the value, in which older scanners kept overlays, are left out.

    Args:
        file: an image of one value a pixel.
        frames: their numbers, from 1.

    Returns:
        The dataset, which may lack its pixels, and (rows, columns) for each frame, as long as the file stays open.

    Raises:
        UnreadableImage: if frames claim another size than the object, or cannot be decoded.
        Exception: whatever pydicom stumbles over.
    """
    header = read_dataset(file, with_pixels=False)
    kind = stored_type(header)
    begin = pixels_at(file.file, header)
    if begin is not None and header.file_meta.get("TransferSyntaxUID") in PLAIN and header.BitsAllocated in (8, 16, 32):
        return header, (_plain_frame(file, header, begin, frame - 1, kind.newbyteorder("<")) for frame in frames)
    dataset = read_dataset(file)
    for keyword, usual in _usual(dataset).items():
        if dataset.get(keyword) in (None, ""):
            setattr(dataset, keyword, usual)
    refuse_other_size(dataset)
    decoded = decoded_frames(dataset, [frame - 1 for frame in frames], file.name)
    return dataset, (_without_other_bits(pixels, header) for pixels in decoded)


def decoded_frames(dataset: Any, indices: Sequence[int], what: str) -> Iterator[NDArray[Any]]:
    """Frames (rows, columns) of a dataset by their indices, from 0.

    Raises:
        UnreadableImage: if a decoder stumbles over them; what it says of itself helps nobody.
    """
    try:
        yield from iter_pixels(dataset, indices=list(indices), raw=True)
    except MemoryError:
        raise
    # The decoders raise whatever damaged pixels make them stumble over.
    except Exception as error:
        raise UnreadableImage(
            f"{what} has pixels that cannot be decoded as {dataset.file_meta.TransferSyntaxUID.name}: they are "
            "damaged, or of another kind. Send it again."
        ) from error


def _usual(header: Any) -> dict[str, Any]:
    """What a grey image means that leaves it out, whatever its transfer syntax; decoders ask for each."""
    return {
        "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "PixelRepresentation": 0,
        "BitsStored": header.BitsAllocated,
    }  # fmt: skip


def _plain_frame(file: OpenFile, header: Any, begin: int, index: int, kind: np.dtype[Any]) -> NDArray[Any]:
    rows, columns = int(header.Rows), int(header.Columns)
    length = rows * columns * kind.itemsize
    file.file.seek(begin + index * length)
    return _without_other_bits(np.frombuffer(file.file.read(length), kind).reshape(rows, columns), header)


def _without_other_bits(pixels: NDArray[Any], header: Any) -> NDArray[Any]:
    """Stored values without the bits beside them, which decoders of JPEG leave where they are."""
    spare = 8 * pixels.itemsize - int(header.get("BitsStored") or header.BitsAllocated)
    is_whole = 8 * pixels.itemsize == int(header.BitsAllocated)
    # HighBit says where they end, and is one less by the standard; no reader looks at it.
    return (pixels << spare) >> spare if is_whole and spare else pixels
