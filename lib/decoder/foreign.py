"""What is read of foreign files, each by the decoder: images, masks, and what people draw as DICOM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lib.decoder.client import decoder
from lib.dicom.derived import DerivedSeries
from lib.dicom.drawn import Drawing
from lib.dicom.source import SourceSeries
from lib.errors import UnreadableImage
from lib.label_table import NamedValue
from lib.task import Task
from lib.volume import Array, Grid, Volume


def volume(paths: Sequence[Path], *, is_series: bool) -> Volume:
    """The voxels of an image.

    Args:
        paths: one file, or all files of a DICOM series.
        is_series: which of both it is.

    Raises:
        UnreadableImage: if its files are damaged, do not make one volume, or need more room than one image may take.
    """
    told, (voxels,) = decoder().ask("volume", paths, {"is_series": is_series}, is_large=True)
    return Volume(voxels, _affine(told["affine"]), bool(told["is_measured"]))


def grid(path: Path) -> Grid:
    """The lattice of an image file; raises as ``lib.volume.read_grid``."""
    told, _ = decoder().ask("grid", [path], {})
    i, j, k = map(int, told["shape"])
    return Grid((i, j, k), _affine(told["affine"]))


def mask(
    path: Path, image: Grid, label_info: Sequence[NamedValue] | None, task: Task, name: str
) -> tuple[Array, tuple[str, ...]]:
    """A client's mask file as the task's mask on the image's grid, as ``lib.labels.mask_on_image`` reads it.

    Returns:
        The mask, and remarks on what of it was not taken as it came.
    """
    about = {"grid": image, "label_info": label_info, "task": task, "name": name}
    told, (found,) = decoder().ask("mask", [path], about)
    return _of_shape(found, image), tuple(map(str, told["remarks"]))


def drawing(path: Path, most_bytes: int, what: str) -> Drawing:
    """What a DICOM object says of itself.

    Args:
        path: its file.
        most_bytes: that it may have once it is inflated, if it is compressed as a whole.
        what: to call it in messages.

    Raises:
        UnreadableImage: if it is no DICOM.
        TooLarge: if it has more bytes.
    """
    told, _ = decoder().ask("drawing", [path], {"most_bytes": most_bytes, "what": what}, name=what)
    texts = {name: str(text) for name, text in told.items() if name not in ("program", "references", "sources")}
    references = {str(uid): tuple(map(str, instances)) for uid, instances in told["references"].items()}
    program, sources = told["program"], tuple(map(str, told["sources"]))
    return Drawing(**texts, program=None if program is None else str(program), references=references, sources=sources)


def drawn(path: Path, series: SourceSeries, task: Task) -> tuple[Array, tuple[str, ...], tuple[str, ...]]:
    """A segmentation or a structure set as ``lib.dicom.drawn.read_drawn`` reads it, and its remarks."""
    told, (found,) = decoder().ask("drawn", [path], {"series": series, "task": task}, name="The object")
    looked_at = tuple(name for name in task.values if name in told["looked_at"])
    return _of_shape(found, series.grid), looked_at, tuple(map(str, told["remarks"]))


def derived_files(path: Path, derived: DerivedSeries, window: tuple[float, float] | None, folder: Path) -> None:
    """Writes an image as the DICOM series that stands for it, as ``DerivedSeries.files`` makes it.

    Args:
        path: the image's file.
        derived: the series.
        window: see ``DerivedSeries.files``.
        folder: is there; receives ``0000.dcm`` and so on.
    """
    told, (content,) = decoder().ask("derived_files", [path], {"derived": derived, "window": window}, is_large=True)
    begin = 0
    for k, end in enumerate(map(int, told["ends"])):
        (folder / f"{k:04d}.dcm").write_bytes(content[begin:end].data)
        begin = end


def doubt(path: Path) -> str:
    """What other programs read otherwise of an image file; raises as ``lib.volume.read_doubt``."""
    return str(decoder().ask("doubt", [path], {})[0]["doubt"])


def has_one_meaning(path: Path) -> bool:
    """Whether all programs read the same of an image file; raises as ``lib.volume.has_one_meaning``."""
    return bool(decoder().ask("has_one_meaning", [path], {})[0]["has_one_meaning"])


def sent(paths: Sequence[Path], suffix: str, *, is_series: bool) -> Array:
    """An image as a file that all programs read alike, uint8 (bytes), as ``lib.volume.write_sent`` writes it.

    Args:
        paths: one file, or all files of a DICOM series.
        suffix: of what is written.
        is_series: which of both it is.
    """
    _, (content,) = decoder().ask("sent", paths, {"suffix": suffix, "is_series": is_series}, is_large=True)
    return content


def _affine(rows: object) -> Array:
    affine = np.asarray(rows, np.float64)
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise ValueError("The decoder tells of no affine.")
    return affine


def _of_shape(found: Array, wanted: Grid) -> Array:
    if found.shape != wanted.shape or found.dtype != np.uint8:
        raise UnreadableImage(f"The mask came out as {found.shape} of {found.dtype}, wanted is {wanted.shape}.")
    return found
