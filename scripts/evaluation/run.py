"""The whole evaluation: match, compare, write, tell."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from lib.errors import InvalidSetting
from lib.metrics.cohort import has_dice, summaries, worst_cases
from lib.metrics.detection import LesionRule
from lib.task import listed
from scripts.evaluation.cases import Outcome, compare, read_case, read_image
from scripts.evaluation.folders import Matched, Pair, matched
from scripts.evaluation.overlays import draw
from scripts.evaluation.report import tables, write_cases, write_summary
from scripts.evaluation.structures import Wanted, declared, declared_by_app, found_in, looked_at_in

NAMES_TOLD = 5


def evaluate(chosen: argparse.Namespace) -> None:
    """Does what the options of ``scripts.evaluate`` say.

    Raises:
        InvalidSetting: if nothing can be compared like this.
    """
    if not 0 < chosen.overlap <= 1:
        raise InvalidSetting(f"--overlap is a share above 0 and up to 1, found {chosen.overlap:g}.")
    files = matched(chosen.truth, chosen.predictions, chosen.images)
    _tell_unmatched(files)
    wanted = _wanted(chosen, list(files.pairs.values()))
    rule = LesionRule(chosen.least_lesion, chosen.overlap)
    print(f"{len(files.pairs)} cases, structures {listed(wanted.task.structures)}.", flush=True)
    outcome = compare(tqdm(files.pairs.values(), desc="comparing", unit="case"), wanted, rule)
    chosen.out.mkdir(parents=True, exist_ok=True)
    found = summaries(outcome.scores, chosen.seed)
    write_cases(chosen.out / "cases.csv", outcome.scores, outcome.errors)
    write_summary(
        chosen.out / "summary.json",
        found,
        {
            "predictions": str(chosen.predictions),
            "truth": str(chosen.truth),
            "compared": len(files.pairs) - len(outcome.errors),
            "without_prediction": files.without_prediction,
            "without_truth": files.without_truth,
            "ambiguous": files.ambiguous,
            "errors": outcome.errors,
            "least_lesion": rule.least_size,
            "overlap": rule.least_overlap,
            "seed": chosen.seed,
        },
    )
    drawn = _draw_worst(chosen, files, wanted, outcome)
    print(f"\n{tables(found)}\n")
    _tell_outcome(outcome)
    print(f"Wrote {chosen.out}/cases.csv, summary.json and {drawn} overlays")


def _wanted(chosen: argparse.Namespace, pairs: Sequence[Pair]) -> Wanted:
    if not pairs:
        raise InvalidSetting(
            f"No file in {chosen.predictions} has the name of one in {chosen.truth}. "
            "Name each predicted mask as its truth, without regard to .nii.gz, .nii, .nrrd, .seg.nrrd."
        )
    if chosen.labels or chosen.app:
        task = declared(chosen.labels) if chosen.labels else declared_by_app(chosen.app)
    else:
        task = found_in(tqdm(pairs, desc="looking for structures", unit="case"))
    looked_at = looked_at_in(chosen.looked_at, task) if chosen.looked_at else {}
    return Wanted(task, bool(chosen.labels or chosen.app), looked_at)


def _draw_worst(chosen: argparse.Namespace, files: Matched, wanted: Wanted, outcome: Outcome) -> int:
    """Draws the worst cases; returns how many it could."""
    drawn = 0
    folder: Path = chosen.out / "overlays"
    folder.mkdir(exist_ok=True)
    for earlier in folder.glob("[0-9][0-9]_*.png"):
        earlier.unlink()
    for rank, name in enumerate(tqdm(worst_cases(outcome.scores, chosen.overlays), desc="drawing"), start=1):
        pair = files.pairs[name]
        told = [f"{row.structure} {row.dice:.2f}" for row in outcome.scores if row.case == name and has_dice(row)]
        path = folder / f"{rank:02d}_{name.replace('/', '__')}.png"
        try:
            image = read_image(pair.image) if pair.image is not None else None
            title = f"{name}: Dice {', '.join(told[:NAMES_TOLD])}"
            draw(path, read_case(pair, wanted), image, title, wanted.task.window_hu)
        # The pixels of an image may be damaged though its header is not.
        except Exception as error:
            print(f"{name} could not be drawn: {error}")
            continue
        drawn += 1
    return drawn


def _tell_unmatched(files: Matched) -> None:
    for names, what in (
        (files.without_prediction, "have no prediction and count nowhere"),
        (files.without_truth, "are predicted but have no truth"),
        (files.ambiguous, "stand for several files and are left out"),
    ):
        if names:
            print(f"{len(names)} {what}: {_shortened(names)}")


def _tell_outcome(outcome: Outcome) -> None:
    for case, error in outcome.errors.items():
        print(f"{case} was not compared: {error}")
    if outcome.ignored:
        told = ", ".join(f"{number} (in {cases} cases)" for number, cases in sorted(outcome.ignored.items()))
        print(f"Numbers that mean none of the structures counted as background: {told}")


def _shortened(names: Sequence[str]) -> str:
    more = len(names) - NAMES_TOLD
    return ", ".join(names[:NAMES_TOLD]) + (f" and {more} more (all in summary.json)" if more > 0 else "")
