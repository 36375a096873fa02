"""Numbers about images and model versions."""

from __future__ import annotations

import math

import pytest
from sqlalchemy.exc import IntegrityError

KIND = "dice:anterior"


def test_a_score_is_read_back_as_it_was_put(record):
    record.scores.put(3, KIND, {"ct_017": 0.9, "ct_018": 0.0, "ct_019": None})

    assert record.scores.of(3, KIND) == {"ct_017": 0.9, "ct_018": 0.0, "ct_019": None}


def test_a_number_that_is_none_is_undefined(record):
    record.scores.put(3, KIND, {"ct_017": math.nan})

    assert record.scores.of(3, KIND) == {"ct_017": None}


def test_a_newer_number_takes_the_place_of_the_older_one_and_of_no_other(record):
    record.scores.put(3, KIND, {"ct_017": 0.1, "ct_018": 0.2})
    record.scores.put(3, KIND, {"ct_017": 0.7})
    record.scores.put(4, KIND, {"ct_017": 0.8})
    record.scores.put(3, "dice:posterior", {"ct_017": 0.3})

    assert record.scores.of(3, KIND) == {"ct_017": 0.7, "ct_018": 0.2}
    assert record.scores.of(4, KIND) == {"ct_017": 0.8}
    assert record.scores.of(3, "dice:posterior") == {"ct_017": 0.3}


def test_no_numbers_change_nothing(record):
    record.scores.put(3, KIND, {})

    assert record.scores.of(3, KIND) == {}


def test_a_score_of_an_unknown_image_is_refused_and_the_others_stay_as_they_were(record):
    record.scores.put(3, KIND, {"ct_017": 0.5})

    with pytest.raises(IntegrityError, match=r"(?i)foreign key"):
        record.scores.put(3, KIND, {"ct_017": 0.9, "ct_999": 0.9})

    assert record.scores.of(3, KIND) == {"ct_017": 0.5}


def test_all_numbers_about_an_image_are_told_the_newest_version_first(record):
    record.scores.put(3, "dice:posterior", {"ct_017": None, "ct_018": 0.5})
    record.scores.put(3, KIND, {"ct_017": 0.25})
    record.scores.put(4, KIND, {"ct_017": 0.75})

    told = record.scores.of_image("ct_017")

    assert [(score.model_version, score.kind, score.value) for score in told] == [
        (4, KIND, 0.75), (3, KIND, 0.25), (3, "dice:posterior", None),
    ]  # fmt: skip
    assert all(score.created.utcoffset() is not None for score in told)
    assert record.scores.of_image("ct_019") == []
