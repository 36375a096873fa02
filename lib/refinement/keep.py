"""When a refiner's own change of a structure is so implausible that the draft is the safer mask."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from lib.metrics.overlap import dice
from lib.networks.checkpoint import MOST_DRAFT_VOTES
from lib.volume import Array

POOR_DRAFT, GOOD_DRAFT = 0.6, 0.8
"""Mean Dice of drafts that have no vote beside the refiner, and of those that have all votes."""

LEAST_AGREEMENT = 0.4
"""Dice of draft and refined mask, where drafts have all votes. Of 672 outlines by crowd workers (BU-BIL sets 1 and 4)
3 have less in common with the expert's; a mask that has less in common with the draft is another object."""

LEAST_SETTLED = 0.7
"""Dice of the last two stages. A refiner that still changes so much has found no mask that it agrees with."""

RARELY = 0.01
"""In so many of the masks of its training a refiner was less sure than it must be for the draft to be replaced."""

SURE_ENOUGH = 0.9
"""No greater estimate is asked for, however sure a refiner was of the masks of its training."""

FAINT = 0.05
"""Voxels less probable than this do not count in an estimate: there are very many of them around a small structure."""

LARGEST_JUMP = 2.5
"""Factor by which the volume may grow or shrink, where drafts have all votes. Of the same 672 outlines 9 miss the
expert's area by more."""


def votes_for(draft_dice: Sequence[float]) -> float:
    """Votes of such drafts in each voxel, beside the one of the refiner: the better they are, the more they count.

    Args:
        draft_dice: Dice of drafts with what experts made of them; where there is none, drafts have all votes.
    """
    if not draft_dice:
        return MOST_DRAFT_VOTES
    share = (float(np.mean(draft_dice)) - POOR_DRAFT) / (GOOD_DRAFT - POOR_DRAFT)
    return MOST_DRAFT_VOTES * min(max(share, 0.0), 1.0)


def with_draft(probabilities: Tensor, draft: Tensor, votes: float) -> Tensor:
    """A refiner's probabilities averaged with the draft.

    Args:
        probabilities: float (C, I, J, K), background first.
        draft: integer (I, J, K) of channel numbers.
        votes: of the draft beside the one of the refiner.
    """
    return probabilities.scatter_add(0, draft.long()[None], torch.full_like(probabilities[:1], votes)) / (1 + votes)


def estimated_dice(probabilities: Tensor, mask: Tensor) -> list[float]:
    """Dice with the truth that each structure of a mask should have by the refiner's own probabilities.

    Networks are too sure of themselves, so it is too high: it compares masks of one refiner with each other.

    Args:
        probabilities: float (C, I, J, K), background first.
        mask: integer (I, J, K) of channel numbers.

    Returns:
        2 sum(p m) / (sum p + sum m) for each channel after the background; 0.0 where nothing is found.
    """
    found = []
    for channel, probability in enumerate(probabilities[1:], start=1):
        marked, probable = mask == channel, probability >= FAINT
        together = float(probability[probable].sum()) + float(marked.sum())
        found.append(2 * float(probability[marked & probable].sum()) / together if together else 0.0)
    return found


def least_quality(estimates: Sequence[float]) -> float:
    """The estimated Dice that only ``RARELY`` masks of a training fall below, or ``SURE_ENOUGH``; 0.0 without masks."""
    return min(float(np.quantile(estimates, RARELY)), SURE_ENOUGH) if estimates else 0.0


def reasons_to_keep(
    masks: Sequence[Array],
    structures: Sequence[str],
    votes: float = MOST_DRAFT_VOTES,
    estimates: Sequence[float] = (),
    least: float = 0.0,
    cleared: Collection[str] = (),
) -> dict[str, str]:
    """Why structures should stay as the draft has them, by name; the last stage may take the place of all others.

    A structure that is not in the draft appears only if the refiner is as sure of it as it nearly always was.

    Args:
        masks: uint8 (I, J, K) of channel numbers: the draft, then the mask of each stage, at least one.
        structures: names of the channels after the background.
        votes: that drafts have; the fewer, the larger a change may be, and the less sure the refiner.
        estimates: estimated Dice of each structure of the last mask, if known.
        least: that an estimate must reach where drafts have all votes.
        cleared: structures of which experts have left nothing in some draft: these may vanish.
    """
    trust = votes / MOST_DRAFT_VOTES
    reasons = {}
    for channel, name in enumerate(structures, start=1):
        draft, *stages = (mask == channel for mask in masks)
        if not stages[-1].any():
            if draft.any() and name not in cleared:
                reasons[name] = "nothing would be left of it"
            continue
        limit = trust * least if draft.any() else least
        if draft.any() and (reason := _implausible(draft, stages, trust)):
            reasons[name] = reason
        elif estimates and (estimate := estimates[channel - 1]) < limit:
            reasons[name] = f"the refiner is less sure of it than it nearly always was ({estimate:.2f}, {limit:.2f})"
    return reasons


def _implausible(draft: Array, stages: Sequence[Array], trust: float) -> str:
    """What is wrong with the change of one structure, bool (I, J, K) each; ``trust`` in the draft is 0 to 1."""
    last = stages[-1]
    growth = np.count_nonzero(last) / np.count_nonzero(draft)
    if not trust / LARGEST_JUMP <= growth <= LARGEST_JUMP / max(trust, 1e-6):
        return f"its volume would be {growth:.2f} times as large"
    if (agreement := dice(draft, last)) < trust * LEAST_AGREEMENT:
        return f"the refined mask has a Dice of only {agreement:.2f} with the draft"
    if len(stages) > 1 and (settled := dice(stages[-2], last)) < LEAST_SETTLED:
        return f"the last two stages have a Dice of only {settled:.2f} with each other"
    return ""
