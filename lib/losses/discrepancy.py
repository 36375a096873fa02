"""A loss that looks hardest where the mask to be refined is wrong."""

from __future__ import annotations

import torch
from monai.networks.utils import one_hot
from torch import Tensor
from torch.nn import functional

from lib.losses.marginal import MarginalDiceCrossEntropy, covered
from lib.losses.position_aware import log_odds

EMPHASIS = 10.0
"""How much more a voxel counts where the earlier mask was wrong (lambda of the source)."""

DICE_SHARE = 0.8
"""Share of the Dice in the sum of both losses (alpha of the source)."""


def discrepancy_weight(previous: Tensor, truth: Tensor, emphasis: float = EMPHASIS) -> Tensor:
    """``emphasis * XOR(previous, truth) + 1``: 11 where the earlier mask was wrong, else 1.

    Args:
        previous: float of any shape, 0 or 1 in each channel of a structure; of probabilities the distance from the
            truth takes the place of the XOR.
        truth: float of the same shape, 0 or 1.
        emphasis: what is added where the earlier mask was wrong.
    """
    return emphasis * (previous - truth).abs() + 1


class DiscrepancyLoss(MarginalDiceCrossEntropy):
    """``alpha * Dice + (1 - alpha) * discrepancy``: each structure against all the rest, weighted as above.

    For one structure that is the source's formula. The Dice is smoothed and taken over the batch, where the source
    divides by zero for empty masks. A structure that the annotator did not look at has no part in it.

    Attributes:
        emphasis: of voxels in which the earlier mask was wrong.
        dice_share: alpha, 0 to 1.
        is_mean: the discrepancy is a mean over voxels and structures; otherwise a sum over them, mean over the
            batch, as the source writes it.

    Reference:
        Recurrent refinement of non-expert masks (ReReNet), BIBM 2024, equations 3.2 to 3.5 of the thesis on it.
    """

    def __init__(self, emphasis: float = EMPHASIS, dice_share: float = DICE_SHARE, is_mean: bool = True) -> None:
        super().__init__()
        self.emphasis = emphasis
        self.dice_share = dice_share
        self.is_mean = is_mean

    def of_stage(
        self, logits: Tensor, target: Tensor, looked_at: Tensor, previous: Tensor, dice_only: bool = False
    ) -> tuple[Tensor, Tensor]:
        """The loss of one stage, and the Dice loss in it.

        Args:
            logits: float (B, C, I, J, K), background first.
            target: long (B, 1, I, J, K), channel numbers.
            looked_at: bool (B, C); the background's entry is ignored.
            previous: float (B, C - 1, I, J, K), the mask that the stage started from, a channel for each structure.
            dice_only: while a training warms up.

        Returns:
            Two single numbers, at least 0; both 0 if nothing was looked at.
        """
        looked_at, target = covered(looked_at, target)
        dice = self._dice_loss(logits, target, looked_at)
        if dice_only:
            return dice, dice
        discrepancy = self._discrepancy(logits, target, looked_at, previous)
        return self.dice_share * dice + (1 - self.dice_share) * discrepancy, dice

    def _discrepancy(self, logits: Tensor, target: Tensor, looked_at: Tensor, previous: Tensor) -> Tensor:
        truth = one_hot(target, num_classes=logits.shape[1], dtype=logits.dtype)[:, 1:]
        each = functional.binary_cross_entropy_with_logits(log_odds(logits)[:, 1:], truth, reduction="none")
        weighted = (discrepancy_weight(previous, truth, self.emphasis) * each)[looked_at[:, 1:]]
        if self.is_mean:
            return weighted.mean() if len(weighted) else torch.zeros_like(logits).sum()
        return weighted.sum() / len(logits)
