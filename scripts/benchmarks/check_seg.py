"""Writes masks as DICOM segmentations and contours on every image of a folder and reads them back, voxel by voxel.

Reads every segmentation and structure set that lies there, too. highdicom reads what was written as well, slice by
slice. Ends with 1 if a mask comes back changed.

Images: DICOM series, and NIfTI and NRRD files as the series derived from them, one of each lattice. Masks: three blobs
drawn by --seed, of which all or only the one with the value 2 are there, one voxel, none, and 255 structures in one
slice; as BINARY, as LABELMAP and as contours (radiographs have none). The slices are given in ascending order to the
writer and in descending order to the reader.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOBS = ("one", "two", "three")


def main(argv: list[str] | None = None) -> None:
    """Prints one line for each image and object, and one of counts."""
    from scripts.benchmarks.common import parser

    options = parser("check_seg", __doc__)
    options.add_argument("--images", type=Path, metavar="DIR", help="more images that objects may refer to")
    options.add_argument("--drawn", action="store_true", help="draw scans instead of reading a folder")
    chosen = options.parse_args(argv)
    if not chosen.drawn and (chosen.dataset is None or not chosen.dataset.is_dir()):
        options.error("--dataset names the folder to read")

    from tqdm import tqdm

    from scripts.benchmarks.images_in import all_images, dicom_series, draw_scans

    done = changed = 0
    seen: set[str] = set()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as drawn:
        if chosen.drawn:
            chosen.dataset = Path(drawn)
            draw_scans(chosen.dataset)
        for name, paths in tqdm(all_images(chosen.dataset, Path(folder)), desc="images", unit=""):
            for kind, wrong in _round_trips(paths, chosen.seed, seen):
                done, changed = done + 1, changed + bool(wrong)
                if wrong:
                    print(f"{name}: {kind}: {wrong}")
        images = dicom_series(chosen.dataset)[0]
        if chosen.images:
            images |= dicom_series(chosen.images)[0]
        objects = [(path, _read(path, images)) for path in _objects(chosen.dataset)]
    for path, told in objects:
        print(f"{path.relative_to(chosen.dataset).as_posix()}: {told}")
    print(f"{done} round trips, {changed} changed; {len(objects)} objects read or refused.")
    if changed:
        raise SystemExit(1)


def _round_trips(paths: list[Path], seed: int, seen: set[str]) -> Iterator[tuple[str, str]]:
    """What was tried on one image, and what went wrong with it; nothing for no image, or a lattice seen already."""
    from lib.dicom.source import read_source
    from lib.errors import LabelRefineryError

    try:
        series, reverse = read_source(paths), read_source(paths[::-1])
    except (LabelRefineryError, IndexError):
        return
    files = "slices" if series.slices[0].frame is None else "frames"
    lattice = f"{files} {series.grid} {series.grid.affine.round(3).tolist()}"
    if lattice in seen:
        return
    seen.add(lattice)
    for name, mask, task in _masks(series.grid.shape, seed):
        for kind, write in _ways(series.is_projection).items():
            try:
                yield f"{name}, {kind}", _difference(mask, task, series, reverse, write)
            except LabelRefineryError as error:
                yield f"{name}, {kind}", str(error)


def _masks(shape: tuple[int, int, int], seed: int) -> Iterator[tuple[str, Any, Any]]:
    """Name, mask and task of each kind of mask."""
    import numpy as np

    from lib.task import Task, numbered

    three = Task("blobs", "", numbered(BLOBS))
    blobs, random = np.zeros(shape, np.uint8), np.random.default_rng(seed)
    places = np.ogrid[tuple(slice(size) for size in shape)]
    for value in (1, 2, 3):
        centre, radii = random.random(3) * shape, 1 + random.random(3) * np.array(shape) / 5
        blobs[sum(((at - c) / r) ** 2 for at, c, r in zip(places, centre, radii, strict=True)) <= 1] = value
    blobs[(0, 0, 0)], blobs[tuple(size - 1 for size in shape)] = 2, 3
    yield "three blobs", blobs, three
    yield "only the value 2", np.where(blobs == 2, blobs, 0).astype(np.uint8), three
    one = np.zeros(shape, np.uint8)
    one[tuple(random.integers(0, shape))] = 2
    yield "one voxel", one, three
    yield "no voxel", np.zeros(shape, np.uint8), three
    many = np.zeros(shape, np.uint8)
    corner = many[:16, :16, shape[2] // 2]
    corner[...] = np.resize(np.arange(256), corner.shape)
    yield "255 structures", many, Task("many", "", numbered(f"s{value}" for value in range(1, 256)))


def _ways(is_projection: bool) -> dict[str, Any]:
    from functools import partial

    from lib.dicom.segmentation import write_segmentation
    from lib.dicom.structure_set import write_structure_set

    ways = {kind: partial(write_segmentation, kind=kind) for kind in ("BINARY", "LABELMAP")}
    return ways if is_projection else {**ways, "contours": write_structure_set}


def _difference(mask: Any, task: Any, here: Any, there: Any, write: Any) -> str:
    """What comes back changed from a file; an empty text if nothing does."""
    import io

    from lib.dicom.drawn import read_drawn
    from lib.dicom.provenance import Provenance

    provenance = Provenance("check", "check", dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "check")
    file = io.BytesIO()
    write(mask, task, here, provenance).save_as(file)
    found, looked_at = read_drawn(file.getvalue(), there, task)
    if looked_at != tuple(task.values):
        return f"looked at {looked_at}"
    wrong = int((found != mask).sum())
    if wrong:
        return f"{wrong} of {mask.size} voxels"
    return "" if here.is_projection else _difference_to_highdicom(file.getvalue(), mask, task, there)


def _difference_to_highdicom(content: bytes, mask: Any, task: Any, series: Any) -> str:
    """What highdicom reads otherwise in a segmentation that was written here; it knows no contours."""
    import io

    import highdicom as hd
    import numpy as np
    import pydicom

    dataset = pydicom.dcmread(io.BytesIO(content))
    if "SegmentSequence" not in dataset:
        return ""
    read = hd.seg.Segmentation.from_dataset(dataset, copy=False)
    options: dict[str, Any] = {"ignore_spatial_locations": True, "assert_missing_frames_are_empty": True}
    if dataset.SegmentationType == "BINARY":
        options["combine_segments"] = True
    if series.slices[0].frame is None:
        frames = read.get_pixels_by_source_instance([one.instance_uid for one in series.slices], **options)
    else:
        numbers = [one.frame for one in series.slices]
        frames = read.get_pixels_by_source_frame(series.slices[0].instance_uid, numbers, **options)
    found = np.zeros_like(mask)
    for segment in dataset.SegmentSequence:
        inside = frames == segment.SegmentNumber if frames.ndim == 3 else frames[..., segment.SegmentNumber - 1] > 0
        if segment.SegmentNumber:
            found[inside.T] = task.values[segment.SegmentLabel]
    wrong = int((found != mask).sum())
    return f"highdicom reads {wrong} of {mask.size} voxels otherwise" if wrong else ""


def _objects(folder: Path) -> Iterator[Path]:
    """Segmentations and structure sets."""
    import pydicom

    from lib.dicom.drawn import DRAWN
    from lib.series import looks_like_dicom

    for path in sorted(path for path in folder.rglob("*") if path.is_file() and looks_like_dicom(path)):
        if pydicom.dcmread(path, stop_before_pixels=True).get("SOPClassUID") in DRAWN:
            yield path


def _read(path: Path, images: dict[str, list[Path]]) -> str:
    """How many voxels each segment or region has, or why it is refused."""
    import numpy as np
    import pydicom

    from lib.dicom.drawn import read_drawn, referenced_images
    from lib.dicom.source import read_source
    from lib.errors import LabelRefineryError
    from lib.task import Task, numbered

    dataset = pydicom.dcmread(path)
    kind = f"{dataset.get('SegmentationType', 'RTSTRUCT')}, {dataset.get('Manufacturer', '')}"
    labels = [str(one.SegmentLabel) for one in dataset.get("SegmentSequence") or ()]
    labels += [str(one.ROIName) for one in dataset.get("StructureSetROISequence") or ()]
    wanted = set(referenced_images(dataset))
    found = [paths for image, paths in images.items() if image.partition("/")[0] in wanted]
    if not found:
        return f"{kind}: refers to no image of this folder ({', '.join(sorted(wanted)) or 'none'})"
    try:
        task = Task("object", "", numbered(dict.fromkeys(label for label in labels if label != "Background")))
        mask, _ = read_drawn(dataset, read_source(found[0]), task)
    except LabelRefineryError as error:
        return f"{kind}: {type(error).__name__}: {error}"
    voxels = np.bincount(mask.ravel(), minlength=256)
    return f"{kind}: {', '.join(f'{name} {voxels[value]}' for name, value in task.values.items())}"


if __name__ == "__main__":
    main()
