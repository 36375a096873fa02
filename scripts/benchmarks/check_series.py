"""Reads every DICOM series of a folder and compares voxels and place with what two others make of the same files.

SimpleITK (GDCM) sorts and places them by itself; beside it each pixel is placed as PS3.3 says, of what pydicom decodes.
NIfTI and NRRD files are read as the series derived from them, and as the file that clients are sent, by SimpleITK (ITK)
and, if it is NIfTI, by nibabel; with --drawn there are scans of pixels that are all different, tilted, mirrored and
enhanced. Ends with 1 on a difference.

Where SimpleITK is known to be wrong the reason stands in the last column and counts as no difference: it knows neither
sheared lattices (a tilted gantry), nor fractions behind a first slice without any, nor enhanced images whose frames
descend, and shows radiographs as stored. What is read by hand has no such excuse.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLACED = ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept")

SLICE_MM = 0.11
"""How far single slices may lie beside the even lattice: see ``lib.series.SIDEWAYS_TOLERANCE_MM``."""

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
        by_hand: whether each pixel lies where pydicom and the standard say; ``None``: a radiograph, which lies nowhere.
        note: why it was refused, or why SimpleITK reads something else.
    """

    name: str
    shape: str = ""
    equal: bool | None = None
    apart_mm: float = float("nan")
    note: str = ""
    by_hand: bool | None = None

    @property
    def differs(self) -> bool:
        """Whether it speaks against one of the readers."""
        if self.by_hand is False:
            return True
        return not self.note and (not self.equal or not self.apart_mm <= PLACE_MM)


def main(argv: list[str] | None = None) -> None:
    """Prints the table, the files that are no images, and one line of counts."""
    from scripts.benchmarks.common import parser

    options = parser("check_series", __doc__)
    options.add_argument("--drawn", action="store_true", help="draw scans instead of reading a folder")
    chosen = options.parse_args(argv)
    if not chosen.drawn and (chosen.dataset is None or not chosen.dataset.is_dir()):
        options.error("--dataset names the folder to read")

    from tqdm import tqdm

    from scripts.benchmarks.images_in import all_images, dicom_series, draw_scans, volume_files

    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as drawn:
        if chosen.drawn:
            chosen.dataset = Path(drawn)
            draw_scans(chosen.dataset)
        found = tqdm(all_images(chosen.dataset, Path(folder)), desc="images", unit="")
        rows = [_row(name, paths) for name, paths in found]
        files = tqdm(volume_files(chosen.dataset), desc="files as sent", unit="")
        rows += [
            row for path in files for row in _sent_rows(path.relative_to(chosen.dataset).as_posix(), path, Path(folder))
        ]
        others = dicom_series(chosen.dataset)[1]
    print("| series | shape | equal voxels | apart, mm | by hand | note |\n|---|---|---|---|---|---|")
    for row in rows:
        equal, apart = ("", "") if row.equal is None else (_yes(row.equal), f"{row.apart_mm:.1e}")
        by_hand = "" if row.by_hand is None else _yes(row.by_hand)
        print(f"| {row.name} | {row.shape} | {equal} | {apart} | {by_hand} | {row.note} |")
    for reason, names in others.items():
        print(f"{len(names)} x {reason} ({', '.join(names[:3])})")
    differing = sum(row.differs for row in rows)
    read = sum(bool(row.shape) for row in rows)
    print(f"{len(rows)} images: {read} read, {len(rows) - read} refused, {differing} differ.")
    if differing:
        raise SystemExit(1)


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"


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
    by_hand = None if slices[0].is_projection else _is_as_by_hand(volume, paths)
    try:
        other = _by_simpleitk(paths)
    except RuntimeError as error:
        return Row(name, shape, note=f"SimpleITK: {str(error).strip().splitlines()[-1]}", by_hand=by_hand)
    if other.voxels.shape != volume.voxels.shape:
        return Row(name, shape, False, note=_known_fault(volume, slices) or "", by_hand=by_hand)
    corners = np.array(np.meshgrid(*((0, size - 1) for size in volume.voxels.shape), [1])).reshape(4, -1)
    apart_mm = float(np.abs((volume.affine - other.affine) @ corners).max())
    equal = bool(np.array_equal(volume.voxels, other.voxels))
    is_same = equal and apart_mm <= PLACE_MM
    return Row(name, shape, equal, apart_mm, "" if is_same else _known_fault(volume, slices), by_hand)


