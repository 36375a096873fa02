"""Jobs: work that outlives a request; who does a kind of it does one job after the other.

A worker shows that it lives by writing another moment into ``lease_until`` again and again. Whoever wants a job watches
whether that changes, by a clock of its own that nobody sets: the time of day may jump, and that of another machine may
be another one.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from time import monotonic
from typing import Any

from sqlalchemy import Row, Select, func, insert, select, true, update

from lib.errors import UnknownJob
from lib.store import schema
from lib.store.database import Database

LEASE = timedelta(seconds=60)
"""A worker that shows no sign of life for this long, in the sight of one that waits, has lost its job."""

ATTEMPTS = 2
"""A job whose worker died is tried once more."""

LOG_LINES = 100
"""How many lines of a job's log are kept."""


class JobKind(StrEnum):
    """What is to be done."""

    TRAIN = "train"
    BATCH_INFER = "batch_infer"
    SCORING = "scoring"
    REFINE = "refine"


class JobState(StrEnum):
    """How far a job has come."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Job:
    """One row of the job table.

    Attributes:
        number: counts all jobs in the order they were asked for.
        newest_annotation: ``id`` of the newest expert annotation when it was asked for.
        owner: worker that runs it.
        cancel: somebody asked it to stop.
        progress: ``epoch``, ``total_epochs`` … as the job's kind gives them.
        log: the last lines it wrote.
    """

    number: int
    id: str
    kind: JobKind
    arguments: dict[str, Any]
    state: JobState
    newest_annotation: int
    owner: str | None
    cancel: bool
    progress: dict[str, Any]
    log: tuple[str, ...]
    result: dict[str, Any]
    created: datetime
    started: datetime | None
    ended: datetime | None


class LostLease(Exception):
    """The job was cancelled or given to somebody else: stop and publish nothing."""


class Jobs:
    """The jobs of one task."""

    def __init__(self, database: Database, task: str) -> None:
        self.database = database
        self.task = task
        # What stood in the row of each running job that waits to be renewed, and since when it is seen there.
        self._signs: dict[str, tuple[datetime | None, float]] = {}

    def ask(self, kind: JobKind, arguments: dict[str, Any], newest_annotation: int = 0) -> Job:
        """Queues a job, or joins one that will do the same.

        A job of the same kind and arguments that waits already is joined; so is one that runs, if it was asked for
        when everything that is known now was known.
        """
        with self.database.transaction() as connection:
            column = schema.job.c
            waiting = self._all(kind).where(column.state.in_([JobState.QUEUED, JobState.RUNNING]))
            for row in connection.execute(waiting.order_by(column.number)):
                same = row.arguments == arguments
                if same and (row.state == JobState.QUEUED or row.newest_annotation >= newest_annotation):
                    self._renew(row.id, newest_annotation)
                    return self.get(row.id)
            job_id = str(uuid.uuid4())
            connection.execute(
                insert(schema.job).values(
                    id=job_id,
                    kind=kind,
                    task=self.task,
                    arguments=arguments,
                    state=JobState.QUEUED,
                    newest_annotation=newest_annotation,
                    progress={},
                    log=["Waiting in the queue."],
                    result={},
                    created=schema.now(),
                )
            )
            return self.get(job_id)

    def _renew(self, job_id: str, newest_annotation: int) -> None:
        """A job that still waits will see what was stored meanwhile; what it will see never shrinks."""
        with self.database.transaction() as connection:
            column = schema.job.c
            connection.execute(
                update(schema.job)
                .where(
                    column.id == job_id,
                    column.state == JobState.QUEUED,
                    column.newest_annotation < newest_annotation,
                )
                .values(newest_annotation=newest_annotation)
            )

    def claim(self, owner: str, kinds: Collection[JobKind] = tuple(JobKind)) -> Job | None:
        """Gives the oldest waiting job to a worker; a job whose worker fell silent waits again.

        Args:
            owner: the worker.
            kinds: what it does; while a job of these kinds runs, it gets none.
        """
        with self.database.transaction() as connection:
            column, moment = schema.job.c, schema.now()
            self._take_back(column.id.in_(self._silent()))
            mine = self._all().where(column.kind.in_(kinds))
            if connection.execute(mine.where(column.state == JobState.RUNNING)).first() is not None:
                return None
            row = connection.execute(mine.where(column.state == JobState.QUEUED).order_by(column.number)).first()
            if row is None:
                return None
            connection.execute(
                update(schema.job)
                .where(column.id == row.id)
                .values(
                    state=JobState.RUNNING,
                    owner=owner,
                    started=moment,
                    lease_until=self._give_sign(row.id),
                    attempts=row.attempts + 1,
                )
            )
            return self.get(row.id)

    def _silent(self) -> list[str]:
        """The running jobs whose workers gave no sign for the length of a lease; remembers the signs of the others."""
        column, now = schema.job.c, monotonic()
        query = select(column.id, column.lease_until).where(column.task == self.task, column.state == JobState.RUNNING)
        with self.database.reading() as connection:
            running = {row.id: row.lease_until for row in connection.execute(query)}
        before = self._signs
        self._signs = {
            job: before[job] if before.get(job, (None, 0.0))[0] == sign and job in before else (sign, now)
            for job, sign in running.items()
        }
        return [job for job, (_, since) in self._signs.items() if now - since > LEASE.total_seconds()]

    def _give_sign(self, job_id: str) -> datetime:
        """What the row of a running job shall say until the next sign."""
        sign = schema.now() + LEASE
        self._signs[job_id] = (sign, monotonic())
        return sign

    def take_back_all(self) -> None:
        """Takes the running jobs from workers that are all dead; only for whoever alone starts workers here."""
        self._take_back(true())

    def _take_back(self, condition: Any) -> None:
        """Running jobs that lost their worker wait again, or fail if they were tried often enough."""
        with self.database.transaction() as connection:
            column = schema.job.c
            lost = self._all().where(column.state == JobState.RUNNING, condition)
            for row in connection.execute(lost).all():
                line = f"The worker stopped in attempt {row.attempts} of {ATTEMPTS}."
                values: dict[str, Any] = {"owner": None, "lease_until": None, "log": [*row.log, line][-LOG_LINES:]}
                if row.attempts < ATTEMPTS:
                    values |= {"state": JobState.QUEUED}
                else:
                    values |= {"state": JobState.FAILED, "ended": schema.now(), "result": {"error": line}}
                connection.execute(update(schema.job).where(column.id == row.id).values(**values))

    def report(self, job: Job, progress: dict[str, Any], lines: Sequence[str] = ()) -> None:
        """Keeps the lease, the progress and the newest log lines.

        Raises:
            LostLease: if the job is no longer this worker's, or was cancelled.
        """
        with self.database.transaction() as connection:
            row = self._held(job)
            connection.execute(
                update(schema.job)
                .where(schema.job.c.id == job.id)
                .values(
                    progress=progress or row.progress,
                    log=[*row.log, *lines][-LOG_LINES:],
                    lease_until=self._give_sign(job.id),
                )
            )

    def finish(self, job: Job, state: JobState, result: dict[str, Any], line: str) -> None:
        """Ends a job; call it in the transaction that publishes its result.

        Raises:
            LostLease: as ``report``.
        """
        with self.database.transaction() as connection:
            row = self._held(job)
            connection.execute(
                update(schema.job)
                .where(schema.job.c.id == job.id)
                .values(
                    state=state,
                    result=result,
                    log=[*row.log, line][-LOG_LINES:],
                    ended=schema.now(),
                    owner=None,
                    lease_until=None,
                )
            )

    def _held(self, job: Job) -> Row[Any]:
        with self.database.reading() as connection:
            row = connection.execute(self._all().where(schema.job.c.id == job.id)).one()
        if row.cancel or row.state != JobState.RUNNING or row.owner != job.owner:
            raise LostLease(f"Job {job.id} is {row.state}, held by {row.owner}.")
        return row

    def cancel(self, kind: JobKind) -> Job | None:
        """Stops the job that runs, or else the one that waits longest; ``None`` if there is neither."""
        with self.database.transaction() as connection:
            column = schema.job.c
            open_jobs = self._all(kind).where(column.state.in_([JobState.RUNNING, JobState.QUEUED]))
            rows = connection.execute(open_jobs.order_by(column.number)).all()
            if not rows:
                return None
            row = next((row for row in rows if row.state == JobState.RUNNING), rows[0])
            connection.execute(
                update(schema.job)
                .where(column.id == row.id)
                .values(
                    state=JobState.CANCELLED, cancel=True, ended=schema.now(), log=[*row.log, "Stopped by a person."]
                )
            )
            return self.get(row.id)

    def release(self, owner: str) -> None:
        """Puts the jobs of a worker that died back into the queue, or fails them if they were tried often enough."""
        self._take_back(schema.job.c.owner == owner)

    def give_back(self, owner: str) -> None:
        """Puts the jobs of a worker whose server stops back into the queue; that is no failed attempt of theirs."""
        with self.database.transaction() as connection:
            column = schema.job.c
            held = self._all().where(column.state == JobState.RUNNING, column.owner == owner)
            for row in connection.execute(held).all():
                line = "The server stopped; the job goes on after its next start."
                connection.execute(
                    update(schema.job)
                    .where(column.id == row.id)
                    .values(
                        state=JobState.QUEUED,
                        owner=None,
                        lease_until=None,
                        attempts=row.attempts - 1,
                        log=[*row.log, line][-LOG_LINES:],
                    )
                )

    def get(self, job_id: str) -> Job:
        """One job.

        Raises:
            UnknownJob: if there is none with this id.
        """
        with self.database.reading() as connection:
            row = connection.execute(self._all().where(schema.job.c.id == job_id)).one_or_none()
        if row is None:
            raise UnknownJob(f"There is no job {job_id}.")
        return _job(row)

    def every(self, kind: JobKind) -> list[Job]:
        """All jobs of a kind, oldest first."""
        with self.database.reading() as connection:
            rows = connection.execute(self._all(kind).order_by(schema.job.c.number))
            return [_job(row) for row in rows]

    def open_or_last(self, kind: JobKind, model: str = "") -> Job | None:
        """The job of a kind that runs or is next, else the one that was asked for last; of one model if it is named."""
        return self.first_open(kind, model) or self.last(kind, model)

    def count_open(self, kind: JobKind) -> int:
        """How many jobs of a kind run or wait."""
        column = schema.job.c
        query = select(func.count()).where(
            column.task == self.task, column.kind == kind, column.state.in_([JobState.RUNNING, JobState.QUEUED])
        )
        with self.database.reading() as connection:
            return connection.scalar(query) or 0

    def last(self, kind: JobKind, model: str = "") -> Job | None:
        """The job of a kind that was asked for last, in whatever state; of one model if it is named."""
        query = self._all(kind, model).order_by(schema.job.c.number.desc()).limit(1)
        with self.database.reading() as connection:
            row = connection.execute(query).one_or_none()
        return _job(row) if row is not None else None

    def first_open(self, kind: JobKind, model: str = "") -> Job | None:
        """The job of a kind that runs, else the one that waits longest, if any; of one model if it is named."""
        return next(iter(self.open(kind, model)), None)

    def open(self, kind: JobKind, model: str = "") -> list[Job]:
        """The jobs of a kind that run, then those that wait, longest first; of one model if it is named."""
        column = schema.job.c
        query = self._all(kind, model).where(column.state.in_([JobState.RUNNING, JobState.QUEUED]))
        with self.database.reading() as connection:
            rows = connection.execute(query.order_by(column.state.desc(), column.number))
            return [_job(row) for row in rows]

    def _all(self, kind: JobKind | None = None, model: str = "") -> Select[Any]:
        query = select(schema.job).where(schema.job.c.task == self.task)
        if model:
            # What names no model is about the one that has the task's name.
            query = query.where(func.coalesce(schema.job.c.arguments["model"].as_string(), self.task) == model)
        return query if kind is None else query.where(schema.job.c.kind == kind)


def _job(row: Row[Any]) -> Job:
    return Job(
        number=row.number,
        id=row.id,
        kind=JobKind(row.kind),
        arguments=row.arguments,
        state=JobState(row.state),
        newest_annotation=row.newest_annotation,
        owner=row.owner,
        cancel=row.cancel,
        progress=row.progress,
        log=tuple(row.log),
        result=row.result,
        created=row.created,
        started=row.started,
        ended=row.ended,
    )
