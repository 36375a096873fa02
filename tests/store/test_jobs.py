"""Jobs: asked for once, done by one worker, never lost and never published by two."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from lib.errors import UnknownJob
from lib.store import jobs, schema
from lib.store.jobs import ATTEMPTS, LEASE, LOG_LINES, JobKind, JobState, LostLease
from lib.store.models import ModelState, NewModel
from tests.store.records import Outside

TRAIN, DRAFT = JobKind.TRAIN, JobKind.BATCH_INFER


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self):
        self.moment = datetime(2024, 5, 1, 12, tzinfo=UTC)
        self.seconds = 1000.0

    def go_on(self, by):
        self.moment += by
        self.seconds += by.total_seconds()

    def is_set(self, by):
        """Somebody sets the time of day; nothing else goes on."""
        self.moment += by

    def __call__(self):
        return self.moment


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(schema, "now", made)
    monkeypatch.setattr(jobs, "monotonic", lambda: made.seconds)
    return made


def numbers(record, kind=TRAIN):
    return [(job.number, job.state) for job in Outside(record).jobs.every(kind)]


# --- asking ----------------------------------------------------------------------------------------------------------


def test_a_job_waits_with_what_it_was_asked_for(record, clock):
    job = record.jobs.ask(TRAIN, {"seconds": 60}, newest_annotation=4)

    assert job == Outside(record).jobs.get(job.id)
    assert (job.kind, job.arguments, job.state, job.newest_annotation) == (TRAIN, {"seconds": 60}, JobState.QUEUED, 4)
    assert (job.log, job.created, job.started, job.ended) == (("Waiting in the queue.",), clock.moment, None, None)


def test_asking_again_joins_the_job_that_waits(record):
    first = record.jobs.ask(TRAIN, {"seconds": 60}, newest_annotation=4)

    again = record.jobs.ask(TRAIN, {"seconds": 60}, newest_annotation=9)

    assert (again.id, again.newest_annotation) == (first.id, 9)
    assert len(numbers(record)) == 1


def test_what_a_waiting_job_will_see_never_shrinks(record):
    record.jobs.ask(TRAIN, {}, newest_annotation=9)

    assert record.jobs.ask(TRAIN, {}).newest_annotation == 9


@pytest.mark.parametrize(("newest", "joins"), [(3, True), (4, True), (5, False)])
def test_asking_joins_the_job_that_runs_only_if_it_knows_everything(record, newest, joins):
    running = record.jobs.ask(TRAIN, {}, newest_annotation=4)
    record.jobs.claim("worker")

    again = record.jobs.ask(TRAIN, {}, newest_annotation=newest)

    assert (again.id == running.id) is joins
    assert record.jobs.get(running.id).newest_annotation == 4


@pytest.mark.parametrize(("kind", "arguments"), [(TRAIN, {"seconds": 61}), (DRAFT, {"seconds": 60})])
def test_other_work_is_another_job(record, kind, arguments):
    first = record.jobs.ask(TRAIN, {"seconds": 60})

    assert record.jobs.ask(kind, arguments).id != first.id


@pytest.mark.parametrize("state", [JobState.DONE, JobState.FAILED])
def test_a_job_that_has_ended_is_joined_by_nobody(record, state):
    first = record.jobs.ask(TRAIN, {})
    record.jobs.finish(record.jobs.claim("worker"), state, {}, "ended")

    assert record.jobs.ask(TRAIN, {}).id != first.id


def test_threads_that_ask_for_the_same_at_once_get_one_job(record):
    start = threading.Barrier(8)
    outside = Outside(record)

    def ask(number):
        start.wait()
        return (record if number % 2 else outside).jobs.ask(TRAIN, {"seconds": 60}).id

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(ask, range(8)))) == 1

    assert len(numbers(record)) == 1


# --- claiming --------------------------------------------------------------------------------------------------------


def test_the_job_that_waits_longest_is_given_first_and_one_at_a_time(record, clock):
    first = record.jobs.ask(TRAIN, {})
    second = record.jobs.ask(DRAFT, {})

    claimed = record.jobs.claim("worker")

    assert (claimed.id, claimed.state, claimed.owner) == (first.id, JobState.RUNNING, "worker")
    assert claimed.started == clock.moment
    assert record.jobs.claim("worker") is None
    record.jobs.finish(claimed, JobState.DONE, {}, "done")
    assert record.jobs.claim("worker").id == second.id


def test_without_a_job_there_is_none(record):
    assert record.jobs.claim("worker") is None


def test_of_all_workers_that_claim_at_once_one_gets_the_job(record):
    job = record.jobs.ask(TRAIN, {})
    start = threading.Barrier(8)
    outside = Outside(record)

    def claim(number):
        start.wait()
        return (record if number % 2 else outside).jobs.claim(f"worker {number}")

    with ThreadPoolExecutor(8) as threads:
        given = [claimed for claimed in threads.map(claim, range(8)) if claimed is not None]

    assert [claimed.id for claimed in given] == [job.id]
    assert Outside(record).jobs.get(job.id).owner == given[0].owner


# --- the lease -------------------------------------------------------------------------------------------------------


def test_a_worker_that_reports_keeps_its_job(record, clock):
    record.jobs.ask(TRAIN, {})
    job = record.jobs.claim("first")
    for _ in range(5):
        clock.go_on(LEASE * 0.9)
        record.jobs.report(job, {"epoch": 1})

    assert record.jobs.claim("second") is None


def test_a_silent_workers_job_is_given_to_the_next_one_exactly_when_its_lease_is_over(record, clock):
    job = record.jobs.ask(TRAIN, {})
    record.jobs.claim("first")
    clock.go_on(LEASE)
    assert record.jobs.claim("second") is None

    clock.go_on(timedelta(microseconds=1))

    taken = record.jobs.claim("second")
    assert (taken.id, taken.owner, taken.log[-1]) == (job.id, "second", "The worker stopped in attempt 1 of 2.")


@pytest.mark.parametrize("hours", [-2, 24, -24 * 365], ids=["back", "a day forward", "a year back"])
def test_a_clock_that_is_set_neither_keeps_a_dead_workers_job_nor_takes_a_living_ones(record, clock, hours):
    job = record.jobs.ask(TRAIN, {})
    held = record.jobs.claim("first")
    other = Outside(record).jobs
    assert other.claim("second") is None
    clock.is_set(timedelta(hours=hours))

    for _ in range(4):
        clock.go_on(LEASE / 2)
        record.jobs.report(held, {})
        assert other.claim("second") is None

    clock.is_set(timedelta(hours=hours))
    clock.go_on(LEASE)
    assert other.claim("second") is None
    clock.go_on(timedelta(seconds=1))
    assert other.claim("second").id == job.id


def test_a_machine_whose_clock_goes_wrong_watches_a_job_of_another_for_a_whole_lease(record, clock):
    record.jobs.ask(TRAIN, {})
    record.jobs.claim("first")
    clock.is_set(timedelta(days=300))
    other = Outside(record).jobs

    assert other.claim("second") is None
    clock.go_on(LEASE)
    assert other.claim("second") is None
    clock.go_on(timedelta(seconds=1))
    assert other.claim("second") is not None


def test_whoever_knows_that_all_workers_are_dead_takes_their_jobs_back_at_once(record, clock):
    job = record.jobs.ask(TRAIN, {})
    record.jobs.claim("first")
    clock.is_set(timedelta(hours=-2))
    restarted = Outside(record).jobs

    restarted.take_back_all()

    taken = restarted.claim("second")
    assert (taken.id, taken.log[-1]) == (job.id, "The worker stopped in attempt 1 of 2.")


def test_the_worker_that_lost_its_job_may_neither_report_nor_publish(record, clock):
    record.jobs.ask(TRAIN, {})
    slow = record.jobs.claim("slow")
    clock.go_on(2 * LEASE)
    record.jobs.claim("quick")

    with pytest.raises(LostLease, match=rf"Job {slow.id} is running, held by quick"):
        record.jobs.report(slow, {"epoch": 9})
    with pytest.raises(LostLease, match=rf"Job {slow.id} is running, held by quick"):
        record.jobs.finish(slow, JobState.DONE, {}, "done")

    assert record.jobs.get(slow.id).progress == {}


def test_a_job_whose_worker_died_twice_fails_with_its_reason(record, clock):
    assert ATTEMPTS == 2
    job = record.jobs.ask(TRAIN, {})
    for worker in ("first", "second"):
        assert record.jobs.claim(worker).id == job.id
        clock.go_on(2 * LEASE)

    assert record.jobs.claim("third") is None

    failed = Outside(record).jobs.get(job.id)
    assert (failed.state, failed.owner, failed.ended) == (JobState.FAILED, None, clock.moment)
    assert failed.result == {"error": "The worker stopped in attempt 2 of 2."}
    assert failed.log[-2:] == ("The worker stopped in attempt 1 of 2.", "The worker stopped in attempt 2 of 2.")


def test_a_job_that_failed_lets_the_next_one_run(record, clock):
    record.jobs.ask(TRAIN, {})
    for _ in range(ATTEMPTS):
        record.jobs.claim("worker")
        clock.go_on(2 * LEASE)
    following = record.jobs.ask(DRAFT, {})

    assert record.jobs.claim("worker").id == following.id


def test_what_a_worker_gives_back_waits_at_once(record, clock):
    job = record.jobs.ask(TRAIN, {})
    record.jobs.claim("first")

    record.jobs.release("somebody else")
    assert record.jobs.claim("second") is None
    record.jobs.release("first")

    assert record.jobs.claim("second").id == job.id


def test_stopping_the_server_is_no_failed_attempt(record):
    job = record.jobs.ask(TRAIN, {})
    for _ in range(ATTEMPTS + 1):
        record.jobs.claim("worker")
        record.jobs.give_back("worker")

    waiting = Outside(record).jobs.get(job.id)
    assert waiting.state is JobState.QUEUED
    assert waiting.log[-1] == "The server stopped; the job goes on after its next start."
    assert record.jobs.claim("worker").id == job.id


# --- what it tells ---------------------------------------------------------------------------------------------------


def test_the_last_hundred_lines_are_kept(record):
    record.jobs.ask(TRAIN, {})
    job = record.jobs.claim("worker")

    for number in range(0, 150, 10):
        record.jobs.report(job, {"epoch": number}, [f"line {number + one}" for one in range(10)])

    told = Outside(record).jobs.get(job.id)
    assert LOG_LINES == 100
    assert told.log == tuple(f"line {number}" for number in range(50, 150))
    assert told.progress == {"epoch": 140}


def test_a_report_without_numbers_keeps_the_earlier_ones(record):
    record.jobs.ask(TRAIN, {})
    job = record.jobs.claim("worker")
    record.jobs.report(job, {"epoch": 3})

    record.jobs.report(job, {})

    assert record.jobs.get(job.id).progress == {"epoch": 3}


def test_a_finished_job_tells_its_result_and_its_end(record, clock):
    record.jobs.ask(TRAIN, {})
    job = record.jobs.claim("worker")
    clock.go_on(timedelta(minutes=2))

    record.jobs.finish(job, JobState.DONE, {"model_version": 1}, "Version 1 serves.")

    done = Outside(record).jobs.get(job.id)
    assert (done.state, done.result, done.owner) == (JobState.DONE, {"model_version": 1}, None)
    assert (done.ended - done.started, done.log[-1]) == (timedelta(minutes=2), "Version 1 serves.")


def test_a_job_ends_only_once(record):
    record.jobs.ask(TRAIN, {})
    job = record.jobs.claim("worker")
    record.jobs.finish(job, JobState.DONE, {}, "done")

    with pytest.raises(LostLease, match=rf"Job {job.id} is done, held by None"):
        record.jobs.finish(job, JobState.FAILED, {}, "failed")


# --- stopping --------------------------------------------------------------------------------------------------------


def test_a_job_that_waits_is_stopped_and_never_claimed(record):
    job = record.jobs.ask(TRAIN, {})

    assert record.jobs.cancel(TRAIN).id == job.id

    assert record.jobs.claim("worker") is None
    stopped = record.jobs.get(job.id)
    assert (stopped.state, stopped.cancel, stopped.log[-1]) == (JobState.CANCELLED, True, "Stopped by a person.")


def test_the_job_that_runs_is_stopped_before_those_that_wait(record):
    running = record.jobs.ask(TRAIN, {}, newest_annotation=1)
    record.jobs.claim("worker")
    waiting = record.jobs.ask(TRAIN, {}, newest_annotation=2)

    assert record.jobs.cancel(TRAIN).id == running.id
    assert record.jobs.get(waiting.id).state is JobState.QUEUED


def test_with_nothing_to_stop_nothing_is_stopped(record):
    record.jobs.ask(DRAFT, {})

    assert record.jobs.cancel(TRAIN) is None


def test_a_stopped_worker_learns_it_and_publishes_nothing(record):
    """The result and the end of the job are one transaction, so a job that was stopped leaves nothing behind."""
    record.jobs.ask(TRAIN, {})
    job = record.jobs.claim("worker")
    record.jobs.cancel(TRAIN)

    with pytest.raises(LostLease, match=rf"Job {job.id} is cancelled"):
        record.jobs.report(job, {"epoch": 2})
    with pytest.raises(LostLease, match=rf"Job {job.id} is cancelled"), record.database.transaction():
        record.models.add(NewModel(None, "cd" * 32, {}, [], [], {}), ModelState.SERVING, "trained")
        record.jobs.finish(job, JobState.DONE, {"model_version": 1}, "done")

    assert Outside(record).models.every() == []
    assert Outside(record).jobs.get(job.id).state is JobState.CANCELLED


def test_a_stopped_job_is_not_tried_again(record, clock):
    record.jobs.ask(TRAIN, {})
    record.jobs.claim("worker")
    record.jobs.cancel(TRAIN)
    clock.go_on(2 * LEASE)

    record.jobs.release("worker")

    assert record.jobs.claim("another") is None


# --- finding ---------------------------------------------------------------------------------------------------------


def test_jobs_are_found_by_kind_and_by_what_they_do(record):
    assert (record.jobs.open_or_last(TRAIN), record.jobs.last(TRAIN), record.jobs.first_open(TRAIN)) == (
        None,
        None,
        None,
    )
    first = record.jobs.ask(TRAIN, {"n": 1})
    second = record.jobs.ask(TRAIN, {"n": 2})
    other = record.jobs.ask(DRAFT, {})

    assert record.jobs.first_open(TRAIN).id == first.id
    record.jobs.finish(record.jobs.claim("worker"), JobState.DONE, {}, "done")
    record.jobs.claim("worker")

    assert record.jobs.first_open(TRAIN).id == record.jobs.open_or_last(TRAIN).id == second.id
    assert [job.id for job in record.jobs.open(TRAIN)] == [second.id]
    assert record.jobs.count_open(TRAIN) == 1
    record.jobs.finish(record.jobs.get(second.id), JobState.FAILED, {}, "failed")
    assert (record.jobs.first_open(TRAIN), record.jobs.last(TRAIN).id) == (None, second.id)
    assert [job.id for job in record.jobs.every(DRAFT)] == [other.id]


def test_an_unknown_job_is_refused(record):
    with pytest.raises(UnknownJob, match=r"There is no job 4711"):
        record.jobs.get("4711")


def test_who_does_one_kind_of_job_neither_waits_for_the_others_nor_takes_them(record):
    record.jobs.ask(TRAIN, {})
    record.jobs.ask(JobKind.REFINE, {"version": 1})
    record.jobs.ask(JobKind.REFINE, {"version": 2})
    others = tuple(kind for kind in JobKind if kind is not JobKind.REFINE)

    assert record.jobs.claim("worker", others).kind is TRAIN
    assert record.jobs.claim("refiner", (JobKind.REFINE,)).arguments == {"version": 1}
    assert record.jobs.claim("refiner", (JobKind.REFINE,)) is None
    assert record.jobs.claim("worker", others) is None


def test_the_jobs_of_a_model_are_found_by_its_name(record):
    of_segmenter = record.jobs.ask(TRAIN, {"seconds": 1})
    of_refiner = record.jobs.ask(TRAIN, {"seconds": 1, "model": "hippocampus_refine"})

    assert record.jobs.last(TRAIN, "hippocampus").id == of_segmenter.id
    assert record.jobs.open_or_last(TRAIN, "hippocampus_refine").id == of_refiner.id
    assert record.jobs.open_or_last(TRAIN).id == of_segmenter.id
    assert record.jobs.last(TRAIN, "other") is None
