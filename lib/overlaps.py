"""Structures that claim the same voxels: in a label map each voxel has one, so the larger label value has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np

from lib.errors import UnacceptableFile
from lib.task import BACKGROUND, Task
from lib.volume import Array

Remark = Callable[[str], object]
"""Is told, in a sentence for people, what of a mask was not taken as it came."""


def nobody(remark: str) -> None:
    """Whom a remark reaches that is not asked for."""


class Claims:
    """Puts structures into one mask, one after the other in whatever order, and counts what each loses to others."""

    def __init__(self, names: Mapping[int, str]) -> None:
        """Nothing is claimed.

        Args:
            names: of the structures by their values.
        """
        self._names = names
        self._claimed: set[int] = set()
        self._lost: Counter[tuple[int, int]] = Counter()

    @classmethod
    def of(cls, task: Task) -> Claims:
        """Of a task's structures."""
        return cls({value: name for name, value in task.values.items()})

    def put(self, view: Array, inside: Array, value: int) -> None:
        """Draws a structure where no larger value is.

        Args:
            view: uint8 of any shape, the mask or a part of it; is written to.
            inside: bool of the same shape.
            value: label value of the structure.
        """
        before = view[inside]
        self._claimed |= {value} if before.size else set()
        for other in np.unique(before).tolist():
            if other not in (BACKGROUND, value):
                self._lost[min(other, value), max(other, value)] += int(np.count_nonzero(before == other))
        view[inside] = np.maximum(before, np.uint8(value))

    def settle(self, mask: Array, remark: Callable[[str], object]) -> None:
        """Tells what was lost.

        Args:
            mask: as it is after all were drawn.
            remark: is told, in a sentence each, how many voxels one structure has lost to another.

        Raises:
            UnacceptableFile: if nothing is left of a structure: it would count as looked for and absent.
        """
        gone = self._claimed - set(np.unique(mask).tolist())
        for value in sorted(gone):
            over = sorted(self._names[winner] for loser, winner in self._lost if loser == value)
            raise UnacceptableFile(
                f"{self._names[value]!r} lies wholly within {', '.join(map(repr, over))}, whose label value is larger, "
                "so nothing would be left of it. A lesion needs a larger label value than its organ; or leave one of "
                "them out."
            )
        for (loser, winner), voxels in sorted(self._lost.items()):
            remark(f"{voxels} voxels of {self._names[loser]} are {self._names[winner]} too, and became that.")
