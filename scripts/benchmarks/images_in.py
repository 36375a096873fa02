"""The images of a folder, whatever their names: DICOM series, and volume files as the series derived from them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


def dicom_series(folder: Path) -> tuple[dict[str, list[Path]], dict[str, list[str]]]:
    """The files of each image by its id, and the names of the files that are none by the reason."""
    from lib.errors import UnreadableImage
    from lib.series import looks_like_dicom, read_header

    images: dict[str, list[Path]] = {}
    others: dict[str, list[str]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and looks_like_dicom(path)):
        try:
            images.setdefault(read_header(path).image_id, []).append(path)
        except UnreadableImage as error:
            others.setdefault(str(error).replace(path.name, "It"), []).append(path.relative_to(folder).as_posix())
    return images, others


def volume_files(folder: Path) -> list[Path]:
    """NIfTI and NRRD files."""
    from lib.volume import VOLUME_SUFFIXES, suffix_of

    return sorted(path for path in folder.rglob("*") if path.is_file() and suffix_of(path.name) in VOLUME_SUFFIXES)


def derived(path: Path, folder: Path, modality: str = "OT") -> list[Path]:
    """Writes a volume file as a DICOM series into a folder, and returns its files.

    Raises:
        UnreadableImage: if it is no grey volume.
    """
    from lib.dicom.derived import DerivedSeries
    from lib.volume import read_volume

    volume = read_volume(path)
    DerivedSeries(path.name, "patient", modality, volume.grid, NOON).write(folder, volume)
    return sorted(folder.iterdir())


def all_images(folder: Path, work: Path) -> Iterator[tuple[str, list[Path]]]:
    """Every image with a name: its path below the folder; derived series are written below ``work``."""
    from lib.errors import UnreadableImage

    for paths in dicom_series(folder)[0].values():
        parent = paths[0].relative_to(folder).parent.as_posix()
        yield (paths[0].relative_to(folder).as_posix() if len(paths) == 1 else parent), paths
    for number, path in enumerate(volume_files(folder)):
        target = work / str(number)
        target.mkdir()
        try:
            yield path.relative_to(folder).as_posix(), derived(path, target)
        except UnreadableImage as error:
            yield f"{path.relative_to(folder).as_posix()}: {error}", []


DRAWN = {
    "axial": ("LPS", (0, 0, 0), 0.0), "columns mirrored": ("LAS", (0, 0, 0), 0.0),
    "rows mirrored": ("RPS", (0, 0, 0), 0.0), "sagittal": ("PIL", (0, 0, 0), 0.0), "coronal": ("LIP", (0, 0, 0), 0.0),
    "oblique": ("LPS", (8, -5, 11), 0.0), "gantry": ("LPS", (0, 0, 0), 0.364),
    "gantry, mirrored and oblique": ("LAS", (8, -5, 11), -0.364),
}  # fmt: skip
"""Where I, J and K point to, how the patient is turned in degrees, and how far slices lie sideways a mm further on."""


def draw_scans(folder: Path) -> None:
    """Writes each of the drawn scans as slices and as one enhanced file; no two of its pixels are alike."""
    import numpy as np
    import pydicom

    from lib.phantoms.dicom_series import write_dicom_series, write_enhanced_series
    from lib.phantoms.scanner import oriented_grid

    for number, (name, (orientation, turned, lean)) in enumerate(DRAWN.items()):
        shape, affine = oriented_grid(orientation, (13, 9, 6), (0.7, 1.3, 5.0), (12.0, -34.0, 567.8), turned)
        pixels = np.random.default_rng(number).permutation(np.prod(shape)).reshape(shape).astype(np.int16) - 1000
        write_dicom_series(folder / name, pixels, affine, patient_id=f"slices {number}", seed=1)
        write_enhanced_series(folder / f"{name}.dcm", pixels, affine, patient_id=f"frames {number}", seed=1)
        sideways = np.array([-1, -1, 1]) * affine[:3, 1] / np.linalg.norm(affine[:3, 1]) * 5.0 * lean
        paths = sorted((folder / name).iterdir())
        slices, frames = [pydicom.dcmread(path) for path in paths], pydicom.dcmread(folder / f"{name}.dcm")
        for places in (slices, [one.PlanePositionSequence[0] for one in frames.PerFrameFunctionalGroupsSequence]):
            for k, place in enumerate(places):
                moved = np.array(place.ImagePositionPatient, float) + k * sideways
                place.ImagePositionPatient = [f"{value:.9g}" for value in moved]
        frames.save_as(folder / f"{name}.dcm")
        for path, one in zip(paths, slices, strict=True):
            one.save_as(path)
