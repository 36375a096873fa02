"""Small drawn cases: a bright block and a dark one in a grey image."""

from __future__ import annotations

import numpy as np

from lib.task import Task, numbered
from lib.training.cases import TrainingCase
from lib.volume import Volume

TASK = Task("blocks", "Two blocks", numbered(["bright", "dark"]), window_hu=(0.0, 100.0))
BOTH = frozenset({1, 2})


def drawn(seed: int, size: tuple[int, int, int] = (24, 20, 16)) -> tuple[Volume, np.ndarray]:
    """An image at 1 mm and its mask; the seed moves the blocks."""
    random = np.random.default_rng(seed)
    mask = np.zeros(size, np.uint8)
    for value, start in ((1, 2), (2, size[0] // 2 + 1)):
        corner = [start, *random.integers(2, 6, 2)]
        mask[tuple(slice(first, first + 8) for first in corner)] = value
    grey = np.choose(mask, [50, 90, 10]) + random.normal(0, 3, size)
    return Volume(grey.astype(np.float32), np.eye(4)), mask


def case(seed: int, looked_at: frozenset[int] = BOTH) -> TrainingCase:
    """A drawn case in which marks of what was not looked at are missing."""

    def mask() -> np.ndarray:
        marks = drawn(seed)[1]
        return np.where(np.isin(marks, list(looked_at)), marks, 0).astype(np.uint8)

    return TrainingCase(f"case_{seed}", lambda: drawn(seed)[0], mask, looked_at)
