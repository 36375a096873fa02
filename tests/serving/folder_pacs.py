"""A folder of DICOM files as a DICOMweb server tells of it: a PACS that believes whatever a file says of itself."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pydicom
from pydicom.dataset import Dataset

OF_SERIES = ("StudyInstanceUID", "SeriesInstanceUID", "Modality", "PatientID", "SeriesNumber")


@dataclass
class FolderPacs:
    """The server.

    Attributes:
        address: its root.
        folder: what it holds; files may come and go.
    """

    address: str
    folder: Path

    def files(self) -> list[tuple[Path, Dataset]]:
        """All files with their headers."""
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return [(path, pydicom.dcmread(path, stop_before_pixels=True)) for path in paths]

    def series(self, **wanted: str) -> list[dict[str, Any]]:
        """DICOM JSON of the series that have these attributes."""
        found: dict[tuple[str, str], list[Dataset]] = {}
        for _, header in self.files():
            if all(str(header.get(keyword)) == text for keyword, text in wanted.items()):
                found.setdefault((header.StudyInstanceUID, header.SeriesInstanceUID), []).append(header)
        return [_told(headers[0], OF_SERIES, len(headers)) for headers in found.values()]

    def instances(self, study: str, series: str, **wanted: str) -> list[tuple[Path, Dataset]]:
        """The files of a series that have these attributes."""
        wanted |= {"StudyInstanceUID": study, "SeriesInstanceUID": series}
        return [
            (path, header)
            for path, header in self.files()
            if all(str(header.get(keyword)) == text for keyword, text in wanted.items())
        ]

    def reply(self, address: str) -> tuple[str, bytes]:
        """Content type and body of what is asked for."""
        parts = urlsplit(address)
        query = {name: texts[0] for name, texts in parse_qs(parts.query).items()}
        offset = int(query.pop("offset", 0))
        query = {name: text for name, text in query.items() if name not in ("limit", "includefield")}
        match parts.path.strip("/").split("/")[1:]:
            case ["series"]:
                return _json(self.series(**query)[offset:])
            case ["studies", study, "series"]:
                return _json(self.series(StudyInstanceUID=study, **query))
            case ["studies", study, "series", series, "instances"]:
                found = self.instances(study, series, **query)
                return _json([_told(one, ("SOPInstanceUID", "SOPClassUID")) for _, one in found])
            case ["studies", study, "series", series, "metadata"]:
                return _json([one.to_json_dict() for _, one in self.instances(study, series)])
            case ["studies", study, "series", series]:
                return _multipart([path.read_bytes() for path, _ in self.instances(study, series)])
        raise AssertionError(f"Nobody should ask for {address}.")

    def store(self, kind: str, body: bytes) -> None:
        """Keeps the objects of a request."""
        message = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
        for number, part in enumerate(message.get_payload()):  # type: ignore[arg-type]
            (self.folder / "stored").mkdir(exist_ok=True)
            (self.folder / "stored" / f"{number}.dcm").write_bytes(part.get_payload(decode=True))  # type: ignore[union-attr]


def _told(header: Dataset, keywords: tuple[str, ...], instances: int | None = None) -> dict[str, Any]:
    told = Dataset()
    for keyword in keywords:
        if keyword in header:
            told[keyword] = header[keyword]
    if instances is not None:
        told.NumberOfSeriesRelatedInstances = instances
    return told.to_json_dict()


def _json(told: list[dict[str, Any]]) -> tuple[str, bytes]:
    return "application/dicom+json", json.dumps(told).encode()


def _multipart(contents: list[bytes]) -> tuple[str, bytes]:
    parts = [b"--xx\r\nContent-Type: application/dicom\r\n\r\n" + one + b"\r\n" for one in contents]
    return 'multipart/related; type="application/dicom"; boundary="xx"', b"".join(parts) + b"--xx--\r\n"


@contextmanager
def folder_pacs(folder: Path) -> Iterator[FolderPacs]:
    """A server that runs as long as the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(*pacs.reply(self.path))

        def do_POST(self) -> None:
            pacs.store(self.headers["Content-Type"], self._chunks())
            self._send(*_json([]))

        def _chunks(self) -> bytes:
            body = b""
            while length := int(self.rfile.readline(), 16):
                body += self.rfile.read(length)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def _send(self, kind: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    folder.mkdir(parents=True, exist_ok=True)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        pacs = FolderPacs(f"http://127.0.0.1:{server.server_port}/pacs", folder)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield pacs
        finally:
            server.shutdown()
