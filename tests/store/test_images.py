"""Images: whose turn it is, which side of the split they are on, and what stays when they are seen again."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event

from lib.errors import UnknownImage
from lib.split import Split
from lib.stages import Role, Standing
from lib.store import schema
from lib.store.assignments import Purpose
from lib.store.images import ImageState, Place
from lib.store.record import open_record
from tests.store.records import GRID, ONLY_SQLITE, TASK, Outside, add, new_image, put_image

THREE = ["ct_017", "ct_018", "ct_019"]


class Clock:
    """Goes on by a second with every look at it, and further when it is told."""

    def __init__(self):
        self.moment = datetime(2024, 5, 1, tzinfo=UTC)

    def go_on(self, **by):
        self.moment += timedelta(**by)

    def __call__(self):
        self.go_on(seconds=1)
        return self.moment


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(schema, "now", made)
    return made


def offered_to(record, author="dr.kim", role=Role.EXPERT, *, by_id=True):
    return [image.id for image in record.images.candidates(author, role, by_id=by_id)]


# --- what is known of an image ---------------------------------------------------------------------------------------


def test_an_image_is_read_as_it_was_put(record):
    image = Outside(record).images.get("ct_017")

    assert image.grid.is_same_as(GRID)
    assert (image.source, image.modality, image.patient) == ("ct_017.nii", "MR", "ct_017")
    assert (image.state, image.standing, image.split, image.current) == (ImageState.OK, Standing.UNTOUCHED, None, None)


def test_an_image_with_a_reason_is_quarantined_without_a_grid(record):
    put_image(record, "ct_017", reason="ct_017.nii is cut off")

    image = record.images.get("ct_017")
    assert (image.state, image.reason, image.grid) == (ImageState.QUARANTINED, "ct_017.nii is cut off", None)
    assert record.images.ids() == ["ct_018", "ct_019"]


def test_an_image_that_is_readable_again_takes_part_again_with_all_it_had(record):
    add(record, "ct_017", Role.EXPERT)
    before = record.images.get("ct_017")
    put_image(record, "ct_017", reason="damaged")

    put_image(record, "ct_017")

    assert record.images.get("ct_017").grid.is_same_as(GRID)
    after = record.images.get("ct_017")
    assert (after.split, after.standing, after.current, after.state) == (
        before.split, before.standing, before.current, ImageState.OK
    )  # fmt: skip


def test_a_hidden_image_stays_hidden_when_it_is_seen_again(record):
    record.images.set_state("ct_017", ImageState.HIDDEN, "removed by a client")

    put_image(record, "ct_017")

    assert record.images.find("ct_017").state is ImageState.HIDDEN
    with pytest.raises(UnknownImage, match=r"There is no image 'ct_017'\. GET /datastore/"):
        record.images.get("ct_017")


def test_an_erased_image_stays_a_tombstone_when_it_is_seen_again(record):
    record.images.set_state("ct_017", ImageState.ERASED, "erased")
    before = record.images.find("ct_017")

    put_image(record, "ct_017", patient="somebody", reason="damaged")

    after = record.images.find("ct_017")
    assert (after.state, after.patient, after.reason) == (before.state, before.patient, before.reason)


def test_images_added_together_are_as_if_added_one_by_one(record, tmp_path):
    twin = open_record(TASK, tmp_path / "twin")
    for image_id in THREE:
        put_image(twin, image_id)
    several = [
        new_image("mr_1"), new_image("mr_2", patient="ct_018"), new_image("mr_3", patient="ct_018", reason="cut off"),
        new_image("mr_4", reason="cut off"), replace(new_image("mr_5", reason="words"), is_image=False),
    ]  # fmt: skip
    for each in (record, twin):
        each.images.offer("ct_018")

    record.images.put_new(several)
    for one in several:
        twin.images.put(one)

    assert known_of(record) == known_of(twin)
    assert [state for _, state, *_ in known_of(record)][-3:] == ["quarantined", "quarantined", "no_image"]
    assert record.images.counts() == record.images.recounted() == twin.images.counts()


def known_of(record):
    """What is known of each image, as another connection sees it."""
    every = Outside(record).images.every(*ImageState)
    return [(i.id, i.state, i.reason, i.source, i.patient, i.split, i.standing, str(i.grid)) for i in every]


def test_ids_that_are_taken_are_known_in_whatever_state(record):
    record.images.set_state("ct_018", ImageState.HIDDEN)

    assert record.images.known(["ct_018", "ct_019", "mr_1"]) == {"ct_018", "ct_019"}


@ONLY_SQLITE
def test_the_files_of_an_image_are_found_without_reading_those_of_others(record):
    """Asked for an order, SQLite would read all files along their primary key."""
    asked = []

    @event.listens_for(record.database.engine, "before_cursor_execute")
    def noted(connection, cursor, statement, parameters, context, many):
        asked.append((statement, parameters))

    record.images.files("ct_017")

    statement, parameters = asked[-1]
    with record.database.reading() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    assert [row[-1] for row in plan] == ["SEARCH file USING INDEX ix_file_image (task=? AND image=?)"]


def test_an_unknown_image_is_refused_and_not_found(record):
    assert record.images.find("ct_099") is None
    for ask in (record.images.get, record.images.offer, lambda image_id: record.images.note(image_id, {})):
        with pytest.raises(UnknownImage, match=r"There is no image 'ct_099'"):
            ask("ct_099")


def test_remarks_are_added_over_those_of_the_same_name(record):
    record.images.note("ct_017", {"a": 1, "b": 2})
    record.images.note("ct_017", {"b": 3})

    assert Outside(record).images.get("ct_017").info == {"a": 1, "b": 3}


def test_images_are_listed_by_state_and_by_standing(record):
    add(record, "ct_018", Role.EXPERT)
    put_image(record, "broken", reason="cut off")
    record.images.set_state("ct_019", ImageState.HIDDEN)

    assert record.images.ids() == ["ct_017", "ct_018"]
    assert record.images.ids(Standing.LABELLED) == ["ct_018"]
    assert [image.id for image in record.images.every(ImageState.QUARANTINED, ImageState.HIDDEN)] == [
        "broken",
        "ct_019",
    ]


def test_the_running_count_is_what_counting_gives(record):
    add(record, "ct_017", Role.MODEL)
    add(record, "ct_018", Role.EXPERT)
    record.annotations.withdraw("ct_018", 1, "dr.kim", Role.EXPERT)
    put_image(record, "broken", reason="cut off")
    put_image(record, "ct_019", reason="cut off")
    record.images.set_state("ct_017", ImageState.HIDDEN)
    put_image(record, "twin", patient="ct_018")
    record.images.forget_unread("broken")

    counts = Outside(record).images.counts()

    assert counts == record.images.recounted()
    assert counts == Counter(
        {
            Place(ImageState.HIDDEN, Standing.DRAFTED, None): 1,
            Place(ImageState.OK, Standing.UNTOUCHED, Split.TRAINING): 2,
            Place(ImageState.QUARANTINED, Standing.UNTOUCHED, None): 1,
        }
    )


# --- forgetting what never was an image ------------------------------------------------------------------------------


def test_a_file_that_nobody_could_read_and_nobody_used_is_forgotten(record):
    put_image(record, "notes", reason="notes.txt is no image")

    assert record.images.forget_unread("notes") is True
    assert Outside(record).images.find("notes") is None


def test_an_image_that_was_readable_or_used_is_never_forgotten(record):
    record.images.set_state("ct_017", ImageState.QUARANTINED, "gone")
    add(record, "ct_018", Role.MODEL)
    put_image(record, "ct_018", reason="cut off")
    record.images.offer("ct_019")
    put_image(record, "ct_019", reason="cut off")

    assert [record.images.forget_unread(image_id) for image_id in (*THREE, "unknown")] == [False] * 4
    assert Outside(record).images.find("ct_018").reason == "cut off"


# --- who gets what ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "junior", "expert"),
    [((), True, True), ((Role.MODEL,), True, True), ((Role.RULE,), True, True), ((Role.REFINER,), False, True),
     ((Role.ANNOTATOR,), False, True), ((Role.EXPERT,), False, False), ((Role.EXPERT, Role.MODEL), False, False)],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else None,
)  # fmt: skip
def test_what_waits_for_an_expert_is_offered_to_experts_and_what_is_labelled_to_nobody(record, before, junior, expert):
    for role in before:
        add(record, "ct_017", role, "somebody else")

    assert ("ct_017" in offered_to(record, role=Role.ANNOTATOR)) is junior
    assert ("ct_017" in offered_to(record, role=Role.EXPERT)) is expert
    assert ("ct_017" in offered_to(record, role=Role.ADMIN)) is expert


def test_nobody_gets_an_image_twice(record):
    add(record, "ct_017", Role.ANNOTATOR, "anna")

    assert "ct_017" not in offered_to(record, "anna", Role.EXPERT)
    assert "ct_017" in offered_to(record, "bert", Role.EXPERT)


def test_a_person_who_is_called_like_a_model_is_offered_what_the_model_drafted(record):
    add(record, "ct_017", Role.MODEL, "model:segmentation@v3")

    assert "ct_017" in offered_to(record, "model:segmentation@v3", Role.ANNOTATOR)


def test_what_somebody_took_back_may_be_offered_to_them_again(record):
    add(record, "ct_017", Role.EXPERT, "dr.kim")
    record.annotations.withdraw("ct_017", 1, "dr.kim", Role.EXPERT)

    assert "ct_017" in offered_to(record, "dr.kim")


def test_what_is_assigned_to_somebody_else_is_not_offered_until_that_expires(record, clock):
    record.assignments.assign("ct_017", "anna", Purpose.LABEL, timedelta(hours=1))

    assert "ct_017" in offered_to(record, "anna")
    assert "ct_017" not in offered_to(record, "bert")
    clock.go_on(hours=1)
    assert "ct_017" in offered_to(record, "bert")


@pytest.mark.parametrize("state", [ImageState.QUARANTINED, ImageState.HIDDEN, ImageState.ERASED])
def test_only_readable_images_are_offered(record, state):
    record.images.set_state("ct_018", state)

    assert offered_to(record) == ["ct_017", "ct_019"]


# --- in which order --------------------------------------------------------------------------------------------------


def drawn_order(ids):
    """The recorded random order: by the first six bytes of the id's SHA-256."""
    return sorted(ids, key=lambda image_id: hashlib.sha256(image_id.encode()).digest()[:6])


