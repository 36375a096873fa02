"""Sixteen clients at once: frames, drafts, saves, lists and searches of 60 images, with drafts made ahead.

Then one client alone, and a mask of 50 images saved at once, some times over. With two checkouts (``--tree``) each has
its turn with the same clients on the same images.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

IMAGES, AT_ONCE = 60, 50
SHAPE = (64, 64, 32)
MASKS_EACH = 3
ROUNDS, QUICK_ROUNDS = 5, 2
ALONE, QUICK_ALONE = 40, 10


def main(argv: list[str] | None = None) -> None:
    """Measures and prints one JSON object as the last line."""
    from scripts.benchmarks.common import ROOT, Rows, parser, plain

    options = parser("bench_load", __doc__)
    options.add_argument("--clients", type=int, default=16, help="at once [%(default)s]")
    options.add_argument("--seconds", type=float, default=300, help="that they work [%(default)s; quick: 30]")
    options.add_argument(
        "--tree", type=Path, action="append", metavar="DIR", help="checkout whose server is asked [this one]"
    )
    options.add_argument(
        "--burst", action="store_true", help="only the masks that are saved at once, and one client alone"
    )
    chosen = options.parse_args(argv)
    seconds = 0 if chosen.burst else min(chosen.seconds, 30) if chosen.quick else chosen.seconds

    rows = Rows(chosen.out, "bench_load")
    told = []
    with tempfile.TemporaryDirectory(prefix="load-") as folder:
        masks = draw(Path(folder) / "studies", chosen.seed)
        for tree in chosen.tree or [ROOT]:
            key = {"tree": tree.resolve().name, "seconds": seconds, "clients": chosen.clients, "seed": chosen.seed}
            row = rows.find(**key)
            if row is None:
                with tempfile.TemporaryDirectory(prefix="load-data-", dir=folder) as data:
                    row = {**key, **measured(Path(folder) / "studies", Path(data), tree.resolve(), masks, chosen)}
                rows.add(row)
            told.append(row)
    print(json.dumps(plain({"runs": told})))


def draw(folder: Path, seed: int) -> dict[str, tuple[bytes, ...]]:
    """Writes the images, noise with two blocks, and gives some masks of each."""
    import numpy as np

    from lib.volume import Volume, nifti_bytes

    folder.mkdir()
    masks = {}
    affine = np.diag([-0.8, -0.8, 2.0, 1.0])
    for number in range(IMAGES):
        chance = np.random.default_rng([seed, number])
        drawn = []
        for _ in range(MASKS_EACH):
            mask = np.zeros(SHAPE, np.uint8)
            for value, start in ((1, 4), (2, 34)):
                i, j, k = start + chance.integers(0, 6), chance.integers(8, 30), chance.integers(4, 14)
                mask[i : i + 20, j : j + 20, k : k + 14] = value
            drawn.append(nifti_bytes(Volume(mask, affine)))
        grey = np.choose(mask, [50, 90, 10]) + chance.normal(0, 5, SHAPE)
        (folder / f"case_{number:02d}.nii.gz").write_bytes(nifti_bytes(Volume(grey.astype(np.int16), affine)))
        masks[f"case_{number:02d}"] = tuple(drawn)
    return masks


def measured(
    studies: Path, data: Path, tree: Path, masks: Mapping[str, tuple[bytes, ...]], chosen: Any
) -> dict[str, Any]:
    """All figures of one checkout."""
    from scripts.benchmarks.common import apart, served
    from scripts.benchmarks.hostile.watching import Watch, summary
    from scripts.benchmarks.load_clients import alone, burst, cases_of, row, work

    chance = random.Random(chosen.seed)
    conf = {"labels": "Bright,Dark", "train_after": "0", "ahead": "3"}
    told: dict[str, Any] = {}
    with served(studies, data, conf, tree=tree) as server:
        port = int(server.client.base_url.port or 0)
        server.client.put("/model/segmentation", files={"file": ("model.pt", apart(fresh_weights))}).raise_for_status()
        server.settle()
        cases = cases_of(port, masks)
        watch = Watch(server.process.pid, port, most_mib=16384)
        told["alone"] = alone(port, cases, QUICK_ALONE if chosen.quick else ALONE, chance).rows()
        bursts = [burst(port, cases[:AT_ONCE], chance) for _ in range(QUICK_ROUNDS if chosen.quick else ROUNDS)]
        told["at_once"] = row([seconds for one in bursts for seconds in one])
        told["at_once_p95_ms"] = [row(one)["p95_ms"] for one in bursts]
        if not chosen.burst:
            times = work(
                port, cases, chosen.clients, min(chosen.seconds, 30) if chosen.quick else chosen.seconds, chosen.seed
            )
            told |= {"load": times.rows(), "errors": {kind: found[:5] for kind, found in times.errors.items() if found}}
        told |= {"watch": summary(watch.stop()), "left": left(data), "machine_load": os.getloadavg()}
    told["tracebacks"] = (data / "logs" / "server.log").read_text(errors="replace").count("Traceback")
    return told


def left(data: Path) -> dict[str, int]:
    """Files that lie where requests keep what they need for themselves."""
    from lib.store import layout

    passing = (layout.TEMPORARY, layout.SESSIONS, layout.UPLOADS)
    return {name: sum(path.is_file() for path in (data / name).rglob("*")) for name in passing}


def fresh_weights() -> bytes:
    """Weights that have learned nothing, of the network that a first training on these images would have."""
    import numpy as np
    import torch

    from lib.networks.checkpoint import Checkpoint
    from lib.networks.segmenter import seeded_network
    from lib.preprocessing import plan_for
    from lib.task import Task, numbered
    from lib.volume import Grid

    torch.set_num_threads(1)
    task = Task("segmentation", "Two blocks", numbered(["Bright", "Dark"]))
    plan = plan_for(task, [Grid(SHAPE, np.diag([-0.8, -0.8, 2.0, 1.0]))])
    return Checkpoint(plan, seeded_network(plan, 0).state_dict()).to_bytes()


if __name__ == "__main__":
    main()
