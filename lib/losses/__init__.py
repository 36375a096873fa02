"""What training minimises."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from torch import Tensor

from lib.losses.asymmetric import AsymmetricDiceCrossEntropy
from lib.losses.marginal import MarginalDiceCrossEntropy
from lib.losses.position_aware import PositionAwareLoss
from lib.losses.typed import TypedDiceCrossEntropy


class Loss(Protocol):
    """A loss whose two parts are minimised together."""

    def parts(self, logits: Tensor, target: Tensor, looked_at: Tensor) -> tuple[Tensor, Tensor]:
        """A cross entropy and an overlap loss of a batch, as ``MarginalDiceCrossEntropy.parts``."""


LOSSES: dict[str, Callable[[], Loss]] = {
    "dice_ce": MarginalDiceCrossEntropy,
    "asymmetric_focal": partial(AsymmetricDiceCrossEntropy, focus=2.0),
    "asymmetric_margin": partial(AsymmetricDiceCrossEntropy, margin=1.0),
    "asymmetric": partial(AsymmetricDiceCrossEntropy, margin=1.0, focus=2.0),
    "typed": TypedDiceCrossEntropy,
    "typed_asymmetric": partial(TypedDiceCrossEntropy, margin=1.0, focus=2.0),
    "position_aware": PositionAwareLoss,
}
"""What ``Task.loss`` may name."""
