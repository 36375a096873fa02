"""How much memory the voxels of one image may take: what a file claims is compared with it before room is made."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path

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
