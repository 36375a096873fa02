"""What people read: a CSV file of all cases, a summary as JSON, and tables on the screen."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from lib.metrics.cohort import StructureScore, StructureSummary, share_interval

COLUMNS = (*(column.name for column in fields(StructureScore)), "error")

Cells = Sequence[str]


def write_cases(path: Path, scores: Sequence[StructureScore], errors: Mapping[str, str]) -> None:
    """One line per case and structure, blank where a figure is undefined; one per case that could not be compared."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for score in scores:
            writer.writerow({name: _cell(value) for name, value in asdict(score).items()})
        for case, error in errors.items():
            writer.writerow({"case": case, "error": error})


def write_summary(path: Path, summaries: Mapping[str, StructureSummary], about: Mapping[str, Any]) -> None:
    """The summary of each structure and what was compared, as JSON; ``null`` where a figure is undefined."""
    structures = {name: _with_rates(one) for name, one in summaries.items()}
    content = _json({**about, "structures": structures})
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def tables(summaries: Mapping[str, StructureSummary]) -> str:
    """Three tables: figures, lesions, cases."""
    figures = [
        (name, figure, _text(one.mean), _text(one.sd), _range(one.interval), str(one.n))
        for name, summary in summaries.items()
        for figure, one in summary.figures.items()
    ]
    lesions = [
        (name, str(one.lesions.true), str(one.lesions.found), _text(one.lesions.sensitivity),
         str(one.lesions.false), _text(one.lesions.false / one.cases))
        for name, one in summaries.items()
    ]  # fmt: skip
    cases = [
        (name, f"{one.detection.found} of {one.detection.positives}", _range(_interval(one, "sensitivity")),
         f"{one.detection.refuted} of {one.detection.negatives}", _range(_interval(one, "specificity")),
         _text(one.false_positive_ml.mean))
        for name, one in summaries.items()
    ]  # fmt: skip
    return "\n\n".join([
        _table(("structure", "figure", "mean", "sd", "95 % interval", "n"), figures),
        _table(("structure", "lesions", "found", "share", "false", "false per case"), lesions),
        _table(("structure", "positive cases found", "95 % interval", "negative cases left alone", "95 % interval",
                "false ml on negatives"), cases),
    ])  # fmt: skip


def _with_rates(summary: StructureSummary) -> dict[str, Any]:
    """The summary as a dict, with the rates that follow from its counts."""
    content = asdict(summary)
    content["lesions"] |= {
        "sensitivity": summary.lesions.sensitivity,
        "false_per_case": summary.lesions.false / summary.cases,
    }
    for rate in ("sensitivity", "specificity"):
        content["detection"] |= {rate: getattr(summary.detection, rate), f"{rate}_interval": _interval(summary, rate)}
    return content


def _interval(summary: StructureSummary, rate: str) -> tuple[float, float]:
    count = summary.detection
    if rate == "sensitivity":
        return share_interval(count.found, count.positives)
    return share_interval(count.refuted, count.negatives)


def _json(content: Any) -> Any:
    """The same with ``None`` for numbers that JSON does not know, and six digits."""
    if isinstance(content, Mapping):
        return {key: _json(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_json(value) for value in content]
    if isinstance(content, float):
        return float(f"{content:.6g}") if math.isfinite(content) else None
    return content


def _cell(value: str | float | int | bool) -> str | float | int:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else ""
    return value


def _text(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"


def _range(interval: tuple[float, float]) -> str:
    return "-" if math.isnan(interval[0]) else f"{interval[0]:.3f} to {interval[1]:.3f}"


def _table(head: Cells, rows: Sequence[Cells]) -> str:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    )
