"""What clients note about images and versions: any JSON, as long as whoever reads the record can bear it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from lib.errors import StageConflict

DEEPEST_SHOWN = 64
"""Levels of lists and objects that a note may have to be shown; programs that read replies take each level by a call of
a function, of which there is an end."""

LONGEST_NOTES = 2**20
"""Letters of all notes about one image, or about one version, as JSON."""

EARLIER = "earlier_notes"
"""Under this name stand the notes that others replaced."""

PLAIN = ("user", "strategy", EARLIER)
"""Notes that tell the present state, so that nothing is lost when they change."""


def levels(content: Any) -> Iterator[list[dict[str, Any] | list[Any]]]:
    """The lists and objects of a JSON value by how deep they lie, the outermost first; none for a text or a number.

    Level by level: a function that calls itself for each one would itself meet the end that is to be found.
    """
    level = [content]
    while level := [entry for entry in level if isinstance(entry, dict | list)]:
        yield level
        level = [inner for entry in level for inner in (entry.values() if isinstance(entry, dict) else entry)]


def read_column(text: str | bytes) -> Any:
    """What a JSON column holds; nothing if it is nested deeper than Python reads, as only old notes can be."""
    try:
        return json.loads(text)
    except RecursionError:
        return {}


def shown(notes: Mapping[str, Any]) -> dict[str, Any]:
    """Notes as readers get them: one that is nested too deep, which was taken in once, is replaced by a word on it."""
    return {
        name: note
        if (depth := sum(1 for _ in levels(note))) <= DEEPEST_SHOWN
        else f"(a note of {depth} levels, which is not shown)"
        for name, note in notes.items()
    }


def over(known: Mapping[str, Any], new: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """New notes, and with them the earlier ones of the same names that they replace.

    Args:
        known: all that is noted so far.
        new: what is to be noted; ``user`` says who does.
        now: the present moment.

    Raises:
        StageConflict: if there would be too much.
    """
    added = {name: note for name, note in new.items() if name != EARLIER}
    replaced = {
        name: known[name] for name, note in added.items() if name not in PLAIN and known.get(name, note) != note
    }
    if replaced:
        before = known.get(EARLIER)
        now_replaced = {"notes": replaced, "replaced_by": new.get("user"), "replaced": now.isoformat()}
        added[EARLIER] = [*(before if isinstance(before, list) else []), now_replaced]
    letters = len(json.dumps({**known, **added}))
    if letters > LONGEST_NOTES:
        raise StageConflict(
            f"All notes together would have {letters} letters, at most {LONGEST_NOTES}; earlier ones are kept. "
            "Note where the rest is found."
        )
    return added
