"""Measures what experts changed: the work of the worker process when no job waits.

It is no job: nobody asks for it, and an image that waits for it is found in the record, also after a crash.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np

from lib.metrics.bias import case_bias
from lib.metrics.effort import Effort, effort
from lib.stages import Stage, in_force
from lib.store.comparisons import Comparison, Pair, pairs_of
from lib.store.record import Record
from lib.volume import Array, Grid, Volume, read_volume

LOG = logging.getLogger(__name__)

Figures = dict[str, float | None]
"""By name; ``None`` where one is undefined."""


def compare_next(record: Record) -> bool:
    """Compares the versions of one image that waits for it; tells whether one did.

    What was compared before is not computed again, since no version ever changes.
    """
    image_id = record.comparisons.next_image()
    if image_id is None:
        return False
    history = record.annotations.history(image_id)
    known = {(one.version, one.expert_version): one for one in record.comparisons.of_image(image_id) if not one.reason}

    # One expert's version is compared with one earlier version after the other.
    @lru_cache(maxsize=2)
    def mask_of(digest: str) -> Volume:
        return read_volume(record.masks.sound(digest))

    compared = []
    for pair in pairs_of(history):
        before = known.get((pair.earlier.version, pair.expert.version))
        if before is not None:
            compared.append(replace(before, is_ancestor=pair.is_ancestor, annotator=pair.annotator))
        else:
            compared.append(_compared(pair, record.task.values, mask_of))
    record.comparisons.put(image_id, len(history), compared)
    return True


def _compared(pair: Pair, values: dict[str, int], mask_of: Callable[[str], Volume]) -> Comparison:
    """The figures of every structure that both looked at."""
    names = [name for name in values if name in pair.earlier.looked_at and name in pair.expert.looked_at]
    structures, reason = {}, ""
    try:
        earlier, expert = mask_of(pair.earlier.mask or ""), mask_of(pair.expert.mask or "")
        for name in names:
            masks = earlier.voxels == values[name], expert.voxels == values[name]
            structures[name] = figures_of(*masks, expert.grid)
    # A lost or damaged mask belongs to this pair and must not end the process.
    except Exception as error:
        LOG.exception(
            "Versions %s and %s of %s cannot be compared.", pair.earlier.version, pair.expert.version, pair.expert.image
        )
        structures, reason = {}, str(error)
    return Comparison(
        image=pair.expert.image,
        version=pair.earlier.version,
        expert_version=pair.expert.version,
        role=pair.earlier.role,
        is_ancestor=pair.is_ancestor,
        annotator=pair.annotator,
        structures=structures,
        reason=reason,
    )


def figures_of(earlier: Array, expert: Array, grid: Grid) -> Figures:
    """What had to change from an earlier mask to the expert's, and how the earlier one differs from it.

    Args:
        earlier: bool (I, J, K), one structure.
        expert: bool (I, J, K), the same structure.
        grid: of both.

    Returns:
        The fields of ``Effort`` and ``CaseBias``, and ``outline_mm``: what drawing the expert's outline without
        anything at hand takes.

    Raises:
        GridMismatch: if the shapes differ.
    """
    figures = {
        **asdict(effort(earlier, expert, grid.spacing_mm)),
        "outline_mm": effort(np.zeros_like(expert), expert, grid.spacing_mm).added_path_mm,
        **asdict(case_bias(expert, earlier, grid)),
    }
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def efforts(record: Record, image_id: str) -> dict[int, list[dict[str, Any]]]:
    """What each expert version of an image changed, by its number; one that is missing is not compared yet.

    Returns:
        For each earlier version that it was made from its number and, by structure, the fields of ``Effort`` and
        ``outline_mm``; or a ``reason`` why there are no figures.
    """
    with record.database.reading():
        history, compared = record.annotations.history(image_id), record.comparisons.of_image(image_id)
        is_waiting = record.comparisons.is_waiting(image_id)
    experts = [annotation.version for annotation in in_force(history) if annotation.stage is Stage.EXPERT]
    found: dict[int, list[dict[str, Any]]] = {} if is_waiting else {version: [] for version in experts}
    for one in compared:
        if one.is_ancestor:
            structures = {name: _of_effort(figures) for name, figures in one.structures.items()}
            told = {"version": one.version, "structures": structures, **({"reason": one.reason} if one.reason else {})}
            found.setdefault(one.expert_version, []).append(told)
    return found


def _of_effort(figures: Figures) -> Figures:
    return {name: figures[name] for name in (*(field.name for field in fields(Effort)), "outline_mm")}
