"""Kills writers at random moments and counts what is lost.

Three quarters of the rounds kill a process that writes to the record alone (every tenth while it migrates an old
one), the rest a whole server with saves, uploads and training under way.
"""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import Any


def main(argv: list[str] | None = None) -> None:
    """Runs the rounds and prints one JSON object as the last line."""
    from scripts.benchmarks.common import Rows, parser

    options = parser("bench_kill", __doc__)
    options.add_argument("--rounds", type=int, default=200, help="kills in all [%(default)s]")
    chosen = options.parse_args(argv)
    rounds = min(chosen.rounds, 40) if chosen.quick else chosen.rounds

    from tqdm import tqdm

    from scripts.benchmarks.kill_rounds import RecordRounds, ServerRounds

    rows = Rows(chosen.out, "bench_kill")
    of_server = rounds // 4
    with tempfile.TemporaryDirectory() as folder:
        kinds = [
            ("record", rounds - of_server, RecordRounds(Path(folder) / "record")),
            ("server", of_server, ServerRounds(Path(folder) / "server")),
        ]
        for kind, count, target in kinds:
            for number in tqdm(range(count), desc=kind):
                if rows.find(kind=kind, round=number) is None:
                    result = target.run(number, random.Random(f"{chosen.seed} {kind} {number}"))
                    rows.add({"kind": kind, "round": number, **result})
    print(json.dumps(total(rows.rows, rounds)))


def total(rows: list[dict[str, Any]], rounds: int) -> dict[str, Any]:
    """The sums over all rounds."""
    names = ("acknowledged", "lost", "failed_starts", "unclean")
    return {"rounds": rounds, **{name: sum(row[name] for row in rows) for name in names}}


if __name__ == "__main__":
    main()
