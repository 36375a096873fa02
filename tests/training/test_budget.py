"""The time a training may take."""

from __future__ import annotations

import pytest

from lib.training import budget as budget_module
from lib.training.budget import Budget, learning_rate_at


class Clocks:
    """Stands in for the module ``time``; moved by hand."""

    def __init__(self) -> None:
        self.wall = self.cpu = 100.0

    def perf_counter(self) -> float:
        return self.wall

    def process_time(self) -> float:
        return self.cpu


@pytest.fixture
def clocks(monkeypatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(budget_module, "time", clocks)
    monkeypatch.setattr(budget_module.torch, "get_num_threads", lambda: 2)
    return clocks


def test_processor_time_of_all_threads_counts_once(clocks):
    budget = Budget(60)
    clocks.wall, clocks.cpu = 130.0, 150.0

    assert (budget.spent, budget.fraction) == (25.0, pytest.approx(25 / 60))


def test_a_busy_machine_lengthens_a_training_at_most_threefold(clocks):
    budget = Budget(60)
    clocks.wall, clocks.cpu = 100 + 180.0, 100 + 2 * 10.0

    assert budget.fraction == 1


def test_more_processor_time_than_wall_time_counts_as_wall_time(clocks):
    budget = Budget(60)
    clocks.wall, clocks.cpu = 110.0, 180.0

    assert budget.spent == 10.0


def test_no_seconds_are_used_up_from_the_start(clocks):
    assert Budget(0).fraction == 1


def test_the_learning_rate_rises_to_its_peak_and_ends_at_zero():
    rates = [learning_rate_at(step / 100, 0.01) for step in range(101)]

    assert max(rates) == rates[10] == 0.01
    assert rates[0] == pytest.approx(0.001) and rates[100] == pytest.approx(0, abs=1e-9)
    assert rates[:11] == sorted(rates[:11]) and rates[10:] == sorted(rates[10:], reverse=True)
