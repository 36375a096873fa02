"""Comparisons of versions with an expert's: which are wanted, when they are missing, and when they go."""

from __future__ import annotations

import pytest

from lib.stages import Role
from lib.store.comparisons import Cases, Comparison, Corrected, pairs_of
from lib.store.erase import erase_patient
from lib.store.images import ImageState
from tests.store.records import Outside, add, new
from tests.store.stored import data_of

FIGURES = {"added_path_mm": 12.0, "outline_mm": 40.0, "dice": 0.9}


def pairs(record, image_id="ct_017"):
    """Earlier version, expert version, whether it is an ancestor, and whose case it is."""
    found = pairs_of(record.annotations.history(image_id))
    return [(p.earlier.version, p.expert.version, p.is_ancestor, p.annotator) for p in found]


def loop(record, image_id="ct_017"):
    """Draft v1, a junior's v2, refined v3, the expert's v4, each made from the one before."""
    add(record, image_id, Role.MODEL, "model:hippocampus@v1")
    add(record, image_id, Role.ANNOTATOR, "kim", parent=1)
    add(record, image_id, Role.REFINER, "refiner:hippocampus@v1", parent=2)
    add(record, image_id, Role.EXPERT, "dr.lee", parent=3)


def from_scratch(record):
    """An expert's mask that was made from no other."""
    record.annotations.add(new("ct_017", Role.EXPERT))


def comparison(version, expert_version, annotator=None, image_id="ct_017", **more):
    role = Role.ANNOTATOR if annotator else Role.MODEL
    made = {"role": role, "is_ancestor": True, "structures": {"anterior": FIGURES}, **more}
    return Comparison(image_id, version, expert_version, annotator=annotator, **made)


def test_an_expert_version_is_compared_with_every_version_it_was_made_from(record):
    loop(record)

    assert pairs(record) == [(1, 4, True, None), (2, 4, True, "kim"), (3, 4, True, None)]


def test_a_version_that_no_expert_version_was_made_from_is_left_out(record):
    add(record, "ct_017", Role.MODEL)
    add(record, "ct_017", Role.EXPERT)
    add(record, "ct_017", Role.MODEL, "of the next version")

    assert pairs(record) == [(1, 2, True, None)]


def test_experts_are_not_measured_by_each_other(record):
    add(record, "ct_017", Role.EXPERT, "dr.lee")
    add(record, "ct_017", Role.ADMIN, "dr.kim", parent=1)

    assert pairs(record) == []


def test_what_an_expert_changed_of_an_experts_version_is_no_second_correction_of_the_draft(record):
    add(record, "ct_017", Role.RULE)
    add(record, "ct_017", Role.EXPERT, "dr.lee")
    add(record, "ct_017", Role.EXPERT, "dr.lee")
    add(record, "ct_017", Role.ADMIN, "dr.kim")

    assert pairs(record) == [(1, 2, True, None)]


def test_two_experts_who_both_corrected_the_draft_both_count(record):
    add(record, "ct_017", Role.RULE)
    add(record, "ct_017", Role.EXPERT, "dr.lee", parent=1)
    add(record, "ct_017", Role.EXPERT, "dr.kim", parent=1)

    assert pairs(record) == [(1, 2, True, None), (1, 3, True, None)]


def test_when_the_first_experts_version_is_withdrawn_the_second_one_is_what_became_of_the_draft(record):
    add(record, "ct_017", Role.RULE)
    add(record, "ct_017", Role.EXPERT, "dr.lee")
    add(record, "ct_017", Role.EXPERT, "dr.kim")

    record.annotations.withdraw("ct_017", 2, "dr.lee", Role.EXPERT)

    assert pairs(record) == [(1, 3, True, None)]


def test_an_annotator_is_compared_with_the_last_experts_version_that_came_of_the_own_one(record):
    add(record, "ct_017", Role.ANNOTATOR, "kim")
    add(record, "ct_017", Role.EXPERT, "dr.lee")
    add(record, "ct_017", Role.EXPERT, "dr.ann")

    assert pairs(record) == [(1, 2, True, None), (1, 3, False, "kim")]


def test_without_an_expert_there_is_nothing_to_compare(record):
    add(record, "ct_017", Role.MODEL)
    add(record, "ct_017", Role.ANNOTATOR)

    assert pairs(record) == []


def test_an_annotator_whose_version_no_expert_took_up_is_compared_with_the_current_one(record):
    add(record, "ct_017", Role.ANNOTATOR, "kim")
    from_scratch(record)
    from_scratch(record)

    assert pairs(record) == [(1, 3, False, "kim")]


