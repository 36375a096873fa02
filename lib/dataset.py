"""A DICOM file as a dataset: read from the open file alone, and never larger than this machine can take."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError

from lib import room
from lib.compressed import is_larger_when_inflated
from lib.errors import UnreadableImage
from lib.opened import Source, opened

LONGEST_REASON = 300
"""Letters of what a library says that are repeated."""


def reason_of(error: Exception) -> str:
    """What a reader of DICOM stumbled over, in one line without a full stop.

    Its own words stand in quotes, and only where there are no better ones.
    """
    if isinstance(error, AttributeError) and isinstance(error.obj, pydicom.Dataset):
        return f"it lacks {error.name}"
    if isinstance(error, InvalidDicomError):
        return "the letters DICM do not stand behind its first 128 bytes"
    if isinstance(error, EOFError | struct.error | BytesLengthException):
        return "it ends within an attribute, or one is shorter than it says"
    said = " ".join(str(error).split())[:LONGEST_REASON].rstrip(".")
    return f"its reader says {said!r}" if said else f"its reader stumbles ({type(error).__name__})"


def read_dataset(source: Source, *, with_pixels: bool = True, tags: Sequence[str] | None = None) -> Any:
    """Reads a DICOM file.

    Args:
        source: an open file stands behind what was read afterwards: without pixels, where they begin.
        with_pixels: whether to read them, too.
        tags: keywords of the attributes that are wanted; ``None``: all.

    Raises:
        UnreadableImage: if it is compressed as a whole and would take more than this machine can give.
        Exception: whatever pydicom stumbles over in a damaged file.
    """
    with opened(source) as file:
        # pydicom inflates such a file in one piece, whatever is asked of it.
        if is_larger_when_inflated(file, room.MOST_VOXEL_BYTES):
            raise UnreadableImage(
                f"{file.name} has more than {room.MOST_VOXEL_BYTES >> 20} MiB when it is decompressed, which is more "
                "than this machine takes. Send it uncompressed, or in parts."
            )
        file.file.seek(0)
        wanted = None if tags is None else list(tags)
        return pydicom.dcmread(file.file, stop_before_pixels=not with_pixels, specific_tags=wanted)
