"""The log: lines of text, or one JSON object each; who was let in, what was changed, what came of the jobs."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lib.errors import NotSignedIn, UnknownImage
from lib.serving import log as log_module
from lib.serving.gate import note_refusal
from lib.serving.log import JsonLines, Sparing, log_file, log_refusal, log_request
from lib.serving.tokens import TokenFile
from lib.stages import Role
from lib.store import layout
from tests.serving.conftest import Here
from tests.serving.places import mask_bytes, put_images, put_label, server, until

FIRST = ["time", "level", "process", "logger", "message"]


def line_of(record: logging.LogRecord) -> dict[str, Any]:
    text = JsonLines().format(record)
    assert "\n" not in text
    line: dict[str, Any] = json.loads(text)
    return line


def test_a_line_tells_when_how_bad_where_and_what(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        logging.getLogger("lib.x").warning("%s of\n%s", 1, "ä")

    (record,) = caplog.records
    line = line_of(record)
    assert list(line) == FIRST
    moment = datetime.fromisoformat(line["time"])
    assert moment.utcoffset() == UTC.utcoffset(None)
    assert abs(moment.timestamp() - record.created) < 0.001
    assert (line["level"], line["logger"], line["message"]) == ("WARNING", "lib.x", "1 of\nä")


def test_an_exception_stands_in_the_same_line(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ValueError("a reason")
    except ValueError:
        logging.getLogger("lib.x").exception("It failed.")

    line = line_of(caplog.records[0])
    assert line["message"] == "It failed."
    assert line["exception"].startswith("Traceback") and line["exception"].endswith("ValueError: a reason")


def test_a_change_is_told_with_request_status_time_and_author(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        log_request("PUT", "/datastore/label", 200, seconds=0.01234, author="kim")

    line = line_of(caplog.records[0])
    assert line["message"] == "PUT /datastore/label: 200 in 0.012 s, by kim"
    assert {key: line[key] for key in line if key not in FIRST} == {
        "method": "PUT", "path": "/datastore/label", "status": 200, "seconds": 0.0123, "author": "kim",
    }  # fmt: skip


def test_what_a_client_sent_makes_no_line_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    log_refusal("GET", "/a\nERROR: all lost", 401, "no\nERROR: all lost")

    assert caplog.messages == ["GET /a%0AERROR%3A%20all%20lost was refused (401): 'no\\nERROR: all lost'"]


def test_only_who_is_not_let_in_is_a_refusal(caplog: pytest.LogCaptureFixture) -> None:
    note_refusal("GET", "/info/", UnknownImage("There is no image."))
    note_refusal("GET", "/info/", NotSignedIn("Sign in."))

    assert caplog.messages == ["GET /info/ was refused (401): Sign in."]


def test_a_refused_person_is_named(open_app: Callable[..., Here], caplog: pytest.LogCaptureFixture) -> None:
    here = open_app(auth="tokens")
    token = TokenFile(here.data / layout.TOKENS).add("kim", Role.VIEWER)

    here.client.get("/info/")
    here.client.post("/train/segmentation", headers={"Authorization": f"Bearer {token}"})
    here.client.post("/auth/token", data={"username": "lee", "password": token})

    assert [message for message in caplog.messages if "refused" in message] == [
        "GET /info/ was refused (401): Sign in: send the header 'Authorization: Bearer TOKEN'.",
        "POST /train/segmentation was refused (403): POST /train/segmentation needs the role expert; kim is viewer.",
        "POST /auth/token was refused (401): This token is not that of 'lee'.",
    ]


def test_a_change_is_logged_with_its_author_whatever_came_of_it(here: Here, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        put_label(here.client, "case_00", mask_bytes(0), client_id="dr.kim")
        here.client.delete("/datastore/label", params={"id": "nobody", "tag": "final"})
        here.client.get("/info/")

    told = [record.request for record in caplog.records if hasattr(record, "request")]
    assert [(line["method"], line["path"], line["status"]) for line in told] == [
        ("PUT", "/datastore/label", 200), ("DELETE", "/datastore/label", 404),
    ]  # fmt: skip
    assert told[0]["author"] == "dr.kim"
    assert told[0]["seconds"] > 0


def test_what_came_of_a_job_is_logged(here: Here, weights: bytes, caplog: pytest.LogCaptureFixture) -> None:
    here.put_weights(weights)
    job = here.client.post("/batch/infer/segmentation").json()
    with caplog.at_level(logging.INFO):
        here.work()

    assert f"Job {job['id']} (batch_infer): Drafted 2 of 2 images." in caplog.messages


@pytest.mark.e2e
def test_every_line_of_all_processes_is_json_on_request(tmp_path: Path) -> None:
    put_images(tmp_path / "studies", 1)
    data = tmp_path / "data"
    with server(tmp_path / "studies", data, {"log": "json"}) as running:
        running.client.get("/info/", headers={"Host": "evil.example"})
        running.submit("case_00", 0)
        job = running.post("/scoring/dice", {})
        running.ended("/scoring/")
        until(lambda: job["id"] in log_file(data).read_text(), what="the outcome of the job in the log")

    lines = [json.loads(text) for text in log_file(data).read_text().splitlines()]
    assert all(list(line)[:5] == FIRST for line in lines)
    (outcome,) = [line for line in lines if job["id"] in line["message"]]
    assert (outcome["process"], outcome["message"]) == ("worker", f"Job {job['id']} (scoring): Compared 0 images.")
    (change, *_) = [line for line in lines if line.get("path") == "/datastore/label"]
    assert (change["process"], change["status"], change["author"]) == ("server", 200, "dr.kim")
    # The screen shows warnings, in the same form.
    shown = [json.loads(text) for text in (data / "server.out").read_text().splitlines() if text.startswith("{")]
    (refused,) = [line for line in shown if line.get("status") == 403]
    assert refused["level"] == "WARNING" and "Host 'evil.example'" in refused["message"]


@pytest.mark.parametrize("path", ["/" + "a" * 60_000, "/" + "\u4e00" * 20_000, "/x?" + "%" * 5_000])
def test_lines_stay_short_however_long_a_path_or_reason_is(caplog: pytest.LogCaptureFixture, path: str) -> None:
    with caplog.at_level(logging.INFO):
        log_refusal("GET", path, 401, path)
        log_request("PUT", path, 404, seconds=0.0, author="kim")

    assert all(
        len(line_of(record)["message"]) < 1000 and len(line_of(record)["path"]) < 400 for record in caplog.records
    )
    assert len(caplog.records) == 2


@pytest.mark.parametrize("addresses", [1, 5, 3000])
def test_refusals_never_fill_the_log_and_are_counted(caplog: pytest.LogCaptureFixture, addresses: int) -> None:
    for number in range(9000):
        log_refusal("GET", "/" + "a" * 5000, 401, "Sign in.", f"10.0.{number % addresses}.1")
    lines = len(caplog.messages)
    log_module.REFUSALS.tell()

    assert lines <= 65
    assert sum(map(len, caplog.messages)) < 50_000
    summary = caplog.messages[-1]
    assert summary.startswith("More requests were refused in the last 60 s: ")
    counted = [int(part.split(" from ")[0].rpartition(" ")[2]) for part in summary.split(", ")]
    assert sum(counted) == 9000 - lines
    assert len(counted) <= 11


def test_lines_that_anybody_can_make_come_are_left_out_when_they_are_too_many() -> None:
    logger = logging.getLogger("strangers")
    written: list[str] = []
    handler, sparing = logging.Handler(), Sparing()
    handler.emit = lambda record: written.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    logger.addFilter(sparing)
    for number in range(500):
        logger.warning("Invalid HTTP request received.")
        if number == 10:
            logger.warning("Something else with %d %%.", 5)

    assert len(written) < 30
    assert "Something else with 5 %." in written
    sparing._of_one._left.clear()
    logger.warning("Invalid HTTP request received.")
    assert "more like this were left out before" in written[-1]


def gone(path: str, method: str, kind: str, sent: bytes) -> tuple[dict[str, Any], Any]:
    """A request whose client goes away after the begin of its body."""
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
        "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"image=case_00", "root_path": "",
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", kind.encode()), (b"content-length", b"100000")],
    }  # fmt: skip
    came = iter([{"type": "http.request", "body": sent, "more_body": True}])

    async def receive() -> dict[str, Any]:
        return next(came, {"type": "http.disconnect"})

    return scope, receive


@pytest.mark.parametrize(
    ("method", "path", "kind", "sent"),
    [
        ("POST", "/dicomweb/studies", 'multipart/related; type="application/dicom"; boundary=b', b"--b\r\n\r\nDICM"),
        ("POST", "/dicomweb/studies/1.2", 'multipart/related; type="application/dicom"; boundary=b', b""),
        ("PUT", "/datastore/label", "multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data"),
        ("PUT", "/session/", "multipart/form-data; boundary=b", b"--b\r\n"),
        ("POST", "/activelearning/random", "application/json", b'{"client_id": "k'),
        ("POST", "/train/segmentation", "application/json", b"{"),
    ],
)
def test_who_goes_away_in_the_middle_leaves_no_traceback(
    here: Here, caplog: pytest.LogCaptureFixture, method: str, path: str, kind: str, sent: bytes
) -> None:
    scope, receive = gone(path, method, kind, sent)
    told: list[Any] = []

    async def send(message: Any) -> None:
        told.append(message)

    with caplog.at_level(logging.INFO):
        asyncio.run(here.client.app(scope, receive, send))

    assert told[0]["status"] == 400
    assert [line for line in caplog.records if line.exc_info or line.levelno > logging.WARNING] == []
    assert len([line for line in caplog.records if path in line.getMessage()]) <= 2
