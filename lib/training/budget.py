"""How long a training may take, and how the learning rate follows from it."""

from __future__ import annotations

import math
import time

import torch

WALL_FACTOR = 3
"""On a busy machine a training takes at most this many times its seconds by the clock."""

WARM_UP = 0.1
"""Share of the training in which the learning rate rises."""


class Budget:
    """Counts down seconds of computing.

    It counts processor time per thread, so that other programs on a busy machine do not cut a training short.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._wall = time.perf_counter()
        self._cpu = time.process_time()

    @property
    def spent(self) -> float:
        """Seconds used so far."""
        cpu = (time.process_time() - self._cpu) / torch.get_num_threads()
        wall = time.perf_counter() - self._wall
        return max(min(cpu, wall), wall / WALL_FACTOR)

    @property
    def fraction(self) -> float:
        """Share used so far, at most 1."""
        return min(self.spent / self.seconds, 1.0) if self.seconds > 0 else 1.0


def learning_rate_at(fraction: float, peak: float) -> float:
    """Rises linearly to the peak, then falls along half a cosine to zero.

    Args:
        fraction: of the training that is over, 0 to 1.
        peak: the largest learning rate.
    """
    if fraction < WARM_UP:
        return peak * (0.1 + 0.9 * fraction / WARM_UP)
    return peak * 0.5 * (1 + math.cos(math.pi * (fraction - WARM_UP) / (1 - WARM_UP)))
