"""Whatever a client sends, valid by the OpenAPI description or not: no 5xx, and no file outside the data folder."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_from_bytes

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from lib.serving.log import log_file
from lib.serving.tokens import TokenFile
from lib.stages import PEOPLE
from lib.store import layout
from tests.serving.conftest import Here
from tests.serving.places import mask_bytes, put_images, put_label, server, until
from tests.serving.test_gate import Guarded

with warnings.catch_warnings():
    # Packages of Schemathesis use names that their own dependencies will rename.
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis import GenerationMode

EXAMPLES = 6


@schemathesis.serializer("multipart/related")
def one_part(_context: object, value: object) -> bytes:
    """A body as a viewer sends it, whatever it holds."""
    content = value if isinstance(value, bytes) else str(value).encode(errors="replace")
    return b"--xx\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--xx--\r\n"


WRITING = ("created", "modified", "deleted", "moved")


class Written(FileSystemEventHandler):
    """Collects every change below a folder, except below one of its folders."""

    def __init__(self, allowed: Path) -> None:
        self.allowed = allowed
        self.paths: list[str] = []

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in WRITING and not Path(event.src_path).is_relative_to(self.allowed):
            self.paths.append(f"{event.event_type} {event.src_path}")


@contextmanager
def watched(folder: Path, allowed: Path) -> Iterator[list[str]]:
    """The changes below a folder while the block runs."""
    handler, observer = Written(allowed), Observer()
    observer.schedule(handler, str(folder), recursive=True)
    observer.start()
    yield handler.paths
    observer.stop()
    observer.join()


@pytest.mark.e2e
@pytest.mark.filterwarnings("ignore")
def test_no_request_makes_a_server_error_or_a_file_outside_the_data_folder(tmp_path, monkeypatch):
    for name in ("home", "elsewhere", "data"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "elsewhere"))
    put_images(tmp_path / "studies", 3)
    failures: list[str] = []
    with server(tmp_path / "studies", tmp_path / "data", {}) as running:
        schema = schemathesis.openapi.from_dict(running.get("/openapi.json"))
        schema.config.update(base_url=running.address)
        operations = [result.ok() for result in schema.get_all_operations()]
        with watched(tmp_path, allowed=tmp_path / "data") as written:
            for operation in operations:
                for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                    send_many(operation, mode, running.address, failures)
        assert running.get("/info/")["name"] == "Label Refinery: segmentation"
    assert len(operations) > 40
    assert failures == []
    assert written == []


def send_many(operation, mode, address: str, failures: list[str]) -> None:
    """Sends examples of one operation and notes each reply of 500 or more, but for a full disk."""

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def send(case) -> None:
        reply = case.call(base_url=address)
        if reply.status_code >= 500 and reply.status_code != 507:
            failures.append(f"{case.method} {case.formatted_path} {case.query} {case.body!r:.200}: {reply.text[:300]}")

    try:
        send()
    # Some operations have nothing that could be wrong, so there are no invalid requests of them.
    except Unsatisfiable:
        pass


def test_a_file_outside_the_allowed_folder_would_be_noticed(tmp_path):
    (tmp_path / "data").mkdir()
    with watched(tmp_path, allowed=tmp_path / "data") as written:
        (tmp_path / "data" / "inside").touch()
        (tmp_path / "outside").touch()
        until(lambda: written, what="the notice of the file")

    assert f"created {tmp_path / 'outside'}" in written
    assert not any("inside" in entry for entry in written)


# --- Extreme values in each place of each request ---------------------------------------------------------------------

NUMBERS = ["2147483648", str(2**63 - 1), str(2**63), str(2**64), str(-(2**63)), str(-(2**63) - 1), "-1", "9" * 5000,
           "-" + "9" * 5000, "1e999", "NaN", "٣", "1_0", ""]  # fmt: skip
TEXTS = ["\0", "a\0b", "e\u0301", "a" * 60_000, "脳" * 5_000, "\u202etxt.exe", "..", "*?" * 200, "(a+)+$" * 20,
         "version_" + "9" * 5000, "version_٣", "[" * 500, "a\r\nb: c", "%", "'; --", "{}"]  # fmt: skip
QUOTED = [quote(text, safe="") for text in (*NUMBERS, *TEXTS)] + [
    quote_from_bytes(content, safe="") for content in (b"\xed\xa0\x80", b"\xff\xfe", b"\xf5\x80", b"\xc3")
]
"""As they stand in an address; the last ones are no UTF-8, the first of them is half a surrogate pair."""

VALUES = [2**31, 2**62, 2**63, -(2**64), 10**4200, 1e308, -1, True, None, [], {}, [[[[]]]], "", "\0", "e\u0301",
          "a" * 100_000, "\u202e", "version_" + "9" * 5000, ["Anterior"] * 5000, [{"name": "Anterior", "idx": 10**18}],
          {"a": [1]}]  # fmt: skip
KEYS = ("client_id", "label_info", "structures", "parent", "seconds", "version", "stages", "max_epochs",
        "max_batch_size", "y", "y_pred", "segmentation", "result_extension", "result_compress", "note")  # fmt: skip

USUAL = {"image": "case_00", "label": "case_00", "id": "case_00", "model": "segmentation", "version": "1",
         "tag": "final", "strategy": "first", "method": "dice", "name": "dr.kim", "frames": "1"}  # fmt: skip
"""What stands in the other places of a request, so that it gets as far as it can."""

MAY = (503, 507)
"""Statuses above 499 that say what is the matter."""


def operations(here: Here) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of each request; none that never ends."""
    paths = here.client.get("/openapi.json").json()["paths"]
    for path, described in paths.items():
        for method, operation in described.items():
            yield method.upper(), path, operation


