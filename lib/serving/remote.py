"""A DICOMweb server that holds the studies, as its client sees it (PS3.18): searches, retrieves, stores.

Addresses are relative to the server's root, such as ``studies/1.2.3/series/4.5.6``. Every call raises ``StudiesAway``
if the server does not answer, ``NotFound`` if it does not know what is asked for, and ``StudiesRefused`` if it says
anything else than what was asked for.
"""

from __future__ import annotations

import base64
import contextlib
import re
import time
import uuid
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydicom.dataset import Dataset, FileMetaDataset
from python_multipart.exceptions import FormParserError

from lib.errors import NotFound, StudiesAway, StudiesRefused
from lib.serving.dicom_json import count_of, read_dicom_json
from lib.serving.dicomweb import Json, Part, multipart, tag_of, value_of
from lib.serving.parts import PartFiles, boundary_of
from lib.serving.settings import StudiesServer

DICOM_JSON = "application/dicom+json"
AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'

CONNECT_SECONDS, READ_SECONDS = 5.0, 60.0
"""How long a server may take to answer the call, and between two pieces of its reply."""

IDLE_SECONDS = 0.5
"""A connection that was idle for longer is not used again: Orthanc closes those that are idle for a second."""

PAGE = 200
"""Results that are asked for at once."""

MOST_SERIES = 1_000_000
"""A server that lists more gives other ones on each page."""

LARGEST_JSON_MIB, JSON_SECONDS = 128, 300.0
"""Room and time for one reply that is JSON; metadata of 2,000 slices have 20 MiB."""

LARGEST_SERIES_GIB, MOST_FILES, SERIES_SECONDS = 16, 100_000, 1800.0
"""Room for what is fetched at once, its instances, and how long its server may keep us waiting for all of it."""

LONGEST_ERROR = 2**16
"""Bytes of a reply that are read for what it says."""

LONGEST_WORDS = 300
"""Letters of a reply that are repeated."""

STORED_TRIES, STORED_PAUSE_SECONDS = 4, 0.5
"""How often it is asked for an object that it says it has stored."""

AWAY = (502, 503, 504)
"""Statuses of a proxy whose server is away, or of one that is busy."""


LEVELS = ("Study", "Series")


class Login(httpx.Auth):
    """The login in a file, read for each request, so that a new token needs no new start."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Adds the login to a request."""
        try:
            login = self._file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise StudiesRefused(f"The login in {self._file.name} (--conf studies_login) cannot be read.") from error
        # No bearer token has a colon (RFC 6750 section 2.1).
        basic = f"Basic {base64.b64encode(login.encode()).decode()}"
        request.headers["Authorization"] = basic if ":" in login else f"Bearer {login}"
        yield request


@dataclass(frozen=True)
class Results:
    """What a server tells.

    Attributes:
        told: DICOM JSON of each result.
        warning: its header ``Warning``; empty if it has none.
    """

    told: list[Json]
    warning: str = ""


