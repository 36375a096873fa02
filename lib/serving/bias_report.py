"""What each annotator does differently from the experts, from the comparisons in the record."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from functools import lru_cache
from typing import Any

from lib.errors import NotFound
from lib.metrics.bias import AnnotatorBias, CaseBias, annotator_bias
from lib.store.comparisons import Cases, Comparison
from lib.store.record import Record


def annotators(record: Record) -> list[dict[str, Any]]:
    """Everybody who has cases that an expert labelled too, by name."""
    return [{"name": name, **_counts(cases)} for name, cases in record.comparisons.annotators().items()]


def report(record: Record, name: str) -> dict[str, Any]:
    """All about one annotator, as JSON values; ``None`` where a figure is undefined.

    Raises:
        NotFound: if nobody of this name has a case.
    """
    rows, waiting = record.comparisons.of_annotator(name), record.comparisons.count_waiting(name)
    if not rows and not waiting:
        known = ", ".join(record.comparisons.annotators()) or "nobody yet"
        raise NotFound(f"There is no case of {name!r} that an expert labelled too; there are cases of {known}.")
    return {
        "name": name,
        **_counts(Cases(sum(not row.reason for row in rows), waiting)),
        "structures": {
            structure: _plain(asdict(_bias(_cases(rows, structure))))
            for structure in record.task.values
            if any(structure in row.structures for row in rows)
        },
        "rows": [
            {
                "image": row.image,
                "version": row.version,
                "expert_version": row.expert_version,
                "structures": {structure: _of_case(figures) for structure, figures in row.structures.items()},
                **({"reason": row.reason} if row.reason else {}),
            }
            for row in rows
        ],
    }


def _counts(cases: Cases) -> dict[str, int]:
    return {"cases": cases.compared, "not_compared": cases.waiting}


@lru_cache(maxsize=256)
def _bias(cases: tuple[CaseBias, ...]) -> AnnotatorBias:
    """Drawing the resamples of a thousand cases takes a tenth of a second."""
    return annotator_bias(cases)


def _cases(rows: Sequence[Comparison], structure: str) -> tuple[CaseBias, ...]:
    found = (_of_case(row.structures[structure]) for row in rows if structure in row.structures)
    defined: list[dict[str, Any]] = [
        {name: math.nan if value is None else value for name, value in case.items()} for case in found
    ]
    return tuple(CaseBias(**case) for case in defined)


def _of_case(figures: Mapping[str, float | None]) -> dict[str, Any]:
    return {field.name: figures[field.name] for field in fields(CaseBias)}


def _plain(value: Any) -> Any:
    """The same with ``None`` in place of what JSON has no number for."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