def test_the_random_order_is_drawn_from_the_ids_alone_and_is_the_same_in_every_record(record, tmp_path):
    ids = [f"mr_{number:03d}" for number in range(50)]
    again = open_record(TASK, tmp_path / "again")
    for image_id in ids:
        put_image(record, image_id)
    for image_id in [*reversed(ids), *THREE]:
        put_image(again, image_id)

    found = offered_to(record, by_id=False)

    assert found == offered_to(again, by_id=False) == drawn_order([*ids, *THREE])
    assert found != sorted(found)


def test_alphabetical_order_is_that_of_the_ids(record):
    ids = [f"mr_{number:03d}" for number in range(50)]
    for image_id in reversed(ids):
        put_image(record, image_id)

    assert offered_to(record) == [*THREE, *ids]


def test_never_offered_images_come_first_then_those_offered_longest_ago(record, clock):
    put_image(record, "mr_1")
    put_image(record, "mr_2")
    for image_id in ("ct_019", "mr_1", "ct_017", "ct_019"):
        record.images.offer(image_id)

    assert offered_to(record, by_id=False) == [*drawn_order(["ct_018", "mr_2"]), "mr_1", "ct_017", "ct_019"]


def test_drafted_and_untouched_images_take_turns_in_one_order(record):
    ids = [f"mr_{number:02d}" for number in range(12)]
    for number, image_id in enumerate(ids):
        put_image(record, image_id)
        if number % 2:
            add(record, image_id, Role.MODEL)

    assert offered_to(record) == [*THREE, *ids]
    assert offered_to(record, by_id=False) == drawn_order([*THREE, *ids])


