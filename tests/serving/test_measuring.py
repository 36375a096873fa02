"""What experts changed is measured after their save, once, and a mask that is lost stops nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lib.serving import measuring
from lib.serving.measuring import compare_next, efforts
from lib.stages import Role
from lib.store.annotations import Annotation
from lib.store.comparisons import Comparison, Corrected
from lib.store.record import Record, open_record
from lib.volume import Volume, nifti_bytes
from tests.drawn import drawn
from tests.metrics.test_effort import LARGE, MOVED_MM, SMALL
from tests.store.records import TASK, add, put_image

TWO = drawn("""
    # . . . . #
    . . . . . .
    . . # # . .
    . . # # . .
    . . . . . .
    . . . . . .
""")
EMPTY = np.zeros_like(LARGE)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    made = open_record(TASK, tmp_path / "data")
    put_image(made, "ct_017")
    return made


def saved(record: Record, role: Role, mask: np.ndarray, author: str = "", **more: object) -> Annotation:
    """Stores a mask at 2 x 2 x 5 mm."""
    content = nifti_bytes(Volume(mask, np.diag([2.0, 2.0, 5.0, 1.0])))
    return add(record, "ct_017", role, author, mask=record.masks.put(content), **more)


def compared(record: Record) -> list[Comparison]:
    while compare_next(record):
        pass
    return record.comparisons.of_image("ct_017")


def test_all_figures_of_a_correction_follow_from_the_two_masks(record: Record) -> None:
    saved(record, Role.MODEL, SMALL)
    saved(record, Role.EXPERT, LARGE)

    (one,) = compared(record)

    assert (one.version, one.expert_version, one.is_ancestor, one.annotator, one.reason) == (1, 2, True, None, "")
    assert one.structures == {
        "anterior": {
            "added_voxels": 12, "removed_voxels": 0, "moved_mm": pytest.approx(MOVED_MM), "added_path_mm": 24.0,
            "outline_mm": 24.0, "dice": 0.4, "volume_percent": -75.0, "shift_mm": -2.0, "missed": 0, "invented": 0,
        }
    }  # fmt: skip


def test_every_step_of_the_way_to_the_expert_s_mask_is_measured(record: Record) -> None:
    saved(record, Role.RULE, SMALL)
    saved(record, Role.ANNOTATOR, TWO, "kim", parent=1)
    saved(record, Role.REFINER, LARGE, parent=2)
    saved(record, Role.EXPERT, LARGE, parent=3)

    rows = compared(record)

    added_and_removed = {
        one.version: (one.structures["anterior"]["added_voxels"], one.structures["anterior"]["removed_voxels"])
        for one in rows
    }
    assert added_and_removed == {1: (12, 0), 2: (12, 2), 3: (0, 0)}
    assert [one.annotator for one in rows] == [None, "kim", None]
    assert rows[1].structures["anterior"]["invented"] == 2
    assert record.comparisons.totals() == {
        Role.RULE: Corrected(1, 24.0, 24.0),
        Role.ANNOTATOR: Corrected(1, 24.0, 24.0),
        Role.REFINER: Corrected(1, 0.0, 24.0),
    }


def test_figures_that_an_empty_mask_has_not_are_undefined(record: Record) -> None:
    saved(record, Role.MODEL, EMPTY)
    saved(record, Role.EXPERT, LARGE)

    (one,) = compared(record)

    figures = one.structures["anterior"]
    assert (figures["moved_mm"], figures["shift_mm"], figures["dice"]) == (None, None, 0.0)
    assert (figures["volume_percent"], figures["missed"]) == (-100.0, 1)


def test_only_structures_that_both_looked_at_are_compared(record: Record) -> None:
    saved(record, Role.MODEL, SMALL, looked_at=("anterior", "posterior"))
    saved(record, Role.ANNOTATOR, SMALL, "kim", looked_at=("posterior",), parent=1)
    saved(record, Role.EXPERT, LARGE, looked_at=("anterior",), parent=2)

    of_model, of_annotator = compared(record)

    assert list(of_model.structures) == ["anterior"]
    assert (of_annotator.structures, of_annotator.reason) == ({}, "")


def test_when_nothing_waits_nothing_is_done(record: Record) -> None:
    saved(record, Role.MODEL, SMALL)

    assert not compare_next(record)


def test_what_was_compared_is_not_computed_again(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(record, Role.MODEL, SMALL)
    saved(record, Role.ANNOTATOR, SMALL, "kim", parent=1)
    saved(record, Role.EXPERT, LARGE, parent=2)
    before = compared(record)
    saved(record, Role.EXPERT, LARGE, "dr.lee", parent=1)
    computed = []
    monkeypatch.setattr(measuring, "figures_of", lambda *masks: computed.append(masks) or {
        "added_path_mm": 0.0, "outline_mm": 0.0})  # fmt: skip

    after = compared(record)

    assert len(computed) == 1
    assert after[:2] == before and (after[2].version, after[2].expert_version) == (1, 4)


def test_a_case_moves_to_the_expert_version_that_took_it_up(record: Record) -> None:
    saved(record, Role.ANNOTATOR, SMALL, "kim")
    saved(record, Role.EXPERT, LARGE, parent=1)
    compared(record)
    saved(record, Role.EXPERT, SMALL, parent=1)

    rows = compared(record)

    assert [(one.expert_version, one.annotator) for one in rows] == [(2, None), (3, "kim")]
    assert [one.image for one in record.comparisons.of_annotator("kim")] == ["ct_017"]


def test_a_lost_mask_is_told_as_the_reason_and_stops_nothing(record: Record, caplog: pytest.LogCaptureFixture) -> None:
    lost = saved(record, Role.MODEL, SMALL)
    saved(record, Role.ANNOTATOR, TWO, "kim", parent=1)
    saved(record, Role.EXPERT, LARGE, parent=2)
    record.masks.path(lost.mask or "").unlink()

    of_model, of_annotator = compared(record)

    assert of_model.structures == {} and "is missing below masks" in of_model.reason
    assert of_annotator.structures["anterior"]["added_voxels"] == 12
    assert "Versions 1 and 3 of ct_017 cannot be compared" in caplog.text
    assert not compare_next(record)


def test_a_mask_of_another_size_is_told_as_the_reason(record: Record) -> None:
    saved(record, Role.MODEL, SMALL[:5])
    saved(record, Role.EXPERT, LARGE)

    (one,) = compared(record)

    assert "5x6x1" in one.reason and "6x6x1" in one.reason


def test_a_version_that_is_stored_while_masks_are_compared_is_not_forgotten(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(record, Role.MODEL, SMALL)
    saved(record, Role.EXPERT, LARGE, parent=1)
    first = True

    def slow(earlier: np.ndarray, expert: np.ndarray, grid: object) -> dict[str, float | None]:
        nonlocal first
        if first:
            first = False
            saved(record, Role.EXPERT, TWO, parent=1)
        return {"added_path_mm": 1.0, "outline_mm": 2.0}

    monkeypatch.setattr(measuring, "figures_of", slow)

    assert [(one.version, one.expert_version) for one in compared(record)] == [(1, 2), (1, 3)]


def test_the_effort_of_each_expert_version_is_told_once_it_is_known(record: Record) -> None:
    saved(record, Role.MODEL, SMALL)
    saved(record, Role.EXPERT, LARGE)
    assert efforts(record, "ct_017") == {}
    compared(record)

    assert efforts(record, "ct_017") == {
        2: [
            {
                "version": 1,
                "structures": {
                    "anterior": {
                        "added_voxels": 12, "removed_voxels": 0, "moved_mm": pytest.approx(MOVED_MM),
                        "added_path_mm": 24.0, "outline_mm": 24.0,
                    }
                },
            }
        ]
    }  # fmt: skip


def test_an_expert_version_that_was_made_from_none_has_an_empty_list(record: Record) -> None:
    saved(record, Role.EXPERT, LARGE)
    compared(record)

    assert efforts(record, "ct_017") == {1: []}


def test_a_withdrawn_expert_version_has_no_effort_any_more(record: Record) -> None:
    saved(record, Role.ANNOTATOR, SMALL, "kim")
    saved(record, Role.EXPERT, LARGE, parent=1)
    saved(record, Role.EXPERT, LARGE, parent=1)
    compared(record)
    record.annotations.withdraw("ct_017", 2, "dr.lee", Role.EXPERT)
    compared(record)

    assert list(efforts(record, "ct_017")) == [3]


def test_why_there_are_no_figures_is_told(record: Record) -> None:
    saved(record, Role.MODEL, SMALL[:5])
    saved(record, Role.EXPERT, LARGE)
    compared(record)

    ((told,),) = efforts(record, "ct_017").values()
    assert told["structures"] == {} and "5x6x1" in told["reason"]
