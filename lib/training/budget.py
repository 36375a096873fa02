"""How long a training may take, and how the learning rate follows from it."""

from __future__ import annotations

import math
import time

import torch

WALL_FACTOR = 3
"""On busy CPUs a training takes at most this many times its seconds by the clock."""

WARM_UP = 0.1
"""Share of the training in which the learning rate rises."""


class Budget:
    """Counts down seconds of computing; made and asked in the thread that trains.

    On CPUs it counts the seconds in which that thread ran, so that other programs on a busy machine do not cut a
    training short. The thread is never idle by itself: it computes alone what cannot be divided, and its share of the
    rest. Its helpers are, and count for nothing. On a GPU, for which the thread waits, the clock counts.
    """

    def __init__(self, seconds: float, device: str = "cpu") -> None:
        self.seconds = seconds
        self._is_on_cpu = torch.device(device).type == "cpu"
        self._wall = time.perf_counter()
        self._ran = time.thread_time()

    @property
    def spent(self) -> float:
        """Seconds used so far."""
        wall = time.perf_counter() - self._wall
        if not self._is_on_cpu:
            return wall
        return max(min(time.thread_time() - self._ran, wall), wall / WALL_FACTOR)

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