@pytest.mark.parametrize("by_id", [True, False])
@pytest.mark.parametrize("are_offered", [True, False])
def test_no_image_is_passed_over_when_those_before_it_turn_out_to_be_gone(record, clock, by_id, are_offered):
    """Whoever walks the candidates quarantines what is gone, which takes it out of the query."""
    ids = [f"mr_{number:03d}" for number in range(75)]
    seen = []
    with record.database.transaction():
        for image_id in ids:
            put_image(record, image_id)
            if are_offered:
                record.images.offer(image_id)

        for image in record.images.candidates("dr.kim", Role.EXPERT, by_id=by_id):
            seen.append(image.id)
            record.images.set_state(image.id, ImageState.QUARANTINED, "gone")

    assert sorted(seen) == [*THREE, *ids]


# --- the split -------------------------------------------------------------------------------------------------------


def test_every_fifth_patient_offered_measures_the_models(record):
    ids = [f"mr_{number:02d}" for number in range(15)]
    for image_id in ids:
        put_image(record, image_id)

    sides = [record.images.offer(image_id) for image_id in ids]

    assert [number for number, side in enumerate(sides, start=1) if side is Split.VALIDATION] == [5, 10, 15]


def test_a_side_belongs_to_the_patient_and_never_changes(record):
    for number in range(10):
        put_image(record, f"mr_{number}", patient=f"patient {number // 2}")

    first = [record.images.offer(f"mr_{number}") for number in range(10)]
    second = [record.images.offer(f"mr_{number}") for number in range(10)]

    assert first == second == [Split.TRAINING] * 8 + [Split.VALIDATION] * 2


