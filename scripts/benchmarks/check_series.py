"""Reads every DICOM series of a folder and compares voxels and place with what SimpleITK (GDCM) reads by itself.

NIfTI and NRRD files are read as the series derived from them. Ends with 1 on a difference.

Where SimpleITK is known to be wrong the reason stands in the last column and counts as no difference: it knows neither
sheared lattices (a tilted gantry) nor fractions behind a first slice without any, and shows radiographs as stored.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLACE_MM = 1e-2
"""How far the corners may lie apart: SimpleITK takes the distance of the slices from two of them."""


@dataclass(frozen=True)
class Row:
    """One image.

    Attributes:
        name: where it lies.
        shape: voxels, with their edges in mm; empty if it was refused.
        equal: whether the voxels are; ``None``: there is nothing to compare.
        apart_mm: the largest distance between corners.
        note: why it was refused, or why SimpleITK reads something else.
    """

    name: str
    shape: str = ""
    equal: bool | None = None
    apart_mm: float = float("nan")
    note: str = ""

    @property
    def differs(self) -> bool:
        """Whether it speaks against one of the two readers."""
        return not self.note and (not self.equal or not self.apart_mm <= PLACE_MM)


def main(argv: list[str] | None = None) -> None:
    """Prints the table, the files that are no images, and one line of counts."""
    from scripts.benchmarks.common import parser

    options = parser("check_series", __doc__)
    chosen = options.parse_args(argv)
    if chosen.dataset is None or not chosen.dataset.is_dir():
        options.error("--dataset names the folder to read")

    from tqdm import tqdm

    from scripts.benchmarks.images_in import all_images, dicom_series

    with tempfile.TemporaryDirectory() as folder:
        found = tqdm(all_images(chosen.dataset, Path(folder)), desc="images", unit="")
        rows = [_row(name, paths) for name, paths in found]
    print("| series | shape | equal voxels | apart, mm | note |\n|---|---|---|---|---|")
    for row in rows:
        equal, apart = ("", "") if row.equal is None else ("yes" if row.equal else "no", f"{row.apart_mm:.1e}")
        print(f"| {row.name} | {row.shape} | {equal} | {apart} | {row.note} |")
    for reason, names in dicom_series(chosen.dataset)[1].items():
        print(f"{len(names)} x {reason} ({', '.join(names[:3])})")
    differing = sum(row.differs for row in rows)
    read = sum(bool(row.shape) for row in rows)
    print(f"{len(rows)} images: {read} read, {len(rows) - read} refused, {differing} differ from SimpleITK.")
    if differing:
        raise SystemExit(1)


def _row(name: str, paths: list[Path]) -> Row:
    import numpy as np

    from lib.errors import UnreadableImage
    from lib.series import read_headers, read_series

    if not paths:
        return Row(*name.split(": ", 1)[:1], note=name.split(": ", 1)[1])
    try:
        volume, slices = read_series(paths), read_headers(paths)
    except UnreadableImage as error:
        return Row(name, note=str(error))
    shape = str(volume.grid)
    try:
        other = _by_simpleitk(paths)
    except RuntimeError as error:
        return Row(name, shape, note=f"SimpleITK: {str(error).strip().splitlines()[-1]}")
    if other.voxels.shape != volume.voxels.shape:
        return Row(name, shape, False, note=_known_fault(volume, slices) or "")
    corners = np.array(np.meshgrid(*((0, size - 1) for size in volume.voxels.shape), [1])).reshape(4, -1)
    apart_mm = float(np.abs((volume.affine - other.affine) @ corners).max())
    equal = bool(np.array_equal(volume.voxels, other.voxels))
    is_same = equal and apart_mm <= PLACE_MM
    return Row(name, shape, equal, apart_mm, "" if is_same else _known_fault(volume, slices))


def _by_simpleitk(paths: list[Path]) -> Any:
    """The volume as SimpleITK sorts and places the same files."""
    import SimpleITK as sitk

    with tempfile.TemporaryDirectory() as folder:
        for number, path in enumerate(paths):
            (Path(folder) / f"{number}.dcm").symlink_to(path.absolute())
        reader = sitk.ImageSeriesReader()
        names = reader.GetGDCMSeriesFileNames(folder)
        if len(names) < 2:
            return _volume(sitk.ReadImage(str(paths[0])))
        reader.SetFileNames(names)
        return _volume(reader.Execute())


def _volume(image: Any) -> Any:
    """A SimpleITK image of three axes as a volume."""
    import numpy as np
    import SimpleITK as sitk

    from lib.geometry import LPS_FROM_RAS
    from lib.volume import Volume

    lps = np.eye(4)
    lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    lps[:3, 3] = image.GetOrigin()
    return Volume(sitk.GetArrayFromImage(image).T, LPS_FROM_RAS @ lps)


def _known_fault(volume: Any, slices: list[Any]) -> str:
    """Why SimpleITK reads something else, or an empty text."""
    import numpy as np

    axes = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    if np.abs(np.cross(axes[:, 0], axes[:, 1]) @ axes[:, 2]) < 1 - 1e-6:
        return "slices drift sideways, which SimpleITK has no lattice for"
    if len({one.rescale for one in slices}) > 1:
        return "each slice has its own rescale, SimpleITK takes the type of the first"
    return "shown as its tables say" if slices[0].is_projection else ""


if __name__ == "__main__":
    main()
