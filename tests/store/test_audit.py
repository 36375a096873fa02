"""Who asked for which change."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from lib.store import schema
from lib.store.audit import Change

CHANGE = Change("dr.kim", "expert", "Slicer/5.8", "10.0.0.7", "PUT", "/datastore/label", "image=ct_017", 200)


def test_a_change_is_read_back_with_its_moment_in_utc(record):
    before = schema.now()
    record.audit.add(CHANGE)

    ((moment, change),) = record.audit.newest(10)
    assert change == CHANGE
    assert before <= moment <= schema.now() and moment.utcoffset() == timedelta(0)


def test_the_newest_changes_come_first_and_no_more_than_asked_for(record):
    for status in range(200, 206):
        record.audit.add(replace(CHANGE, status=status))

    assert [change.status for _, change in record.audit.newest(3)] == [205, 204, 203]


def test_a_change_says_exactly_what_was_asked(record):
    odd = replace(CHANGE, path="/model/../Ä%00'; DROP TABLE audit;--", query="a=%F0%9F%AB%81&b=" + "x" * 5000)
    record.audit.add(odd)

    assert record.audit.newest(1)[0][1] == odd


def test_changes_are_only_ever_added():
    from lib.store.audit import Audit

    assert {name for name in vars(Audit) if not name.startswith("_")} == {"add", "newest"}
