"""Sends hostile files and odd requests to a server of its own and tells what must not be.

Files lie about their size, name other files, unpack to much or are of another format than they are called; requests go
to every route as every role with values that no client would send. Each has a number and is drawn from it and the seed:
``--only f17 r2040`` sends file 17 and request 2040 again. Nothing else may be answered from 500 on than 503 and 507, no
canary may be opened or come back, and the server must stay alive, small and quick.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scripts.benchmarks.hostile.attack import Attack

FILES, REQUESTS = 5_000, 20_000
QUICK = 10
"""A quick run sends a part of each: every tenth."""


def main(argv: list[str] | None = None) -> None:
    """Attacks and prints one JSON object as the last line."""
    from scripts.benchmarks.common import ROOT, Rows, parser, plain

    options = parser("bench_hostile", __doc__)
    options.add_argument("--files", type=int, default=FILES, help="hostile files [%(default)s]")
    options.add_argument("--requests", type=int, default=REQUESTS, help="odd requests [%(default)s]")
    options.add_argument(
        "--only", nargs="+", default=[], metavar="N", help="send only these: f17 is file 17, r17 request 17"
    )
    options.add_argument("--clients", type=int, default=3, help="that send at once [%(default)s]")
    options.add_argument(
        "--tree", type=Path, default=ROOT, metavar="DIR", help="checkout whose server is attacked [this one]"
    )
    options.add_argument(
        "--most-mib", type=int, default=3072, help="end the server if a process grows beyond [%(default)s]"
    )
    chosen = options.parse_args(argv)
    files, requests = range(chosen.files), range(chosen.requests)
    if chosen.quick:
        files, requests = files[::QUICK], requests[::QUICK]
    if chosen.only:
        files, requests = ([int(one[1:]) for one in chosen.only if one[0] == letter] for letter in "fr")  # type: ignore[assignment]

    from scripts.benchmarks.hostile.attack import Attack
    from scripts.benchmarks.hostile.place import Place

    rows = Rows(chosen.out, "bench_hostile")
    begin = time.monotonic()
    with Place(chosen.tree.resolve(), chosen.most_mib) as place:
        attack = Attack(place, chosen.seed, lambda finding: rows.add(vars(finding)))
        attack.files(files, chosen.clients)
        attack.requests(requests, chosen.clients)
        attack.finish()
        told = result(attack)
    told |= {
        "seed": chosen.seed,
        "files": len(files),
        "requests": len(requests),
        "seconds": round(time.monotonic() - begin),
    }
    print(json.dumps(plain(told)))


def result(attack: Attack) -> dict[str, Any]:
    """What came of it; the server is ended for it."""
    from scripts.benchmarks.hostile.watching import summary

    place = attack.place
    is_alive = place.is_alive
    place.stop()
    return {
        "findings": [vars(finding) for finding in attack.findings],
        "statuses": {kind: dict(sorted(counts.items())) for kind, counts in attack.statuses.items()},
        "slowest_s": attack.slowest,
        "restarts": place.restarts,
        "alive_at_the_end": is_alive,
        "verify_store": place.command("scripts.verify_store").strip(),
        **summary(place.seen),
        "tracebacks": tracebacks(place.data / "logs"),
        "load": os.getloadavg(),
    }


def tracebacks(logs: Path) -> dict[str, int]:
    """What was raised and not foreseen, by the log: the place and the error, and how often."""
    found: Counter[str] = Counter()
    for path in sorted(logs.glob("*")):
        for part in path.read_text(errors="replace").split("Traceback (most recent call last):")[1:]:
            lines = part.splitlines()
            end = next((at for at, line in enumerate(lines[1:], 1) if line and not line.startswith(" ")), 0)
            place = next((line.strip() for line in reversed(lines[:end]) if line.lstrip().startswith("File")), "")
            found[f"{place.rpartition('site-packages/')[2]}: {lines[end][:200]}"] += 1
    return dict(found.most_common(40))


if __name__ == "__main__":
    main()
