"""Batches of augmented patches, balanced over the structures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.transforms.compose import Compose
from monai.transforms.intensity.dictionary import (
    RandAdjustContrastd,
    RandGaussianNoised,
    RandScaleIntensityd,
    RandShiftIntensityd,
)
from monai.transforms.spatial.dictionary import RandAffined
from torch import Tensor

from lib.networks.checkpoint import NetworkPlan, VoxelTriple
from lib.preprocessing import THICK
from lib.training.cases import PreparedCase

ON_STRUCTURE = 2 / 3
"""Share of patches that are centred near a voxel of a structure; the others lie anywhere."""

ROTATION_RAD = 0.26
SCALING = 0.15


@dataclass(frozen=True)
class Batch:
    """Patches for one step.

    Attributes:
        image: float32 (B, 1, I, J, K).
        target: long (B, 1, I, J, K), channel numbers.
        looked_at: bool (B, C).
    """

    image: Tensor
    target: Tensor
    looked_at: Tensor


class Patches:
    """An endless supply of batches in which every case comes equally often; the same seed gives the same ones."""

    def __init__(self, cases: Sequence[PreparedCase], plan: NetworkPlan, batch_size: int, seed: int) -> None:
        self._cases = cases
        self._plan = plan
        self._batch_size = batch_size
        self._generator = np.random.default_rng(seed)
        self._queue: list[int] = []
        self._augmented = augmentation(plan)
        self._augmented.set_random_state(seed)

    def batch(self) -> Batch:
        """The next patches."""
        cases = [self._next_case() for _ in range(self._batch_size)]
        patches = [self._augmented(self._patch(case)) for case in cases]
        return Batch(
            torch.stack([torch.as_tensor(patch["image"]) for patch in patches]),
            torch.stack([torch.as_tensor(patch["target"]) for patch in patches]).long(),
            torch.stack([case.looked_at for case in cases]),
        )

    def _next_case(self) -> PreparedCase:
        if not self._queue:
            self._queue = self._generator.permutation(len(self._cases)).tolist()
        return self._cases[self._queue.pop()]

    def _patch(self, case: PreparedCase) -> dict[str, Tensor]:
        """A patch of a case, its border voxels repeated where the image is smaller than a patch."""
        size = case.image.shape[1:]
        starts = self._corner(case, (size[0], size[1], size[2]))
        # Clamped indices repeat the border and cut the patch in one step.
        index = [
            torch.arange(start, start + length).clamp(0, voxels - 1)
            for start, length, voxels in zip(starts, self._plan.patch, size, strict=True)
        ]
        i, j, k = index[0][:, None, None], index[1][None, :, None], index[2][None, None, :]
        return {"image": case.image[:, i, j, k].float(), "target": case.target[:, i, j, k].float()}

    def _corner(self, case: PreparedCase, size: VoxelTriple) -> list[int]:
        """First voxel of a patch: near a structure chosen evenly among those present, or anywhere."""
        spare = np.subtract(size, self._plan.patch)
        if case.points and self._generator.random() < ON_STRUCTURE:
            points = case.points[int(self._generator.choice(list(case.points)))]
            jitter = self._generator.uniform(-0.25, 0.25, 3) * self._plan.patch
            start = points[self._generator.integers(len(points))] - np.array(self._plan.patch) / 2 + jitter
        else:
            start = self._generator.uniform(0, 1, 3) * (spare + 1) - 0.5
        # Where the image is smaller than the patch, it starts before the image, by up to what is missing.
        low, high = np.minimum(spare, 0), np.maximum(spare, 0)
        start = np.where(spare < 0, self._generator.uniform(low - 0.5, high + 0.5), start)
        return np.clip(np.rint(start), low, high).astype(int).tolist()


def augmentation(plan: NetworkPlan) -> Compose:
    """Small rotations and scalings, brightness, contrast and noise, as they vary between patients and scanners.

    Images are not mirrored: left and right organs are different structures.
    """
    both = ("image", "target")
    steps = [
        RandAffined(
            both,
            spatial_size=plan.patch,
            prob=0.8,
            rotate_range=_rotations(plan),
            scale_range=[SCALING if edge > 1 else 0.0 for edge in plan.patch],
            mode=("bilinear", "nearest"),
            padding_mode="border",
            cache_grid=True,
        ),
        RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5)),
        RandScaleIntensityd("image", prob=0.5, factors=0.2),
        RandShiftIntensityd("image", prob=0.5, offsets=0.2),
        RandGaussianNoised("image", prob=0.3, std=0.1),
    ]
    return Compose(steps)


def _rotations(plan: NetworkPlan) -> list[float]:
    """Largest angle around each axis; none where it would turn thick slices out of their plane."""
    edges = np.array(plan.spacing_mm)
    angles = []
    for axis in range(3):
        plane = [other for other in range(3) if other != axis]
        is_even = edges[plane].max() < THICK * edges[plane].min()
        angles.append(ROTATION_RAD if is_even and min(plan.patch[other] for other in plane) > 1 else 0.0)
    return angles
