"""Annotations: appended without gaps, never lost, found again by tag."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC

import pytest
from sqlalchemy import event

from lib.errors import StageConflict, UnknownAnnotation, UnknownImage
from lib.split import Split
from lib.stages import Role, Stage, Standing
from lib.store.annotations import tags_of
from lib.store.images import ImageState
from tests.store.records import MASK, Outside, add, new, put_image


class Crash(Exception):
    """The process ends here."""


def versions(annotations):
    return [annotation.version for annotation in annotations]


# --- adding ----------------------------------------------------------------------------------------------------------


def test_everything_that_was_said_of_an_annotation_is_kept(record):
    said = new("ct_017", Role.EXPERT, "dr.kim", tag="final", client="Slicer", seconds=81.5, info={"note": "unsure"},
               model_version=3, rule="threshold", looked_at=("anterior", "posterior"),
               voxels={"anterior": 3, "posterior": 0})  # fmt: skip

    added = record.annotations.add(said)

    assert added == Outside(record).annotations.get("ct_017", 1)
    assert {name: getattr(added, name) for name in vars(said)} == vars(said)
    assert (added.version, added.created.tzinfo) == (1, UTC)


def test_the_fixed_tags_of_an_image_stand_for_what_asking_for_them_finds(record):
    roles = [Role.MODEL, Role.REFINER, Role.ANNOTATOR, Role.EXPERT, Role.ANNOTATOR, Role.MODEL]
    for role in roles:
        add(record, "ct_017", role)
    add(record, "ct_018", Role.ANNOTATOR)

    tags = tags_of(record.annotations.history("ct_017"))

    assert {tag: annotation.version for tag, annotation in tags.items()} == {"original": 5, "refined": 2, "final": 4}
    assert all(record.annotations.tagged("ct_017", tag) == annotation for tag, annotation in tags.items())
    assert {tag: a.version for tag, a in tags_of(record.annotations.history("ct_018")).items()} == {
        "original": 1, "final": 1,
    }  # fmt: skip
    assert tags_of([]) == {}


def test_versions_are_counted_for_each_image_by_itself(record):
    for image_id in ("ct_017", "ct_018", "ct_017"):
        add(record, image_id, Role.EXPERT)

    assert versions(record.annotations.history("ct_017")) == [1, 2]
    assert versions(record.annotations.history("ct_018")) == [1]


def test_eight_threads_that_add_at_once_leave_no_gap_and_lose_nothing(record):
    outside = Outside(record)
    start = threading.Barrier(8)

    def store(number):
        start.wait()
        annotations = (record if number % 2 else outside).annotations
        return [annotations.add(new("ct_017", Role.EXPERT, f"{number}.{turn}")).version for turn in range(5)]

    with ThreadPoolExecutor(8) as threads:
        given = list(threads.map(store, range(8)))

    history = Outside(record).annotations.history("ct_017")
    assert versions(history) == list(range(1, 41)) == sorted(number for numbers in given for number in numbers)
    assert {annotation.author for annotation in history} == {f"{n}.{turn}" for n in range(8) for turn in range(5)}
    assert record.images.get("ct_017").current == 40


def test_an_annotation_of_an_unknown_image_is_refused(record):
    with pytest.raises(UnknownImage, match=r"There is no image 'ct_099', so nothing was stored"):
        add(record, "ct_099", Role.EXPERT)


@pytest.mark.parametrize("state", [ImageState.HIDDEN, ImageState.ERASED])
def test_an_annotation_of_a_removed_image_is_refused(record, state):
    record.images.set_state("ct_017", state)

    with pytest.raises(UnknownImage, match=r"There is no image 'ct_017', so nothing was stored"):
        add(record, "ct_017", Role.EXPERT)


def test_a_correction_is_kept_although_its_image_was_quarantined_meanwhile(record):
    record.images.set_state("ct_017", ImageState.QUARANTINED, "ct_017.nii is gone")

    add(record, "ct_017", Role.EXPERT)

    assert Outside(record).versions("ct_017") == [(1, Stage.EXPERT, "expert")]


def test_a_crash_between_mask_and_row_leaves_the_earlier_version(record):
    first = add(record, "ct_017", Role.MODEL, "model")
    digest = record.masks.put(b"the expert's mask")

    def crash(connection):
        raise Crash("power cut")

    event.listen(record.database.engine, "commit", crash)
    with pytest.raises(Crash, match=r"power cut"):
        add(record, "ct_017", Role.EXPERT, "dr.kim", mask=digest)

    outside = Outside(record)
    assert outside.annotations.history("ct_017") == [first]
    assert (outside.images.get("ct_017").standing, outside.images.get("ct_017").current) == (Standing.DRAFTED, 1)
    assert record.masks.get(digest) == b"the expert's mask"


# --- the parent ------------------------------------------------------------------------------------------------------


def test_the_parent_is_what_the_client_names(record):
    add(record, "ct_017", Role.MODEL)
    add(record, "ct_017", Role.REFINER)

    assert add(record, "ct_017", Role.EXPERT, parent=1).parent == 1


@pytest.mark.parametrize("role", [Role.MODEL, Role.REFINER, Role.ANNOTATOR, Role.EXPERT])
def test_what_names_no_parent_has_none_and_knows_no_model(record, role):
    add(record, "ct_017", Role.MODEL, model_version=4)

    added = record.annotations.add(new("ct_017", role))

    assert (added.parent, added.model_version) == (None, None)
    assert Outside(record).annotations.get("ct_017", 2) == added


@pytest.mark.parametrize(("before", "shown"), [((), "none"), ((Role.MODEL,), r"\[1\]")])
def test_a_parent_that_is_not_there_is_refused_with_what_is(record, before, shown):
    for role in before:
        add(record, "ct_017", role)

    with pytest.raises(StageConflict, match=rf"'ct_017' has no version 7 to correct; it has {shown}"):
        add(record, "ct_017", Role.EXPERT, parent=7)


# --- what counts -----------------------------------------------------------------------------------------------------


def test_an_image_stands_where_its_current_annotation_says(record):
    stands = []
    for role in (Role.MODEL, Role.ANNOTATOR, Role.EXPERT, Role.MODEL):
        add(record, "ct_017", role)
        image = Outside(record).images.get("ct_017")
        stands.append((image.standing, image.current))

    assert stands == [(Standing.DRAFTED, 1), (Standing.WAITING, 2), (Standing.LABELLED, 3), (Standing.LABELLED, 3)]


def test_withdrawing_lets_the_version_before_count_and_keeps_the_mask(record):
    add(record, "ct_017", Role.MODEL)
    add(record, "ct_017", Role.EXPERT, "dr.kim")

    taken_back = record.annotations.withdraw("ct_017", 2, "dr.lee", Role.EXPERT, "Slicer")

    assert (taken_back.version, taken_back.stage, taken_back.parent, taken_back.mask) == (3, Stage.WITHDRAWN, 2, None)
    assert record.annotations.get("ct_017", 2).mask == MASK
    assert (record.images.get("ct_017").standing, record.images.get("ct_017").current) == (Standing.DRAFTED, 1)


@pytest.mark.parametrize("version", [0, 2, 3, 9])
def test_only_a_version_in_force_can_be_withdrawn(record, version):
    add(record, "ct_017", Role.EXPERT)
    add(record, "ct_017", Role.EXPERT)
    record.annotations.withdraw("ct_017", 2, "dr.kim", Role.EXPERT)

    with pytest.raises(UnknownAnnotation, match=rf"'ct_017' has no version {version} that could be withdrawn"):
        record.annotations.withdraw("ct_017", version, "dr.kim", Role.EXPERT)


# --- tags ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def long_history(record):
    """Versions: 1 model, 2 rule, 3 junior, 4 refiner, 5 expert, 6 junior under a tag of their own."""
    for role in (Role.MODEL, Role.RULE, Role.ANNOTATOR, Role.REFINER, Role.EXPERT):
        add(record, "ct_017", role)
    add(record, "ct_017", Role.ANNOTATOR, tag="second look")
    return record


@pytest.mark.parametrize(
    ("tag", "version"),
    [("", 5), ("final", 5), ("original", 6), ("refined", 4), ("second look", 6), ("version_3", 3), ("version_6", 6)],
)
def test_a_tag_stands_for_a_version(long_history, tag, version):
    assert long_history.annotations.tagged("ct_017", tag).version == version


def test_without_an_expert_final_is_the_newest_human_annotation(long_history):
    long_history.annotations.withdraw("ct_017", 5, "dr.kim", Role.EXPERT)

    assert long_history.annotations.tagged("ct_017", "final").version == 6


def test_a_version_can_be_read_after_it_was_withdrawn_but_its_withdrawal_cannot(long_history):
    long_history.annotations.withdraw("ct_017", 5, "dr.kim", Role.EXPERT)

    assert long_history.annotations.tagged("ct_017", "version_5").version == 5
    with pytest.raises(UnknownAnnotation, match=r"no annotation tagged 'version_7'"):
        long_history.annotations.tagged("ct_017", "version_7")


@pytest.mark.parametrize("tag", ["version_0", "version_99", "version_x", "version_", "other", "Final"])
def test_a_tag_that_stands_for_nothing_is_refused_with_what_there_is(long_history, tag):
    with pytest.raises(UnknownAnnotation, match=rf"tagged '{tag}'; it has version_1 \(draft by model\), .*version_6"):
        long_history.annotations.tagged("ct_017", tag)


@pytest.mark.parametrize("tag", ["", "final", "original", "refined"])
def test_an_image_without_annotations_has_no_tag(record, tag):
    with pytest.raises(UnknownAnnotation, match=rf"'ct_017' has no annotation tagged '{tag}'; it has none"):
        record.annotations.tagged("ct_017", tag)


def test_a_program_has_no_final_annotation(record):
    add(record, "ct_017", Role.MODEL)

    with pytest.raises(UnknownAnnotation, match=r"tagged 'final'; it has version_1 \(draft by model\)"):
        record.annotations.tagged("ct_017", "final")


# --- what others ask -------------------------------------------------------------------------------------------------


def test_a_draft_of_a_model_version_is_found_again_until_it_is_withdrawn(record):
    add(record, "ct_017", Role.MODEL, "model@v3", model_version=3)
    add(record, "ct_017", Role.EXPERT, "model@v3", model_version=3)

    assert record.annotations.draft_of("ct_017", "model@v3").version == 1
    assert record.annotations.draft_of("ct_017", "model@v4") is None
    record.annotations.withdraw("ct_017", 1, "dr.kim", Role.EXPERT)
    assert record.annotations.draft_of("ct_017", "model@v3") is None


def test_expert_labels_are_the_current_ones_of_readable_images_on_one_side(record):
    for number in range(10):
        put_image(record, f"mr_{number}")
        add(record, f"mr_{number}", Role.EXPERT)
    add(record, "mr_3", Role.EXPERT)
    add(record, "mr_5", Role.MODEL)
    record.annotations.withdraw("mr_6", 1, "dr.kim", Role.EXPERT)
    record.images.set_state("mr_7", ImageState.QUARANTINED, "gone")
    add(record, "ct_017", Role.ANNOTATOR)

    training = record.annotations.expert_labels(Split.TRAINING)
    validation = record.annotations.expert_labels(Split.VALIDATION)

    assert [(a.image, a.version) for a in training] == [
        ("mr_0", 1), ("mr_1", 1), ("mr_2", 1), ("mr_3", 2), ("mr_5", 1), ("mr_8", 1)
    ]  # fmt: skip
    assert [(a.image, a.version) for a in validation] == [("mr_4", 1), ("mr_9", 1)]


def test_new_expert_work_is_counted_from_a_given_annotation_on(record):
    add(record, "ct_017", Role.MODEL)
    assert record.annotations.newest_expert_id() == 0

    first = add(record, "ct_017", Role.EXPERT)
    add(record, "ct_018", Role.ANNOTATOR)
    add(record, "ct_019", Role.EXPERT)
    withdrawal = record.annotations.withdraw("ct_017", 2, "dr.kim", Role.EXPERT)

    assert record.annotations.expert_count_since(0) == 2
    assert record.annotations.expert_count_since(first.id) == 1
    assert record.annotations.newest_expert_id() == withdrawal.id


def test_remarks_are_added_over_those_of_the_same_name(record):
    add(record, "ct_017", Role.EXPERT, info={"a": 1, "b": 2})

    record.annotations.note("ct_017", 1, {"b": 3, "c": 4})

    assert Outside(record).annotations.get("ct_017", 1).info == {"a": 1, "b": 3, "c": 4}


def test_all_histories_are_told_by_image(record):
    add(record, "ct_018", Role.EXPERT)
    add(record, "ct_017", Role.MODEL)
    add(record, "ct_018", Role.MODEL)

    histories = record.annotations.all_histories()

    assert {image: versions(history) for image, history in histories.items()} == {"ct_017": [1], "ct_018": [1, 2]}


def test_images_are_counted_by_the_stage_of_their_current_annotation(record):
    add(record, "ct_017", Role.MODEL)
    add(record, "ct_018", Role.MODEL)
    add(record, "ct_018", Role.EXPERT)

    assert record.annotations.count_by_stage() == {Stage.DRAFT: 1, Stage.EXPERT: 1}


def test_what_a_refiner_made_of_a_version_is_found_again_until_it_is_withdrawn(record):
    add(record, "ct_017", Role.ANNOTATOR)
    refined = add(record, "ct_017", Role.REFINER, parent=1, refiner_version=4)

    assert record.annotations.refinement_of("ct_017", 1, 4) == refined
    assert record.annotations.refinement_of("ct_017", 1, 5) is None
    assert record.annotations.refinement_of("ct_017", 2, 4) is None
    record.annotations.withdraw("ct_017", 2, "dr.kim", Role.EXPERT)
    assert record.annotations.refinement_of("ct_017", 1, 4) is None


def test_a_correction_tells_both_models_behind_what_was_corrected(record):
    add(record, "ct_017", Role.MODEL, model_version=3)
    add(record, "ct_017", Role.ANNOTATOR)
    add(record, "ct_017", Role.REFINER, parent=2, refiner_version=1)
    add(record, "ct_017", Role.EXPERT)

    found = [(a.model_version, a.refiner_version) for a in Outside(record).annotations.history("ct_017")]
    assert found == [(3, None), (3, None), (3, 1), (3, 1)]


def test_corrections_are_counted_without_what_was_drawn_from_scratch_or_corrects_an_experts_version(record):
    add(record, "ct_017", Role.EXPERT)
    add(record, "ct_018", Role.ANNOTATOR)
    add(record, "ct_018", Role.EXPERT)
    add(record, "ct_018", Role.EXPERT)

    add(record, "ct_019", Role.MODEL)
    add(record, "ct_019", Role.EXPERT)

    assert record.annotations.expert_count_since(0) == 3
    assert record.annotations.expert_count_since(0, is_corrected=True) == 2


def test_an_image_that_is_saved_again_and_again_counts_once(record):
    for _ in range(3):
        add(record, "ct_017", Role.EXPERT)

    assert record.annotations.expert_count_since(0) == 1
    assert record.annotations.expert_count_since(1) == 1
