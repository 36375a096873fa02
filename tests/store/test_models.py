"""Model versions: at most one serves, any may be taken back."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from lib.errors import UnknownModel
from lib.store.models import ModelState, NewModel
from lib.store.record import open_record
from lib.task import Task, numbered
from tests.store.records import TASK, Outside

WEIGHTS = "cd" * 32


def add(record, state=ModelState.SERVING, parent=None, validation=(("ct_018", 2),), models=None):
    new = NewModel(parent, WEIGHTS, {"patch": [96, 96, 96]}, [("ct_017", 1)], list(validation), {"mean_dice": 0.81})
    return (models or record.models).add(new, state, "better than version 0")


def states(record):
    return {model.version: model.state for model in Outside(record).models.every()}


def test_everything_that_was_said_of_a_model_is_kept(record):
    added = add(record, parent=7)

    assert added == Outside(record).models.get(1)
    assert (added.parent, added.weights, added.network) == (7, WEIGHTS, {"patch": [96, 96, 96]})
    assert (added.training, added.validation) == ([("ct_017", 1)], [("ct_018", 2)])
    assert (added.metrics, added.reason, added.is_validated) == ({"mean_dice": 0.81}, "better than version 0", True)


def test_a_model_without_validation_cases_is_not_validated(record):
    assert add(record, validation=()).is_validated is False


def test_a_new_serving_version_takes_the_place_of_the_one_before(record):
    for _ in range(3):
        add(record)

    assert states(record) == {1: ModelState.KEPT, 2: ModelState.KEPT, 3: ModelState.SERVING}
    assert record.models.serving().version == 3


@pytest.mark.parametrize("state", [ModelState.CANDIDATE, ModelState.REJECTED, ModelState.KEPT])
def test_a_version_that_does_not_serve_leaves_the_serving_one_alone(record, state):
    add(record)

    add(record, state)

    assert states(record) == {1: ModelState.SERVING, 2: state}


def test_training_goes_on_from_the_newest_kept_version_until_one_serves(record):
    assert record.models.start() is None

    for state in (ModelState.KEPT, ModelState.KEPT, ModelState.REJECTED):
        add(record, state)
    assert Outside(record).models.start().version == 2

    record.models.serve(1, "kim")
    assert Outside(record).models.start().version == 1


def test_training_does_not_go_on_from_what_somebody_took_out_of_service(record):
    add(record, ModelState.KEPT)
    add(record)

    record.models.retire("kim")

    assert Outside(record).models.start().version == 1


def test_rolling_back_is_one_call_and_keeps_every_version(record):
    add(record)
    add(record)

    served = record.models.serve(1, "dr.kim")

    assert (served.version, served.state) == (1, ModelState.SERVING)
    assert states(record) == {1: ModelState.SERVING, 2: ModelState.KEPT}


def test_serving_what_serves_already_changes_nothing_but_the_reason(record):
    add(record)

    record.models.serve(1, "dr.kim")

    assert states(record) == {1: ModelState.SERVING}


def test_what_a_person_did_to_a_version_is_told_behind_how_it_was_judged(record):
    add(record)
    add(record)

    assert record.models.serve(1, "dr.kim").reason == "better than version 0; served by hand by dr.kim"
    assert record.models.retire("dr. lee; junior").reason == "better than version 0; retired by hand by dr. lee; junior"
    assert record.models.serve(1, "dr.kim").reason == "better than version 0; served by hand by dr.kim"
    assert record.models.get(2).reason == "better than version 0"


def test_an_unknown_version_is_refused_and_the_serving_one_goes_on(record):
    add(record)

    with pytest.raises(UnknownModel, match=r"hippocampus has no model version 5"):
        record.models.serve(5, "dr.kim")

    assert states(record) == {1: ModelState.SERVING}


def test_the_serving_version_can_be_taken_out_without_another_in_its_place(record):
    add(record)

    assert record.models.retire("dr.kim").state is ModelState.KEPT
    assert record.models.serving() is None
    with pytest.raises(UnknownModel, match=r"No model of hippocampus serves"):
        record.models.retire("dr.kim")


def test_the_database_itself_refuses_two_serving_versions(record):
    add(record)
    add(record, ModelState.CANDIDATE)

    with pytest.raises(Exception, match=r"(?i)unique constraint"):
        with record.database.transaction() as connection:
            connection.execute(text("UPDATE model SET state = 'serving'"))

    assert states(record) == {1: ModelState.SERVING, 2: ModelState.CANDIDATE}


def test_each_task_has_versions_and_a_serving_model_of_its_own(record):
    add(record)
    url = str(record.database.engine.url)
    other = open_record(Task("spleen", "", numbered(["spleen"])), record.masks.folder.parent, url)

    assert other.models.serving() is None
    assert add(other).version == 1
    assert record.models.serving().version == 1 and TASK.name == "hippocampus"


def test_segmenters_and_refiners_are_counted_and_serve_beside_each_other(record):
    add(record)
    add(record, ModelState.KEPT)

    add(record, models=record.refiners)

    assert states(record) == {1: ModelState.SERVING, 2: ModelState.KEPT}
    assert [(model.version, model.state) for model in record.refiners.every()] == [(1, ModelState.SERVING)]
    assert record.refiners.serving().version == record.models.serving().version == 1
    with pytest.raises(UnknownModel, match=r"hippocampus_refine has no model version 2"):
        record.refiners.serve(2, "dr.kim")


def test_a_refiner_goes_on_from_a_refiner(record):
    add(record)

    assert record.refiners.start() is None


def test_a_kind_of_models_has_a_name_and_its_versions_an_author(record):
    assert (record.models.name, record.refiners.name) == ("hippocampus", "hippocampus_refine")
    assert record.models.author(3) == "model:hippocampus@v3"
    assert record.refiners.author(2) == "model:hippocampus_refine@v2"


def test_a_record_has_one_serving_version_of_each_kind(record):
    add(record)
    add(record, models=record.refiners)

    with pytest.raises(IntegrityError), record.database.transaction() as connection:
        copied = "SELECT task, parent, weights, network, training, validation, metrics, state, reason, created"
        connection.execute(
            text(
                "INSERT INTO model (task, parent, weights, network, training, validation, metrics, state, reason, "
                f"created, kind, version) {copied}, kind, 9 FROM model WHERE kind = 'refiner'"
            )
        )
