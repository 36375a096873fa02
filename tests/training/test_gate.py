"""Who may serve."""

from __future__ import annotations

import pytest

from lib.training.gate import FEWEST_CASES, NO_RIVAL, Rival, verdict
from lib.training.validate import CaseScore, mean_dice


def score(image_id: str, **dice: float | None) -> CaseScore:
    return CaseScore(image_id, dice, dict.fromkeys(dice))


def judged(candidate: list[CaseScore], serving: list[CaseScore]) -> str:
    return verdict(candidate, Rival("version 3", serving), 9).state


def test_without_validation_cases_a_candidate_serves_and_says_so():
    found = verdict([], NO_RIVAL, FEWEST_CASES)

    assert (found.state, found.reason) == ("serving", "not validated: no validation case so far")


@pytest.mark.parametrize("rival", [NO_RIVAL, Rival("version 3", ())])
def test_what_one_or_two_cases_taught_serves_only_if_a_validation_case_speaks_for_it(rival):
    found = verdict([], rival, 2)

    assert (found.state, found.reason) == ("kept", "not validated, and learned from 2 of at least 3 cases")
    assert verdict([score("a", liver=0.6)], rival, 2).state == "serving"


def test_a_worse_candidate_is_kept_with_both_numbers():
    before = [score("a", liver=0.9), score("b", liver=0.8)]

    found = verdict([score("a", liver=0.8), score("b", liver=0.7)], Rival("version 3", before), 9)

    assert found.state == "kept"
    assert found.reason == "mean Dice 0.750 is below the 0.850 of version 3 on 2 validation cases"


@pytest.mark.parametrize("candidate", [0.8, 0.9])
def test_an_equal_or_better_candidate_serves_with_both_numbers(candidate):
    found = verdict([score("a", liver=candidate)], Rival("the rule mass", [score("a", liver=0.8)], needs_proof=True), 9)

    assert found.state == "serving"
    assert found.reason == f"mean Dice {candidate:.3f}, the rule mass had 0.800, on 1 validation case"


@pytest.mark.parametrize("scores", [[], [score("a", liver=None)]])
def test_a_rule_goes_on_drafting_until_a_case_shows_that_a_model_is_better(scores):
    """No validation case, or one in which rule and model agree that nothing is there."""
    found = verdict(scores, Rival("the rule mass", scores, needs_proof=True), 9)

    assert found.state == "kept"
    assert found.reason.startswith("not validated: no validation case that shows a difference; the rule mass stays")


def test_the_first_measured_version_serves():
    found = verdict([score("a", liver=0.6)], NO_RIVAL, 9)

    assert (found.state, found.reason) == ("serving", "first one measured: mean Dice 0.600 on 1 validation case")


def test_a_structure_that_the_serving_version_lacks_does_not_count():
    assert judged([score("a", liver=0.9, kidney=0.1)], [score("a", liver=0.8)]) == "serving"


def test_a_case_that_came_later_does_not_count():
    found = verdict([score("a", liver=0.9), score("late", liver=0.1)], Rival("version 3", [score("a", liver=0.8)]), 9)

    assert found.state == "serving" and "1 validation case" in found.reason


def test_finding_what_is_not_there_counts_against_the_one_that_did():
    """The structure is absent in the case: the serving version agrees, the candidate invents one."""
    cases = [score("a", liver=0.9)], [score("a", liver=0.9)]

    assert judged([*cases[0], score("b", liver=0.0)], [*cases[1], score("b", liver=None)]) == "kept"
    assert judged([*cases[0], score("b", liver=None)], [*cases[1], score("b", liver=0.0)]) == "serving"


def test_agreement_that_something_is_absent_cannot_be_lost():
    assert judged([score("a", liver=None)], [score("a", liver=None)]) == "serving"


def test_mean_dice_weighs_structures_equally_however_many_cases_show_them():
    scores = [score("a", liver=1.0, cyst=None), score("b", liver=0.5, cyst=None), score("c", liver=0.6, cyst=0.3)]

    assert mean_dice(scores) == pytest.approx((0.7 + 0.3) / 2)


def test_without_a_defined_dice_there_is_no_mean():
    assert mean_dice([]) is None and mean_dice([score("a", liver=None)]) is None
