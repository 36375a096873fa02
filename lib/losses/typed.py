"""A loss for lesions of several types, each of them rare: it asks of what type they are, and where there is none."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lib.losses.asymmetric import AsymmetricDiceCrossEntropy

TOLERATED = 1 / 128
"""Share of a batch's voxels: where as much is found of a structure that is absent, half of the most is paid for it."""


class TypedDiceCrossEntropy(AsymmetricDiceCrossEntropy):
    """Dice and cross entropy in which few voxels of a lesion still teach its type.

    In a mean over all voxels they hardly count, and in a mean Dice over five types four are absent from most batches
    and add a constant. So, of the structures that were looked at:

    - the Dice is that of the structures which are present in the batch;
    - the structures among one another get a cross entropy over their own voxels, whether found or not;
    - each absent one costs ``p / (p + tolerated)``, p being the sum of its probabilities: otherwise nothing but the
      cross entropy of few voxels would stand against finding too much.

    Attributes:
        margin: as in ``AsymmetricDiceCrossEntropy``.
        focus: likewise.
    """

    def _cross_entropy(self, logits: Tensor, target: Tensor, looked_at: Tensor) -> Tensor:
        """With that of the types, and what false finds cost."""
        by_voxel = super()._cross_entropy(logits, target, looked_at)
        return by_voxel + _type_cross_entropy(logits, target, looked_at) + _false_finds(logits, target, looked_at)

    def _dice_loss(self, logits: Tensor, target: Tensor, looked_at: Tensor) -> Tensor:
        """Mean over the structures that are present; if none is, of all that were looked at."""
        present = looked_at & _present(target, logits.shape[1])
        return super()._dice_loss(logits, target, present if present[:, 1:].any() else looked_at)


def _present(target: Tensor, classes: int) -> Tensor:
    """Bool (C,): the channels that occur in a batch."""
    return torch.bincount(target.flatten(), minlength=classes) > 0


def _type_cross_entropy(logits: Tensor, target: Tensor, looked_at: Tensor) -> Tensor:
    """Of the structures looked at among one another, mean over their voxels; 0 if there is none."""
    inside = target[:, 0] > 0
    if not inside.any():
        return logits.sum() * 0
    others = ~looked_at[inside.nonzero()[:, 0]]
    others[:, 0] = True
    among = logits.movedim(1, -1)[inside].masked_fill(others, -torch.inf)
    return functional.cross_entropy(among, target[:, 0][inside])


def _false_finds(logits: Tensor, target: Tensor, looked_at: Tensor) -> Tensor:
    """Mean over the structures that are absent though looked at, each 0 to 1; 0 if there is none."""
    absent = looked_at & ~_present(target, logits.shape[1])
    absent[:, 0] = False
    if not absent.any():
        return logits.sum() * 0
    found = (logits.softmax(dim=1).sum(dim=(2, 3, 4)) * absent).sum(dim=0)[absent.any(dim=0)]
    return (found / (found + TOLERATED * target.numel())).mean()
