"""One case: its files as two masks of the task's values on one grid, and the figures of these."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lib.errors import UnknownStructure
from lib.label_table import NamedValue
from lib.labels import read_mask
from lib.metrics.cohort import StructureScore, case_scores
from lib.metrics.detection import LesionRule
from lib.series import read_headers, read_series, series_grid
from lib.task import Task
from lib.volume import Array, Grid, Volume, read_grid, read_volume
from scripts.evaluation.folders import Pair, series_files
from scripts.evaluation.structures import Wanted


@dataclass(frozen=True)
class Case:
    """Two masks on one grid.

    Attributes:
        grid: that of the image if there is one, else of the larger mask.
        truth: uint8 (I, J, K) of the task's values.
        prediction: uint8 (I, J, K) of the task's values.
        ignored: numbers in either file that belong to no structure of the task.
    """

    grid: Grid
    truth: Array
    prediction: Array
    ignored: frozenset[int]


@dataclass
class Outcome:
    """What came of all cases.

    Attributes:
        scores: rows of the cases that could be compared.
        errors: why the others could not, by case.
        ignored: numbers that belong to no structure, and in how many cases.
    """

    scores: list[StructureScore] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    ignored: dict[int, int] = field(default_factory=dict)


def compare(pairs: Iterable[Pair], wanted: Wanted, rule: LesionRule) -> Outcome:
    """Compares all cases; one that cannot be read becomes an error and stops nothing."""
    outcome = Outcome()
    for pair in pairs:
        try:
            case = read_case(pair, wanted)
            looked_at = wanted.looked_at.get(pair.case)
            outcome.scores += case_scores(
                pair.case, case.truth, case.prediction, case.grid, wanted.task.values, looked_at, rule
            )
        # Files of other people hold whatever makes a reader stumble: it concerns this case only.
        except Exception as error:
            outcome.errors[pair.case] = str(error) or type(error).__name__
            continue
        for number in case.ignored:
            outcome.ignored[number] = outcome.ignored.get(number, 0) + 1
    return outcome


def read_case(pair: Pair, wanted: Wanted) -> Case:
    """Reads both masks onto one grid.

    Raises:
        GridMismatch, UnreadableImage, UnknownStructure: if they cannot be compared.
    """
    truth, prediction = (read_mask(path, None, pair.case) for path in (pair.truth, pair.prediction))
    if pair.image is not None:
        grid = _image_grid(pair.image)
    else:
        # A segmentation that ends where its segments end lies inside the other mask.
        grid = max(truth.volume.grid, prediction.volume.grid, key=lambda grid: np.prod(grid.shape))
    true_voxels, truth_ignored = _as_values(truth.on(grid, pair.case), truth.named, wanted)
    voxels, ignored = _as_values(prediction.on(grid, pair.case), prediction.named, wanted)
    return Case(grid, true_voxels, voxels, truth_ignored | ignored)


def read_image(path: Path) -> Volume:
    """The image in a file, or in a folder of DICOM files."""
    return read_series(series_files(path)) if path.is_dir() else read_volume(path)


def _image_grid(path: Path) -> Grid:
    if path.is_dir():
        return series_grid(read_headers(series_files(path)))
    return read_grid(path)


def _as_values(mask: Array, named: Sequence[NamedValue], wanted: Wanted) -> tuple[Array, frozenset[int]]:
    """uint8 (I, J, K) of the task's values, and the numbers that became background as they mean no structure."""
    meaning = _meaning(named if wanted.by_name else (), wanted.task)
    found = np.unique(mask[mask != 0])
    if not np.isfinite(found).all() or (found != np.rint(found)).any():
        raise UnknownStructure(
            f"A mask holds {found[found != np.rint(found)][:3].tolist()}, wanted are whole numbers. "
            "Export it as a label map."
        )
    values = np.zeros(mask.shape, np.uint8)
    for number in found:
        values[mask == number] = meaning.get(int(number), 0)
    return values, frozenset(int(number) for number in found if not meaning.get(int(number)))


def _meaning(named: Sequence[NamedValue], task: Task) -> dict[int, int]:
    """The task's value by the number in a file: by the name that the file gives it, else by the number itself."""
    meaning = {value: value for value in task.values.values()}
    for entry in named:
        structure = task.structure(entry.name)
        meaning[entry.value] = structure.value if structure else 0
    return meaning