class Remote:
    """The client of one server; for any thread."""

    def __init__(self, server: StudiesServer) -> None:
        self.address = server.address
        self._client = httpx.Client(
            auth=Login(server.login) if server.login is not None else None,
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=IDLE_SECONDS),
            # What is passed on stays as it was sent.
            headers={"Accept-Encoding": "identity"},
        )

    def close(self) -> None:
        """Ends its connections."""
        self._client.close()

    def search(self, address: str, query: Iterable[tuple[str, str]] = ()) -> list[Json]:
        """The results of a search, one page of them if the query has ``limit``."""
        return self.results(address, query).told

    def results(self, address: str, query: Iterable[tuple[str, str]] = ()) -> Results:
        """The same with what the server says beside them."""
        return self._json(address, query)

    def every(self, address: str, more: Sequence[str] = (), **wanted: str) -> Iterator[Json]:
        """All series that a search finds, page by page; with more attributes, where the server can tell them."""
        query = [*wanted.items(), *(("includefield", tag_of(keyword)) for keyword in more)]
        seen: set[tuple[str, ...]] = set()
        while True:
            page = self.search(address, [*query, ("limit", str(PAGE)), ("offset", str(len(seen)))])
            # Series of two studies may have one UID, which is told then.
            new = {tuple(str(value_of(one, f"{level}InstanceUID")) for level in LEVELS): one for one in page}
            new = {uids: one for uids, one in new.items() if uids not in seen}
            # A server that knows no pages gives the same ones again.
            if not new:
                return
            seen |= new.keys()
            if len(seen) > MOST_SERIES:
                raise StudiesRefused(f"The server of the studies lists more than {MOST_SERIES} series, without end.")
            yield from new.values()

    def metadata(self, address: str) -> Results:
        """Everything but the pixels of all instances at an address."""
        return self._json(f"{address}/metadata")

    def _json(self, address: str, query: Iterable[tuple[str, str]] = ()) -> Results:
        with self.opened(address, DICOM_JSON, query) as reply:
            with self._told():
                content = self._whole(reply, address)
            try:
                return Results(read_dicom_json(content), warning_of(reply))
            except ValueError as error:
                raise StudiesRefused(
                    f"The server of the studies, {self.address}, sent no DICOM JSON at {address} ({error}): "
                    f"{_words(content)!r}. Is it the root of a DICOMweb server?"
                ) from error

    def _whole(self, reply: httpx.Response, address: str) -> bytes:
        """A body that has to fit into memory, as long as it came as packed as it is."""
        end, content = time.monotonic() + JSON_SECONDS, bytearray()
        for piece in reply.iter_bytes():
            content += piece
            if len(content) > LARGEST_JSON_MIB * 2**20 or time.monotonic() > end:
                raise StudiesRefused(
                    f"The server of the studies, {self.address}, sent more than {LARGEST_JSON_MIB} MiB at {address}, "
                    f"or for longer than {JSON_SECONDS:g} s."
                )
        return bytes(content)

    def retrieve(self, address: str, folder: Path) -> list[Path]:
        """Writes all instances at an address into a folder, as they are stored there, one file each."""
        with self.opened(address, AS_STORED) as reply:
            content_type = reply.headers.get("content-type", "")
            boundary = boundary_of(content_type)
            if boundary is None:
                raise StudiesRefused(
                    f"The server of the studies sent {content_type[:LONGEST_WORDS]!r} instead of DICOM at {address}."
                )
            try:
                files = PartFiles(boundary, folder)
                with self._told(), contextlib.closing(files):
                    self._write(reply, files, address)
            except FormParserError as error:
                raise StudiesRefused(f"What the server of the studies sent at {address} cannot be read.") from error
        if not files.is_complete:
            raise StudiesRefused(f"The server of the studies sent only a part of {address}. Try again.")
        return files.paths

    def _write(self, reply: httpx.Response, files: PartFiles, address: str) -> None:
        received = 0
        for piece in in_time(reply):
            received += len(piece)
            files.write(piece)
            if received > LARGEST_SERIES_GIB * 2**30 or len(files.paths) > MOST_FILES:
                raise StudiesRefused(
                    f"The server of the studies sent more than {LARGEST_SERIES_GIB} GiB or {MOST_FILES} instances at "
                    f"{address}."
                )

    def store(self, files: Sequence[Path], study_uid: str) -> str:
        """Stores DICOM objects, all of one study; gives the header ``Warning`` of the reply."""
        boundary = uuid.uuid4().hex
        request = self._client.build_request(
            "POST",
            f"{self.address}/studies",
            content=multipart((Part(file, "application/dicom") for file in files), boundary),
            headers={
                "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
                "Accept": DICOM_JSON,
            },
        )
        with self._told():
            reply = self._client.send(request, stream=True)
        try:
            with self._told():
                begin = _begin_of(reply)
            failed = _failed(begin)
            if failed or reply.status_code == 409:
                words = _words(begin) or reply.reason_phrase
                raise StudiesRefused(f"The server of the studies does not store it: {failed or words}.")
            self._refuse_status(reply, begin, f"storing in the study {study_uid}")
            return warning_of(reply)
        finally:
            reply.close()

    def holds(self, study_uid: str, series_uid: str, instance_uid: str) -> bool:
        """Whether an instance is there; one that was stored just now may take a moment."""
        for number in range(STORED_TRIES):
            if number:
                time.sleep(STORED_PAUSE_SECONDS)
            address = f"studies/{study_uid}/series/{series_uid}/instances"
            if self.search(address, [("SOPInstanceUID", instance_uid)]):
                return True
        return False

    @contextlib.contextmanager
    def opened(self, address: str, accept: str, query: Iterable[tuple[str, str]] = ()) -> Iterator[httpx.Response]:
        """The reply to a request, whose body is not read yet."""
        reply = self.open(address, accept, query)
        try:
            yield reply
        finally:
            reply.close()

    def open(self, address: str, accept: str, query: Iterable[tuple[str, str]] = ()) -> httpx.Response:
        """The same for whoever closes it; a question may be asked twice, what is stored is sent once."""
        try:
            request = self._client.build_request(
                "GET", f"{self.address}/{address}", params=list(query), headers={"Accept": accept}
            )
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise NotFound(f"There is nothing at {address[:80]!r}: no server can be asked like that.") from error
        with self._told():
            try:
                reply = self._client.send(request, stream=True)
            except httpx.RemoteProtocolError:
                # The server closed a connection that was idle just as it was used again.
                reply = self._client.send(request, stream=True)
        try:
            if reply.status_code >= 300:
                with self._told():
                    begin = _begin_of(reply)
                self._refuse_status(reply, begin, address)
            # What is JSON is unpacked as it comes; what is written or passed on as it comes must not be packed.
            if accept != DICOM_JSON and reply.headers.get("content-encoding", "identity").lower() != "identity":
                raise StudiesRefused(f"The server of the studies, {self.address}, packs {address} though nobody asked.")
        except BaseException:
            reply.close()
            raise
        return reply

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turns the ways in which a connection fails into a sentence."""
        try:
            yield
        except httpx.DecodingError as error:
            raise StudiesRefused(f"The server of the studies, {self.address}, sent what cannot be unpacked.") from error
        except httpx.TransportError as error:
            raise StudiesAway(
                f"The server of the studies, {self.address}, does not answer ({str(error) or type(error).__name__}). "
                "What was fetched before still works; try again later."
            ) from error

    def _refuse_status(self, reply: httpx.Response, begin: bytes, what: str) -> None:
        status = reply.status_code
        if status < 300:
            return
        if status == 404:
            raise NotFound(f"The server of the studies knows no {what}.")
        if status in (401, 403):
            raise StudiesRefused(
                f"The server of the studies, {self.address}, does not let this server in ({status} at {what}). Name a "
                "file with NAME:PASSWORD or a bearer token by --conf studies_login."
            )
        if status < 400:
            place = reply.headers.get("location", "")[:LONGEST_WORDS]
            raise StudiesRefused(f"The server of the studies has moved to {place!r}. Start with that address.")
        kind, words = StudiesAway if status in AWAY else StudiesRefused, _words(begin) or reply.reason_phrase
        raise kind(f"The server of the studies, {self.address}, answers {status} at {what}: {words}")


def in_time(reply: httpx.Response) -> Iterator[bytes]:
    """A body piece by piece as it comes, which may take long, but not for ever; what is done with a piece counts not.

    Raises:
        StudiesAway: if the server keeps us waiting for too long altogether.
    """
    pieces, waited = reply.iter_raw(), 0.0
    while True:
        asked = time.monotonic()
        piece = next(pieces, None)
        waited += time.monotonic() - asked
        if piece is None:
            return
        if waited > SERIES_SECONDS:
            raise StudiesAway(
                f"The server of the studies was still sending {reply.url.path} after {SERIES_SECONDS:g} s. Try again "
                "when it, or the network, is faster."
            )
        yield piece


def warning_of(reply: httpx.Response) -> str:
    """The header ``Warning`` of a reply, in the signs in which headers are sent; empty if it has none."""
    return b", ".join(text for name, text in reply.headers.raw if name.lower() == b"warning").decode("latin-1")


def _begin_of(reply: httpx.Response) -> bytes:
    """The first bytes of a body, for what they say."""
    begin = b""
    for piece in reply.iter_bytes():
        begin += piece
        if len(begin) >= LONGEST_ERROR:
            break
    return begin[:LONGEST_ERROR]


def _words(content: bytes) -> str:
    """What a server says in an error, in one line."""
    return re.sub(r"\s+", " ", content[:LONGEST_ERROR].decode(errors="replace")).strip()[:LONGEST_WORDS]


def _failed(begin: bytes) -> str:
    """What a reply to a storage says of objects that were not stored (PS3.18 section I.2)."""
    try:
        # Unlike the others it is one dataset.
        (told,) = read_dicom_json(b"[" + begin + b"]")
        items = told.get(tag_of("FailedSOPSequence"), {}).get("Value") or []
        return "; ".join(
            f"{str(value_of(one, 'ReferencedSOPInstanceUID'))[:64]}: FailureReason {count_of(one, 'FailureReason'):04X}"
            for one in items
        )
    # It is no JSON, or another one.
    except ValueError:
        return ""


def dataset_of_json(told: Json) -> Dataset:
    """Metadata as a dataset, without what is told as an address.

    It raises whatever the reader of the attribute does if one is malformed.
    """
    dataset = Dataset.from_json(told, bulk_data_uri_handler=lambda tag, vr, uri: None)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", "")
    return dataset
