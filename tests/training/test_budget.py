"""The time a training may take."""

from __future__ import annotations

import math
import time

import pytest
import torch

from lib.training import budget as budget_module
from lib.training import finetune as finetune_module
from lib.training.budget import Budget, learning_rate_at
from lib.training.finetune import FinetuneOptions, finetune
from tests.training.shapes import TASK, case


class Clocks:
    """Stands in for the module ``time``; moved by hand."""

    def __init__(self) -> None:
        self.wall = self.ran = 100.0

    def perf_counter(self) -> float:
        return self.wall

    def thread_time(self) -> float:
        return self.ran


@pytest.fixture
def clocks(monkeypatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(budget_module, "time", clocks)
    return clocks


def ended_at(budget: Budget, clocks: Clocks, share_run: float) -> float:
    """Seconds by the clock until the budget is used up by a thread that runs for a share of them."""
    for second in range(1, 1000):
        clocks.wall, clocks.ran = 100.0 + second, 100.0 + second * share_run
        if budget.fraction == 1:
            return second
    return math.inf


@pytest.mark.parametrize("threads", [1, 4, 8, 64])
def test_on_idle_cpus_the_asked_time_is_the_time_by_the_clock_however_many_there_are(clocks, monkeypatch, threads):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)

    assert ended_at(Budget(120), clocks, share_run=1.0) == 120


def test_on_busy_cpus_what_other_programs_take_is_given_back(clocks):
    assert ended_at(Budget(60), clocks, share_run=0.5) == 120


def test_on_very_busy_cpus_a_training_takes_three_times_its_seconds(clocks):
    assert ended_at(Budget(60), clocks, share_run=0.1) == 180


@pytest.mark.parametrize("device", ["cuda", "mps", "xpu"])
@pytest.mark.parametrize("share_run", [0.02, 1.0])
def test_on_a_gpu_the_clock_counts_whether_the_thread_sleeps_or_spins_meanwhile(clocks, device, share_run):
    assert ended_at(Budget(120, device), clocks, share_run) == 120


def test_more_processor_time_than_wall_time_counts_as_wall_time(clocks):
    budget = Budget(60)
    clocks.wall, clocks.ran = 110.0, 180.0

    assert budget.spent == 10.0


def test_a_thread_that_computes_alone_uses_up_its_time_though_its_helpers_are_idle(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    budget, ran = Budget(60), time.thread_time()
    while time.thread_time() - ran < 0.1:
        sum(range(1000))

    assert budget.spent >= 0.1


def test_a_training_counts_the_time_of_its_own_device(monkeypatch):
    devices = []
    monkeypatch.setattr(finetune_module, "Budget", lambda seconds, device: devices.append(device) or Budget(0))

    finetune([case(0)], None, TASK, FinetuneOptions(seconds=0, device="cpu"), lambda _: None, lambda: False)

    assert devices == ["cpu"]


def test_no_seconds_are_used_up_from_the_start(clocks):
    assert Budget(0).fraction == 1


def test_the_learning_rate_rises_to_its_peak_and_ends_at_zero():
    rates = [learning_rate_at(step / 100, 0.01) for step in range(101)]

    assert max(rates) == rates[10] == 0.01
    assert rates[0] == pytest.approx(0.001) and rates[100] == pytest.approx(0, abs=1e-9)
    assert rates[:11] == sorted(rates[:11]) and rates[10:] == sorted(rates[10:], reverse=True)
