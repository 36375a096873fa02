"""What the robot did so far, one JSON object per line, so that a run that was broken off goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROUND_KEYS = ("labels", "dice", "dice_per_structure", "hd95_mm", "seconds", "voxels_changed")

Line = dict[str, Any]


class Journal:
    """Lines in a file; each is written whole, and a line torn by a crash is dropped when the file is opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            path.write_text(whole, encoding="utf-8")
        self.lines: list[Line] = [json.loads(line) for line in whole.splitlines()]

    def add(self, line: Line) -> None:
        """Appends a line.

        Raises:
            ValueError: if a number in it is not finite, which JSON cannot say.
        """
        text = json.dumps(line, allow_nan=False)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
        self.lines.append(line)


def reply(rounds: Sequence[Mapping[str, Any]]) -> str:
    """The last line that the command prints: the rounds and how many validation cases there are in the end."""
    validation_cases = rounds[-1]["validation_cases"] if rounds else 0
    short = [{key: one[key] for key in ROUND_KEYS} for one in rounds]
    return json.dumps({"rounds": short, "validation_cases": validation_cases}, allow_nan=False)


def plot(rounds: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws Dice against corrections as PNG, one line per structure and a bold one for their mean."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    def drawn(values: Sequence[float | None]) -> list[float]:
        return [float("nan") if value is None else value for value in values]

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    corrections = [one["corrections"] for one in rounds]
    for name in rounds[-1]["dice_per_structure"] if rounds else ():
        axes.plot(corrections, drawn([one["dice_per_structure"].get(name) for one in rounds]), "o--", label=name)
    axes.plot(corrections, drawn([one["dice"] for one in rounds]), "ko-", linewidth=2.5, label="mean")
    axes.set(xlabel="corrections", ylabel="Dice on cases never trained on", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
