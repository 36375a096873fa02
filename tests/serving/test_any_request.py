"""Whatever a client sends, valid by the OpenAPI description or not: no 5xx, and no file outside the data folder."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from tests.serving.places import put_images, server, until

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
