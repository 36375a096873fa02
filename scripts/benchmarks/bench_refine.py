"""What refining a rough mask gains: the draft, a U-Net on the image alone, on image and mask (K=1), and K=3 and 5.

Each net learns for the same seconds. ``--dataset`` is a set laid out like BU-BIL (``RawImages``, ``GoldStandard``,
``CrowdsourcedAnnotations/*``) with masks that people drew, a folder of such sets, or one with NIfTI files in ``images``
and ``labels``, whose drafts are made from the labels; without one, drawn heads and breasts are refined. A third of the
images, with all their masks, is for testing. ``share_worse`` is that of K=1, the default; ``centre`` is one mask for
all images, and ``unguarded`` a refiner's mask without the draft's vote. Dice is the mean over the structures; ``sd`` is
its spread over the test pairs of all seeds, ``sd_seeds`` that of the means of several seeds. What was not run is null.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from scripts.benchmarks.common import Rows, parser, plain

if TYPE_CHECKING:
    from scripts.benchmarks.rough_pairs import Pair, PairSet

STAGES = {"image_only": 1, "k1": 1, "k3": 3, "k5": 5}
QUICK = ("k1", "k5")
TEST_SHARE = 1 / 3
WORSE = 0.01
"""A mask is made worse if it loses more Dice than this."""


def main(argv: list[str] | None = None) -> None:
    options = parser("bench_refine", __doc__)
    options.add_argument("--seconds", type=float, default=120, metavar="S", help="of training of a net [%(default)s]")
    options.add_argument("--seeds", type=int, default=3, metavar="N", help="trainings of each net [%(default)s]")
    options.add_argument("--shares", default="1.0", metavar="X,X", help="of the training images [%(default)s]")
    options.add_argument("--nets", type=_nets, metavar="X,X", help=f"only these of {', '.join(STAGES)}")
    options.add_argument(
        "--option",
        action="append",
        default=[],
        type=_option,
        metavar="NAME=VALUE",
        help="of RefineOptions, such as emphasis=10",
    )
    options.add_argument(
        "--drawn", type=int, default=60, metavar="N", help="of each kind, without --dataset [%(default)s]"
    )
    chosen = options.parse_args(argv)
    chosen.option = dict(chosen.option)
    import torch

    from lib.errors import LabelRefineryError
    from scripts.benchmarks.rough_pairs import pair_sets

    torch.set_num_threads(1)
    rows = Rows(chosen.out, "bench_refine")
    try:
        sets = pair_sets(chosen.dataset, chosen.seed, chosen.drawn)
    except LabelRefineryError as error:
        raise SystemExit(str(error)) from error
    shares = [float(share) for share in chosen.shares.split(",")]
    found = [_summary(rows, chosen, name, pairs, share) for name, pairs in sets.items() for share in shares]
    print(
        json.dumps(
            plain({"seconds": chosen.seconds, "options": chosen.option, "seed": chosen.seed, "sets": found}),
            indent=2,
        )
    )


def _summary(rows: Rows, chosen: argparse.Namespace, name: str, pairs: PairSet, share: float) -> dict[str, Any]:
    """All nets on one set with one share of its training images."""
    from lib.metrics.cohort import spread

    seeds = range(chosen.seed, chosen.seed + (1 if chosen.quick else chosen.seeds))
    figures = dict.fromkeys(["draft_dice", *(f"{net}_dice" for net in STAGES)])
    summary: dict[str, Any] = {"set": name, "pairs_share": share, **figures}
    for net in chosen.nets or (QUICK if chosen.quick else STAGES):
        found = [_row(rows, chosen, (name, share, net, seed), pairs) for seed in seeds]
        for figure in ("draft", "centre"):
            if all(row[figure] for row in found):
                summary |= _mean_and_sd(f"{figure}_dice", [row[figure] for row in found])
        summary |= _mean_and_sd(f"{net}_dice", [row["refined"] for row in found])
        summary |= _mean_and_sd(f"{net}_unguarded_dice", [row["unguarded"] for row in found])
        changes = [after - before for row in found for before, after in zip(row["draft"], row["refined"], strict=True)]
        summary[f"{net}_share_worse"] = round(sum(change < -WORSE for change in changes) / len(changes), 3)
        summary[f"{net}_gain_interval"] = spread(changes, chosen.seed).interval
        summary[f"{net}_kept"] = sum(row["kept"] for row in found) / len(changes)
        summary[f"{net}_batches"] = [row["batches"] for row in found]
    return {**summary, "share_worse": summary.get("k1_share_worse")}


def _mean_and_sd(name: str, of_seeds: list[list[float]]) -> dict[str, float]:
    """A mean over the pairs of all seeds, and beside it the standard deviation of the pairs and of the seeds' means."""
    import numpy as np

    pairs = np.concatenate(of_seeds)
    told = {name: pairs.mean(), f"{name}_sd": pairs.std()}
    if len(of_seeds) > 1:
        told[f"{name}_sd_seeds"] = np.std([np.mean(seed) for seed in of_seeds], ddof=1)
    return {figure: round(float(value), 3) for figure, value in told.items()}


