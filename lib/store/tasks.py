"""The structures of a task: fixed at the first start, new ones appended."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, select, update

from lib.errors import InvalidSetting, SetupError, TaskMismatch
from lib.store import schema
from lib.store.database import Database
from lib.task import NO_STRUCTURES, Structure, Task, listed, name_key, with_kept_values


def open_task(database: Database, task: Task) -> Task:
    """Compares a task with the record and writes down what is new.

    Returns:
        The task with all structures that the record knows.

    Raises:
        TaskMismatch: if a known structure has another value now, or a known value another structure.
        InvalidSetting: if a new structure has a name that stands for none.
    """
    with database.transaction() as connection:
        row = connection.execute(select(schema.task).where(schema.task.c.name == task.name)).one_or_none()
        recorded = [_structure(entry) for entry in row.structures] if row is not None else []
        _refuse_other_values(task, recorded)
        _refuse_no_structures(task, recorded)
        opened = with_kept_values(task, recorded)
        structures = [_entry(structure) for structure in opened.structures]
        if row is None:
            connection.execute(insert(schema.task).values(name=task.name, structures=structures, created=schema.now()))
        elif structures != row.structures:
            connection.execute(update(schema.task).where(schema.task.c.name == task.name).values(structures=structures))
    return opened


def recorded_task(database: Database, name: str = "") -> Task:
    """The task of a record, as far as the record knows it: its name and its structures.

    Args:
        database: with its tables.
        name: which one; may be left out if there is only one.

    Raises:
        SetupError: if there is none of this name, or several and none is named.
    """
    with database.reading() as connection:
        rows = connection.execute(select(schema.task).order_by(schema.task.c.name)).all()
    found = [row for row in rows if not name or row.name == name]
    if len(found) != 1:
        names = ", ".join(row.name for row in rows) or "none"
        raise SetupError(f"The record holds the tasks {names}; name one of them with --task, found {name!r}.")
    return Task(found[0].name, "", tuple(_structure(entry) for entry in found[0].structures))


def _refuse_other_values(task: Task, recorded: list[Structure]) -> None:
    for structure in task.structures:
        for known in recorded:
            same_name = name_key(known.name) == name_key(structure.name)
            if same_name != (known.value == structure.value):
                raise TaskMismatch(
                    f"The record of {task.name} was made with {listed(recorded)}; this start asks for "
                    f"{listed(task.structures)}. Keep the values, or start with another --data folder."
                )


def _refuse_no_structures(task: Task, recorded: list[Structure]) -> None:
    """Refuses new structures by names that stand for none; a record that began with such a name keeps it."""
    known = {name_key(structure.name) for structure in recorded}
    taken = [
        one.name for one in task.structures if name_key(one.name) in NO_STRUCTURES and name_key(one.name) not in known
    ]
    if taken:
        raise InvalidSetting(
            f"{', '.join(taken)} is what programs call that which is no structure: it has the value 0 in every mask. "
            "Leave it out of the labels, or call the structure otherwise."
        )


def _structure(entry: dict[str, Any]) -> Structure:
    red, green, blue = entry["colour"]
    return Structure(entry["name"], entry["value"], (red, green, blue), entry["code"])


def _entry(structure: Structure) -> dict[str, Any]:
    return {
        "name": structure.name,
        "value": structure.value,
        "colour": list(structure.colour),
        "code": structure.code,
    }
