"""Half a gigabyte comes in: it passes through in pieces, and everybody else is answered meanwhile."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import nibabel as nib
import numpy as np
import pytest

from lib.serving.gate import FORM_BYTES
from lib.store import layout
from tests.serving.places import Server, listing, put_images, server

LIMIT_MIB = 512
PIECE = bytes(1 << 20)
GROWTH_MIB = 64
"""Room for buffers; the file is eight times as large."""

END = b"\r\n--end--\r\n"

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that takes files of up to 512 MiB."""
    folder = tmp_path_factory.mktemp("limited")
    put_images(folder / "studies", 1)
    with server(folder / "studies", folder / "data", {"max_upload_mib": str(LIMIT_MIB)}) as process:
        yield process


@dataclass
class Watch:
    """What was seen of a server while something else went on."""

    growth_mib: float = 0.0
    answers: int = 0


@contextmanager
def watching(process: Server) -> Iterator[Watch]:
    """A block during which somebody asks for ``/info/`` again and again and looks at the server's memory (Linux)."""
    watch, done, before = Watch(), threading.Event(), rss_mib(process.pid)

    def look() -> None:
        while not done.is_set():
            process.get("/info/")
            watch.answers += 1
            watch.growth_mib = max(watch.growth_mib, rss_mib(process.pid) - before)

    process.get("/info/")
    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield watch
    finally:
        done.set()
        thread.join()


def rss_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


@contextmanager
def sending(process: Server, path: str, field: str, **query: str) -> Iterator[http.client.HTTPConnection]:
    """An open request whose form begins with a file; the block sends its bytes."""
    head = f'--end\r\ncontent-disposition: form-data; name="{field}"; filename="large.nii"\r\n\r\n'.encode()
    connection = http.client.HTTPConnection("127.0.0.1", process.client.base_url.port, timeout=120)
    connection.putrequest("PUT", f"{path}?{urlencode(query)}")
    connection.putheader("Content-Type", "multipart/form-data; boundary=end")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    send(connection, head)
    yield connection
    connection.close()


def send(connection: http.client.HTTPConnection, content: bytes) -> None:
    connection.send(b"%x\r\n" % len(content) + content + b"\r\n")


def test_an_image_of_half_a_gigabyte_is_taken_in_piece_by_piece(limited: Server) -> None:
    # Of few large voxels, which fit into the share of a small machine.
    header = nib.Nifti1Image(np.zeros((1, 1, 1), np.float64), np.eye(4)).header
    header.set_data_shape((1024, 128, LIMIT_MIB - 1))
    with watching(limited) as watch, sending(limited, "/datastore/image", "file", image="large") as connection:
        send(connection, header.binaryblock + bytes(4))
        for _ in range(LIMIT_MIB - 1):
            send(connection, PIECE)
        send(connection, END)
        send(connection, b"")
        reply = connection.getresponse()
        assert reply.status == 200, reply.read()

    assert limited.get("/datastore/image/info", image="large")["shape"] == [1024, 128, LIMIT_MIB - 1]
    assert watch.answers >= 10
    assert watch.growth_mib < GROWTH_MIB
    (limited.data / layout.UPLOADS / "large.nii").unlink()


def test_a_label_beyond_the_limit_is_refused_and_nothing_of_it_stays(limited: Server) -> None:
    with watching(limited) as watch, sending(limited, "/datastore/label", "label", image="case_00") as connection:
        for _ in range(LIMIT_MIB + FORM_BYTES // len(PIECE)):
            send(connection, PIECE)
        reply = connection.getresponse()
        assert reply.status == 413
        assert b"max_upload_mib" in reply.read()

    assert watch.answers >= 10
    assert watch.growth_mib < GROWTH_MIB
    assert limited.get("/datastore/label/history", image="case_00") == []
    assert listing(limited.data / layout.TEMPORARY) == {}


def test_who_sends_headers_without_end_is_cut_off(limited: Server) -> None:
    with (
        watching(limited) as watch,
        socket.create_connection(("127.0.0.1", limited.client.base_url.port), 60) as stranger,
        pytest.raises(ConnectionError, match=r"reset|Broken pipe"),
    ):
        stranger.sendall(b"GET /info/ HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Endless: ")
        for _ in range(LIMIT_MIB):
            stranger.sendall(PIECE)

    assert watch.growth_mib < GROWTH_MIB