def _row(rows: Rows, chosen: argparse.Namespace, run: tuple[str, float, str, int], pairs: PairSet) -> dict[str, Any]:
    """The Dice of each test pair with one net, unless it was measured before."""
    name, share, net, seed = run
    is_drawn = chosen.dataset is None
    key = {
        "dataset": None if is_drawn else str(chosen.dataset.resolve()),
        "drawn": chosen.drawn if is_drawn else None,
        "set": name,
        "pairs_share": share,
        "net": net,
        "drafts_seed": chosen.seed,
        "seed": seed,
        "seconds": chosen.seconds,
        "options": chosen.option,
    }
    row = rows.find(**key)
    if row is None:
        row = {**key, **_measured(pairs, run, chosen.seconds, chosen.option)}
        rows.add(row)
    return row


def _nets(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in STAGES]:
        raise argparse.ArgumentTypeError(f"there is no net {unknown[0]!r}; there are {', '.join(STAGES)}")
    return names


def _option(text: str) -> tuple[str, Any]:
    """Name and value of one of ``RefineOptions``, of the type that it has there."""
    from lib.refinement.learn import RefineOptions

    name, _, value = text.partition("=")
    types = get_type_hints(RefineOptions)
    if name not in types:
        raise argparse.ArgumentTypeError(f"{text!r}: there is no option {name!r}; there are {', '.join(types)}")
    # What may be left out as None has its own type before that.
    kind, *_ = get_args(types[name]) or (types[name],)
    try:
        return name, {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
    except (KeyError, ValueError) as error:
        accepted = ("true", "false") if kind is bool else getattr(kind, "__members__", {}).values()
        wanted = ", ".join(accepted) or f"a value of type {kind.__name__}"
        raise argparse.ArgumentTypeError(f"{text!r}: for {name} is accepted {wanted}") from error


def _measured(
    pair_set: PairSet, run: tuple[str, float, str, int], seconds: float, given: dict[str, Any]
) -> dict[str, Any]:
    """Trains one net and refines every test pair."""
    import numpy as np

    from lib.metrics.overlap import dice_over_structures
    from lib.refinement.learn import RefineOptions, learn_to_refine
    from lib.refinement.refine import Refiner
    from lib.task import Task, numbered

    _, share, net, seed = run
    from_image = net == "image_only"
    task = Task("objects", "Objects", numbered(pair_set.structures))
    training, testing = _split(pair_set.pairs, share, seed)
    options = RefineOptions(**{"seconds": seconds, "seed": seed, "stages": STAGES[net], **given})
    batches: list[int] = []
    checkpoint = learn_to_refine(
        [pair.case(task.values.values(), np.zeros_like(pair.truth) if from_image else pair.draft) for pair in training],
        None,
        task,
        options,
        lambda progress: batches.append(progress.steps),
        lambda: False,
    )
    refiner, centre = Refiner(checkpoint), _centre_prior(training)
    found: dict[str, Any] = {"draft": [], "centre": [], "refined": [], "unguarded": [], "kept": 0}
    for pair in testing:
        start = np.zeros_like(pair.truth) if from_image else pair.draft
        own = refiner.refine(pair.volume, start, options.stages, votes=0.0)
        # What is found without a draft cannot be held against one.
        guarded = replace(own, reasons={}) if from_image else refiner.refine(pair.volume, start, options.stages)
        masks = {"draft": pair.draft, "refined": guarded.mask, "unguarded": own.stages[-1]}
        for figure, mask in (masks if centre is None else {**masks, "centre": centre}).items():
            found[figure].append(round(dice_over_structures(pair.truth, mask), 4))
        found["kept"] += bool(guarded.kept)
    return {**found, "batches": batches[-1], "training_pairs": len(training)}


def _split(pairs: list[Pair], share: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Pairs to learn from, of a share of the training images, and pairs to test with, of other images."""
    import numpy as np

    images = np.random.default_rng(seed).permutation(sorted({pair.image_id for pair in pairs})).tolist()
    tested = round(len(images) * TEST_SHARE)
    learned = images[tested : tested + max(round(share * (len(images) - tested)), 1)]
    return [pair for pair in pairs if pair.image_id in learned], [
        pair for pair in pairs if pair.image_id in images[:tested]
    ]


def _centre_prior(pairs: list[Pair]) -> Any:
    """The one mask (I, J, K) that suits the training masks best: what is gained by knowing only where objects lie.

    ``None`` if the images differ in shape or there are several structures.
    """
    import numpy as np

    from lib.metrics.overlap import dice_over_structures

    if len({pair.truth.shape for pair in pairs}) > 1 or any(pair.truth.max() > 1 for pair in pairs):
        return None
    often = np.mean([pair.truth for pair in pairs], axis=0)
    masks = [(often >= level).astype(np.uint8) for level in np.linspace(0.1, 0.9, 9) if (often >= level).any()]
    return max(masks, key=lambda mask: np.mean([dice_over_structures(pair.truth, mask) for pair in pairs]))


if __name__ == "__main__":
    main()
