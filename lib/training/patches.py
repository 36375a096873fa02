"""Batches of augmented patches, balanced over the structures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from monai.transforms.compose import Compose
from monai.transforms.intensity.dictionary import (
    RandAdjustContrastd,
    RandGaussianNoised,
    RandScaleIntensityd,
    RandShiftIntensityd,
)
from monai.transforms.spatial.dictionary import RandAffined, RandFlipd
from monai.utils.type_conversion import convert_to_tensor
from torch import Tensor

from lib.networks.checkpoint import NetworkPlan, VoxelTriple
from lib.preprocessing import THICK
from lib.training.cases import PreparedCase

T = TypeVar("T")

ON_STRUCTURE = 2 / 3
"""Share of the patches of cases with structures that are centred near a voxel of one; the others lie anywhere."""

MOST_NEGATIVE = 0.5
"""Largest share of patches of cases without any structure, beside cases with one."""

ROTATION_RAD = 0.26
SCALING = 0.15
"""Largest angle and change of size where the augmentation is at full strength."""

NARROW_HU = 200.0
"""In a window at most this wide a few HU decide, as between blood and brain."""

CALIBRATED = 0.25
"""Strength of what is done to intensities there: the scale of CT is the same on every scanner."""

ELSEWHERE = 0.5
"""Strength of the augmentation of patches that are not centred on a structure.

