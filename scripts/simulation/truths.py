"""Finds the true mask of an image by its name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from lib.volume import VOLUME_SUFFIXES, suffix_of


def truth_of(folder: Path, image_id: str, source: str | None = None) -> Path | None:
    """The mask whose path below ``folder``, without its suffix, is the image's.

    Args:
        folder: holds the true masks.
        image_id: path of the image without its suffix; may hold ``/``. A SeriesInstanceUID for DICOM.
        source: path of the image's file, or of the series' folder or one of its slices, if the server told.

    Returns:
        Path of the mask, or ``None`` if there is none; never a path outside the folder.
    """
    for name in (image_id, *_names(source or "")):
        for suffix in VOLUME_SUFFIXES:
            path = folder / f"{name}{suffix}"
            if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
                return path
    return None


def _names(source: str) -> Iterator[str]:
    """The source without its suffix, then the folders it lies in, from the inside out."""
    yield source.removesuffix(suffix_of(source))
    for parent in PurePosixPath(source).parents:
        yield parent.as_posix()
