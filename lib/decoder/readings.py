"""What the decoder reads; each takes open files and gives what can be told as JSON, and arrays.

It runs in the process that has no rights. Whatever is imported here is loaded before these are given up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lib.compressed import refuse_large_when_inflated
from lib.dataset import reason_of
from lib.decoder.protocol import memory_file
from lib.dicom.drawn import drawing_of, read_drawn
from lib.dicom.source import dataset_of
from lib.errors import LabelRefineryError, UnreadableImage
from lib.labels import mask_on_image
from lib.opened import OpenFile
from lib.series import read_series
from lib.volume import has_one_meaning, read_doubt, read_grid, read_volume, write_sent

MOST_ATTRIBUTES = 2000
"""Of an object that somebody drew, items aside: viewers are told all of them, and none has a tenth of it."""

Files = list[OpenFile]
Arguments = Mapping[str, Any]
Answer = tuple[dict[str, Any], list[Any]]


def _volume(files: Files, arguments: Arguments) -> Answer:
    found = read_series(files) if arguments["is_series"] else read_volume(files[0])
    return {"affine": found.affine.tolist(), "is_measured": found.is_measured}, [found.voxels]


def _grid(files: Files, arguments: Arguments) -> Answer:
    found = read_grid(files[0])
    return {"shape": found.shape, "affine": found.affine.tolist()}, []


def _mask(files: Files, arguments: Arguments) -> Answer:
    grid, label_info, task, name = (arguments[each] for each in ("grid", "label_info", "task", "name"))
    remarks: list[str] = []
    found = mask_on_image(files[0], grid, label_info, task, name, remarks.append)
    return {"remarks": remarks}, [found]


def _drawing(files: Files, arguments: Arguments) -> Answer:
    try:
        refuse_large_when_inflated(files[0], arguments["most_bytes"])
        dataset = dataset_of(files[0])
        if len(dataset) > MOST_ATTRIBUTES:
            raise UnreadableImage(
                f"{arguments['what']} has {len(dataset)} attributes of its own, at most {MOST_ATTRIBUTES} are taken."
            )
        return asdict(drawing_of(dataset)), []
    except LabelRefineryError:
        raise
    # The reader raises whatever a damaged file makes it stumble over.
    except Exception as error:
        raise UnreadableImage(f"{arguments['what']} is no DICOM file: {reason_of(error)}.") from error


def _drawn(files: Files, arguments: Arguments) -> Answer:
    remarks: list[str] = []
    mask, looked_at = read_drawn(files[0], arguments["series"], arguments["task"], remark=remarks.append)
    return {"looked_at": looked_at, "remarks": remarks}, [mask]


def _derived_files(files: Files, arguments: Arguments) -> Answer:
    memory, ends = memory_file(), []
    with open(memory, "wb", closefd=False) as content:
        for one in arguments["derived"].files(read_volume(files[0]), arguments["window"]):
            one.save_as(content, enforce_file_format=True)
            ends.append(content.tell())
    return {"ends": ends}, [memory]


def _doubt(files: Files, arguments: Arguments) -> Answer:
    return {"doubt": read_doubt(files[0])}, []


def _has_one_meaning(files: Files, arguments: Arguments) -> Answer:
    return {"has_one_meaning": has_one_meaning(files[0])}, []


def _sent(files: Files, arguments: Arguments) -> Answer:
    memory = memory_file()
    found = read_series(files) if arguments["is_series"] else read_volume(files[0])
    with open(memory, "wb", closefd=False) as content:
        write_sent(content, found, arguments["suffix"])
    return {}, [memory]


READINGS = {
    "volume": _volume, "grid": _grid, "mask": _mask, "drawing": _drawing, "drawn": _drawn,
    "derived_files": _derived_files, "sent": _sent, "doubt": _doubt, "has_one_meaning": _has_one_meaning,
}  # fmt: skip
