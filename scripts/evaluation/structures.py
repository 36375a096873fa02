"""Which structures are compared, and which of them the annotator of a case looked at."""

from __future__ import annotations

import csv
import runpy
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lib.errors import InvalidSetting
from lib.labels import read_mask
from lib.serving.settings import TASK_FILE, Settings, configured
from lib.task import PALETTE, Structure, Task, listed
from scripts.evaluation.folders import Pair


@dataclass(frozen=True)
class Wanted:
    """What is compared.

    Attributes:
        task: its structures.
        by_name: names that a mask file gives its segments say which structure they are; else only numbers count.
        looked_at: by case, the structures its annotator looked at; all of them for a case that is not named.
    """

    task: Task
    by_name: bool = True
    looked_at: dict[str, frozenset[str]] = field(default_factory=dict)


def declared(labels: str) -> Task:
    """The task that the command line names.

    Args:
        labels: ``liver=1,spleen=2``, or the path of a ``label-refinery.toml``.

    Raises:
        InvalidSetting: if it is neither.
    """
    task = Task(name="evaluation", description="Masks to compare")
    path = Path(labels).expanduser()
    if path.name != TASK_FILE:
        return configured(task, Settings(data=Path(), labels=labels), None)
    if not path.is_file():
        raise InvalidSetting(f"--labels {labels} is no file. Name the one beside the studies.")
    return configured(task, Settings(data=Path()), path.absolute().parent)


def declared_by_app(folder: Path) -> Task:
    """The task of an app.

    Raises:
        InvalidSetting: if there is no such app, or it leaves its structures to the settings.
    """
    main = folder / "main.py"
    if not main.is_file():
        raise InvalidSetting(f"--app {folder} holds no main.py. Name a folder such as apps/segmentation.")
    found = (thing for thing in runpy.run_path(str(main)).values() if isinstance(thing, type) and "TASK" in vars(thing))
    app = next(found, None)
    if app is None:
        raise InvalidSetting(f"{main} declares no TASK.")
    task: Task = vars(app)["TASK"]
    if not task.structures:
        raise InvalidSetting(f"The app {folder} has no structures of its own: name them by --labels liver=1,spleen=2.")
    return task


def found_in(pairs: Iterable[Pair]) -> Task:
    """One structure for each number in the true masks; a mask that cannot be read is left to the comparison.

    Raises:
        InvalidSetting: if there is no number that a structure may have.
    """
    numbers: set[int] = set()
    for pair in pairs:
        try:
            mask = read_mask(pair.truth, None, pair.case).volume
        # The comparison will stumble over it too, and tell why.
        except Exception:
            continue
        found = np.unique(mask.voxels[mask.voxels != 0])
        numbers |= {int(number) for number in found if 1 <= number <= 255 and number == int(number)}
    if not numbers:
        raise InvalidSetting("The true masks hold no label values from 1 to 255. Name the structures by --labels.")
    structures = (Structure(f"label {number}", number, PALETTE[number % len(PALETTE)]) for number in sorted(numbers))
    return Task(name="evaluation", description="Masks to compare", structures=tuple(structures))


def looked_at_in(path: Path, task: Task) -> dict[str, frozenset[str]]:
    """The structures that were looked at, by case, from a CSV file with the columns ``image`` and ``structures``.

    Raises:
        InvalidSetting: if a column is missing or a structure unknown.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    if rows and not {"image", "structures"} <= rows[0].keys():
        raise InvalidSetting(f"{path.name} has the columns {list(rows[0])}, wanted are image and structures.")
    return {row["image"]: frozenset(_known(name, task, path) for name in _names(row["structures"])) for row in rows}


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(";") if name.strip()]


def _known(name: str, task: Task, path: Path) -> str:
    structure = task.structure(name)
    if structure is None:
        raise InvalidSetting(f"{path.name} names {name!r}; the structures are {listed(task.structures)}.")
    return structure.name
