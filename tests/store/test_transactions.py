"""Every writing method: alone, inside an outer transaction, inside one that fails; seen by other connections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from lib.stages import Role
from lib.store import schema
from lib.store.assignments import Purpose
from lib.store.audit import Change
from lib.store.contents import Contents
from lib.store.images import ImageState
from lib.store.jobs import JobKind, JobState
from lib.store.models import ModelState, NewModel
from lib.store.record import Record
from lib.store.tasks import open_task
from lib.task import Structure, Task
from tests.store.records import TASK, Outside, add, new_image, put_file, put_image

MODEL = NewModel(None, "cd" * 32, {}, [("ct_017", 1)], [], {})
CHANGE = Change("dr.kim", "expert", "Slicer", "127.0.0.1", "PUT", "/datastore/label", "image=ct_017", 200)


class Crash(Exception):
    """What goes wrong in the outer transaction."""


def running_job(record):
    """Asks for a job, unless there is one, and claims it."""
    record.jobs.ask(JobKind.TRAIN, {})
    return record.jobs.claim("worker")


@dataclass(frozen=True)
class Write:
    """One writing method: what must be there before, and the call."""

    call: Callable[[Record, Any], object]
    before: Callable[[Record], Any] = lambda record: None


LARGER = Task(TASK.name, "", (*TASK.structures, Structure("tail", 3, (1, 2, 3))))

WRITES = {
    "open_task": Write(lambda record, _: open_task(record.database, LARGER)),
    "images.put a new one": Write(lambda record, _: put_image(record, "ct_020")),
    "images.put a known one": Write(lambda record, _: put_image(record, "ct_017", reason="damaged")),
    "images.put_new": Write(lambda record, _: record.images.put_new([new_image("ct_020"), new_image("ct_021")])),
    "images.set_state": Write(lambda record, _: record.images.set_state("ct_017", ImageState.HIDDEN, "removed")),
    "images.note": Write(lambda record, _: record.images.note("ct_017", {"remark": "blurred"})),
    "images.offer": Write(lambda record, _: record.images.offer("ct_017")),
    "images.forget_files": Write(
        lambda record, _: record.images.forget_files("ct_017"), lambda record: put_file(record, "ct_017")
    ),
    "images.forget_unread": Write(
        lambda record, _: record.images.forget_unread("notes"), lambda record: put_image(record, "notes", reason="text")
    ),
    "annotations.add": Write(lambda record, _: add(record, "ct_017", Role.EXPERT)),
    "annotations.withdraw": Write(
        lambda record, _: record.annotations.withdraw("ct_017", 1, "dr.kim", Role.EXPERT),
        lambda record: add(record, "ct_017", Role.EXPERT),
    ),
    "annotations.note": Write(
        lambda record, _: record.annotations.note("ct_017", 1, {"remark": "unsure"}),
        lambda record: add(record, "ct_017", Role.EXPERT),
    ),
    "models.add a candidate": Write(lambda record, _: record.models.add(MODEL, ModelState.CANDIDATE, "waits")),
    "models.add one that serves": Write(lambda record, _: record.models.add(MODEL, ModelState.SERVING, "better")),
    "models.serve": Write(
        lambda record, _: record.models.serve(1, "dr.kim"),
        lambda record: record.models.add(MODEL, ModelState.KEPT, "worse"),
    ),
    "models.retire": Write(
        lambda record, _: record.models.retire("dr.kim"),
        lambda record: record.models.add(MODEL, ModelState.SERVING, "first"),
    ),
    "jobs.ask": Write(lambda record, _: record.jobs.ask(JobKind.TRAIN, {"seconds": 1})),
    "jobs.claim": Write(
        lambda record, _: record.jobs.claim("worker"), lambda record: record.jobs.ask(JobKind.TRAIN, {})
    ),
    "jobs.report": Write(lambda record, job: record.jobs.report(job, {"epoch": 3}, ["third"]), running_job),
    "jobs.finish": Write(lambda record, job: record.jobs.finish(job, JobState.DONE, {"ok": True}, "done"), running_job),
    "jobs.cancel": Write(lambda record, _: record.jobs.cancel(JobKind.TRAIN), running_job),
    "jobs.give_back": Write(lambda record, _: record.jobs.give_back("worker"), running_job),
    "jobs.release": Write(lambda record, _: record.jobs.release("worker"), running_job),
    "scores.put": Write(lambda record, _: record.scores.put(1, "dice:anterior", {"ct_017": 0.9, "ct_018": None})),
    "comparisons.put": Write(
        lambda record, _: record.comparisons.put("ct_017", 1, []), lambda record: add(record, "ct_017", Role.EXPERT)
    ),
    "assignments.assign": Write(
        lambda record, _: record.assignments.assign("ct_017", "dr.kim", Purpose.LABEL, timedelta(hours=1))
    ),
    "assignments.finish": Write(
        lambda record, _: record.assignments.finish("ct_017", "dr.kim"),
        lambda record: record.assignments.assign("ct_017", "dr.kim", Purpose.LABEL, timedelta(hours=1)),
    ),
    "contents.note": Write(
        lambda record, seen: Contents(record.images, "studies").note([("ct_017", seen, "ab" * 32)]),
        lambda record: put_file(record, "ct_017"),
    ),
    "audit.add": Write(lambda record, _: record.audit.add(CHANGE)),
}


@pytest.fixture(params=WRITES, ids=lambda name: name.replace(" ", "_"))
def write(request):
    return WRITES[request.param]


def seen_from_outside(record):
    """All rows of all tables, as another connection sees them."""
    outside = Outside(record)
    with outside.database.reading() as connection:
        return {table.name: connection.execute(select(table)).all() for table in schema.metadata.sorted_tables}


def test_a_write_alone_is_there_at_once(record, write):
    prepared = write.before(record)
    before = seen_from_outside(record)

    write.call(record, prepared)

    assert seen_from_outside(record) != before


def test_a_write_inside_a_transaction_is_there_when_that_ends_and_not_before(record, write):
    prepared = write.before(record)
    before = seen_from_outside(record)

    with record.database.transaction():
        write.call(record, prepared)
        assert seen_from_outside(record) == before

    assert seen_from_outside(record) != before


def test_a_write_inside_a_transaction_that_fails_is_never_there(record, write):
    prepared = write.before(record)
    before = seen_from_outside(record)

    with pytest.raises(Crash, match=r"half way through"), record.database.transaction():
        write.call(record, prepared)
        raise Crash("half way through")

    assert seen_from_outside(record) == before


def test_after_a_failed_transaction_the_same_write_works(record, write):
    prepared = write.before(record)
    before = seen_from_outside(record)
    with pytest.raises(Crash, match=r"first try"), record.database.transaction():
        write.call(record, prepared)
        raise Crash("first try")

    write.call(record, prepared)

    assert seen_from_outside(record) != before


def test_every_writing_method_is_in_the_table():
    """A method that opens a transaction writes; the table above must know it."""
    import inspect

    from lib.store import annotations, assignments, audit, comparisons, contents, images, jobs, models, scores

    owners = {
        "annotations": annotations.Annotations, "assignments": assignments.Assignments, "audit": audit.Audit,
        "comparisons": comparisons.Comparisons, "contents": contents.Contents, "images": images.Images,
        "jobs": jobs.Jobs, "models": models.Models, "scores": scores.Scores,
    }  # fmt: skip
    writing = {
        f"{name}.{method}"
        for name, owner in owners.items()
        for method, function in inspect.getmembers(owner, inspect.isfunction)
        if not method.startswith("_") and ".transaction()" in inspect.getsource(function)
    }
    writing |= {"jobs.release", "open_task"}

    assert writing == {name.split(" ")[0] for name in WRITES}
