"""The structures of a task: fixed at the first start, new ones appended, dropped ones kept."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from lib.errors import InvalidSetting, SetupError, TaskMismatch
from lib.store import schema
from lib.store.record import open_existing, open_record
from lib.store.tasks import recorded_task
from lib.task import Structure, Task, listed

GREY = (128, 128, 128)


def task(name="hippocampus", **values):
    return Task(name, "", tuple(Structure(structure, value, GREY) for structure, value in values.items()))


@pytest.fixture
def start(tmp_path):
    """Starts with these structures on the same data folder; the structures that the record then has."""

    def started(**values):
        opened = open_record(task(**values), tmp_path / "data")
        return listed(opened.task.structures)

    return started


def test_the_first_start_fixes_the_structures(start, tmp_path):
    assert start(anterior=1, posterior=2) == "anterior=1, posterior=2"
    assert listed(open_existing(tmp_path / "data").task.structures) == "anterior=1, posterior=2"


def test_a_start_with_the_same_structures_changes_nothing(start):
    start(anterior=1, posterior=2)

    assert start(posterior=2, anterior=1) == "anterior=1, posterior=2"


def test_a_new_structure_is_appended(start):
    start(anterior=1, posterior=2)

    assert start(anterior=1, posterior=2, tail=3) == "anterior=1, posterior=2, tail=3"
    assert start(anterior=1) == "anterior=1, posterior=2, tail=3"


def test_a_dropped_structure_is_kept_since_stored_masks_hold_it(start):
    start(anterior=1, posterior=2)

    assert start(anterior=1) == "anterior=1, posterior=2"


def test_another_spelling_is_the_same_structure_under_its_first_name(start):
    start(anterior=1)

    assert start(Anterior=1) == "anterior=1"


@pytest.mark.parametrize("values", [{"anterior": 2}, {"anterior": 3}, {"tail": 1}, {"anterior": 2, "posterior": 1}])
def test_other_values_for_known_names_are_refused_with_both_lists(start, values):
    start(anterior=1, posterior=2)
    asked = listed(task(**values).structures)

    with pytest.raises(TaskMismatch, match=rf"hippocampus was made with anterior=1, posterior=2; .* asks for {asked}"):
        start(**values)

    assert start(anterior=1) == "anterior=1, posterior=2"


def test_one_record_may_hold_several_tasks(tmp_path):
    first = open_record(task(anterior=1), tmp_path / "data")
    open_record(task("spleen", spleen=1), tmp_path / "data")

    assert listed(recorded_task(first.database, "spleen").structures) == "spleen=1"
    with pytest.raises(SetupError, match=r"tasks hippocampus, spleen; name one of them with --task, found ''"):
        open_existing(tmp_path / "data")


def test_an_unknown_task_is_refused_with_those_there_are(tmp_path):
    open_record(task(anterior=1), tmp_path / "data")

    with pytest.raises(SetupError, match=r"holds the tasks hippocampus; .* found 'spleen'"):
        open_existing(tmp_path / "data", name="spleen")


def test_a_folder_without_a_record_is_refused_and_none_is_made(tmp_path):
    with pytest.raises(SetupError, match=r"holds no record\. Name the folder that the server prints"):
        open_existing(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_the_data_folder_is_for_its_owner_alone(tmp_path):
    open_record(task(anterior=1), tmp_path / "data")

    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["background", " Background", "foreground_scribbles"])
def test_no_new_structure_is_called_as_what_is_none(start, name):
    with pytest.raises(InvalidSetting, match=r"is what programs call that which is no structure"):
        start(**{"liver": 1, name: 2})
    start(liver=1)
    with pytest.raises(InvalidSetting, match=r"is what programs call that which is no structure"):
        start(**{"liver": 1, name: 2})


def test_a_record_that_began_with_a_structure_called_background_opens_with_it(tmp_path):
    record = open_record(task(one=1, liver=2), tmp_path / "data")
    entries = [{"name": name, "value": value, "colour": list(GREY), "code": ""} for name, value in BEFORE.items()]
    with record.database.transaction() as connection:
        connection.execute(update(schema.task).values(structures=entries))
    record.close()

    assert open_record(task(**BEFORE), tmp_path / "data").task.values == BEFORE
    assert open_existing(tmp_path / "data").task.values == BEFORE


BEFORE = {"background": 1, "liver": 2}
