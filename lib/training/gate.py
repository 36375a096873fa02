"""Whether a new model version may serve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lib.training.validate import CaseScore, mean_dice


@dataclass(frozen=True)
class Verdict:
    """What becomes of a candidate and why.

    Attributes:
        state: ``serving``: it takes over; ``kept``: it is stored, the earlier one goes on serving.
        reason: one sentence for people.
    """

    state: Literal["serving", "kept"]
    reason: str


@dataclass(frozen=True)
class Rival:
    """What drafts now.

    Attributes:
        name: for the reason, such as ``version 3``.
        scores: how it does on the validation cases.
        needs_proof: only who is no worse on a validation case takes its place.
    """

    name: str
    scores: Sequence[CaseScore]
    needs_proof: bool = False


NO_RIVAL = Rival("", ())
"""Nothing drafts so far."""


FEWEST_CASES = 3
"""To learn from: what one or two cases teach finds them again and little else."""


def verdict(candidate_scores: Sequence[CaseScore], rival: Rival, learned_from: int) -> Verdict:
    """Lets a candidate serve unless its mean Dice is below that of what drafts now.

    Both are compared on the cases and structures that both were measured on, so a structure that was just added or
    a case that came later does not count against either. Where only one of them found something that is not there,
    the other one's agreement counts as 1.

    Without a validation case a candidate serves and says so, but not if it has learned from fewer than
    ``FEWEST_CASES``, and not in the place of one that needs proof. Such is a rule: rare lesions take many corrections
    to learn, and a rule finds some from the first case on.

    Args:
        candidate_scores: of the new version.
        rival: what drafts now, measured on the same cases.
        learned_from: how many images the new version has learned from.
    """
    candidate, before = _comparable(candidate_scores, rival.scores)
    new, old = mean_dice(candidate), mean_dice(before)
    if rival.needs_proof and (new is None or old is None):
        return Verdict("kept", f"not validated: no validation case that shows a difference; {rival.name} stays")
    if not candidate_scores and learned_from < FEWEST_CASES:
        return Verdict("kept", f"not validated, and learned from {learned_from} of at least {FEWEST_CASES} cases")
    if not candidate_scores:
        return Verdict("serving", "not validated: no validation case so far")
    if new is None or old is None:
        mean = mean_dice(candidate_scores)
        found = "no Dice is defined" if mean is None else f"mean Dice {mean:.3f}"
        return Verdict("serving", f"first one measured: {found} on {_cases(candidate_scores)}")
    if new < old:
        return Verdict("kept", f"mean Dice {new:.3f} is below the {old:.3f} of {rival.name} on {_cases(candidate)}")
    return Verdict("serving", f"mean Dice {new:.3f}, {rival.name} had {old:.3f}, on {_cases(candidate)}")


def _cases(scores: Sequence[CaseScore]) -> str:
    return f"{len(scores)} validation case{'' if len(scores) == 1 else 's'}"


def _comparable(candidate: Sequence[CaseScore], rival: Sequence[CaseScore]) -> tuple[list[CaseScore], list[CaseScore]]:
    """Both lists cut to their common cases and structures."""
    earlier = {score.image_id: score for score in rival}
    pairs = [(score, earlier[score.image_id]) for score in candidate if score.image_id in earlier]
    cut = [_cut(new, old) for new, old in pairs]
    return [new for new, _ in cut], [old for _, old in cut]


def _cut(new: CaseScore, old: CaseScore) -> tuple[CaseScore, CaseScore]:
    """Two scores of one case with the structures of both; agreement on an absent one is 1 where the other erred."""
    new_dice: dict[str, float | None] = {}
    old_dice: dict[str, float | None] = {}
    for name in new.dice.keys() & old.dice.keys():
        values = new.dice[name], old.dice[name]
        if values != (None, None):
            new_dice[name], old_dice[name] = (1.0 if value is None else value for value in values)
    return replace(new, dice=new_dice), replace(old, dice=old_dice)