def test_an_annotator_is_compared_with_what_was_made_from_the_own_version_though_another_is_current(record):
    add(record, "ct_017", Role.ANNOTATOR, "kim")
    add(record, "ct_017", Role.EXPERT, parent=1)
    from_scratch(record)

    assert pairs(record) == [(1, 2, True, "kim")]


def test_the_newest_version_of_an_annotator_is_the_case_and_the_earlier_one_still_tells_the_effort(record):
    add(record, "ct_017", Role.ANNOTATOR, "kim")
    add(record, "ct_017", Role.ANNOTATOR, "kim", parent=1)
    add(record, "ct_017", Role.EXPERT, parent=2)

    assert pairs(record) == [(1, 3, True, None), (2, 3, True, "kim")]


def test_what_an_annotator_made_of_an_experts_mask_is_no_case_of_theirs(record):
    """Also by way of a copy of their own, and where the expert's was taken back; what they drew before is."""
    add(record, "ct_017", Role.ANNOTATOR, "kim")
    add(record, "ct_017", Role.EXPERT, "dr.lee", parent=1)
    add(record, "ct_017", Role.ANNOTATOR, "kim", parent=2)
    add(record, "ct_017", Role.ANNOTATOR, "kim", parent=3)
    add(record, "ct_017", Role.ANNOTATOR, "ann", parent=2)

    assert pairs(record) == [(1, 2, True, "kim")]


def test_each_annotator_of_an_image_has_a_case(record):
    add(record, "ct_017", Role.ANNOTATOR, "kim")
    add(record, "ct_017", Role.ANNOTATOR, "ann", parent=1)
    add(record, "ct_017", Role.EXPERT, parent=2)

    assert pairs(record) == [(1, 3, True, "kim"), (2, 3, True, "ann")]


@pytest.mark.parametrize(("version", "left"), [(2, [(1, 4, True, None)]), (4, [])])
def test_a_withdrawn_version_and_what_was_refined_of_it_are_in_no_pair_but_its_ancestors_are(record, version, left):
    loop(record)

    record.annotations.withdraw("ct_017", version, "dr.lee", Role.EXPERT)

    assert pairs(record) == left


def test_a_mask_that_is_no_longer_kept_is_in_no_pair(record):
    loop(record)
    erase_patient(record, data_of(record), ["ct_017"])

    assert pairs(record) == []


def test_an_image_waits_from_the_expert_s_save_until_its_comparisons_are_kept(record):
    add(record, "ct_017", Role.ANNOTATOR, "kim")
    assert record.comparisons.next_image() is None
    add(record, "ct_017", Role.EXPERT)
    assert record.comparisons.next_image() == "ct_017"
    assert record.comparisons.is_waiting("ct_017") and not record.comparisons.is_waiting("ct_018")

    assert record.comparisons.put("ct_017", 2, [comparison(1, 2, "kim")])

    assert record.comparisons.next_image() is None
    assert record.comparisons.of_image("ct_017") == [comparison(1, 2, "kim")]


def test_a_new_draft_of_a_labelled_image_leaves_nothing_to_compare(record):
    add(record, "ct_017", Role.EXPERT)
    record.comparisons.put("ct_017", 1, [])

    add(record, "ct_017", Role.MODEL)

    assert record.comparisons.next_image() is None


def test_the_next_annotator_of_a_labelled_image_makes_it_wait_again(record):
    add(record, "ct_017", Role.EXPERT)
    record.comparisons.put("ct_017", 1, [])

    add(record, "ct_017", Role.ANNOTATOR, "kim")

    assert record.comparisons.next_image() == "ct_017"


def test_comparisons_of_an_older_state_are_not_kept_and_the_image_goes_on_waiting(record):
    loop(record)
    add(record, "ct_017", Role.EXPERT, parent=3)

    assert not record.comparisons.put("ct_017", 4, [comparison(3, 4)])

    assert record.comparisons.of_image("ct_017") == []
    assert record.comparisons.next_image() == "ct_017"


def test_newer_comparisons_take_the_place_of_all_earlier_ones_of_the_image(record):
    loop(record)
    loop(record, "ct_018")
    record.comparisons.put("ct_017", 4, [comparison(1, 4), comparison(2, 4, "kim"), comparison(3, 4)])
    record.comparisons.put("ct_018", 4, [comparison(1, 4, image_id="ct_018")])
    add(record, "ct_017", Role.EXPERT, parent=1)

    record.comparisons.put("ct_017", 5, [comparison(1, 5)])

    assert record.comparisons.of_image("ct_017") == [comparison(1, 5)]
    assert record.comparisons.of_image("ct_018") == [comparison(1, 4, image_id="ct_018")]


