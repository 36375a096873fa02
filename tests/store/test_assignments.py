"""Who works on which image."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lib.stages import Role
from lib.store.assignments import AssignmentState, Purpose
from tests.store.records import Outside, add

HOUR = timedelta(hours=1)


def offered(record, annotator):
    return [image.id for image in record.images.candidates(annotator, Role.EXPERT, by_id=True)]


def told(record, image_id="ct_017"):
    return [(a.annotator, a.purpose, a.state) for a in record.assignments.of(image_id)]


def test_a_case_that_somebody_works_on_is_offered_to_nobody_else(record):
    record.assignments.assign("ct_017", "kim", Purpose.LABEL, HOUR)

    assert offered(record, "kim") == ["ct_017", "ct_018", "ct_019"]
    assert offered(record, "lee") == ["ct_018", "ct_019"]


def test_a_case_whose_time_is_over_is_offered_again(record):
    record.assignments.assign("ct_017", "kim", Purpose.LABEL, -timedelta(seconds=1))

    assert offered(record, "lee")[0] == "ct_017"


def test_a_case_that_was_handed_in_is_no_longer_kept_from_others(record):
    record.assignments.assign("ct_017", "kim", Purpose.LABEL, HOUR)
    record.assignments.finish("ct_017", "kim")

    assert offered(record, "lee")[0] == "ct_017"
    assert told(record) == [("kim", Purpose.LABEL, AssignmentState.DONE)]


def test_a_second_reading_does_not_keep_the_case_from_the_first_reader(record):
    record.assignments.assign("ct_017", "kim", Purpose.SECOND_READING, HOUR)

    assert offered(record, "lee")[0] == "ct_017"


def test_asking_again_gives_more_time_and_no_second_row(record):
    first = record.assignments.assign("ct_017", "kim", Purpose.LABEL, HOUR)
    second = record.assignments.assign("ct_017", "kim", Purpose.LABEL, 2 * HOUR)

    assert second.expires - first.expires >= HOUR
    assert told(record) == [("kim", Purpose.LABEL, AssignmentState.OPEN)]


def test_asking_again_for_another_purpose_changes_it(record):
    record.assignments.assign("ct_017", "kim", Purpose.LABEL, HOUR)

    assert record.assignments.assign("ct_017", "kim", Purpose.REVIEW, HOUR).purpose is Purpose.REVIEW
    assert told(record) == [("kim", Purpose.REVIEW, AssignmentState.OPEN)]


def test_who_asks_again_is_told_their_own_assignment_and_not_the_newest(record):
    record.assignments.assign("ct_017", "kim", Purpose.LABEL, HOUR)
    record.assignments.assign("ct_017", "lee", Purpose.SECOND_READING, HOUR)

    assert record.assignments.assign("ct_017", "kim", Purpose.LABEL, HOUR).annotator == "kim"


def test_a_case_that_was_done_can_be_given_to_the_same_person_again(record):
    record.assignments.assign("ct_017", "kim", Purpose.LABEL, HOUR)
    record.assignments.finish("ct_017", "kim")
    record.assignments.assign("ct_017", "kim", Purpose.REVIEW, HOUR)

    assert told(record) == [
        ("kim", Purpose.LABEL, AssignmentState.DONE),
        ("kim", Purpose.REVIEW, AssignmentState.OPEN),
    ]


def test_finishing_what_nobody_was_given_changes_nothing(record):
    record.assignments.assign("ct_017", "kim", Purpose.LABEL, HOUR)
    record.assignments.finish("ct_017", "lee")
    record.assignments.finish("ct_018", "kim")

    assert told(record) == [("kim", Purpose.LABEL, AssignmentState.OPEN)]


def test_the_end_is_a_moment_in_utc(record):
    given = record.assignments.assign("ct_017", "kim", Purpose.LABEL, HOUR)

    assert given.expires.utcoffset() == timedelta(0)
    assert record.assignments.of("ct_017") == [given]


@pytest.mark.parametrize("fails", [False, True])
def test_an_assignment_inside_a_transaction_is_kept_only_if_that_is(record, fails):
    class Crash(Exception):
        pass

    try:
        with record.database.transaction():
            record.assignments.assign("ct_017", "kim", Purpose.LABEL, HOUR)
            if fails:
                raise Crash
    except Crash:
        pass

    assert [image.id for image in Outside(record).images.candidates("lee", Role.EXPERT, by_id=True)] == (
        ["ct_017", "ct_018", "ct_019"] if fails else ["ct_018", "ct_019"]
    )


def test_a_case_that_an_expert_labelled_is_offered_to_nobody_whoever_has_it(record):
    record.assignments.assign("ct_017", "kim", Purpose.LABEL, HOUR)
    add(record, "ct_017", Role.EXPERT, "lee")

    assert "ct_017" not in offered(record, "kim")
