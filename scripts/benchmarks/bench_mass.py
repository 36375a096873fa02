"""How well lesions on breast ultrasound are found after a short training: adapters against a plain U-Net.

Five folds of the images (case by case, benign, malignant and normal alike in each), the same seconds, loss,
augmentation and about as many parameters for both networks. ``--dataset`` holds folders of PNG files, each beside its
masks: ``benign (1).png``, ``benign (1)_mask.png`` (BUSI, DOI 10.1016/j.dib.2019.104863).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from lib.networks.checkpoint import NetworkPlan
    from lib.task import Task
    from lib.training.cases import TrainingCase
    from lib.volume import Grid

FOLDS = 5
NETWORKS = ("adapter_unet", "plain_unet")

SMALLEST = 100.0
"""Pixels of the smallest lesion that counts, about ten across."""

PLAIN_CHANNELS = (16, 16, 32, 80, 144)
"""Features of the levels of the plain U-Net: within a tenth of the other's parameters."""


def main(argv: list[str] | None = None) -> None:
    """Trains every network on every fold and prints one JSON object as the last line."""
    from scripts.benchmarks.common import Rows, parser, plain

    options = parser("bench_mass", __doc__)
    options.add_argument("--seconds", type=float, default=60.0, help="of each training [%(default)s]")
    options.add_argument("--loss", default="position_aware", help="name of the loss [%(default)s]")
    options.add_argument("--folds", default="0,1,2,3,4", help="which to run [%(default)s]")
    chosen = options.parse_args(argv)
    if chosen.dataset is None:
        options.error("--dataset DIR is needed: the folder with benign, malignant and normal images")
    seconds = min(chosen.seconds, 30.0) if chosen.quick else chosen.seconds

    from tqdm import tqdm

    rows = Rows(chosen.out, "bench_mass")
    cases = cases_in(chosen.dataset)
    runs = [(network, int(fold)) for fold in chosen.folds.split(",") for network in NETWORKS]
    found = []
    for network, fold in tqdm(runs, desc="trainings"):
        key = {"network": network, "fold": fold, "seconds": seconds, "loss": chosen.loss, "seed": chosen.seed}
        if rows.find(**key) is None:
            rows.add({**key, **measure(cases, network, fold, seconds, chosen.loss, chosen.seed)})
        found.append(rows.find(**key))
    print(
        json.dumps(
            plain({network: summary([row for row in found if row["network"] == network]) for network in NETWORKS})
        )
    )


def cases_in(folder: Path) -> list[TrainingCase]:
    """All images that have a mask of their size, in the order of their names."""
    import numpy as np
    from PIL import Image

    from lib.training.cases import TrainingCase
    from lib.volume import Volume

    def grey(path: Path) -> np.ndarray:
        with Image.open(path) as picture:
            # Rows run downwards, columns to the right; the network sees the second axis from bottom to top.
            return np.asarray(picture.convert("L")).T[:, ::-1, None]

    def case(path: Path) -> TrainingCase:
        return TrainingCase(
            path.stem,
            lambda: Volume(grey(path).astype(np.float32), np.eye(4)),
            lambda: np.logical_or.reduce([grey(mask) > 0 for mask in masks_of(path)]).astype(np.uint8),
            frozenset({1}),
        )

    images = sorted(path for path in folder.rglob("*.png") if "_mask" not in path.stem)
    return [case(path) for path in images if masks_of(path)]


def masks_of(image: Path) -> list[Path]:
    """The mask files beside an image that are as large as it is."""
    from PIL import Image

    with Image.open(image) as picture:
        size = picture.size
    found = []
    for path in sorted(image.parent.glob(f"{image.stem}_mask*.png")):
        with Image.open(path) as mask:
            found += [path] if mask.size == size else []
    return found


