"""What viewers see where the studies are at a DICOMweb server: what that has, and beside it what only this server has.

Only here are the drafts and annotations that nobody stored as a segmentation, and the images that clients uploaded;
they are never sent to the server. Searches, and what is asked of a study as a whole, tell both, ours first. All else is
passed on, unless it was fetched before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any
from urllib.parse import quote

import httpx
from sqlalchemy import ColumnElement, or_

from lib.errors import NotFound
from lib.serving.dicom_json import count_of, texts_of
from lib.serving.dicomweb import MOST, Json, Part, Search, attribute, multipart_begin, tag_of, value_of
from lib.serving.fetched import Fetched
from lib.serving.library import Library
from lib.serving.parts import boundary_of, holds_instances
from lib.serving.passed_on import OCTETS, headers_of_passed
from lib.serving.remote import Results, in_time, warning_of
from lib.serving.studies import SEG, Series, Studies
from lib.store import schema
from lib.store.images import ImageKind
from lib.store.listings import Listed
from lib.store.record import Record

RETRIEVE_URL = tag_of("RetrieveURL")

PART = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.,:=~+$@!-]*")
"""A part of an address that is passed on."""

LONGEST_ADDRESS = 2048

RELATIVE = re.compile(r"[\w.][\w./?=&%~,-]*", re.ASCII)
"""An address that names neither scheme nor host."""

STUDIES = "/studies/"
"""Begin, below a server's root, of all addresses that replies name."""


class OwnStudies(Studies):
    """What only this server has; images that clients uploaded are the only ones that are files of their own."""

    def __init__(self, record: Record, library: Library) -> None:
        super().__init__(record, library)
        self._only_images = schema.image.c.kind == ImageKind.FILE

    def search_studies(self, search: Search) -> Iterator[Json]:
        """The studies of uploaded images."""
        return self._told_studies(search, self._only_images)

    def _narrowed(self, search: Search, skipped: int = 0, *conditions: ColumnElement[bool]) -> Iterator[list[Listed]]:
        is_ours = or_(self._only_images, schema.image.c.current.is_not(None))
        return super()._narrowed(search, skipped, *(conditions or (is_ours,)))

    def _shown_series(self, images: list[Listed]) -> Iterator[Series]:
        for series in super()._shown_series(images):
            is_upload = self.is_upload(series.images[0].image)
            if is_upload or (series.annotation is not None and series.stored is None):
                yield series

    def is_upload(self, image_id: str) -> bool:
        """Whether a client uploaded an image."""
        image = self.record.images.find(image_id)
        return image is not None and image.kind is ImageKind.FILE


@dataclass(frozen=True)
class Passed:
    """A reply that is passed on as it comes.

    Attributes:
        headers: those that say what it is, and keep it from being taken for a page.
        body: its pieces; reading them to the end, or closing, ends the request.
        warning: its header ``Warning``; empty if it has none.
    """

    headers: dict[str, str]
    body: Iterator[bytes]
    warning: str


