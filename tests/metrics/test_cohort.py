"""Rows of cases, their means, and how sure these are."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from lib.metrics.cohort import (
    ANY,
    FIGURES,
    StructureScore,
    case_scores,
    mean_interval,
    share_interval,
    spread,
    summaries,
    worst_cases,
)
from lib.metrics.detection import CaseCount, LesionCount, LesionRule
from lib.volume import Grid
from tests.drawn import drawn

VALUES = {"liver": 1, "spleen": 2}

TRUTH = drawn("""
    1 1 . . .
    1 1 . . .
    . . . 2 2
""")
PREDICTION = drawn("""
    . 1 1 . .
    . 1 1 . .
    . . . . .
""")
GRID = Grid((3, 5, 1), np.diag([10.0, 10.0, 5.0, 1.0]))
"""Voxels of 0.5 ml, pixels of 100 mm²."""


def scored(**changes) -> list[StructureScore]:
    return case_scores("a", TRUTH, PREDICTION, GRID, VALUES, **changes)


def a_row(case: str, dice: float, structure: str = "liver", **changes) -> StructureScore:
    row = replace(scored()[0], case=case, structure=structure, dice=dice)
    return replace(row, **changes)


def test_a_case_has_a_row_for_each_structure_and_one_for_all_together():
    assert [row.structure for row in scored()] == ["liver", "spleen", ANY]


def test_a_row_has_every_figure_of_its_structure():
    liver = scored()[0]

    assert (liver.true_ml, liver.predicted_ml, liver.false_positive_ml) == pytest.approx((2.0, 2.0, 1.0))
    assert (liver.dice, liver.sensitivity, liver.precision, liver.volume_error_percent) == (0.5, 0.5, 0.5, 0.0)
    assert liver.iou == pytest.approx(1 / 3)
    # One of two columns lies on the other mask, the other one 10 mm beside it, and so both ways.
    assert (liver.hd95_mm, liver.assd_mm) == (10.0, 5.0)
    assert (liver.true_lesions, liver.found_lesions, liver.false_lesions) == (1, 1, 0)
    assert liver.is_positive and liver.is_predicted


def test_a_missed_structure_has_what_is_defined_without_a_prediction():
    spleen = scored()[1]

    assert (spleen.dice, spleen.sensitivity, spleen.volume_error_percent) == (0, 0, -100)
    assert math.isnan(spleen.precision) and math.isinf(spleen.hd95_mm)
    assert (spleen.true_lesions, spleen.found_lesions, spleen.is_predicted) == (1, 0, False)


def test_the_row_for_all_forgets_which_structure_it_is():
    swapped = np.choose(TRUTH, [0, 2, 1]).astype(np.uint8)

    everything = case_scores("a", TRUTH, swapped, GRID, VALUES)[-1]

    assert everything.structure == ANY and everything.dice == 1.0


def test_a_structure_that_was_not_looked_at_has_no_row():
    assert [row.structure for row in scored(looked_at={"spleen"})] == ["spleen"]


def test_all_together_is_unknown_where_one_structure_was_not_looked_at():
    values = {**VALUES, "kidney": 3}

    rows = case_scores("a", TRUTH, PREDICTION, GRID, values, looked_at={"liver", "spleen"})

    assert [row.structure for row in rows] == ["liver", "spleen"]


def test_a_single_structure_needs_no_row_for_all():
    assert [row.structure for row in case_scores("a", TRUTH, PREDICTION, GRID, {"liver": 1})] == ["liver"]


def test_the_size_limit_counts_in_square_millimetres_in_one_slice():
    """The liver has 400 mm², the spleen 200 mm²."""
    rows = scored(rule=LesionRule(least_size=300.0))

    assert [row.true_lesions for row in rows[:2]] == [1, 0]
    assert [row.is_positive for row in rows[:2]] == [True, True]


def test_means_leave_out_what_is_undefined_or_infinite_and_say_how_many_are_left():
    found = spread([1.0, math.nan, 3.0, math.inf])

    assert (found.mean, found.n) == (2.0, 2)
    assert found.sd == pytest.approx(math.sqrt(2))


def test_one_case_has_a_mean_but_neither_deviation_nor_interval():
    found = spread([0.5])

    assert (found.mean, found.n) == (0.5, 1)
    assert math.isnan(found.sd) and all(map(math.isnan, found.interval))


def test_no_case_has_no_mean():
    assert math.isnan(spread([]).mean) and spread([]).n == 0


def test_a_summary_adds_lesions_and_counts_cases():
    rows = [
        a_row("a", 0.5, true_lesions=2, found_lesions=1, false_lesions=1),
        a_row("b", 0.7, true_lesions=1, found_lesions=1, false_lesions=0),
        a_row("c", 0.0, true_lesions=0, found_lesions=0, false_lesions=2, is_positive=False, false_positive_ml=3.0),
        a_row("d", math.nan, true_lesions=0, found_lesions=0, false_lesions=0, is_positive=False, is_predicted=False,
              false_positive_ml=0.0),
    ]  # fmt: skip

    found = summaries(rows)["liver"]

    assert found.cases == 4 and tuple(found.figures) == FIGURES
    assert found.figures["dice"].mean == pytest.approx(0.4) and found.figures["dice"].n == 3
    assert found.lesions == LesionCount(true=3, found=2, false=3)
    assert found.detection == CaseCount(positives=2, found=2, negatives=2, refuted=1)
    assert (found.false_positive_ml.mean, found.false_positive_ml.n) == (1.5, 2)


def test_a_structure_counts_only_the_cases_that_have_a_row_for_it():
    found = summaries([a_row("a", 0.5), a_row("b", 0.7), a_row("b", 0.9, "spleen")])

    assert {name: one.cases for name, one in found.items()} == {"liver": 2, "spleen": 1}


def test_equal_seeds_give_equal_intervals():
    values = np.random.default_rng(1).random(12).tolist()

    assert mean_interval(values, seed=3) == mean_interval(values, seed=3) != mean_interval(values, seed=4)


def test_an_interval_of_many_cases_is_that_of_the_normal_distribution():
    """1.96 standard errors to either side; 2000 resamples tell it to a twentieth or so."""
    values = np.random.default_rng(0).normal(10.0, 2.0, 400)
    error = values.std(ddof=1) / 20

    low, high = mean_interval(values.tolist())

    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_nineteen_of_twenty_intervals_hold_the_true_mean():
    """200 cohorts of 30 cases whose true mean is 0; the percentile interval is a little too narrow for so few."""
    random = np.random.default_rng(0)
    intervals = [mean_interval(random.normal(size=30).tolist(), seed) for seed in range(200)]

    assert 0.90 <= np.mean([low <= 0 <= high for low, high in intervals]) <= 0.98


def test_differences_case_by_case_see_through_cases_that_are_hard_for_both():
    hard = np.linspace(0.2, 0.9, 10)
    better = hard + 0.02

    low, high = mean_interval((better - hard).tolist())

    assert (low, high) == pytest.approx((0.02, 0.02))
    assert mean_interval(better.tolist())[0] < hard.mean()


def test_a_share_of_all_cases_is_not_certain():
    """Wilson's interval for 10 of 10 reaches down to 10 / (10 + 1.96²)."""
    low, high = share_interval(10, 10)

    assert low == pytest.approx(10 / (10 + 1.96**2), abs=1e-3) and high == pytest.approx(1.0)
    assert all(map(math.isnan, share_interval(0, 0)))


def test_the_worst_cases_come_first():
    rows = [
        a_row("fine", 0.9), a_row("poor", 0.4), a_row("half", 1.0), a_row("half", 0.0, "spleen"),
        a_row("half", 0.0, ANY), a_row("agreed", math.nan),
    ]  # fmt: skip

    assert worst_cases(rows, 2) == ["poor", "half"]
    assert worst_cases(rows, 9) == ["poor", "half", "fine"]
