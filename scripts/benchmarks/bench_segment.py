"""What a network is worth that a task's first training makes in given seconds, on images of real size.

Each row is one training from scratch and the held-out cases measured with it: a folder of images and masks, of which
every fifth patient is held out, or phantoms drawn at the size of real scans.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lib.task import Task
    from lib.training.cases import TrainingCase

HELD_OUT = 3
"""Phantoms that are measured on."""

MEASURED_ON = 50_000
"""Their first seed; no training sees them."""

SIZES = {
    "abdomen": ((168, 160, 60), (1.5, 1.5, 2.5)),
    "abdomen_ct": ((512, 512, 120), (0.8, 0.8, 2.5)),
}
"""Voxels and their edges of what is drawn."""


def main(argv: list[str] | None = None) -> None:
    """Trains every network and prints one JSON object as the last line."""
    from tqdm import tqdm

    from scripts.benchmarks.common import Rows, parser, plain

    options = parser("bench_segment", __doc__)
    options.add_argument("--drawn", choices=tuple(SIZES), help="phantoms instead of a data set")
    options.add_argument("--labels", type=int, default=6, metavar="N", help="cases to learn from [%(default)s]")
    options.add_argument("--seconds", type=float, default=60.0, help="of each training [%(default)s]")
    chosen = options.parse_args(argv)
    if (chosen.drawn is None) == (chosen.dataset is None):
        options.error("name a --dataset or what is --drawn")
    seeds = range(chosen.seed, chosen.seed + (1 if chosen.quick else 3))

    rows = Rows(chosen.out, "bench_segment")
    found = []
    for seed in tqdm(seeds, desc="trainings"):
        key = {
            "set": chosen.drawn or chosen.dataset.name,
            "labels": chosen.labels,
            "seconds": chosen.seconds,
            "seed": seed,
        }
        row = rows.find(**key)
        if row is None:
            task, learned, held_out = cases_of(chosen.drawn, chosen.dataset, chosen.labels, seed)
            row = {**key, **measured(learned, held_out, task, chosen.seconds, seed)}
            rows.add(row)
        found.append(row)
    print(json.dumps(plain({"rows": found})))


def cases_of(
    drawn: str | None, dataset: Path, labels: int, seed: int
) -> tuple[Task, list[TrainingCase], list[TrainingCase]]:
    """The task, the cases to learn from, and those held out."""
    if drawn is not None:
        from lib.phantoms.anatomy import STRUCTURES
        from lib.task import Task, numbered

        task = Task("segmentation", "Organs", numbered(tuple(STRUCTURES)))
        first = 1000 * seed
        return task, phantoms(drawn, first, labels), phantoms(drawn, MEASURED_ON, HELD_OUT)
    return of_folder(dataset, labels, seed)


def phantoms(drawn: str, first_seed: int, count: int) -> list[TrainingCase]:
    """Abdomens of the size that the set has."""
    from dataclasses import replace

    from lib.phantoms.abdomen import ORIENTATIONS, draw_abdomen, random_parameters
    from lib.volume import Volume

    shape, spacing_mm = SIZES[drawn]
    cases = []
    for number in range(first_seed, first_seed + count):
        parameters = random_parameters(number, ORIENTATIONS[number % len(ORIENTATIONS)])
        phantom = draw_abdomen(replace(parameters, shape=shape, spacing_mm=spacing_mm, samples_per_edge=1))
        cases.append(_case(f"{drawn}_{number}", Volume(phantom.image, phantom.affine), phantom.mask))
    return cases


def of_folder(dataset: Path, labels: int, seed: int) -> tuple[Task, list[TrainingCase], list[TrainingCase]]:
    """Images and masks of equal names in the folders ``images`` and ``labels`` or ``masks``; each fifth is held out."""
    import numpy as np

    from lib.task import Task, numbered
    from lib.volume import read_volume, suffix_of

    # Either word is in use.
    folder = next(
        path for path in sorted(dataset.iterdir()) if path.name.startswith(("label", "mask")) and path.is_dir()
    )
    masks = {path.name.removesuffix(suffix_of(path.name)): path for path in sorted(folder.iterdir())}
    images = {path.name.removesuffix(suffix_of(path.name)): path for path in sorted((dataset / "images").iterdir())}
    names = sorted(set(images) & set(masks))
    held_out = names[::5]
    learned = np.random.default_rng(seed).permutation([name for name in names if name not in held_out])[:labels]
    volumes = {name: (read_volume(images[name]), read_volume(masks[name])) for name in (*held_out, *learned)}
    values = sorted({int(value) for _, mask in volumes.values() for value in np.unique(mask.voxels) if value})
    task = Task("segmentation", dataset.name, numbered(tuple(f"value {value}" for value in values)))
    place = np.zeros(256, np.uint8)
    place[values] = range(1, len(values) + 1)

    def case(name: str) -> TrainingCase:
        image, mask = volumes[name]
        return _case(name, image, place[mask.voxels.astype(np.uint8)])

    return task, [case(name) for name in learned], [case(name) for name in held_out]


def _case(name: str, image: Any, mask: Any) -> TrainingCase:
    from lib.training.cases import TrainingCase

    return TrainingCase(name, partial(_given, image), partial(_given, mask), frozenset(range(1, 256)))


def _given(value: Any) -> Any:
    return value


def measured(
    learned: Sequence[TrainingCase], held_out: Sequence[TrainingCase], task: Task, seconds: float, seed: int
) -> dict[str, Any]:
    """One training and what it is worth on cases it never saw, and on those it learned from."""
    import time

    import numpy as np
    import torch

    from lib.metrics.overlap import dice
    from lib.metrics.surface import hd95_mm
    from lib.predictor import Predictor
    from lib.training.finetune import FinetuneOptions, Progress, finetune

    torch.set_num_threads(1)
    reports: list[Progress] = []
    begin = time.perf_counter()
    checkpoint = finetune(
        learned, None, task, FinetuneOptions(seconds=seconds, seed=seed), reports.append, lambda: False
    )
    trained = time.perf_counter() - begin
    predictor = Predictor(checkpoint)
    per_structure: dict[str, list[float]] = {structure.name: [] for structure in task.structures}
    far: list[float] = []
    for case in held_out:
        volume, truth = case.load_volume(), case.load_mask()
        mask = predictor.mask(volume)
        for structure in task.structures:
            pair = truth == structure.value, mask == structure.value
            if pair[0].any():
                per_structure[structure.name].append(dice(*pair))
                far.append(hd95_mm(*pair, volume.grid.spacing_mm) if pair[1].any() else np.inf)
    begin = time.perf_counter()
    predictor.mask(held_out[0].load_volume())
    draft_seconds = time.perf_counter() - begin
    seen = [
        dice(case.load_mask() == structure.value, predictor.mask(case.load_volume()) == structure.value)
        for case in learned[:HELD_OUT]
        for structure in task.structures
        if (case.load_mask() == structure.value).any()
    ]
    plan = checkpoint.plan
    return {
        "steps": reports[-1].steps,
        "plan": {"spacing_mm": [round(edge, 2) for edge in plan.spacing_mm], "patch": list(plan.patch)},
        "dice": round(float(np.mean([np.mean(found) for found in per_structure.values() if found])), 4),
        "dice_per_structure": {name: round(float(np.mean(found)), 4) for name, found in per_structure.items() if found},
        "hd95_mm": round(float(np.mean(far)), 2),
        "train_dice": round(float(np.mean(seen)), 4),
        "training_wall_seconds": round(trained, 1),
        "draft_seconds": round(draft_seconds, 2),
    }


if __name__ == "__main__":
    main()