def addresses(path: str, operation: dict[str, Any], extreme: str) -> Iterator[str]:
    """The addresses of an operation that have the extreme in one place each."""
    named = [(one["name"], one["in"]) for one in operation.get("parameters", [])]
    for extreme_name, _ in named:
        address, query = path, []
        for name, place in named:
            text = extreme if name == extreme_name else quote(USUAL.get(name, "1"))
            if place == "path":
                address = address.replace(f"{{{name}}}", text)
            elif name == extreme_name or name in USUAL:
                query.append(f"{name}={text}")
        yield f"{address}?{'&'.join(query)}" if query else address


def put_log(here: Here) -> None:
    """The log, which a server process writes."""
    log_file(here.data).parent.mkdir(exist_ok=True)
    log_file(here.data).write_text("started\n")


def failed(reply: Any) -> bool:
    return reply.status_code >= 500 and reply.status_code not in MAY


def test_no_extreme_in_an_address_makes_a_server_error(here: Here) -> None:
    put_label(here.client, "case_00", mask_bytes(0), client_id="dr.kim")
    put_log(here)
    found = list(operations(here))
    sent = [
        (method, address)
        for method, path, operation in found
        for extreme in QUOTED
        for address in addresses(path, operation, extreme)
        if method in ("GET", "HEAD")
    ]
    # Of requests that change something, each meets some of the extremes; together they meet all of them.
    extremes = cycle(QUOTED)
    sent += [
        (method, address)
        for method, path, operation in found
        for _ in range(6)
        for address in addresses(path, operation, next(extremes))
        if method not in ("GET", "HEAD")
    ]

    failures = [
        f"{method} {address:.200}: {reply.text:.300}"
        for method, address in sent
        if failed(reply := here.client.request(method, address, follow_redirects=False))
    ]

    assert len(found) > 60 and len(sent) > 1500
    assert failures == []


def params_to(path: str, field: str = "params") -> Callable[[Here, str], Any]:
    return lambda here, text: here.client.request("PUT" if "info" in path else "POST", path, data={field: text})


def body_to(path: str) -> Callable[[Here, str], Any]:
    return lambda here, text: here.client.post(path, content=text, headers={"Content-Type": "application/json"})


TAKERS: dict[str, Callable[[Here, str], Any]] = {
    "label": lambda here, text: here.client.put(
        "/datastore/label?image=case_00", data={"params": text}, files={"label": ("a.nii.gz", mask_bytes(0))}
    ),
    **{path: params_to(path) for path in ("/infer/segmentation?image=case_00", "/annotations/accept?image=case_00")},
    **{path: params_to(path, "info") for path in ("/datastore/label/info?label=case_00",
                                                  "/datastore/image/info?image=case_00")},
    **{path: body_to(path) for path in ("/activelearning/first", "/train/segmentation", "/train/", "/scoring/dice",
                                        "/batch/infer/segmentation")},
}  # fmt: skip


@pytest.mark.parametrize("taker", TAKERS)
def test_no_extreme_in_a_json_object_makes_a_server_error(here: Here, taker: str) -> None:
    put_label(here.client, "case_00", mask_bytes(0), client_id="dr.kim")

    failures = []
    for number, value in enumerate(VALUES):
        for key in KEYS[number % 3 :: 3]:
            reply = TAKERS[taker](here, json.dumps({key: value}))
            if failed(reply):
                failures.append(f"{key}: {value!s:.50}: {reply.text:.200}")

    assert failures == []
    for path in ("/info/", "/datastore/?output=all", "/datastore/label/history?image=case_00", "/train/?all=true"):
        assert here.client.get(path).status_code == 200


def test_no_extreme_makes_a_server_error_whoever_sends_it(open_app: Callable[..., Here]) -> None:
    here = open_app(auth="tokens")
    put_log(here)
    file = TokenFile(here.data / layout.TOKENS)
    guarded = Guarded(here, {role: file.add(str(role), role) for role in PEOPLE})
    extremes, clients = cycle(QUOTED), [guarded.stranger, *map(guarded.by, PEOPLE)]
    failures = [
        f"{method} {address:.200}: {reply.text:.300}"
        for method, path, operation in operations(here)
        for client in clients
        for address in addresses(path, operation, next(extremes))
        if failed(reply := client.request(method, address, follow_redirects=False))
    ]

    assert failures == []
