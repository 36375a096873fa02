"""A server of studies that sends what it should not: told in a sentence, never shown as a page, never a way up."""

from __future__ import annotations

import gzip
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from lib.errors import NotFound, StudiesAway, StudiesRefused
from lib.serving import remote as remote_module
from lib.serving.relay import refuse_way_up
from lib.serving.remote import Remote, in_time
from lib.serving.server import create_server, load_app
from lib.serving.settings import StudiesServer
from tests.serving.conftest import APPS
from tests.serving.hostile_pacs import HostilePacs, Reply, hostile_pacs
from tests.serving.places import CONF
from tests.serving.test_dicom_json import WRONG


@pytest.fixture(scope="module")
def running() -> Iterator[HostilePacs]:
    with hostile_pacs() as pacs:
        yield pacs


@pytest.fixture
def pacs(running: HostilePacs) -> HostilePacs:
    running.reply = Reply()
    running.asked.clear()
    return running


@pytest.fixture(scope="module")
def client(running: HostilePacs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Our server before it."""
    data = tmp_path_factory.mktemp("relay") / "data"
    app = load_app(APPS / "segmentation", running.address, {**CONF, "data": str(data)})
    with_errors = TestClient(create_server(app), base_url="http://127.0.0.1", raise_server_exceptions=False)
    yield with_errors
    with_errors.close()
    assert app.relay is not None
    app.relay.remote.close()
    app.record.close()


@pytest.fixture
def asking(pacs: HostilePacs) -> Iterator[Remote]:
    remote = Remote(StudiesServer(pacs.address, None, 0))
    yield remote
    remote.close()


def told(reply: Any, status: int = 502) -> str:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    return str(reply.json()["detail"])


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("path", ["/studies", "/studies/1.2/metadata"])
def test_a_reply_that_is_no_dicom_json_is_502(client: TestClient, pacs: HostilePacs, content: bytes, path: str) -> None:
    pacs.reply = Reply(content)

    assert "sent no DICOM JSON at" in told(client.get(f"/dicomweb{path}"))


def attribute(tag: str, vr: str, *values: Any) -> dict[str, Any]:
    return {tag: {"vr": vr, "Value": list(values)}}


@pytest.mark.parametrize("count", ["many", None, 10**30, -1, "1" * 5000])
@pytest.mark.parametrize("kinds", [[None, 7, "CT"], [], [1.5]])
def test_odd_values_are_passed_over(client: TestClient, pacs: HostilePacs, count: Any, kinds: list[Any]) -> None:
    study = {
        **attribute("0020000D", "UI", "1.2"),
        **attribute("00201206", "IS", count),
        **attribute("00080061", "CS", *kinds),
    }
    pacs.reply = Reply(json.dumps([study]).encode())

    assert client.get("/dicomweb/studies").status_code == 200


def ever() -> Iterator[bytes]:
    yield b"["
    yield from itertools.repeat(b" " * 2**16, 2**14)


@pytest.mark.parametrize("path", ["/studies", "/studies/1.2/metadata"])
def test_a_reply_without_end_is_given_up(
    client: TestClient, pacs: HostilePacs, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(remote_module, "LARGEST_JSON_MIB", 1)
    pacs.reply = Reply(ever())

    assert "more than 1 MiB" in told(client.get(f"/dicomweb{path}"))


def test_a_reply_that_drips_is_given_up(client: TestClient, pacs: HostilePacs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_module, "JSON_SECONDS", -1.0)

    assert "for longer than -1 s" in told(client.get("/dicomweb/studies"))


def test_a_packed_reply_is_unpacked_no_further_than_there_is_room(
    client: TestClient, pacs: HostilePacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = {"Content-Encoding": "gzip"}
    pacs.reply = Reply(gzip.compress(b"[]"), headers=packed)
    assert client.get("/dicomweb/studies").status_code == 200

    monkeypatch.setattr(remote_module, "LARGEST_JSON_MIB", 1)
    pacs.reply = Reply(gzip.compress(b"[" + b" " * 2**25), headers=packed)
    assert "more than 1 MiB" in told(client.get("/dicomweb/studies"))


@pytest.mark.parametrize(
    "path", ["/studies", "/studies/1.2/metadata", "/studies/1.2", "/studies/1.2/series/3/instances/4/rendered"]
)
def test_what_cannot_be_unpacked_is_502(client: TestClient, pacs: HostilePacs, path: str) -> None:
    pacs.reply = Reply(b"no gzip", headers={"Content-Encoding": "gzip"})

    told(client.get(f"/dicomweb{path}"))


def test_an_error_without_end_is_read_as_far_as_it_says_something(client: TestClient, pacs: HostilePacs) -> None:
    pacs.reply = Reply(itertools.chain([b"<b>No</b>"], ever()), status=500)

    assert told(client.get("/dicomweb/studies")).endswith("answers 500 at studies: <b>No</b>[")


@pytest.mark.parametrize("place", ["https://evil.example/", "http://127.0.0.1:1/x", "file:///etc/passwd", ""])
@pytest.mark.parametrize(
    "path", ["/studies", "/studies/1.2/metadata", "/studies/1.2", "/studies/1.2/series/3/instances/4/rendered"]
)
def test_no_redirect_is_followed(client: TestClient, pacs: HostilePacs, place: str, path: str) -> None:
    pacs.reply = Reply(status=302, headers={"Location": place})

    assert f"has moved to {place!r}" in told(client.get(f"/dicomweb{path}"))
    assert len(pacs.asked) == 1


@pytest.mark.parametrize(
    "kind",
    ["text/html", "image/svg+xml", "text/javascript", "application/dicom+xml", "image/png, text/html", None],
)  # fmt: skip
def test_no_page_of_the_server_is_a_page_of_ours(client: TestClient, pacs: HostilePacs, kind: str | None) -> None:
    pacs.reply = Reply(b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", kind)

    reply = client.get("/dicomweb/studies/1.2/series/3/instances/4/rendered")
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/octet-stream"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["content-security-policy"].startswith("sandbox")
    if kind is not None:
        assert reply.headers["content-disposition"] == "attachment"


def test_an_image_of_the_server_is_passed_on(client: TestClient, pacs: HostilePacs) -> None:
    pacs.reply = Reply(b"\x89PNG", "image/png")

    reply = client.get("/dicomweb/studies/1.2/series/3/instances/4/rendered")
    assert (reply.content, reply.headers["content-type"]) == (b"\x89PNG", "image/png")
    assert "content-disposition" not in reply.headers


def test_a_viewer_is_given_no_address_elsewhere(client: TestClient, pacs: HostilePacs) -> None:
    addresses = ["https://evil.example/x", "//evil.example/x", "javascript:alert(1)", "file:///etc/passwd", "data:,x"]
    bulk = {f"0042001{number}": {"vr": "OB", "BulkDataURI": one} for number, one in enumerate(addresses)}
    kept = {"00420020": {"vr": "OB", "BulkDataURI": f"{pacs.address}/studies/1.2/bulk/1"},
            "00420021": {"vr": "OB", "BulkDataURI": "../bulk/2"}}  # fmt: skip
    pacs.reply = Reply(json.dumps([{**bulk, **kept, **attribute("00081190", "UR", *addresses)}]).encode())

    (found,) = client.get("/dicomweb/studies/1.2/metadata").json()
    assert "evil" not in json.dumps(found) and "script" not in json.dumps(found) and "file:" not in json.dumps(found)
    assert found["00420020"]["BulkDataURI"] == "http://127.0.0.1:80/dicomweb/studies/1.2/bulk/1"
    assert found["00420021"]["BulkDataURI"] == "../bulk/2"
    assert found["00081190"] == {"vr": "UR"}


WAYS_UP = [
    "..", ".", "%2e%2e", "%2E.", "..;", "..;x", ".;", ";", "..%3B", "..%3Ba=b", "..%5C", "..%5c..", "..\\", "%5C",
    "%255C", "%252e%252e", "%25252e", "..%00", "%00", "..%09", "%0a", "%0d%0a", "..%20", "%c0%ae%c0%ae", "..%2F",
    "%2F..", "...", ".htaccess", "%e2%80%ae", "..%ef%bc%8f", "a;b", "%3Fx", "%23x", "a%22b", "x" * 3000,
    "1/" * 1200 + "1",
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS_UP)
@pytest.mark.parametrize("before", ["/studies/1.2/series/3/", "/studies/", "/studies/1.2/series/3/instances/4/"])
def test_no_spelling_of_a_way_up_is_passed_on(client: TestClient, pacs: HostilePacs, way: str, before: str) -> None:
    # Requests of browsers are made plain before they leave; an attacker's are not.
    reply = client.get(f"http://127.0.0.1/dicomweb{before}{way}/metadata")

    assert reply.status_code in (404, 414, 422) or all(asked.isascii() for asked in pacs.asked)
    parts = [part for asked in pacs.asked for part in asked.partition("?")[0].split("/")]
    assert not any(part.startswith(".") or ";" in part or "%" in part or "\\" in part for part in parts)


@pytest.mark.parametrize(
    "address",
    ["studies", "studies/1.2.840/series/1.2/instances/3/frames/1,2", "studies/1/series/2/instances/3/bulkdata/7FE00010",
     "studies/Anon_1-2.x/bulk/00420011/1", "studies/1/series/2/instances/3/frames/1/rendered", "studies/1/x:y=z~1"],
)  # fmt: skip
def test_addresses_of_dicomweb_are_passed_on(address: str) -> None:
    refuse_way_up(address)


@pytest.mark.parametrize("address", ["", "/studies", "studies/", "studies//1", "studies/é", "studies/١", "studies/1\n"])
def test_other_addresses_are_not(address: str) -> None:
    with pytest.raises(NotFound, match=r"There is nothing at"):
        refuse_way_up(address)


def test_a_question_that_no_server_can_be_asked_is_404(asking: Remote) -> None:
    with pytest.raises(NotFound, match=r"no server can be asked like that"):
        asking.search("studies", [("PatientName", "é" * 40_000)])


# What is fetched.


def parts(*heads: bytes) -> bytes:
    return b"".join(b"--b\r\n" + head + b"\r\n\r\nDICM\r\n" for head in heads) + b"--b--\r\n"


MULTIPART = 'multipart/related; type="application/dicom"; boundary=b'


@pytest.mark.parametrize(
    "head",
    [b'Content-Disposition: form-data; name="x"; filename="../../evil"', b"Content-Location: /etc/passwd",
     b"Content-Type: text/html", b"Content-Encoding: gzip", b"Content-Length: 99999999", b"X: " + b"y" * 100_000],
)  # fmt: skip
def test_no_header_of_a_part_names_a_file(asking: Remote, pacs: HostilePacs, tmp_path: Path, head: bytes) -> None:
    (tmp_path / "in").mkdir()
    pacs.reply = Reply(parts(head), MULTIPART)

    with suppress(StudiesRefused):
        asking.retrieve("studies/1", tmp_path / "in")

    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")} <= {"in", "in/00001.dcm"}


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def set_room(**limits: float) -> None:
        for name, limit in limits.items():
            monkeypatch.setattr(remote_module, name, limit)

    return set_room


def test_a_fetch_without_end_is_given_up(asking: Remote, pacs: HostilePacs, tmp_path: Path, room: Any) -> None:
    room(LARGEST_SERIES_GIB=2**-10)
    pacs.reply = Reply(itertools.chain([b"--b\r\n\r\n"], ever()), MULTIPART)

    with pytest.raises(StudiesRefused, match=r"more than .* GiB or"):
        asking.retrieve("studies/1", tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 4 * 2**20


def test_a_fetch_that_drips_is_given_up(asking: Remote, pacs: HostilePacs, tmp_path: Path, room: Any) -> None:
    room(SERIES_SECONDS=-1.0)
    pacs.reply = Reply(parts(b"X: y"), MULTIPART)

    with pytest.raises(StudiesAway, match=r"was still sending .*studies/1 after -1 s"):
        asking.retrieve("studies/1", tmp_path)


def dripping(begun: threading.Event) -> Iterator[bytes]:
    yield parts(b"X: y")
    for _ in range(200):
        time.sleep(0.05)
        yield b"a"
    begun.set()


@pytest.mark.parametrize("path", ["/studies/1.2", "/studies/1.2/series/3/instances/4/frames/1", "/bulkdata/1"])
def test_pixels_that_drip_end_for_viewers_too(client: TestClient, pacs: HostilePacs, room: Any, path: str) -> None:
    room(SERIES_SECONDS=0.2)
    is_over = threading.Event()
    pacs.reply = Reply(dripping(is_over), MULTIPART)

    # The begin was sent already: the reply ends without its end.
    client.get(f"/dicomweb{path}")
    assert not is_over.is_set()


def test_time_that_a_slow_reader_takes_is_not_the_servers(asking: Remote, pacs: HostilePacs, room: Any) -> None:
    room(SERIES_SECONDS=0.5)
    pacs.reply = Reply([b"a" * 2**20] * 8, MULTIPART)

    with asking.opened("studies/1", "*/*") as reply:
        total = 0
        for number, piece in enumerate(in_time(reply)):
            if number < 4:
                time.sleep(0.25)
            total += len(piece)
    assert total == 2**23


def test_a_fetch_of_endless_instances_is_given_up(asking: Remote, pacs: HostilePacs, tmp_path: Path, room: Any) -> None:
    room(MOST_FILES=10)
    pacs.reply = Reply(parts(*[b"X: y"] * 5000), MULTIPART)

    with pytest.raises(StudiesRefused, match=r"or 10 instances"):
        asking.retrieve("studies/1", tmp_path)


@pytest.mark.parametrize("kind", ["text/html", "multipart/related", "multipart/related; boundary=" + "b" * 300, ""])
def test_what_is_no_dicom_is_not_fetched(asking: Remote, pacs: HostilePacs, tmp_path: Path, kind: str) -> None:
    pacs.reply = Reply(parts(b"X: y"), kind)

    with pytest.raises(StudiesRefused, match=r"instead of DICOM at studies/1"):
        asking.retrieve("studies/1", tmp_path)


def test_a_list_without_end_is_given_up(asking: Remote, pacs: HostilePacs, room: Any) -> None:
    room(MOST_SERIES=100)

    class Always:
        """A new series on each page."""

        def __iter__(self) -> Iterator[bytes]:
            number = len(pacs.asked)
            yield json.dumps([attribute("0020000E", "UI", f"1.{number}.{one}") for one in range(30)]).encode()

    pacs.reply = Reply(Always())

    with pytest.raises(StudiesRefused, match=r"lists more than 100 series"):
        list(asking.every("series"))
    assert len(pacs.asked) == 4


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b"7", b'{"00081198": 7}', b'{"00081198": {"vr": "SQ", "Value": [7]}}']
)
def test_odd_words_about_a_storage_are_passed_over(
    asking: Remote, pacs: HostilePacs, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "a.dcm").write_bytes(b"DICM")
    pacs.reply = Reply(content)
    assert asking.store([tmp_path / "a.dcm"], "1.2") == ""

    pacs.reply = Reply(content, status=409)
    with pytest.raises(StudiesRefused, match=r"does not store it"):
        asking.store([tmp_path / "a.dcm"], "1.2")