@pytest.mark.parametrize(("version", "left"), [(2, [(1, 4), (3, 4)]), (4, [])])
def test_withdrawing_a_version_erases_its_comparisons_at_once(record, version, left):
    loop(record)
    record.comparisons.put("ct_017", 4, [comparison(1, 4), comparison(2, 4, "kim"), comparison(3, 4)])

    record.annotations.withdraw("ct_017", version, "dr.lee", Role.EXPERT)

    assert [(c.version, c.expert_version) for c in record.comparisons.of_image("ct_017")] == left


def test_erasing_a_patient_erases_the_comparisons_and_what_is_computed_meanwhile_is_not_kept(record):
    loop(record)
    loop(record, "ct_018")
    record.comparisons.put("ct_018", 4, [comparison(2, 4, "kim", "ct_018")])
    erase_patient(record, data_of(record), ["ct_017", "ct_018"])

    assert not record.comparisons.put("ct_017", 4, [comparison(2, 4, "kim")])

    assert record.comparisons.next_image() is None
    assert record.comparisons.of_image("ct_017") == record.comparisons.of_image("ct_018") == []
    assert record.comparisons.annotators() == {}


def test_an_annotator_s_cases_are_listed_by_image_and_those_that_wait_are_counted(record):
    for image_id in ("ct_019", "ct_017"):
        loop(record, image_id)
        record.comparisons.put(image_id, 4, [comparison(1, 4, None, image_id), comparison(2, 4, "kim", image_id)])
    loop(record, "ct_018")
    add(record, "ct_018", Role.ANNOTATOR, "ann")

    assert [case.image for case in record.comparisons.of_annotator("kim")] == ["ct_017", "ct_019"]
    assert record.comparisons.of_annotator("ann") == []
    assert record.comparisons.annotators() == {"ann": Cases(0, 1), "kim": Cases(2, 1)}
    assert [record.comparisons.count_waiting(name) for name in ("ann", "kim", "bob")] == [1, 1, 0]


def test_a_case_without_figures_is_listed_and_not_counted(record):
    loop(record)
    failed = comparison(2, 4, "kim", structures={}, reason="The mask cannot be read.")
    record.comparisons.put("ct_017", 4, [failed])

    assert record.comparisons.of_annotator("kim") == [failed]
    assert record.comparisons.annotators() == {}
    assert record.comparisons.totals() == {}


def test_images_that_were_removed_are_no_cases(record):
    loop(record)
    record.comparisons.put("ct_017", 4, [comparison(2, 4, "kim")])

    record.images.set_state("ct_017", ImageState.HIDDEN, "removed")

    assert record.comparisons.of_annotator("kim") == [] and record.comparisons.annotators() == {}
    assert record.comparisons.totals() == {}


def test_an_image_that_was_removed_before_it_was_compared_is_no_case_that_waits(record):
    loop(record)

    record.images.set_state("ct_017", ImageState.HIDDEN, "removed")

    assert (record.comparisons.annotators(), record.comparisons.count_waiting("kim")) == ({}, 0)


def test_outlines_are_summed_over_structures_and_by_the_role_that_made_the_earlier_version(record):
    both = {"anterior": FIGURES, "posterior": {**FIGURES, "added_path_mm": 3.0}}
    for image_id in ("ct_017", "ct_018"):
        loop(record, image_id)
        rows = [
            comparison(1, 4, None, image_id, structures=both),
            comparison(3, 4, None, image_id, role=Role.REFINER),
        ]
        record.comparisons.put(image_id, 4, rows)

    assert record.comparisons.totals() == {
        Role.MODEL: Corrected(2, 30.0, 160.0), Role.REFINER: Corrected(2, 24.0, 80.0),
    }  # fmt: skip


def test_a_version_that_was_not_corrected_is_in_no_sum(record):
    add(record, "ct_017", Role.ANNOTATOR, "kim")
    from_scratch(record)
    record.comparisons.put("ct_017", 2, [comparison(1, 2, "kim", is_ancestor=False)])

    assert record.comparisons.totals() == {}


def test_an_undefined_figure_is_kept_as_such_and_adds_nothing(record):
    loop(record)
    undefined = comparison(1, 4, structures={"anterior": {**FIGURES, "added_path_mm": None, "dice": None}})

    record.comparisons.put("ct_017", 4, [undefined])

    assert record.comparisons.of_image("ct_017") == [undefined]
    assert record.comparisons.totals() == {Role.MODEL: Corrected(1, 0.0, 40.0)}


def test_a_crash_after_the_save_loses_no_comparison(record):
    loop(record)

    outside = Outside(record)

    assert outside.comparisons.next_image() == "ct_017"
