"""The rounds: correct some drafts, let the model learn, measure it on cases it never learned from."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lib.volume import read_volume
from scripts.simulation.evaluation import case_score, summary
from scripts.simulation.journal import Journal, Line
from scripts.simulation.server import Server
from scripts.simulation.truths import truth_of

VALIDATION = "validation"


@dataclass(frozen=True)
class Plan:
    """How much the robot does.

    Attributes:
        rounds: corrections, training and measuring are one round.
        per_round: corrections in each round.
        seed: decides which cases a limited measuring takes.
        most_cases: measured cases in each of the two parts (validation, not yet labelled); ``None`` for all.
        training_s: longest wait for one training.
    """

    rounds: int
    per_round: int
    seed: int = 0
    most_cases: int | None = None
    training_s: float = math.inf


class Robot:
    """Annotates with the truth as its only knowledge; ``out`` remembers each correction and each round."""

    def __init__(self, server: Server, truth_folder: Path, out: Path, plan: Plan) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self._server, self._folder, self._plan = server, truth_folder, plan
        self._corrections = Journal(out / "corrections.jsonl")
        self._rounds = Journal(out / "rounds.jsonl")
        images = server.images()
        self._truths = {image_id: truth for image_id in images if (truth := self._truth_of(image_id))}
        ours = {line["image"] for line in self._corrections.lines}
        self._labelled_by_others = {image_id for image_id, is_final in images.items() if is_final} - ours

    def run(self) -> list[Line]:
        """Does the rounds that are not in the journal yet; ends early when nothing is left to label."""
        for number in range(len(self._rounds.lines) + 1, self._plan.rounds + 1):
            start = time.monotonic()
            missed = self._correct(number)
            corrected = [line for line in self._corrections.lines if line["round"] == number]
            if not corrected:
                print(f"Round {number}: nothing left to label.", flush=True)
                break
            training, training_s = self._train(missed)
            line = self._measured(number) | {
                "training": training,
                "training_seconds": training_s,
                "voxels_changed": sum(one["voxels_changed"] for one in corrected),
            }
            self._rounds.add(line | {"seconds": round(time.monotonic() - start, 1)})
        return self._rounds.lines

    def _truth_of(self, image_id: str) -> Path | None:
        return truth_of(self._folder, image_id) or truth_of(self._folder, image_id, self._server.source(image_id))

    def _correct(self, number: int) -> bool:
        """Corrects what is missing in this round; tells whether a training began before its last correction."""
        done = sum(line["round"] == number for line in self._corrections.lines)
        missed, attempts = False, 0
        with tqdm(total=self._plan.per_round, initial=done, desc=f"round {number}: correcting") as bar:
            # An image without truth stays unlabelled and may be offered again: give up after so many in a row.
            while done < self._plan.per_round and attempts < 20:
                image_id = self._server.next_image()
                if image_id is None:
                    break
                if image_id not in self._truths:
                    attempts += 1
                    continue
                missed = self._server.is_training()
                self._correct_one(number, image_id)
                done, attempts = done + 1, 0
                bar.update()
        return missed

    def _correct_one(self, number: int, image_id: str) -> None:
        start = time.monotonic()
        truth = read_volume(self._truths[image_id])
        draft = self._server.draft(image_id, truth)
        split = self._server.submit(image_id, self._truths[image_id])
        self._corrections.add({
            "round": number,
            "image": image_id,
            "split": split,
            "voxels_changed": int(np.count_nonzero(draft.voxels != truth.voxels)),
            "seconds": round(time.monotonic() - start, 2),
        })  # fmt: skip

    def _train(self, missed: bool) -> tuple[str, float]:
        """Trains on all corrections: a training that missed the last of them is followed by another.

        Returns:
            How the training ended, and the seconds it took.
        """
        start = time.monotonic()
        ending = self._server.train(self._plan.training_s)
        left_s = self._plan.training_s - (time.monotonic() - start)
        if missed and left_s > 0:
            ending = self._server.train(left_s)
        return ending, round(time.monotonic() - start, 1)

    def _measured(self, number: int) -> Line:
        """One line of ``rounds.jsonl`` without the times and what training added."""
        splits = {line["image"]: line["split"] for line in self._corrections.lines}
        validation = [image_id for image_id, split in splits.items() if split == VALIDATION]
        unlabelled = set(self._truths) - set(splits) - self._labelled_by_others
        parts = {VALIDATION: self._chosen(validation), "unlabelled": self._chosen(unlabelled)}
        scores = {}
        for image_id in tqdm([*parts[VALIDATION], *parts["unlabelled"]], desc=f"round {number}: measuring"):
            truth = read_volume(self._truths[image_id])
            scores[image_id] = case_score(truth, self._server.draft(image_id, truth).voxels, self._server.values)
        names = list(self._server.values)
        return {
            "round": number,
            "corrections": len(self._corrections.lines),
            "labels": len(splits) - len(validation),
            "validation_cases": len(validation),
            **summary(list(scores.values()), names),
            **{part: summary([scores[image_id] for image_id in ids], names) for part, ids in parts.items()},
        }

    def _chosen(self, image_ids: Iterable[str]) -> list[str]:
        """All ids, or as many as the plan allows: those that come first in an order fixed by the seed."""
        drawn = sorted(image_ids, key=lambda image_id: random.Random(f"{self._plan.seed} {image_id}").random())
        return drawn[: self._plan.most_cases]
