"""What an annotator does differently from an expert, on drawn masks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lib.metrics.bias import CaseBias, annotator_bias, case_bias
from lib.volume import Grid
from tests.drawn import drawn

EXPERT = drawn("""
    . . . . . . . .
    . # # # . . . .
    . # # # . . # .
    . # # # . . . .
    . . . . . . . .
    . . . . . . . .
""")
LARGER = drawn("""
    # # # # # . . .
    # # # # # . . .
    # # # # # . . .
    # # # # # . . .
    # # # # # . . .
    . . . . . . . #
""")
GRID = Grid((6, 8, 1), np.diag([2.0, 2.0, 5.0, 1.0]))


def test_one_who_draws_too_large_misses_a_small_one_and_invents_another():
    found = case_bias(EXPERT, LARGER, GRID)

    # Of the 17 surface pixels, 12 are 2 mm outside, 4 a diagonal; the invented one is 2*sqrt(3² + 1²) from (2, 6).
    assert found.shift_mm == pytest.approx((12 * 2 + 4 * math.sqrt(8) + math.sqrt(40)) / 17)
    assert found.volume_percent == pytest.approx(100 * (26 - 10) / 10)
    assert found.dice == pytest.approx(2 * 9 / 36)
    assert (found.missed, found.invented) == (1, 1)


def test_one_who_draws_too_small_is_shifted_inwards():
    smaller = np.zeros_like(EXPERT)
    smaller[2, 2] = 1

    found = case_bias(EXPERT, smaller, GRID)

    assert found.shift_mm == -2.0
    assert found.volume_percent == pytest.approx(-90)
    assert (found.missed, found.invented) == (1, 0)


def test_a_component_that_is_only_touched_is_neither_missed_nor_invented():
    grazed = np.zeros_like(EXPERT)
    grazed[3:6, 3] = 1

    assert (case_bias(EXPERT[:, :5], grazed[:, :5], GRID).missed, case_bias(EXPERT, grazed, GRID).invented) == (0, 0)


def test_an_annotator_without_a_mark_has_missed_everything():
    found = case_bias(EXPERT, np.zeros_like(EXPERT), GRID)

    assert (found.missed, found.invented, found.volume_percent) == (2, 0, -100.0)
    assert math.isnan(found.shift_mm)


def test_a_bias_that_recurs_has_an_interval_without_zero():
    cases = [CaseBias(0.8, volume, shift, 1, 0) for volume, shift in ((10.0, -1.0), (20.0, 1.0), (30.0, 0.0))]

    found = annotator_bias(cases)

    assert (found.cases, found.missed, found.invented) == (3, 3, 0)
    assert found.volume_percent.mean == pytest.approx(20.0) and found.volume_percent.interval[0] > 0
    assert found.shift_mm.mean == 0.0 and found.shift_mm.interval[0] < 0 < found.shift_mm.interval[1]


def test_cases_without_a_finite_figure_do_not_spoil_the_mean():
    cases = [CaseBias(0.0, math.inf, math.inf, 0, 2), CaseBias(0.9, 10.0, 0.5, 0, 0)]

    found = annotator_bias(cases)

    assert (found.cases, found.invented, found.shift_mm.n, found.shift_mm.mean) == (2, 2, 1, 0.5)