def _is_as_by_hand(volume: Any, paths: list[Path]) -> bool:
    """Whether each slice has the pixels and the place that pydicom and PS3.3 section C.7.6.2.1.1 give some frame."""
    import numpy as np
    import pydicom

    from lib.geometry import LPS_FROM_RAS

    left = {}
    for path in paths:
        one: Any = pydicom.dcmread(path)
        for frame, pixels in enumerate(one.pixel_array.reshape(-1, one.Rows, one.Columns)):
            told = _told(one, frame)
            x, y = np.array(told["ImageOrientationPatient"], float).reshape(2, 3)
            rows_mm, columns_mm = map(float, told["PixelSpacing"])
            corners = [[0, 0], [one.Columns - 1, 0], [0, one.Rows - 1]]
            places = [
                np.array(told["ImagePositionPatient"], float) + x * columns_mm * column + y * rows_mm * row
                for column, row in corners
            ]
            left[path, frame] = (
                np.array(places),
                pixels * float(told.get("RescaleSlope") or 1) + float(told.get("RescaleIntercept") or 0),
            )
    lps = LPS_FROM_RAS @ volume.affine
    width, height, slices = volume.voxels.shape
    for k in range(slices):
        indices = np.array([[0, 0, k, 1], [width - 1, 0, k, 1], [0, height - 1, k, 1]])
        places = (indices @ lps.T)[:, :3]
        nearest = min(left, key=lambda key: np.abs(left[key][0] - places).max(), default=None)
        if nearest is None:
            return False
        corners_mm, values = left.pop(nearest)
        if np.abs(corners_mm - places).max() > SLICE_MM or not np.allclose(values.T, volume.voxels[:, :, k], atol=1e-6):
            return False
    return not left


def _told(one: Any, frame: int) -> dict[str, Any]:
    """What a file says of one of its frames, wherever it says it."""
    found = {keyword: one[keyword].value for keyword in PLACED if keyword in one}
    groups = [*(one.get("SharedFunctionalGroupsSequence") or ())]
    groups += [one.PerFrameFunctionalGroupsSequence[frame]] if "PerFrameFunctionalGroupsSequence" in one else []
    for group in groups:
        for element in group:
            for item in element.value if element.VR == "SQ" else ():
                found |= {keyword: item[keyword].value for keyword in PLACED if keyword in item}
    return found


def _sent_rows(name: str, path: Path, folder: Path) -> list[Row]:
    """What clients are sent of a file, by each reader."""
    import nibabel as nib
    import numpy as np
    import SimpleITK as sitk

    from lib.errors import UnreadableImage
    from lib.volume import Volume, has_one_meaning, read_volume, sent_suffix, suffix_of, write_sent

    try:
        volume = read_volume(path)
        if not has_one_meaning(path) or sent_suffix(volume.grid, suffix_of(path.name)) != suffix_of(path.name):
            path = folder / f"sent{sent_suffix(volume.grid, suffix_of(path.name))}"
            with path.open("wb") as file:
                write_sent(file, volume, suffix_of(path.name))
    except UnreadableImage as error:
        return [Row(f"{name} as sent", note=str(error))]
    found = {"SimpleITK": _volume(sitk.ReadImage(str(path)))}
    if path.suffix != ".nrrd":
        image: Any = nib.load(path)
        found["nibabel"] = Volume(np.asarray(image.dataobj), image.affine)
    return [_compared(f"{name} as sent, {reader}", volume, other) for reader, other in found.items()]


def _compared(name: str, volume: Any, other: Any) -> Row:
    import numpy as np

    from lib.geometry import farthest_mm

    equal = bool(np.array_equal(np.squeeze(volume.voxels), np.squeeze(other.voxels)))
    return Row(name, str(volume.grid), equal, farthest_mm(volume.affine, other.affine, volume.grid.shape))


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
    if slices[0].frame is not None and slices[0].position_mm > slices[-1].position_mm:
        return "frames descend along the normal of their plane, SimpleITK counts their places upwards"
    return "shown as its tables say" if slices[0].is_projection else ""


if __name__ == "__main__":
    main()