class Relay:
    """Answers requests of viewers by the server of the studies."""

    def __init__(self, dicom: Studies, fetched: Fetched) -> None:
        self.dicom = dicom
        self.own = OwnStudies(dicom.record, dicom.library)
        self.remote = fetched.remote
        self.fetched = fetched

    def is_here(self, study_uid: str, series_uid: str, instance_uid: str) -> bool:
        """Whether this server answers by itself: for its own masks and images, and for what was fetched.

        Args:
            study_uid: StudyInstanceUID.
            series_uid: SeriesInstanceUID; empty: all of the study.
            instance_uid: SOPInstanceUID; empty: all of the series.
        """
        record = self.dicom.record
        if not series_uid:
            images = record.listings.of_study(study_uid)
            return bool(images) and all(self.own.is_upload(one.listing.image) for one in images)
        listings = [one.listing for one in record.listings.of_series(series_uid)]
        if not listings:
            return any(self.dicom.mask(one.listing, series_uid) for one in record.listings.of_study(study_uid))
        if instance_uid:
            listings = [one for one in listings if one.instance_uid in ("", instance_uid)]
        paths = [self.dicom.library.remote_path(one.image) for one in listings]
        if not instance_uid and listings[0].instance_uid and paths != [None]:
            # Of a series of radiographs some may be no images here, so that only the server knows all of them.
            return False
        return bool(paths) and all(path is None or self.fetched.has(path) for path in paths)

    # Searching.

    def found(self, address: str, query: Iterable[tuple[str, str]], root: str) -> Results:
        """The results of a search, ours first.

        Args:
            address: below the root, such as ``studies/1.2.3/series``.
            query: names and texts of the address, as the client sent them.
            root: our address, to which replies refer.
        """
        refuse_way_up(address)
        query = list(query)
        *above, level = address.split("/")
        uids = dict(zip(("StudyInstanceUID", "SeriesInstanceUID"), above[1::2], strict=False))
        asked = Search.from_query([*query, *uids.items()])
        limit = asked.limit if above else min(MOST, MOST if asked.limit is None else asked.limit)
        search = {"studies": self.own.search_studies, "series": self.own.search_series,
                  "instances": self.own.search_instances}[level]  # fmt: skip
        everything = search(replace(asked, limit=None, offset=0))
        first = list(islice(everything, None if limit is None else asked.offset + limit))
        ours = first[asked.offset :]
        if limit is not None and len(ours) >= limit:
            return Results(ours)
        passed = [(name, text) for name, text in query if name not in ("limit", "offset", "client_id")]
        if limit is not None:
            passed.append(("limit", str(limit - len(ours))))
        if skipped := max(0, asked.offset - len(first)):
            passed.append(("offset", str(skipped)))
        results = self.remote.results(quote(address), passed)
        theirs = [self._with_ours(study) for study in results.told] if level == "studies" else results.told
        return Results(ours + [_with_own_addresses(one, root) for one in theirs], results.warning)

    def _with_ours(self, study: Json) -> Json:
        """A study of the server with the number and kind of the masks that are here."""
        masks = len(self.added(str(value_of(study, "StudyInstanceUID"))))
        if not masks:
            return study
        told = dict(study)
        kinds = texts_of(study, tag_of("ModalitiesInStudy"))
        told |= attribute("ModalitiesInStudy", *sorted({*kinds, SEG}))
        for keyword in ("NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances"):
            if count := count_of(study, keyword):
                told |= attribute(keyword, count + masks)
        return told

    # Retrieving.

    def added(self, study_uid: str) -> list[Series]:
        """The series that searches tell of a study beside those of the server."""
        return list(self.own._shown_series(self.dicom.record.listings.of_study(study_uid)))

    def metadata(self, address: str, root: str) -> Results:
        """Metadata that the server has, with our addresses for what is too long."""
        refuse_way_up(address)
        results = self.remote.metadata(quote(address.removesuffix("/metadata")))
        return replace(results, told=[_with_own_addresses(one, root) for one in results.told])

    def passed(self, address: str, accept: str, query: Iterable[tuple[str, str]], ours: Sequence[Part] = ()) -> Passed:
        """The server's reply, as it comes; instances of ours stand before its own."""
        refuse_way_up(address)
        reply = self.remote.open(quote(address, safe="/,"), accept, query)
        media_type = reply.headers.get("content-type", OCTETS)
        return Passed(headers_of_passed(media_type), _pieces(reply, media_type, ours), warning_of(reply))


def _pieces(reply: httpx.Response, media_type: str, ours: Sequence[Part]) -> Iterator[bytes]:
    try:
        pieces = in_time(reply)
        boundary = boundary_of(media_type)
        if ours and boundary and holds_instances(media_type):
            yield from multipart_begin(ours, boundary.decode("latin-1"))
            pieces = _from_first_part(pieces, b"--" + boundary)
        yield from pieces
    finally:
        reply.close()


def _from_first_part(pieces: Iterator[bytes], begin: bytes) -> Iterator[bytes]:
    """A body of several parts without what stands before them (RFC 2046 section 5.1.1)."""
    head = b""
    for piece in pieces:
        head += piece
        if (at := head.find(begin)) >= 0:
            yield head[at:]
            break
        head = head[-len(begin) :]
    yield from pieces


def refuse_way_up(address: str) -> None:
    """Refuses an address that leads out of the server's root.

    Servers differ in what leads up: for some it is also dots before a semicolon or a backslash, escaped or not. So only
    what UIDs, names and numbers are made of is passed on.

    Raises:
        NotFound: if a part of it is empty, begins with a dot, or has other signs; or if it is too long.
    """
    if len(address) > LONGEST_ADDRESS or not all(PART.fullmatch(part) for part in address.split("/")):
        raise NotFound(f"There is nothing at {address[:80]!r}.")


def _with_own_addresses(told: Any, root: str) -> Any:
    """DICOM JSON whose addresses lead to this server."""
    if isinstance(told, list):
        return [_with_own_addresses(entry, root) for entry in told]
    if not isinstance(told, dict):
        return told
    changed = {key: _with_own_addresses(entry, root) for key, entry in told.items()}
    # A viewer sends its token to whatever address it finds: one that leads elsewhere is left out.
    address = changed.pop("BulkDataURI", "")
    if isinstance(address, str) and (own := _own_address(address, root)):
        changed["BulkDataURI"] = own
    if RETRIEVE_URL in changed:
        addresses = (_own_address(one, root) for one in texts_of(changed, RETRIEVE_URL))
        changed[RETRIEVE_URL] = attribute("RetrieveURL", *filter(None, addresses))[RETRIEVE_URL]
    return changed


def _own_address(address: str, root: str) -> str:
    """The address here of something below the server's root; empty if it is something else.

    One that begins nowhere leads to this server already, wherever it stands.
    """
    if RELATIVE.fullmatch(address):
        return address
    _, found, below = address.partition(STUDIES)
    return f"{root}{STUDIES}{below}" if found else ""
