"""Notes may be any JSON, and still nobody who reads the record stumbles over them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from lib.errors import StageConflict
from lib.stages import Role
from lib.store.notes import DEEPEST_SHOWN, EARLIER, LONGEST_NOTES, levels, over, shown
from lib.store.record import Record
from tests.store.records import put_image
from tests.store.stored import store

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def nested(depth: int, *, as_object: bool = False) -> Any:
    """A list in a list in a list, or the same of objects."""
    value: Any = 1
    for _ in range(depth):
        value = {"a": value} if as_object else [value]
    return value


@pytest.mark.parametrize(
    ("content", "depth"),
    [(1, 0), ("text", 0), (None, 0), ([], 1), ({}, 1), ([[], 1, [[]]], 3), ({"a": [{"b": []}]}, 4),
     (nested(5000), 5000), (nested(5000, as_object=True), 5000)],
    ids=range(9),
)  # fmt: skip
def test_levels_are_counted_however_many_there_are(content: Any, depth: int) -> None:
    assert sum(1 for _ in levels(content)) == depth


def test_a_note_that_is_nested_too_deep_is_not_shown_and_the_others_are() -> None:
    notes = {"ward": "7b", "deep": nested(300), "just": nested(DEEPEST_SHOWN, as_object=True)}

    assert shown(notes) == {**notes, "deep": "(a note of 300 levels, which is not shown)"}


@pytest.mark.parametrize("table", ["image", "annotation"])
@pytest.mark.parametrize("depth", [DEEPEST_SHOWN + 1, 300, 900, 5000])
def test_a_deep_note_of_an_earlier_version_breaks_no_reader_and_can_be_overwritten(
    record: Record, table: str, depth: int
) -> None:
    put_image(record, "ct_017")
    store(record, "ct_017", Role.EXPERT, b"a mask", "dr.kim")
    with record.database.transaction() as connection:
        content = '{"deep": ' + "[" * depth + "]" * depth + "}"
        column = "CAST(:content AS json)" if connection.dialect.name == "postgresql" else ":content"
        connection.execute(text(f"UPDATE {table} SET info = {column}"), {"content": content})

    for info in (record.images.get("ct_017").info, record.annotations.get("ct_017", 1).info):
        json.dumps(info)
        assert not isinstance(info.get("deep"), list)
    record.images.note("ct_017", {"deep": "flat"})
    record.annotations.note("ct_017", 1, {"deep": "flat"})
    assert record.images.get("ct_017").info["deep"] == record.annotations.get("ct_017", 1).info["deep"] == "flat"


def test_a_note_keeps_what_it_replaces_and_who_replaced_it() -> None:
    known = {"ward": "7b", "user": "lee", "seen": 1}

    new = over(known, {"ward": "8a", "seen": 1, "more": [], "user": "kim"}, NOON)

    assert new.pop(EARLIER) == [{"notes": {"ward": "7b"}, "replaced_by": "kim", "replaced": NOON.isoformat()}]
    assert new == {"ward": "8a", "seen": 1, "more": [], "user": "kim"}


def test_what_was_replaced_before_stays() -> None:
    notes: dict[str, Any] = {}
    for ward in ("7b", "8a", "9c"):
        notes |= over(notes, {"ward": ward, "user": "kim"}, NOON)

    assert [entry["notes"] for entry in notes[EARLIER]] == [{"ward": "7b"}, {"ward": "8a"}]


@pytest.mark.parametrize("sent", [[], "nothing", None, [{"notes": {"ward": "invented"}}]])
def test_earlier_notes_cannot_be_written(sent: Any) -> None:
    known = over({"ward": "7b"}, {"ward": "8a"}, NOON)

    assert EARLIER not in over(known, {EARLIER: sent, "more": 1}, NOON)


@pytest.mark.parametrize("strange", [5, "text", {"a": 1}, None])
def test_a_note_of_that_name_by_somebody_else_is_no_obstacle(strange: Any) -> None:
    new = over({EARLIER: strange, "ward": "7b"}, {"ward": "8a"}, NOON)

    assert [entry["notes"] for entry in new[EARLIER]] == [{"ward": "7b"}]


def test_notes_have_an_end() -> None:
    half = "x" * (LONGEST_NOTES // 2)
    known = over({}, {"a": half}, NOON)

    with pytest.raises(StageConflict, match=rf"would have 104\d{{4}} letters, at most {LONGEST_NOTES}; earlier ones"):
        over(known, {"b": half}, NOON)
