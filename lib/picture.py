"""Pictures (PNG, PGM, TIFF, BMP, JPEG) as grey pixels: mammograms are often handed on in these."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile

from lib.errors import UnreadableImage
from lib.opened import OpenFile, Source, opened
from lib.room import refuse_too_large
from lib.signature import NEEDED_BYTES, kind_of

READERS: dict[str, tuple[str, type[ImageFile]]] = {
    ".png": ("PNG", PngImageFile), ".pgm": ("PGM", PpmImageFile), ".tiff": ("TIFF", TiffImageFile),
    ".tif": ("TIFF", TiffImageFile), ".bmp": ("BMP", BmpImageFile), ".jpeg": ("JPEG", JpegImageFile),
    ".jpg": ("JPEG", JpegImageFile),
}  # fmt: skip
"""The format that a suffix stands for, and what reads it."""

PICTURE_SUFFIXES = tuple(READERS)
"""File names that are read here; a picture must be of the format that it is called by."""

GREY_8, GREY_16 = ("1", "L", "LA"), ("I;16", "I;16B", "I;16L", "I")
COLOUR = ("P", "PA", "RGB", "RGBA", "RGBX")
"""Pillow's names of pixel types (its documentation, "Modes"); ``I`` is how it reads a 16 bit PGM."""

FORMATS = tuple(dict.fromkeys(name for name, _ in READERS.values()))

PIXEL_BYTES = 4
"""Room for a pixel while a picture is read: Pillow has 32 bits for a colour, and for some of 16 bits of grey."""

SCREEN_DPI = (72, 96)
"""What programs write when they know of no pixel size."""

PLAUSIBLE_EXTENT_MM = (20.0, 600.0)
"""The longer side of a radiograph; a resolution that makes it shorter or longer was not meant in earnest."""

UNKNOWN_MM = (1.0, 1.0)
"""Pixel edges that stand for unknown ones; no radiograph has such large pixels."""

Pixels = NDArray[Any]
Spacing = tuple[float, float]


def read_picture(source: Source) -> tuple[Pixels, Spacing]:
    """Reads a grey picture.

    Returns:
        uint8 or uint16 (I, J), I along the columns and J along the rows, bright as the file shows it; and the pixel
        edges along I and J in mm. They are 1 and 1 if the file does not tell them: lengths are pixels then. Values of
        a PGM file are stretched to the whole range of their 8 or 16 bits.

    Raises:
        UnreadableImage: if the file is damaged, coloured, has several pages, or no 8 or 16 bits a pixel.
    """
    with _opened(source) as picture:
        return np.ascontiguousarray(_grey(picture, source.name).T), _spacing_mm(picture)


def picture_size(source: Source) -> tuple[tuple[int, int], Spacing]:
    """Pixels along I and J, and their edges in mm, from the header.

    The pixels are looked at only where the header cannot tell that the picture is grey.

    Raises:
        UnreadableImage: as ``read_picture``, as far as the header tells; a PNG file is checked to its end.
    """
    with _opened(source) as picture:
        size, spacing_mm = picture.size, _spacing_mm(picture)
        if picture.mode in COLOUR:
            _grey(picture, source.name)
        elif picture.format == "PNG":
            picture.verify()
    return size, spacing_mm


@contextmanager
def _opened(source: Source) -> Iterator[ImageFile]:
    try:
        with opened(source) as file, _reader(file) as picture:
            _refuse_unfit(picture, file.name)
            yield picture
    except (UnreadableImage, MemoryError):
        raise
    # The readers raise whatever a damaged file makes them stumble over.
    except Exception as error:
        raise UnreadableImage(f"{source.name} cannot be read: {error}. Export the picture again.") from error


def _reader(file: OpenFile) -> ImageFile:
    """The picture, of which only the header is read so far."""
    suffix = Path(file.name).suffix.lower()
    wanted, reader = READERS[suffix]
    found = kind_of(file.first(NEEDED_BYTES))
    if not found:
        raise UnreadableImage(f"{file.name} is no readable picture, neither {', '.join(FORMATS)}.")
    if found != wanted:
        raise UnreadableImage(
            f"{file.name} is called {suffix}, which is {wanted}, but begins like a {found} file. Call it what it is, "
            "or export it again."
        )
    # Not by Pillow's own opening, which tries readers by content, and warns of sizes as the whole process was set to.
    return reader(file.file)


def _refuse_unfit(picture: ImageFile, name: str) -> None:
    refuse_too_large(picture.size, PIXEL_BYTES, name)
    pages = getattr(picture, "n_frames", 1)
    if pages != 1:
        raise UnreadableImage(f"{name} holds {pages} pages; wanted is one picture a file. Save each page by itself.")
    if picture.mode not in GREY_8 + GREY_16 + COLOUR:
        raise UnreadableImage(
            f"{name} holds pixels of the type {picture.mode!r}; wanted are 8 or 16 bits of grey. Export it as such."
        )


def _grey(picture: ImageFile, name: str) -> Pixels:
    """Pixels (rows, columns); a colour picture whose channels are alike is grey."""
    if picture.mode in COLOUR:
        channels = np.asarray(picture.convert("RGB"))
        if (channels != channels[:, :, :1]).any():
            raise UnreadableImage(f"{name} is a colour picture; wanted is one grey value a pixel. Export it as grey.")
        return channels[:, :, 0]
    if picture.mode in GREY_8:
        return np.asarray(picture.convert("L"))
    pixels = np.asarray(picture)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise UnreadableImage(f"{name} holds values from {pixels.min()} to {pixels.max()}; wanted are 16 bits of grey.")
    pixels = pixels.astype(np.uint16)
    return 65535 - pixels if _is_white_zero(picture) else pixels


def _is_white_zero(picture: ImageFile) -> bool:
    """Whether a TIFF file counts from white to black, which Pillow puts right for 8 bits only."""
    photometric_interpretation = 262
    return picture.format == "TIFF" and getattr(picture, "tag_v2", {}).get(photometric_interpretation) == 0


def _spacing_mm(picture: ImageFile) -> Spacing:
    """Pixel edges as a PNG or TIFF file tells them, or 1 mm; JPEG and BMP carry a resolution for printers only."""
    dpi = picture.info.get("dpi")
    if picture.format not in ("PNG", "TIFF") or dpi is None:
        return UNKNOWN_MM
    across, down = float(dpi[0]), float(dpi[1])
    if min(across, down) <= 0 or round(across) in SCREEN_DPI or round(down) in SCREEN_DPI:
        return UNKNOWN_MM
    spacing_mm = (25.4 / across, 25.4 / down)
    longest_mm = max(edge * pixels for edge, pixels in zip(spacing_mm, picture.size, strict=True))
    shortest, longest = PLAUSIBLE_EXTENT_MM
    return spacing_mm if shortest <= longest_mm <= longest else UNKNOWN_MM
