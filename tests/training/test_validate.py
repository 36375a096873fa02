"""Scores of cases, measured with a network that is told what to answer."""

from __future__ import annotations

import numpy as np
import pytest

from lib.networks.checkpoint import Checkpoint
from lib.preprocessing import plan_for
from lib.training import validate as validate_module
from lib.training.cases import TrainingCase
from lib.training.validate import validate
from lib.volume import Volume
from tests.training.shapes import BOTH, TASK, drawn

PLAN = plan_for(TASK, [drawn(0)[0].grid])


@pytest.fixture
def answers(monkeypatch) -> list[np.ndarray]:
    """The masks that the predictor gives, one after the other."""
    masks: list[np.ndarray] = []

    class Told:
        plan = PLAN

        def __init__(self, checkpoint, device) -> None:
            pass

        def mask(self, volume) -> np.ndarray:
            return masks.pop(0)

    monkeypatch.setattr(validate_module, "Predictor", Told)
    return masks


def scored(truth: np.ndarray, looked_at=BOTH):
    case = TrainingCase("a", lambda: drawn(0)[0], lambda: truth, looked_at)
    return validate(Checkpoint(PLAN, {}), [case])


def block(value: int, first: int, last: int) -> np.ndarray:
    mask = np.zeros((24, 20, 16), np.uint8)
    mask[first:last, 4:8, 4:8] = value
    return mask


def test_a_block_moved_by_half_has_half_the_dice_and_its_distance(answers):
    answers.append(block(1, 4, 8))

    (score,) = scored(block(1, 2, 6))

    assert score.dice == {"bright": 0.5, "dark": None}
    assert score.hd95_mm == {"bright": 2.0, "dark": None}


def test_volume_predicted_where_the_structure_is_absent_is_told_in_ml(answers):
    """64 voxels of 1 mm³."""
    answers.append(block(2, 4, 8))

    (score,) = scored(block(1, 4, 8))

    assert score.false_positive_ml == {"dark": 0.064}


def test_distances_and_volumes_are_those_of_the_voxels_of_the_image(answers):
    """Voxels of 2x1x3 mm: two of them along I are 4 mm, and 64 are 384 mm³."""
    answers.append(block(1, 4, 8) + block(2, 12, 16))
    volume = Volume(drawn(0)[0].voxels, np.diag([2.0, 1.0, 3.0, 1.0]))

    (score,) = validate(Checkpoint(PLAN, {}), [TrainingCase("a", lambda: volume, lambda: block(1, 2, 6), BOTH)])

    assert score.hd95_mm == {"bright": 4.0, "dark": None}
    assert score.false_positive_ml == {"dark": 0.384}


def test_one_voxel_of_a_fine_image_is_not_rounded_to_nothing(answers):
    found = np.zeros((24, 20, 16), np.uint8)
    found[3, 3, 3] = 2
    answers.append(found)
    volume = Volume(drawn(0)[0].voxels, np.diag([0.4, 0.4, 0.5, 1.0]))

    (score,) = validate(Checkpoint(PLAN, {}), [TrainingCase("a", lambda: volume, lambda: found * 0, BOTH)])

    assert score.false_positive_ml["dark"] == pytest.approx(0.00008)


def test_what_was_not_looked_at_has_no_entry(answers):
    answers.append(block(2, 4, 8))

    (score,) = scored(block(1, 4, 8), frozenset({2}))

    assert score.dice == {"dark": 0.0} and score.hd95_mm == {"dark": None}


def test_a_case_that_cannot_be_read_is_left_out(answers):
    answers.append(block(1, 4, 8))
    fails = TrainingCase("wrong", lambda: drawn(0)[0], lambda: np.zeros((2, 2, 2), np.uint8), BOTH)
    good = TrainingCase("good", lambda: drawn(0)[0], lambda: block(1, 4, 8), BOTH)

    assert [score.image_id for score in validate(Checkpoint(PLAN, {}), [fails, good])] == ["good"]


def test_a_check_can_end_it(answers):
    def stop() -> None:
        raise KeyboardInterrupt

    case = TrainingCase("a", lambda: drawn(0)[0], lambda: block(1, 1, 2), BOTH)

    with pytest.raises(KeyboardInterrupt):
        validate(Checkpoint(PLAN, {}), [case], check=stop)
