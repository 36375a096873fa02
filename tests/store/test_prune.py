"""Masks of drafts that nobody needs go; their rows stay."""

from __future__ import annotations

import pytest

from lib.stages import Role
from lib.store.models import ModelState
from lib.store.prune import prune_drafts
from lib.store.verify import verify
from scripts import prune_drafts as command
from tests.store.records import ONLY_SQLITE
from tests.store.stored import data_of, draft, files_in, store, train


@pytest.fixture
def trained(record):
    """Two model versions, the second one serves."""
    train(record, b"weights 1", state=ModelState.KEPT)
    train(record, b"weights 2")
    return record


def masks(record, image_id="ct_017"):
    return [a.mask and record.masks.path(a.mask).is_file() for a in record.annotations.history(image_id)]


def test_a_draft_of_an_earlier_version_goes_when_a_newer_draft_took_its_place(trained):
    draft(trained, "ct_017", 1, b"old")
    draft(trained, "ct_017", 2, b"new")

    assert prune_drafts(trained) == 1
    assert masks(trained) == [None, True]
    assert set(files_in(data_of(trained) / "masks").values()) == {b"new"}
    assert verify(trained) == []


def test_the_row_of_a_pruned_draft_says_all_else_that_it_said(trained):
    before = draft(trained, "ct_017", 1, b"old")
    draft(trained, "ct_017", 2, b"new")
    prune_drafts(trained)

    after = trained.annotations.get("ct_017", 1)
    assert (after.author, after.voxels, after.created) == (before.author, before.voxels, before.created)


def test_a_draft_that_somebody_corrected_is_kept(trained):
    draft(trained, "ct_017", 1, b"old")
    store(trained, "ct_017", Role.EXPERT, b"corrected", parent=1)

    assert prune_drafts(trained) == 0
    assert masks(trained) == [True, True]


def test_a_draft_that_counts_is_kept(trained):
    draft(trained, "ct_017", 1, b"old")

    assert prune_drafts(trained) == 0
    assert masks(trained) == [True]


def test_the_drafts_of_the_serving_version_are_kept(trained):
    draft(trained, "ct_017", 2, b"serving")
    store(trained, "ct_017", Role.EXPERT, b"drawn anew", parent=None)
    draft(trained, "ct_018", 2, b"serving too")
    draft(trained, "ct_018", 1, b"old but newer")

    assert prune_drafts(trained) == 0


def test_content_that_another_annotation_shares_is_kept(trained):
    draft(trained, "ct_017", 1, b"an empty mask")
    draft(trained, "ct_017", 2, b"new")
    store(trained, "ct_018", Role.EXPERT, b"an empty mask")

    assert prune_drafts(trained) == 0
    assert masks(trained) == [None, True]
    assert masks(trained, "ct_018") == [True]


@pytest.mark.parametrize("role", [Role.RULE, Role.REFINER, Role.ANNOTATOR, Role.EXPERT])
def test_nothing_but_drafts_of_models_is_ever_pruned(trained, role):
    store(trained, "ct_017", role, b"not a model's", model_version=1)
    store(trained, "ct_017", Role.EXPERT, b"newer", parent=None)

    assert prune_drafts(trained) == 0


def test_without_a_serving_version_only_drafts_in_use_are_kept(trained):
    draft(trained, "ct_017", 1, b"old")
    draft(trained, "ct_017", 2, b"new")
    trained.models.retire("dr.kim")

    assert prune_drafts(trained) == 1
    assert masks(trained) == [None, True]


def test_after_going_back_to_a_version_its_pruned_draft_is_computed_again(trained):
    draft(trained, "ct_017", 1, b"old")
    draft(trained, "ct_017", 2, b"new")
    prune_drafts(trained)
    trained.models.serve(1, "dr.kim")

    assert trained.annotations.draft_of("ct_017", "model@v1") is None
    again = draft(trained, "ct_017", 1, b"old")
    assert trained.annotations.draft_of("ct_017", "model@v1") == again
    assert masks(trained) == [None, True, True]
    assert verify(trained) == []


def test_pruning_again_finds_nothing(trained):
    draft(trained, "ct_017", 1, b"old")
    draft(trained, "ct_017", 2, b"new")
    prune_drafts(trained)

    assert prune_drafts(trained) == 0


@ONLY_SQLITE
def test_the_command_says_how_many(trained, capsys):
    draft(trained, "ct_017", 1, b"old")
    draft(trained, "ct_017", 2, b"new")
    command.main(["--data", str(data_of(trained))])

    assert capsys.readouterr().out == "Deleted 1 masks of drafts that were no longer used.\n"
