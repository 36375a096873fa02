"""The queues: what waits for whom, and since when."""

from __future__ import annotations

from lib.stages import Role
from lib.store.images import ImageState
from lib.store.queue import ANNOTATOR_STANDINGS, EXPERT_STANDINGS
from tests.store.records import Outside, add, put_image


def waiting(record, standings=EXPERT_STANDINGS, skipped=0, most=10):
    return record.queue.page(standings, skipped, most)


def test_a_juniors_mask_and_a_refined_one_wait_for_an_expert_the_oldest_first(record):
    add(record, "ct_018", Role.ANNOTATOR, "lee")
    add(record, "ct_017", Role.MODEL)
    add(record, "ct_017", Role.REFINER, parent=1, refiner_version=1)

    cases = waiting(record)

    assert [case.image for case in cases] == ["ct_018", "ct_017"]
    assert record.queue.count(EXPERT_STANDINGS) == 2
    assert cases[1].current == 2
    assert cases[1].versions == Outside(record).annotations.history("ct_017")
    assert cases[1].since == cases[1].versions[1].created


def test_what_an_expert_labelled_waits_for_nobody(record):
    add(record, "ct_017", Role.ANNOTATOR)
    add(record, "ct_017", Role.EXPERT)

    assert waiting(record) == []
    assert [case.image for case in waiting(record, ANNOTATOR_STANDINGS)] == ["ct_018", "ct_019"]


def test_annotators_are_told_drafted_images_before_untouched_ones(record):
    add(record, "ct_019", Role.MODEL)
    add(record, "ct_018", Role.RULE)

    cases = waiting(record, ANNOTATOR_STANDINGS)

    assert [case.image for case in cases] == ["ct_018", "ct_019", "ct_017"]
    assert cases[0].since == cases[0].versions[0].created
    assert cases[2].since == record.images.get("ct_017").added
    assert (cases[2].current, cases[2].versions) == (None, [])
    pages = [waiting(record, ANNOTATOR_STANDINGS, skipped, 1) for skipped in range(4)]
    assert [[case.image for case in page] for page in pages] == [["ct_018"], ["ct_019"], ["ct_017"], []]


def test_a_long_queue_is_told_page_by_page(record):
    for number in range(5):
        put_image(record, f"mr_{number}")
        add(record, f"mr_{number}", Role.ANNOTATOR)

    pages = [[case.image for case in waiting(record, skipped=skipped, most=2)] for skipped in (0, 2, 4, 6)]

    assert pages == [["mr_0", "mr_1"], ["mr_2", "mr_3"], ["mr_4"], []]
    assert record.queue.count(EXPERT_STANDINGS) == 5


def test_a_hidden_image_waits_for_nobody(record):
    add(record, "ct_017", Role.ANNOTATOR)
    record.images.set_state("ct_017", ImageState.HIDDEN)

    assert (waiting(record), record.queue.count(EXPERT_STANDINGS)) == ([], 0)


def test_a_mask_waits_since_a_person_stored_it_whenever_it_was_refined(record):
    add(record, "ct_017", Role.ANNOTATOR, "lee")
    add(record, "ct_018", Role.ANNOTATOR, "ann")
    add(record, "ct_017", Role.REFINER, parent=1, refiner_version=1)
    add(record, "ct_017", Role.REFINER, parent=1, refiner_version=2)

    cases = waiting(record)

    assert [(case.image, case.current) for case in cases] == [("ct_017", 3), ("ct_018", 1)]
    assert cases[0].since == cases[0].versions[0].created
    assert [case.image for case in waiting(record, skipped=1)] == ["ct_018"]


def test_masks_that_wait_as_people_drew_them_are_unrefined_the_oldest_first(record):
    add(record, "ct_018", Role.MODEL)
    add(record, "ct_018", Role.ANNOTATOR)
    add(record, "ct_017", Role.ANNOTATOR)
    add(record, "ct_019", Role.MODEL)
    put_image(record, "labelled")
    add(record, "labelled", Role.ANNOTATOR)
    add(record, "labelled", Role.EXPERT)
    put_image(record, "removed")
    add(record, "removed", Role.ANNOTATOR)
    record.images.set_state("removed", ImageState.HIDDEN)

    assert record.queue.unrefined() == [("ct_018", 2), ("ct_017", 1)]


def test_a_mask_is_refined_once_also_if_that_was_withdrawn_and_its_next_version_again(record):
    add(record, "ct_017", Role.ANNOTATOR)
    add(record, "ct_017", Role.REFINER, parent=1, refiner_version=1)
    assert record.queue.unrefined() == []

    record.annotations.withdraw("ct_017", 2, "dr.kim", Role.EXPERT)
    assert record.queue.unrefined() == []

    add(record, "ct_017", Role.ANNOTATOR)
    assert record.queue.unrefined() == [("ct_017", 4)]