Few voxels of a rare structure are seen again and again: changing them more than the background counters the imbalance.
Li et al., "Joint optimization of class-specific training- and test-time data augmentation in segmentation", IEEE
Transactions on Medical Imaging 2023, learned that; the two strengths here are fixed.
"""


def independent_seeds(seed: int, count: int) -> list[int]:
    """Seeds for things that shall have nothing in common, though they are all drawn from one."""
    return [int(word) for word in np.random.SeedSequence(seed).generate_state(count)]


@dataclass(frozen=True)
class Batch:
    """Patches for one step.

    Attributes:
        image: float32 (B, 1, I, J, K).
        target: long (B, 1, I, J, K), channel numbers; (B, 2, I, J, K) of cases with a draft, which comes second.
        looked_at: bool (B, C).
    """

    image: Tensor
    target: Tensor
    looked_at: Tensor


class Patches:
    """An endless supply of batches, balanced over structures and cases; the same seed gives the same ones.

    The structure that a patch is centred on is drawn evenly among all that occur in any case, then a case that has it:
    a structure that one case of twenty shows is learned as often as one that all show. Cases without any structure
    come as often as they would by chance, but make at most half of the patches of a batch: too many of them teach a
    network to find nothing.

    Attributes:
        cases: how many there are. On average each comes once in as many patches, those with rare structures more often.
    """

    def __init__(self, cases: Sequence[PreparedCase], plan: NetworkPlan, batch_size: int, seed: int) -> None:
        self.cases = len(cases)
        self._plan = plan
        self._batch_size = batch_size
        of_places, of_centred, of_elsewhere = independent_seeds(seed, 3)
        self._generator = np.random.default_rng(of_places)
        self._augmented_centred = augmentation(plan).set_random_state(of_centred)
        self._augmented_elsewhere = augmentation(plan, ELSEWHERE).set_random_state(of_elsewhere)
        positives = [case for case in cases if case.points]
        negatives = [case for case in cases if not case.points]
        channels = sorted({channel for case in positives for channel in case.points})
        self._channels = _Rounds(channels, self._generator)
        self._with = {
            channel: _Rounds([case for case in positives if channel in case.points], self._generator)
            for channel in channels
        }
        self._positives = _Rounds(positives, self._generator)
        self._negatives = _Rounds(negatives, self._generator)
        by_chance = batch_size * len(negatives) / len(cases)
        at_most = max(int(batch_size * MOST_NEGATIVE), MOST_NEGATIVE) if positives else batch_size
        self._negatives_a_batch = min(by_chance, at_most)
        self._negatives_owed = 0.0

    def batch(self) -> Batch:
        """The next patches."""
        chosen = self._choice()
        patches = [self._augmented(self._patch(case, channel), channel) for case, channel in chosen]
        return Batch(
            torch.stack([convert_to_tensor(patch["image"]) for patch in patches]),
            torch.stack([convert_to_tensor(patch["target"]) for patch in patches]).long(),
            torch.stack([case.looked_at for case, _ in chosen]),
        )

    def _choice(self) -> list[tuple[PreparedCase, int | None]]:
        """The case of each patch of a batch and the structure it is centred on, or ``None``: it may lie anywhere."""
        # What a batch has in fractions adds up until it is a whole patch.
        self._negatives_owed += self._negatives_a_batch
        negatives = int(self._negatives_owed + 1e-6)
        self._negatives_owed -= negatives
        return [
            (self._negatives.next(), None) if position < negatives else self._positive()
            for position in range(self._batch_size)
        ]

    def _positive(self) -> tuple[PreparedCase, int | None]:
        if self._generator.random() >= ON_STRUCTURE:
            return self._positives.next(), None
        channel = self._channels.next()
        return self._with[channel].next(), channel

    def _augmented(self, patch: dict[str, Tensor], channel: int | None) -> dict[str, Tensor]:
        return dict(self._augmented_elsewhere(patch) if channel is None else self._augmented_centred(patch))

    def _patch(self, case: PreparedCase, channel: int | None) -> dict[str, Tensor]:
        """A patch of a case, its border voxels repeated where the image is smaller than a patch."""
        size = case.image.shape[1:]
        starts = self._corner(case, channel, (size[0], size[1], size[2]))
        # Clamped indices repeat the border and cut the patch in one step.
        index = [
            torch.arange(start, start + length).clamp(0, voxels - 1)
            for start, length, voxels in zip(starts, self._plan.patch, size, strict=True)
        ]
        i, j, k = index[0][:, None, None], index[1][None, :, None], index[2][None, None, :]
        return {"image": case.image[:, i, j, k].float(), "target": case.target[:, i, j, k].float()}

    def _corner(self, case: PreparedCase, channel: int | None, size: VoxelTriple) -> list[int]:
        """First voxel of a patch: near a voxel of the structure, or anywhere."""
        spare = np.subtract(size, self._plan.patch)
        if channel is not None:
            points = case.points[channel]
            jitter = self._generator.uniform(-0.25, 0.25, 3) * self._plan.patch
            start = points[self._generator.integers(len(points))] - np.array(self._plan.patch) / 2 + jitter
        else:
            start = self._generator.uniform(0, 1, 3) * (spare + 1) - 0.5
        # Where the image is smaller than the patch, it starts before the image, by up to what is missing.
        low, high = np.minimum(spare, 0), np.maximum(spare, 0)
        start = np.where(spare < 0, self._generator.uniform(low - 0.5, high + 0.5), start)
        return np.clip(np.rint(start), low, high).astype(int).tolist()


class _Rounds(Generic[T]):
    """Members one after the other, in a new random order whenever all have come."""

    def __init__(self, members: Sequence[T], generator: np.random.Generator) -> None:
        self._members = members
        self._generator = generator
        self._waiting: list[int] = []

    def next(self) -> T:
        if not self._waiting:
            self._waiting = self._generator.permutation(len(self._members)).tolist()
        return self._members[self._waiting.pop()]


def augmentation(plan: NetworkPlan, strength: float = 1.0) -> Compose:
    """Small rotations and scalings, brightness, contrast and noise, as they vary between patients and scanners.

    Images are not mirrored: left and right organs are different structures. A refiner's images of one slice are: the
    draft says which structure is which.

    Args:
        plan: says which axes may be turned, and whether the intensities are HU in a narrow window.
        strength: share of the largest changes that is used; how often there are any stays the same.
    """
    both = ("image", "target")
    shading = strength * (CALIBRATED if _is_narrow(plan) else 1.0)
    steps = [
        RandAffined(
            both,
            spatial_size=plan.patch,
            prob=0.8,
            rotate_range=[strength * angle for angle in _rotations(plan)],
            scale_range=[strength * SCALING if edge > 1 else 0.0 for edge in plan.patch],
            mode=("bilinear", "nearest"),
            padding_mode="border",
            cache_grid=True,
        ),
        *(RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in _mirrored_axes(plan)),
        RandAdjustContrastd("image", prob=0.3, gamma=(1 - 0.3 * shading, 1 + 0.5 * shading)),
        RandScaleIntensityd("image", prob=0.5, factors=0.2 * shading),
        RandShiftIntensityd("image", prob=0.5, offsets=0.2 * shading),
        RandGaussianNoised("image", prob=0.3, std=0.1 * shading),
    ]
    return Compose(steps)


def _is_narrow(plan: NetworkPlan) -> bool:
    """Whether the network sees few HU only."""
    return plan.window_hu is not None and plan.window_hu[1] - plan.window_hu[0] <= NARROW_HU


def _mirrored_axes(plan: NetworkPlan) -> list[int]:
    is_mirrored = plan.network == "refiner" and 1 in plan.patch
    return [axis for axis, edge in enumerate(plan.patch) if is_mirrored and edge > 1]


def _rotations(plan: NetworkPlan) -> list[float]:
    """Largest angle around each axis; none where it would turn thick slices out of their plane."""
    edges = np.array(plan.spacing_mm)
    angles = []
    for axis in range(3):
        plane = [other for other in range(3) if other != axis]
        is_even = edges[plane].max() < THICK * edges[plane].min()
        angles.append(ROTATION_RAD if is_even and min(plan.patch[other] for other in plane) > 1 else 0.0)
    return angles
