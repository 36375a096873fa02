"""Finished rows of a benchmark are not measured again, whatever ended the run."""

from __future__ import annotations

from pathlib import Path

from scripts.benchmarks.common import Rows


def test_a_finished_row_is_found_by_a_later_run(tmp_path: Path) -> None:
    Rows(tmp_path, "bench").add({"net": "k1", "seed": 0, "dice": 0.8})

    later = Rows(tmp_path, "bench")

    assert later.find(net="k1", seed=0) == {"net": "k1", "seed": 0, "dice": 0.8}
    assert later.find(net="k1", seed=1) is None


def test_a_row_that_was_torn_by_a_kill_is_forgotten_and_the_next_one_is_whole(tmp_path: Path) -> None:
    Rows(tmp_path, "bench").add({"net": "k1"})
    with (tmp_path / "bench.jsonl").open("a") as file:
        file.write('{"net": "k3", "di')

    Rows(tmp_path, "bench").add({"net": "k5"})

    assert Rows(tmp_path, "bench").rows == [{"net": "k1"}, {"net": "k5"}]