def test_storing_an_annotation_counts_as_being_offered(record):
    add(record, "ct_017", Role.EXPERT)
    add(record, "ct_018", Role.MODEL)

    assert record.images.get("ct_017").split is Split.TRAINING
    assert record.images.get("ct_018").split is None


def test_a_later_image_of_a_known_patient_takes_the_patients_side(record):
    for number in range(5):
        put_image(record, f"mr_{number}", patient=f"patient {number}")
        record.images.offer(f"mr_{number}")

    put_image(record, "late", patient="patient 4")
    put_image(record, "later", patient="nobody so far")

    assert record.images.get("late").split is Split.VALIDATION
    assert record.images.get("later").split is None


def test_an_image_whose_patient_is_told_later_takes_that_patients_side(record):
    put_image(record, "mr_1", patient="mr_1")
    put_image(record, "mr_2", patient="anna")
    record.images.offer("mr_2")

    put_image(record, "mr_1", patient="anna")

    assert record.images.get("mr_1").split is Split.TRAINING
    for number in range(3):
        put_image(record, f"other_{number}")
        record.images.offer(f"other_{number}")
    assert record.images.offer("mr_1") is record.images.get("mr_2").split is Split.TRAINING


def test_an_image_that_has_a_side_keeps_its_patient(record):
    record.images.offer("ct_017")

    put_image(record, "ct_017", patient="somebody else")

    assert record.images.get("ct_017").patient == "ct_017"


def test_an_unreadable_file_does_not_change_whose_image_it_is(record):
    put_image(record, "mr_1", patient="anna")

    put_image(record, "mr_1", patient="mr_1", reason="cut off")

    assert record.images.get("mr_1").patient == "anna"


def test_once_twenty_validation_patients_are_labelled_all_others_are_learned_from(record):
    with record.database.transaction():
        for number in range(105):
            put_image(record, f"mr_{number:03d}")
            add(record, f"mr_{number:03d}", Role.EXPERT)

    sides = [record.images.get(f"mr_{number:03d}").split for number in range(105)]
    assert sides.count(Split.VALIDATION) == 20
    assert sides[99] is Split.VALIDATION and sides[104] is Split.TRAINING


def test_validation_patients_that_nobody_labelled_do_not_count_towards_enough(record):
    with record.database.transaction():
        for number in range(125):
            put_image(record, f"mr_{number:03d}")
        sides = [record.images.offer(f"mr_{number:03d}") for number in range(125)]

    assert sides.count(Split.VALIDATION) == 25


def test_an_expert_is_offered_first_what_waits_for_one(record):
    add(record, "ct_019", Role.ANNOTATOR, "lee")

    assert offered_to(record) == ["ct_019", "ct_017", "ct_018"]
    assert offered_to(record, "ann", Role.ANNOTATOR) == ["ct_017", "ct_018"]


def test_readable_images_are_counted_by_patient(record):
    for image_id, patient in [("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b")]:
        put_image(record, image_id, patient)
    put_image(record, "b2", "b", reason="cut off")
    put_image(record, "c1", "c", reason="cut off")

    # The record begins with three images of a patient each.
    assert Outside(record).images.patients() == (5, 3)
