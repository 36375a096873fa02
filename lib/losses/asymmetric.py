"""Losses that push rare structures, and only them, away from the decision boundary."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lib.losses.marginal import MarginalDiceCrossEntropy, covered, marginal_log_probabilities

LEAST_DOUBT = 1e-6
"""A voxel counts with at least this much doubt, so that a fractional focus has a finite gradient."""


class AsymmetricDiceCrossEntropy(MarginalDiceCrossEntropy):
    """Dice and cross entropy with a margin for structures and a focus that makes easy background count less.

    On new images the logits of a rare class slide towards the boundary, and so lesions are missed. The margin is taken
    off the logit of a voxel's true class, in both terms, where that is a structure: it has to win by so much. The
    focus weights a voxel of background by (1 - its probability) to this power, so that much easy background does not
    drown few voxels of a lesion. A margin and a focus of 0 give ``MarginalDiceCrossEntropy``.

    The source weights the misses of the background in its Dice as well; but neither there nor here does the background
    have a part in the mean Dice, so the focus does not change that term.

    Reference:
        Li et al., "Analyzing overfitting under class imbalance in neural networks for image segmentation",
        IEEE Transactions on Medical Imaging 2021.
    """

    def __init__(self, margin: float = 0.0, focus: float = 0.0) -> None:
        super().__init__()
        self.margin = margin
        self.focus = focus

    def parts(self, logits: Tensor, target: Tensor, looked_at: Tensor) -> tuple[Tensor, Tensor]:
        """Cross entropy and Dice loss of a batch, as ``MarginalDiceCrossEntropy.parts``."""
        looked_at, target = covered(looked_at, target)
        push = torch.where(target > 0, -self.margin, 0.0).to(logits.dtype)
        return super().parts(logits.scatter_add(1, target, push), target, looked_at)

    def _cross_entropy(self, logits: Tensor, target: Tensor, looked_at: Tensor) -> Tensor:
        """Mean over all voxels, those of the background weighted by their doubt."""
        background, structures = marginal_log_probabilities(logits, looked_at).split([1, logits.shape[1] - 1], dim=1)
        doubt = (-background.expm1()).clamp(min=LEAST_DOUBT) ** self.focus
        return functional.nll_loss(torch.cat([doubt * background, structures], dim=1), target[:, 0])
