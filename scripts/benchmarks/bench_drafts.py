"""How good the rule-based drafts are on phantoms that nothing was tuned on.

Take a seed that was not used before. For hemorrhage a drawn bleed counts as typed by the type that most of its
drafted voxels have, and as missed where less than a tenth of it is drafted. For mass, ``--dataset`` may be that of
mini-MIAS, ``Info.txt`` beside ``mdb*.pgm`` or ``.pgm.gz`` (Suckling et al., Excerpta Medica International Congress
Series 1069, 1994).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

FOUND = 0.1
"""Share of a bleed that must be drafted for the bleed to be found."""


def main(argv: list[str] | None = None) -> None:
    """Drafts fresh phantoms and prints one JSON object as the last line."""
    from scripts.benchmarks.common import parser, plain

    options = parser("bench_drafts", __doc__)
    options.add_argument("--task", choices=sorted(TASKS), default="hemorrhage", help="whose rule [%(default)s]")
    options.add_argument("--cases", type=int, default=100, help="phantoms [%(default)s]")
    chosen = options.parse_args(argv)
    cases = min(chosen.cases, 20) if chosen.quick else chosen.cases
    if chosen.dataset and chosen.task != "mass":
        options.error(f"--dataset is for --task mass only, found {chosen.task}")
    found = mass_on_films(chosen.dataset) if chosen.dataset else TASKS[chosen.task](cases, chosen.seed)
    print(json.dumps(plain({"task": chosen.task, "seed": chosen.seed, **found})))


def case_seeds(cases: int, seed: int) -> list[int]:
    """Seeds of the phantoms, different for each seed."""
    import numpy as np

    return [int(np.random.SeedSequence([seed, number]).generate_state(1)[0]) for number in range(cases)]


def hemorrhage(cases: int, seed: int, pixel_mm: float | None = None) -> dict[str, Any]:
    """Overlap with all blood, types of the drawn bleeds, blood drafted in healthy heads, and time.

    ``pixel_mm`` is the edge of the pixels; ``None``: as drawn at random, about 2 mm.
    """
    import time
    from dataclasses import replace

    from tqdm import tqdm

    from lib.drafts import RULES
    from lib.metrics.overlap import dice
    from lib.phantoms.brain import BLEEDS
    from lib.phantoms.head import draw_head, random_parameters
    from lib.task import Structure, Task
    from lib.volume import Volume

    structures = tuple(Structure(name, value, (0, 0, 0)) for name, value in BLEEDS.items())
    task = Task(name="hemorrhage", description="", structures=structures, modality="CT")
    confusion = {drawn: dict.fromkeys([*BLEEDS, "missed"], 0) for drawn in BLEEDS}
    overlaps, spurious_ml, seconds = [], [], []
    for one in tqdm(case_seeds(cases, seed), desc="cases"):
        parameters = random_parameters(one)
        if pixel_mm:
            height, slice_mm = parameters.shape[2], parameters.spacing_mm[2]
            shape, edges = (round(192 / pixel_mm), round(224 / pixel_mm), height), (pixel_mm, pixel_mm, slice_mm)
            parameters = replace(parameters, shape=shape, spacing_mm=edges)
        phantom = draw_head(parameters)
        volume = Volume(phantom.image, phantom.affine)
        begin = time.perf_counter()
        draft = RULES["hemorrhage"](volume, task)
        seconds.append(time.perf_counter() - begin)
        if not parameters.bleeds:
            spurious_ml.append(int((draft > 0).sum()) * volume.grid.voxel_mm3 / 1000)
            continue
        overlaps.append(dice(phantom.mask > 0, draft > 0))
        for kind in parameters.bleeds:
            drafted = draft[phantom.mask == BLEEDS[kind]]
            votes = {name: int((drafted == value).sum()) for name, value in BLEEDS.items()}
            is_found = sum(votes.values()) > FOUND * drafted.size
            confusion[kind][max(votes, key=lambda name: votes[name]) if is_found else "missed"] += 1
    bleeds = sum(sum(row.values()) for row in confusion.values())
    return {
        "positives": len(overlaps),
        "negatives": len(spurious_ml),
        "bleeds": bleeds,
        "any_bleed_dice": round(sum(overlaps) / len(overlaps), 3),
        "typed_right": round(sum(confusion[kind][kind] for kind in BLEEDS) / bleeds, 3),
        "confusion": confusion,
        "negatives_without_draft": sum(ml == 0 for ml in spurious_ml),
        "spurious_ml_mean": round(sum(spurious_ml) / len(spurious_ml), 2),
        "spurious_ml_most": round(max(spurious_ml), 2),
        "seconds_per_case": round(sum(seconds) / len(seconds), 2),
    }


def mass(cases: int, seed: int) -> dict[str, Any]:
    """Sensitivity against false positives, overlap of the drafts, and time."""
    from scripts.benchmarks.draft_mass import on_phantoms

    return on_phantoms(case_seeds(cases, seed))


def mass_on_films(folder: Path) -> dict[str, Any]:
    """Share of the lesions of mini-MIAS that are among the best candidates."""
    from scripts.benchmarks.draft_mass import on_dataset

    return on_dataset(folder)


TASKS: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "hemorrhage": hemorrhage,
    "hemorrhage_fine": partial(hemorrhage, pixel_mm=0.9),
    "mass": mass,
}
"""What is measured, by task: of so many phantoms drawn with a seed."""


if __name__ == "__main__":
    main()
