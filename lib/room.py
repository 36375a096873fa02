"""How much memory the voxels of one image may take: what a file claims is compared with it before room is made."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.errors import UnreadableImage

LEAST_BYTES, MOST_BYTES = 768 << 20, 16 << 30
"""Bounds of the limit, whatever the machine."""

NETWORK_BYTES = 4
"""Of a voxel as networks take it, however small it is in its file."""

SHARE = 16
"""An image may take one of so many parts of the memory: several are open at once, each in more than one copy."""

GROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where Linux tells what a container may take; the second one in older kernels."""


def memory_bytes(group_limits: Iterable[Path] = GROUP_LIMITS) -> int:
    """The memory of this machine, or of the container if that is less."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in group_limits:
        try:
            limits.append(int(path.read_text(encoding="ascii")))
        # There is no such file, or it says "max".
        except (OSError, ValueError):
            continue
    return min(limits)


def share_of(memory: int) -> int:
    """Bytes that one image may take of so many."""
    return min(max(memory // SHARE, LEAST_BYTES), MOST_BYTES)


MOST_VOXEL_BYTES = share_of(memory_bytes())
"""Bytes that the voxels of one image may take, as they lie in memory after scaling; told once, when this is loaded."""


class Room:
    """Voxels that are being read piece by piece."""

    def __init__(self, count: int, kind: np.dtype[Any]) -> None:
        self._voxels = np.empty(count, kind)

    def put(self, at: int, voxels: NDArray[Any]) -> None:
        """Puts some of them, (N,), behind so many others."""
        self._voxels[at : at + voxels.size] = voxels

    def whole(self) -> NDArray[Any]:
        """All of them, (N,), once they are there; nothing is put afterwards."""
        return self._voxels


_make: Callable[[int, np.dtype[Any]], Room] = Room


def room_for(count: int, kind: np.dtype[Any]) -> Room:
    """Room for the voxels of an image, whose size was compared with what this machine takes."""
    return _make(count, kind)


def make_room_by(make: Callable[[int, np.dtype[Any]], Room]) -> None:
    """From now on ``room_for`` of this process gives such rooms: one may lie where others can have it too."""
    global _make
    _make = make


def refuse_too_large(shape: Iterable[int], voxel_bytes: int, name: str) -> None:
    """Refuses voxels that would take more than this machine can give to one image.

    Args:
        shape: voxels along each axis, as the file claims them.
        voxel_bytes: of one voxel, as it will lie in memory.
        name: of the file, for the message.

    Raises:
        UnreadableImage: with both sizes.
    """
    edges = tuple(shape)
    claimed = math.prod(edges) * max(voxel_bytes, NETWORK_BYTES)
    if claimed > MOST_VOXEL_BYTES:
        raise UnreadableImage(
            f"{name} has {'x'.join(map(str, edges))} voxels, which take {_gib(claimed)} in memory; this machine takes "
            f"{_gib(MOST_VOXEL_BYTES)} an image. Crop or resample it, or give the server more memory."
        )


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.2f} GiB" if count < 1 << 40 else f"{count / (1 << 30):.3g} GiB"
