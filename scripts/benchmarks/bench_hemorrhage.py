"""What negatives and asymmetric losses are worth: the hemorrhage network on head CT phantoms.

Every network learns from the same positives for the same seconds; half of them also see as many heads without a bleed.
Measured on fresh phantoms, beside the rule that drafts without a network: Dice of each type over the heads that have it
(0 where it was missed), and what was found in healthy heads, in ml.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lib.task import Task
    from lib.training.cases import TrainingCase

POSITIVES, NEGATIVES = 24, 24
TEST_POSITIVES, TEST_NEGATIVES = 24, 12
LEARNED_FROM, MEASURED_ON = 10_000, 30_000
"""First seeds of the phantoms; each benchmark seed has heads of its own to learn from, all are measured on the same."""

LOSSES = ("typed", "typed_asymmetric")
"""Both ask a voxel of blood for its type as well."""


def main(argv: list[str] | None = None) -> None:
    """Trains every network and prints one JSON object as the last line."""
    from dataclasses import replace

    from tqdm import tqdm

    from scripts.benchmarks.common import Rows, parser, plain, task_of

    options = parser("bench_hemorrhage", __doc__)
    options.add_argument("--seconds", type=float, default=120.0, help="of each training [%(default)s]")
    options.add_argument("--seeds", type=int, default=3, help="trainings of each kind [%(default)s]")
    options.add_argument("--losses", nargs="+", default=LOSSES, help="which to compare")
    chosen = options.parse_args(argv)
    seeds = range(chosen.seed, chosen.seed + (1 if chosen.quick else chosen.seeds))
    seconds = min(chosen.seconds, 45.0) if chosen.quick else chosen.seconds

    rows = Rows(chosen.out, "bench_hemorrhage")
    task = task_of("hemorrhage")
    test = phantoms(MEASURED_ON, TEST_POSITIVES, TEST_NEGATIVES)
    runs = [(seed, loss, negatives) for seed in seeds for loss in chosen.losses for negatives in (False, True)]
    found = []
    for seed, loss, negatives in tqdm(runs, desc="trainings"):
        key = {"loss": loss, "negatives": negatives, "seed": seed, "seconds": seconds}
        if rows.find(**key) is None:
            heads = phantoms(LEARNED_FROM + 1000 * seed, POSITIVES, NEGATIVES)
            learned = heads if negatives else heads[:POSITIVES]
            rows.add({**key, **measured(learned, test, replace(task, loss=loss), seconds, seed)})
        found.append(rows.find(**key))
    print(json.dumps(plain({"seconds": seconds, "rule": ruled(test, task), "rows": found, "means": means(found)})))


@cache
def phantoms(first_seed: int, positives: int, negatives: int) -> list[TrainingCase]:
    """Heads drawn once: positives with one to three bleeds, then healthy ones."""
    from functools import partial

    import numpy as np

    from lib.phantoms.brain import BLEEDS
    from lib.phantoms.head import draw_head, random_parameters
    from lib.training.cases import TrainingCase
    from lib.volume import Volume

    cases = []
    for number in range(positives + negatives):
        generator = np.random.default_rng(first_seed + number)
        bleeds = tuple(sorted(generator.permutation(sorted(BLEEDS))[: generator.integers(1, 4)].tolist()))
        phantom = draw_head(random_parameters(first_seed + number, bleeds if number < positives else ()))
        volume = Volume(phantom.image, phantom.affine)
        cases.append(
            TrainingCase(
                str(first_seed + number), partial(_given, volume), partial(_given, phantom.mask), frozenset(range(1, 6))
            )
        )
    return cases


def _given(value: Any) -> Any:
    return value


def measured(
    learned: Sequence[TrainingCase], test: Sequence[TrainingCase], task: Task, seconds: float, seed: int
) -> dict[str, Any]:
    """One row: a training and what it is worth."""
    import torch

    from lib.predictor import Predictor
    from lib.training.finetune import FinetuneOptions, Progress, finetune

    torch.set_num_threads(1)
    reports: list[Progress] = []
    checkpoint = finetune(
        learned, None, task, FinetuneOptions(seconds=seconds, seed=seed), reports.append, lambda: False
    )
    predictor = Predictor(checkpoint)
    return {"steps": reports[-1].steps, **scores(test, [predictor.mask(case.load_volume()) for case in test], task)}


def ruled(test: Sequence[TrainingCase], task: Task) -> dict[str, Any]:
    """What the task's rule is worth, which learns nothing."""
    from lib.drafts import RULES

    return scores(test, [RULES[task.draft_rule](case.load_volume(), task) for case in test], task)


def scores(test: Sequence[TrainingCase], masks: Sequence[Any], task: Task) -> dict[str, Any]:
    """Dice by type over the heads that have it, their mean, and ml found in healthy heads."""
    import numpy as np

    from lib.metrics.detection import false_positive_ml
    from lib.metrics.overlap import dice, sensitivity

    truths = [case.load_mask() for case in test]
    by_type = {
        structure.name: float(
            np.mean(
                [
                    dice(truth == structure.value, mask == structure.value)
                    for truth, mask in zip(truths, masks, strict=True)
                    if (truth == structure.value).any()
                ]
            )
        )
        for structure in task.structures
    }
    positives = [(truth > 0, mask > 0) for truth, mask in zip(truths, masks, strict=True) if truth.any()]
    healthy = [
        false_positive_ml(truth > 0, mask > 0, case.load_volume().grid.voxel_mm3)
        for case, truth, mask in zip(test, truths, masks, strict=True)
        if not truth.any()
    ]
    return {
        "dice": {name: round(value, 4) for name, value in by_type.items()},
        "mean_dice": round(float(np.mean(list(by_type.values()))), 4),
        "any_dice": round(float(np.mean([dice(*pair) for pair in positives])), 4),
        "any_sensitivity": round(float(np.mean([sensitivity(*pair) for pair in positives])), 4),
        "false_positive_ml": round(float(np.mean(healthy)), 3),
        "healthy_with_finding": sum(volume > 0 for volume in healthy),
    }


def means(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and spread over the seeds for each loss, with and without negatives."""
    import numpy as np

    kinds = dict.fromkeys((row["loss"], row["negatives"]) for row in rows)
    names = ("mean_dice", "any_dice", "any_sensitivity", "false_positive_ml", "healthy_with_finding")
    told = []
    for loss, negatives in kinds:
        same = [row for row in rows if (row["loss"], row["negatives"]) == (loss, negatives)]
        values = {name: [row[name] for row in same] for name in names}
        values |= {name: [row["dice"][name] for row in same] for name in same[0]["dice"]}
        spread = {name: [round(float(f(found)), 4) for f in (np.mean, np.std)] for name, found in values.items()}
        told.append({"loss": loss, "negatives": negatives, "seeds": len(same), **spread})
    return told


if __name__ == "__main__":
    main()