def measure(
    cases: Sequence[TrainingCase], network: str, fold: int, seconds: float, loss: str, seed: int
) -> dict[str, Any]:
    """One row: Dice and lesions found on the held-out images, and area wrongly marked on those without a lesion."""
    import math

    import numpy as np

    from lib.metrics.detection import LesionRule, lesion_count
    from lib.metrics.overlap import dice
    from lib.networks.checkpoint import Checkpoint
    from lib.networks.segmenter import parameters_of, seeded_network
    from lib.predictor import Predictor
    from lib.task import Task, numbered
    from lib.training.cases import body_grids
    from lib.training.finetune import FinetuneOptions, Progress, finetune

    held_out = [case for position, case in enumerate(cases) if position % FOLDS == fold]
    learned = [case for position, case in enumerate(cases) if position % FOLDS != fold]
    task = Task("mass", "", numbered(["mass"]), modality="US", is_flat=True, network="adapter_unet", loss=loss)
    plan = plan_of(network, task, body_grids(learned, task, len(learned)))
    options = FinetuneOptions(seconds=seconds, finetune_learning_rate=FinetuneOptions.learning_rate, seed=seed)
    reports: list[Progress] = []
    checkpoint = finetune(
        learned, Checkpoint(plan, seeded_network(plan, seed).state_dict()), task, options, reports.append, lambda: False
    )
    predictor = Predictor(checkpoint)
    pairs = [(case.load_mask() > 0, predictor.mask(case.load_volume()) > 0) for case in held_out]
    overlap = [dice(truth, marked) for truth, marked in pairs if truth.any()]
    wrong = [float(marked.mean()) for truth, marked in pairs if not truth.any()]
    counts = [lesion_count(truth, marked, 1.0, LesionRule(least_size=SMALLEST)) for truth, marked in pairs]
    return {
        "parameters": parameters_of(seeded_network(plan, seed)),
        "patch": plan.patch[:2],
        "steps": reports[-1].steps,
        "dice": round(float(np.mean(overlap)), 4),
        "cases": len(overlap),
        "found": round(sum(count.found for count in counts) / sum(count.true for count in counts), 4),
        "false_an_image": round(sum(count.false for count in counts) / len(counts), 4),
        "wrong_share": round(float(np.mean(wrong)), 4) if wrong else math.nan,
    }


def plan_of(network: str, task: Task, grids: Sequence[Grid]) -> NetworkPlan:
    """The adapter network's plan, with the widths of a plain U-Net of about as many parameters where that is asked."""
    from dataclasses import replace

    from lib.networks.segmenter import NETWORKS as KNOWN
    from lib.preprocessing import plan_for

    KNOWN["plain_unet"] = plain_unet
    plan = plan_for(task, grids)
    return plan if network == plan.network else replace(plan, network=network, channels=PLAIN_CHANNELS)


def plain_unet(plan: NetworkPlan) -> nn.Module:
    """MONAI's plain U-Net for flat images; it starts with as much background as the other."""
    from monai.networks.nets.basic_unet import BasicUNet
    from torch import Tensor, nn

    from lib.networks.adapter_unet import BACKGROUND_ODDS
    from lib.networks.multi_scale import flat_axis

    class PlainUNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = BasicUNet(2, 1, plan.classes, features=(*plan.channels, plan.channels[0]))
            nn.init.zeros_(self.body.final_conv.bias)
            nn.init.constant_(self.body.final_conv.bias[:1], BACKGROUND_ODDS)

        def forward(self, image: Tensor) -> Tensor:
            axis = flat_axis(plan) + 2
            return self.body(image.squeeze(axis)).unsqueeze(axis)

    return PlainUNet()


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over the folds."""
    import numpy as np

    values = {
        name: [row[name] for row in rows if row[name] is not None]
        for name in ("dice", "found", "false_an_image", "wrong_share")
    }
    return {
        "folds": len(rows),
        "steps": [row["steps"] for row in rows],
        "parameters": rows[0]["parameters"],
        **{name: [round(float(f(found)), 4) for f in (np.nanmean, np.nanstd)] for name, found in values.items()},
    }


if __name__ == "__main__":
    main()
