"""Nobody takes all places: who asks for much at once waits, others do not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx2 as httpx
import pytest

from lib.errors import RecordAway, TooManyRequests
from lib.serving import turnstile
from lib.serving.datastore import RecordDatastore
from lib.serving.dicom_files import DicomFiles
from lib.serving.library import Library
from lib.serving.routes import health
from lib.serving.server import create_server
from lib.serving.turnstile import MOST_WAITING, PLACES, THREADS, Kind, Places, Turnstile, kind_of
from tests.serving.conftest import Here
from tests.serving.places import mask_bytes, put_label, until
from tests.serving.test_connections import serving

AT_ONCE = 45
PATIENCE = 30.0


def test_one_person_gets_a_share_and_the_rest_is_for_others() -> None:
    async def all_in() -> list[int]:
        places = Turnstile(Places(4, 3))
        of_one = [asyncio.create_task(places.enter("kim")) for _ in range(9)]
        await asyncio.sleep(0)
        await asyncio.wait_for(places.enter("lee"), PATIENCE)
        before = sum(task.done() for task in of_one)
        for _ in range(9):
            places.leave("kim")
            await asyncio.sleep(0.01)
        return [before, sum(task.done() for task in of_one)]

    assert asyncio.run(all_in()) == [3, 9]


def test_who_waits_for_less_comes_in_turn() -> None:
    async def order() -> list[str]:
        places, came = Turnstile(Places(1, 1)), []

        async def come(person: str) -> None:
            await places.enter(person)
            came.append(person)
            places.leave(person)

        await places.enter("first")
        waiting = [asyncio.create_task(come(person)) for person in ("kim", "kim", "kim", "lee", "park")]
        await asyncio.sleep(0)
        places.leave("first")
        await asyncio.gather(*waiting)
        return came

    assert asyncio.run(order()) == ["kim", "lee", "park", "kim", "kim"]


def test_who_has_too_many_waiting_is_told_when_to_come_again() -> None:
    async def refused() -> TooManyRequests:
        places = Turnstile(Places(1, 1))
        await places.enter("kim")
        waiting = [asyncio.create_task(places.enter("kim")) for _ in range(MOST_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyRequests, match="wait already") as found:
            await places.enter("kim")
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        # Those who gave up hold nothing.
        places.leave("kim")
        await asyncio.wait_for(places.enter("kim"), PATIENCE)
        return found.value

    assert asyncio.run(refused()).retry_seconds > 0


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [("GET", "/health/live", None), ("GET", "/jobs/1/events", None),
     ("POST", "/dicomweb/studies/events", Kind.CHANGING), ("GET", "/dicomweb/studies/1/series/2/events", Kind.VIEWING),
     ("POST", "/jobs/1/events", Kind.CHANGING), ("GET", "/info/", Kind.READING),
     ("GET", "/dicomweb/studies/1/metadata", Kind.VIEWING), ("GET", "/datastore/dataset", Kind.VIEWING),
     ("GET", "/annotations/latest", Kind.VIEWING), ("PUT", "/datastore/label", Kind.CHANGING),
     ("POST", "/dicomweb/studies", Kind.CHANGING), ("POST", "/infer/segmentation", Kind.DRAFTING)],
)  # fmt: skip
def test_what_may_be_slow_has_places_apart_from_what_is_quick(method: str, path: str, kind: Kind | None) -> None:
    assert kind_of(method, path) is kind


def test_all_places_leave_threads_for_replies_and_nobody_has_all() -> None:
    threads = sum(places.all for kind, places in PLACES.items() if kind is not Kind.DRAFTING)

    assert threads + 16 <= THREADS
    assert all(places.for_one < places.all for places in PLACES.values())


@pytest.fixture
def asked(here: Here) -> Iterator[Callable[..., Future[httpx.Response]]]:
    """Asks a server in a thread, each request by a thread of its own."""
    with serving(answers=create_server(here.app)) as connect, ThreadPoolExecutor(AT_ONCE + 5) as clients:
        host, port = connect().getpeername()

        def ask(method: str, path: str, **options: Any) -> Future[httpx.Response]:
            return clients.submit(httpx.request, method, f"http://{host}:{port}{path}", timeout=PATIENCE, **options)

        yield ask


@pytest.mark.parametrize(
    ("owner", "name", "method", "path"),
    [(Library, "image_file", "GET", "/datastore/image?image=case_00"),
     (DicomFiles, "segmentation", "GET", "/annotations/latest?image=case_00&format=seg"),
     (RecordDatastore, "archive", "GET", "/datastore/dataset"),
     (RecordDatastore, "store", "PUT", "/datastore/label?image=case_00")],
)  # fmt: skip
def test_many_who_wait_for_something_slow_keep_neither_health_nor_others_waiting(
    here: Here, asked: Any, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, method: str, path: str
) -> None:
    put_label(here.client, "case_00", mask_bytes(0))
    goes_on, at_work = threading.Event(), []

    def slow(*args: Any, **keywords: Any) -> Any:
        at_work.append(name)
        assert goes_on.wait(PATIENCE)
        raise RecordAway("It was slow.")

    monkeypatch.setattr(owner, name, slow)
    files = {"files": {"label": ("a.nii.gz", mask_bytes(0))}} if method == "PUT" else {}
    kind = kind_of(method, path.partition("?")[0])
    assert kind is not None

    waiting = [asked(method, path, **files) for _ in range(AT_ONCE)]
    until(lambda: len(at_work) == PLACES[kind].for_one, PATIENCE, "the work")
    try:
        for quick in ("/health/live", "/info/", "/datastore/"):
            assert asked("GET", quick).result(PATIENCE).status_code == 200
        assert asked("GET", "/health/ready").result(PATIENCE).json()["title"] == "NotReady"
        assert len(at_work) == PLACES[kind].for_one
    finally:
        goes_on.set()
    assert [one.result(PATIENCE).status_code for one in waiting] == [503] * AT_ONCE


def test_who_has_too_many_requests_waiting_gets_429(here: Here, asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turnstile, "MOST_WAITING", 3)
    goes_on = threading.Event()

    def slow(*args: Any) -> None:
        goes_on.wait(PATIENCE)
        raise RecordAway("It was slow.")

    monkeypatch.setattr(Library, "image_file", slow)
    expected = AT_ONCE - PLACES[Kind.VIEWING].for_one - 3
    waiting = [asked("GET", "/datastore/image?image=case_00") for _ in range(AT_ONCE)]
    until(lambda: sum(one.done() for one in waiting) == expected, PATIENCE, "the refusals")
    goes_on.set()
    refused = [one.result(PATIENCE) for one in waiting if one.result(PATIENCE).status_code == 429]

    assert len(refused) == expected
    assert int(refused[0].headers["Retry-After"]) > 0
    assert "wait already" in refused[0].json()["detail"]


def test_a_record_that_does_not_answer_in_time_is_not_ready(
    here: Here, asked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    monkeypatch.setattr(health, "RECORD_SECONDS", 0.2)
    monkeypatch.setattr(type(here.app.record.images), "counts", lambda self: goes_on.wait(PATIENCE))
    try:
        for _ in range(4):
            reply = asked("GET", "/health/ready").result(PATIENCE)
            assert (reply.status_code, "does not answer within" in reply.text) == (503, True)
        assert asked("GET", "/health/live").result(PATIENCE).status_code == 200
    finally:
        goes_on.set()
