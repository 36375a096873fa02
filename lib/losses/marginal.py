"""Dice and cross entropy that leave out what an annotator did not look at."""

from __future__ import annotations

import torch
from monai.losses.dice import DiceLoss
from monai.networks.utils import one_hot
from torch import Tensor, nn
from torch.nn import functional


class MarginalDiceCrossEntropy(nn.Module):
    """The sum of a Dice loss and a cross entropy over the structures that were looked at.

    A structure that was not looked at may be anywhere in what is marked as background. For the cross entropy its
    probability is therefore added to that of the background; in the Dice loss its channel does not take part.
    A case in which everything was looked at and nothing is present is a true negative: the cross entropy teaches it.

    The Dice is taken over all cases of a batch together, so that a structure that is missing in one patch does not
    count as a failure there.

    Reference:
        Shi et al., "Marginal loss and exclusion loss for partially supervised multi-organ segmentation",
        Medical Image Analysis 2021 (marginal part).
    """

    def __init__(self) -> None:
        super().__init__()
        self.dice = DiceLoss(include_background=False, batch=True, reduction="none", smooth_nr=1e-5, smooth_dr=1e-5)

    def forward(self, logits: Tensor, target: Tensor, looked_at: Tensor) -> Tensor:
        """The loss of a batch, a single number of at least 0; arguments as for ``parts``."""
        cross_entropy, dice_loss = self.parts(logits, target, looked_at)
        return cross_entropy + dice_loss

    def parts(self, logits: Tensor, target: Tensor, looked_at: Tensor) -> tuple[Tensor, Tensor]:
        """Cross entropy and Dice loss of a batch.

        Args:
            logits: float (B, C, I, J, K), background first.
            target: long (B, 1, I, J, K), channel numbers.
            looked_at: bool (B, C); the background's entry is ignored, it always counts.

        Returns:
            Two single numbers, at least 0.
        """
        looked_at, target = covered(looked_at, target)
        return self._cross_entropy(logits, target, looked_at), self._dice_loss(logits, target, looked_at)

    def _cross_entropy(self, logits: Tensor, target: Tensor, looked_at: Tensor) -> Tensor:
        """Mean over all voxels."""
        return functional.nll_loss(marginal_log_probabilities(logits, looked_at), target[:, 0])

    def _dice_loss(self, logits: Tensor, target: Tensor, looked_at: Tensor) -> Tensor:
        """Mean over the structures that were looked at in at least one case; 0 if there is none."""
        counts = looked_at[:, :, None, None, None].to(logits.dtype)
        truth = one_hot(target, num_classes=logits.shape[1], dtype=logits.dtype)
        by_structure = self.dice(logits.softmax(dim=1) * counts, truth * counts).flatten()
        counted = looked_at[:, 1:].any(dim=0)
        return by_structure[counted].mean() if counted.any() else by_structure.sum() * 0


def covered(looked_at: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """What counts: the background always does, and marks of a structure that was not looked at are background.

    Args:
        looked_at: bool (B, C).
        target: long (B, 1, I, J, K), channel numbers.

    Returns:
        Both in the form they came in; the arguments are left as they are.
    """
    looked_at = looked_at.clone()
    looked_at[:, 0] = True
    if looked_at.all():
        return looked_at, target
    cases = torch.arange(len(target), device=target.device)[:, None, None, None, None]
    return looked_at, torch.where(looked_at[cases, target], target, torch.zeros_like(target))


def marginal_log_probabilities(logits: Tensor, looked_at: Tensor) -> Tensor:
    """Log probabilities (B, C, I, J, K) with those not looked at added to the background."""
    log_probabilities = logits.log_softmax(dim=1)
    if looked_at.all():
        return log_probabilities
    merged = ~looked_at
    merged[:, 0] = True
    unmerged = log_probabilities.masked_fill(~merged[:, :, None, None, None], -torch.inf)
    background = unmerged.logsumexp(dim=1, keepdim=True)
    return torch.cat([background, log_probabilities[:, 1:]], dim=1)
