"""Cases to learn from or to measure with, and how they are brought to the network grid once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from lib.errors import GridMismatch, NoAnnotationsYet
from lib.networks.checkpoint import NetworkPlan
from lib.preprocessing import View, body_grid, prepared, prepared_mask
from lib.volume import Array, Grid, Volume

T = TypeVar("T")

LOG = logging.getLogger(__name__)

MEMORY_BYTES = 2_000_000_000
"""What prepared cases may take; further ones are left out of this run."""

POINTS_PER_STRUCTURE = 2_000
"""Voxels of each structure that patches are centred on."""


@dataclass(frozen=True)
class TrainingCase:
    """An image with its annotation, read only when needed.

    Attributes:
        image_id: for messages and scores.
        load_volume: reads the image.
        load_mask: reads the mask, uint8 (I, J, K) of label values on the image's grid.
        looked_at: label values of the structures that the annotator covered, present or not.
        load_draft: reads an earlier mask that was corrected to this one, of the same kind; ``None``: there is none,
            or nobody learns from it.
    """

    image_id: str
    load_volume: Callable[[], Volume]
    load_mask: Callable[[], Array]
    looked_at: frozenset[int]
    load_draft: Callable[[], Array] | None = None


@dataclass(frozen=True)
class PreparedCase:
    """A case on the network grid.

    Attributes:
        image_id: for messages.
        image: float16 (1, I, J, K).
        target: uint8 (1, I, J, K), channel numbers; (2, I, J, K) where there is a draft, which comes second.
        looked_at: bool (C,), background first.
        points: voxel positions int64 (N, 3) by channel, for the structures that are present in mask or draft.
    """

    image_id: str
    image: Tensor
    target: Tensor
    looked_at: Tensor
    points: dict[int, Array]

    @property
    def size_bytes(self) -> int:
        """Memory of image and target."""
        return self.image.nbytes + self.target.nbytes


def prepared_cases(
    cases: Sequence[TrainingCase],
    plan: NetworkPlan,
    generator: np.random.Generator,
    skipped: dict[str, str],
    check: Callable[[], None],
) -> list[PreparedCase]:
    """All cases that can be used, on the network grid, in a random order.

    Args:
        cases: each is read once.
        plan: of the network.
        generator: decides which cases come first when not all fit into memory.
        skipped: receives the reason by image id for each case that cannot be used.
        check: called before each case; may raise to stop.

    Raises:
        NoAnnotationsYet: if no case is left.
    """
    ready: list[PreparedCase] = []
    size = 0
    for position in generator.permutation(len(cases)):
        check()
        case = cases[position]
        if size > MEMORY_BYTES:
            skipped[case.image_id] = f"the prepared cases of this run fill {MEMORY_BYTES / 1e9:.0f} GB already"
            continue
        found = _attempt(case, partial(_prepared, case, plan, generator), skipped)
        if found is not None:
            ready.append(found)
            size += found.size_bytes
    if not ready:
        raise _nothing_left(skipped)
    return ready


def body_grids(cases: Sequence[TrainingCase], view: View, at_most: int) -> list[Grid]:
    """The lattices, without surrounding air, of the first cases that can be read."""
    grids: list[Grid] = []
    ignored: dict[str, str] = {}
    for case in cases:
        if len(grids) == at_most:
            break
        found = _attempt(case, partial(_body_grid, case, view), ignored)
        grids += [] if found is None else [found]
    if not grids:
        raise _nothing_left(ignored)
    return grids


def checked_mask(case: TrainingCase, volume: Volume) -> Array:
    """The case's mask.

    Raises:
        GridMismatch: if its shape is not the image's.
    """
    mask = case.load_mask()
    if mask.shape != volume.voxels.shape:
        raise GridMismatch(
            f"The mask of {case.image_id} is {'x'.join(map(str, mask.shape))} voxels, the image is {volume.grid}. "
            "Store the mask with the image as reference volume."
        )
    return mask


def _body_grid(case: TrainingCase, view: View) -> Grid:
    return body_grid(case.load_volume(), view)


def _prepared(case: TrainingCase, plan: NetworkPlan, generator: np.random.Generator) -> PreparedCase:
    if not case.looked_at & set(plan.structures.values()):
        raise NoAnnotationsYet("its annotator looked at none of the task's structures")
    volume = case.load_volume()
    mask = checked_mask(case, volume)
    image = prepared(volume, plan)
    masks = [mask] if case.load_draft is None else [mask, case.load_draft()]
    target = np.stack([prepared_mask(drawn, image.frame, plan) for drawn in masks])
    looked_at = [True, *(value in case.looked_at for value in plan.structures.values())]
    points = {
        channel: generator.permutation(found)[:POINTS_PER_STRUCTURE]
        for channel in range(1, plan.classes)
        if looked_at[channel] and len(found := np.argwhere((target == channel).any(axis=0)))
    }
    return PreparedCase(case.image_id, image.voxels.half(), torch.from_numpy(target), torch.tensor(looked_at), points)


def _attempt(case: TrainingCase, make: Callable[[], T], skipped: dict[str, str]) -> T | None:
    """What is made of a case, or ``None`` with the reason noted: one damaged file must not end a training."""
    try:
        return make()
    # A case is read by functions of the caller: whatever they stumble over concerns this case only.
    except Exception as error:
        skipped[case.image_id] = str(error) or type(error).__name__
        LOG.warning("Case %s is skipped: %s", case.image_id, skipped[case.image_id])
        return None


def _nothing_left(skipped: dict[str, str]) -> NoAnnotationsYet:
    reasons = "; ".join(f"{image_id}: {reason}" for image_id, reason in skipped.items()) or "none was given"
    return NoAnnotationsYet(f"No case can be learned from ({reasons}). Store an expert annotation first.")
