"""Pictures (PNG, PGM, TIFF, BMP, JPEG) as grey pixels: mammograms are often handed on in these."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lib.errors import UnreadableImage

PICTURE_SUFFIXES = (".png", ".pgm", ".tiff", ".tif", ".bmp", ".jpeg", ".jpg")
"""File names that are read here; the content decides which of the formats it is."""

FORMATS = ("PNG", "PPM", "TIFF", "BMP", "JPEG")
"""Pillow's names of the formats."""

GREY_8, GREY_16 = ("1", "L", "LA"), ("I;16", "I;16B", "I;16L", "I")
COLOUR = ("P", "PA", "RGB", "RGBA", "RGBX")
"""Pillow's names of pixel types (its documentation, "Modes"); ``I`` is how it reads a 16 bit PGM."""

SCREEN_DPI = (72, 96)
"""What programs write when they know of no pixel size."""

PLAUSIBLE_EXTENT_MM = (20.0, 600.0)
"""The longer side of a radiograph; a resolution that makes it shorter or longer was not meant in earnest."""

UNKNOWN_MM = (1.0, 1.0)
"""Pixel edges that stand for unknown ones; no radiograph has such large pixels."""

Pixels = NDArray[Any]
Spacing = tuple[float, float]


def read_picture(path: Path) -> tuple[Pixels, Spacing]:
    """Reads a grey picture.

    Returns:
        uint8 or uint16 (I, J), I along the columns and J along the rows, bright as the file shows it; and the pixel
        edges along I and J in mm. They are 1 and 1 if the file does not tell them: lengths are pixels then. Values of
        a PGM file are stretched to the whole range of their 8 or 16 bits.

    Raises:
        UnreadableImage: if the file is damaged, coloured, has several pages, or no 8 or 16 bits a pixel.
    """
    with _opened(path) as picture:
        return np.ascontiguousarray(_grey(picture, path.name).T), _spacing_mm(picture)


def picture_size(path: Path) -> tuple[tuple[int, int], Spacing]:
    """Pixels along I and J, and their edges in mm, from the header.

    The pixels are looked at only where the header cannot tell that the picture is grey.

    Raises:
        UnreadableImage: as ``read_picture``, as far as the header tells; a PNG file is checked to its end.
    """
    with _opened(path) as picture:
        size, spacing_mm = picture.size, _spacing_mm(picture)
        if picture.mode in COLOUR:
            _grey(picture, path.name)
        elif picture.format == "PNG":
            picture.verify()
    return size, spacing_mm


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=FORMATS) as picture:
            _refuse_unfit(picture, path.name)
            yield picture
    except UnreadableImage:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImage(f"{path.name} is no readable picture, neither {', '.join(FORMATS)}.") from error
    # The readers raise whatever a damaged file makes them stumble over.
    except Exception as error:
        raise UnreadableImage(f"{path.name} cannot be read: {error}. Export the picture again.") from error


def _refuse_unfit(picture: Image.Image, name: str) -> None:
    pages = getattr(picture, "n_frames", 1)
    if pages != 1:
        raise UnreadableImage(f"{name} holds {pages} pages; wanted is one picture a file. Save each page by itself.")
    if picture.mode not in GREY_8 + GREY_16 + COLOUR:
        raise UnreadableImage(
            f"{name} holds pixels of the type {picture.mode!r}; wanted are 8 or 16 bits of grey. Export it as such."
        )


def _grey(picture: Image.Image, name: str) -> Pixels:
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


def _is_white_zero(picture: Image.Image) -> bool:
    """Whether a TIFF file counts from white to black, which Pillow puts right for 8 bits only."""
    photometric_interpretation = 262
    return picture.format == "TIFF" and getattr(picture, "tag_v2", {}).get(photometric_interpretation) == 0


def _spacing_mm(picture: Image.Image) -> Spacing:
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
