"""``/dicomweb``: the studies for viewers (QIDO-RS, WADO-RS) and what they store (STOW-RS); PS3.18."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import Response, StreamingResponse
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from lib.errors import InvalidRequest
from lib.serving.dicomweb import MOST, InstanceHeader, Json, Part, Search, bulk_of, multipart, multipart_length
from lib.serving.gate import address_of, note_refusal
from lib.serving.hosts import is_loopback
from lib.serving.loop import LabelingLoop
from lib.serving.parts import ReceivedParts
from lib.serving.problem import headers_of
from lib.serving.relay import Relay
from lib.serving.routes.common import App, Name, Spent, Version, Who, sent_open
from lib.serving.stow import Origin, Refused, Storing, received_object, told_stored
from lib.serving.studies import Series
from lib.store.annotations import Annotation

PREFIX = "/dicomweb"

DICOM_JSON = "application/dicom+json"
DICOM = "application/dicom"
OCTETS = "application/octet-stream"

JOBS = "Label-Refinery-Jobs"
"""Header with what the body of a reply to a save would tell elsewhere: `refining=ID, training=ID`."""

VERSION = "Label-Refinery-Version"
"""Header with the number of the version that each stored object has become."""

JSON_REPLY: dict[int | str, dict[str, Any]] = {200: {"content": {DICOM_JSON: {}}}}
PARTS_REPLY: dict[int | str, dict[str, Any]] = {200: {"content": {"multipart/related": {}}}}


Answer = Callable[[Request], Coroutine[Any, Any, Response]]
"""What answers a request."""


class Relayed(APIRoute):
    """A route that passes on what the server of the studies has to answer, if there is such a server."""

    def get_route_handler(self) -> Answer:
        """What answers a request."""
        answered_here = self.answered_here()

        async def answer(request: Request) -> Response:
            relay: Relay | None = request.app.state.loop.relay
            if relay is not None and request.method == "GET":
                passed = await run_in_threadpool(_passed, relay, request)
                if passed is not None:
                    return passed
            return await answered_here(request)

        return answer

    def answered_here(self) -> Answer:
        """What answers where no other server does."""
        return super().get_route_handler()


class OfFrames(Relayed):
    """The same for frames, of which viewers ask hundreds: FastAPI takes longer to read an address than we to answer."""

    def answered_here(self) -> Answer:
        """What answers where no other server does."""

        async def answer(request: Request) -> Response:
            return await run_in_threadpool(self.endpoint, **request.path_params, app=request.app.state.loop)

        return answer


router = APIRouter(prefix=PREFIX, tags=["DICOMweb"], route_class=Relayed)


def _told(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(content, allow_nan=False), status, headers, media_type=DICOM_JSON)


def _parts(parts: Sequence[Part], kind: str) -> Response:
    boundary = secrets.token_hex(16)
    media_type = f'multipart/related; type="{kind}"; boundary={boundary}'
    pieces = multipart(parts, boundary)
    if all(isinstance(part.content, bytes) for part in parts):
        # What is in memory already is sent at once: each piece of a stream takes a turn of a thread.
        return Response(b"".join(pieces), media_type=media_type)
    length = {"Content-Length": str(multipart_length(parts, boundary))}
    return StreamingResponse(pieces, headers=length, media_type=media_type)


def _passed(relay: Relay, request: Request) -> Response | None:
    """The answer of the server of the studies; ``None`` if this server answers by itself."""
    uids = request.path_params
    address = request.url.path.partition(PREFIX)[2].strip("/")
    query = request.query_params.multi_items()
    if "study" in uids and relay.is_here(uids["study"], uids.get("series", ""), uids.get("instance", "")):
        return None
    if address.rpartition("/")[2] in ("studies", "series", "instances"):
        found = relay.found(unquote(address), query, _root(request))
        return _told(found.told, headers=_warned(found.warning))
    # Of a study as a whole searches tell more than the server has.
    added = relay.added(uids["study"]) if set(uids) == {"study"} else []
    ours = [(series, relay.dicom.headers(series)) for series in added]
    if address.endswith("/metadata"):
        found = relay.metadata(unquote(address), _root(request))
        return _told(_metadata(request, ours) + found.told, headers=_warned(found.warning))
    parts = _instance_parts(header for _, headers in ours for header in headers)
    passed = relay.passed(unquote(address), request.headers.get("accept", "*/*"), query, parts)
    return StreamingResponse(passed.body, headers={**passed.headers, **_warned(passed.warning)})


def _warned(warning: str) -> dict[str, str]:
    return {"Warning": warning} if warning else {}


def _named(jobs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The jobs that follow on what was stored, each with what it does: PS3.18 leaves no place for them in the body."""
    # Several objects may lead to one training.
    told = ", ".join(dict.fromkeys(f"{what}={job}" for what, job in jobs))
    return {JOBS: told} if told else {}


def _root(request: Request) -> str:
    url = request.base_url
    if url.port is None and is_loopback(url.hostname) and request.scope.get("server"):
        # dicomweb-client leaves the port out of its Host.
        url = url.replace(port=request.scope["server"][1])
    return f"{str(url).rstrip('/')}{PREFIX}"


def _address(request: Request, study: str, series: str = "", instance: str = "") -> str:
    root = f"{_root(request)}/studies/{study}"
    root += f"/series/{series}" if series else ""
    return root + (f"/instances/{instance}" if instance else "")


# The route that is asked most stands first, since routes are tried in this order.


def retrieve_frames(study: Name, series: Name, instance: Name, frames: str, app: App) -> Response:
    """Frames of an instance as they are stored, one a part; their numbers begin with 1: `1,2,5`."""
    numbers = frames.split(",")
    if not all(number.isascii() and number.isdecimal() and len(number) < 10 for number in numbers):
        raise InvalidRequest(f"Frames are numbers with commas between them, such as 1,2,5; found {frames[:40]!r}.")
    # Else a short address could ask for a frame ten thousand times over.
    if len(set(map(int, numbers))) < len(numbers):
        raise InvalidRequest(f"Each frame is asked for once, found {frames[:40]!r}.")
    parts = app.dicom.frames(study, series, instance, map(int, numbers))
    return _parts(parts, parts[0].media_type.partition(";")[0])


router.add_api_route(
    "/studies/{study}/series/{series}/instances/{instance}/frames/{frames}",
    retrieve_frames,
    responses=PARTS_REPLY,
    response_class=Response,
    route_class_override=OfFrames,
)


# QIDO-RS.


def _found(
    request: Request,
    search: Callable[[Search], Iterator[Json]],
    study: str = "",
    series: str = "",
    most: int | None = None,
) -> Response:
    parameters = list(request.query_params.multi_items())
    parameters += [("StudyInstanceUID", study)] if study else []
    parameters += [("SeriesInstanceUID", series)] if series else []
    asked = Search.from_query(parameters)
    limit = asked.limit if most is None else min(most, most if asked.limit is None else asked.limit)
    found = list(islice(search(asked), None if limit is None else limit + 1))
    is_more = limit is not None and len(found) > limit
    headers = {"Warning": f'299 {PREFIX} "There are more results: ask with limit and offset."'} if is_more else None
    return _told(found[:limit], headers=headers)


@router.get("/studies", responses=JSON_REPLY, response_class=Response)
def search_studies(app: App, request: Request) -> Response:
    """Searches for studies, newest first; attributes by keyword or tag, `limit`, `offset`, `includefield`."""
    return _found(request, app.dicom.search_studies, most=MOST)


@router.get("/series", responses=JSON_REPLY, response_class=Response)
def search_series(app: App, request: Request) -> Response:
    """Searches for series in all studies; the current annotation of each image is one."""
    return _found(request, app.dicom.search_series, most=MOST)


@router.get("/instances", responses=JSON_REPLY, response_class=Response)
def search_instances(app: App, request: Request) -> Response:
    """Searches for instances in all studies."""
    return _found(request, app.dicom.search_instances, most=MOST)


@router.get("/studies/{study}/series", responses=JSON_REPLY, response_class=Response)
def search_series_of_study(study: Name, app: App, request: Request) -> Response:
    """Searches for series of a study."""
    return _found(request, app.dicom.search_series, study)


@router.get("/studies/{study}/instances", responses=JSON_REPLY, response_class=Response)
def search_instances_of_study(study: Name, app: App, request: Request) -> Response:
    """Searches for instances of a study."""
    return _found(request, app.dicom.search_instances, study)


@router.get("/studies/{study}/series/{series}/instances", responses=JSON_REPLY, response_class=Response)
def search_instances_of_series(study: Name, series: Name, app: App, request: Request) -> Response:
    """Searches for instances of a series."""
    return _found(request, app.dicom.search_instances, study, series)


# WADO-RS.


def _metadata(request: Request, found: Iterable[tuple[Series, list[InstanceHeader]]]) -> list[Json]:
    told = []
    for series, headers in found:
        address = _address(request, series.study_uid, series.series_uid)
        told += [header.metadata(f"{address}/instances/{header.instance_uid}") for header in headers]
    return told


def _instance_parts(headers: Iterable[InstanceHeader]) -> list[Part]:
    return [Part(one.path, f"{DICOM}; transfer-syntax={one.syntax}") for one in headers]


def _instances(headers: Iterable[InstanceHeader]) -> Response:
    return _parts(_instance_parts(headers), DICOM)


@router.get("/studies/{study}/metadata", responses=JSON_REPLY, response_class=Response)
def study_metadata(study: Name, app: App, request: Request) -> Response:
    """Everything but the pixels of all instances of a study."""
    return _told(_metadata(request, ((series, app.dicom.headers(series)) for series in app.dicom.series_of(study))))


@router.get("/studies/{study}/series/{series}/metadata", responses=JSON_REPLY, response_class=Response)
def series_metadata(study: Name, series: Name, app: App, request: Request) -> Response:
    """Everything but the pixels of all instances of a series."""
    found = app.dicom.series(study, series)
    return _told(_metadata(request, [(found, app.dicom.headers(found))]))


@router.get("/studies/{study}/series/{series}/instances/{instance}/metadata", responses=JSON_REPLY,
            response_class=Response)  # fmt: skip
def instance_metadata(study: Name, series: Name, instance: Name, app: App, request: Request) -> Response:
    """Everything but the pixels of an instance."""
    header = app.dicom.instance(study, series, instance)
    return _told([header.metadata(_address(request, study, series, header.instance_uid))])


def _note_given(app: LabelingLoop, annotation: Annotation | None, who: Who) -> None:
    """Notes that somebody has a mask now: what is stored without a word about it was made from that one."""
    if annotation is not None:
        app.record.openings.note(annotation.image, who(None).name, annotation.version)


@router.get("/studies/{study}", responses=PARTS_REPLY, response_class=Response)
def retrieve_study(study: Name, app: App) -> Response:
    """All instances of a study as they are stored."""
    headers = [header for series in app.dicom.series_of(study) for header in app.dicom.headers(series)]
    return _instances(headers)


@router.get("/studies/{study}/series/{series}", responses=PARTS_REPLY, response_class=Response)
def retrieve_series(study: Name, series: Name, app: App, who: Who) -> Response:
    """All instances of a series as they are stored."""
    found = app.dicom.series(study, series)
    _note_given(app, found.annotation, who)
    return _instances(app.dicom.headers(found))


@router.get("/studies/{study}/series/{series}/instances/{instance}", responses=PARTS_REPLY, response_class=Response)
def retrieve_instance(study: Name, series: Name, instance: Name, app: App, who: Who, request: Request) -> Response:
    """An instance as it is stored, in one part; `Accept: application/dicom` gives the file itself."""
    header = app.dicom.instance(study, series, instance)
    if not app.record.listings.of_series(series):
        _note_given(app, app.dicom.series(study, series).annotation, who)
    if request.headers.get("accept", "").startswith(DICOM):
        return sent_open(header.path, media_type=DICOM)
    return _instances([header])


@router.get("/studies/{study}/series/{series}/instances/{instance}/bulkdata/{tag}", responses=PARTS_REPLY,
            response_class=Response)  # fmt: skip
def retrieve_bulkdata(study: Name, series: Name, instance: Name, tag: Name, app: App) -> Response:
    """A long binary attribute that metadata name by its address."""
    parts = bulk_of(app.dicom.instance(study, series, instance), tag)
    return _parts(parts, parts[0].media_type.partition(";")[0])


@router.get("/studies/{study}/series/{series}/instances/{instance}/{more}", include_in_schema=False)
@router.get("/studies/{study}/series/{series}/instances/{instance}/{more}/{deeper:path}", include_in_schema=False)
def retrieve_more() -> Response:
    """Other renderings and attributes, which only a server of the studies may have."""
    raise HTTPException(404)


# STOW-RS.

PARTS: dict[str, Any] = {"multipart/related": {"schema": {"type": "string", "format": "binary"}}}
STOW: dict[str, Any] = {"requestBody": {"required": True, "content": PARTS}}


def _origin_of(parent: Version | None = None, anyway: bool = False, seconds: Spent | None = None) -> Origin:
    return Origin(parent, anyway, seconds)


Told = Annotated[Origin, Depends(_origin_of)]
"""What the query says of how the objects came about."""


@router.post("/studies", responses=JSON_REPLY, response_class=Response, openapi_extra=STOW)
async def store(app: App, who: Who, request: Request, told: Told) -> Response:
    """Submits segmentations as corrections of the images that they refer to; `client_id` names the author.

    If somebody has saved after the version `parent`, from which they were made, they are refused (409), unless
    `anyway` is true. The header `Label-Refinery-Version` of the reply names what they have become.
    """
    return await _received(app, who, request, "", told)


@router.post("/studies/{study}", responses=JSON_REPLY, response_class=Response, openapi_extra=STOW)
async def store_in_study(study: Name, app: App, who: Who, request: Request, told: Told) -> Response:
    """The same for segmentations of one study."""
    return await _received(app, who, request, study, told)


async def _received(app: LabelingLoop, who: Who, request: Request, study: str, origin: Origin) -> Response:
    with ReceivedParts(request.headers.get("content-type", ""), app.temporary) as parts:
        async for piece in request.stream():
            # The disk may be slow: not in the event loop.
            await run_in_threadpool(parts.write, piece)
        return await run_in_threadpool(_stored, app, who, request, parts.files(), study, origin)


def _stored(
    app: LabelingLoop, who: Who, request: Request, files: Sequence[Path], study: str, origin: Origin
) -> Response:
    objects = [received_object(path) for path in files]
    annotator = who(request.query_params.get("client_id"))
    storing = Storing(app.dicom, app.relay.remote if app.relay else None)
    try:
        stored = storing.store(objects, study, annotator, origin)
    except Refused as refused:
        note_refusal(request.method, request.url.path, refused.error, address_of(request.scope))
        return _told(refused.told, refused.status, headers_of(refused.error))
    request.state.images = [each.annotation.image for each in stored if each.annotation is not None]
    versions = [str(each.annotation.version) for each in stored if each.annotation is not None]
    jobs = [
        job
        for each in stored
        if each.annotation is not None and each.is_new
        for job in app.saved(each.annotation).items()
    ]
    told = told_stored(
        stored, lambda each: _address(request, each.study_uid, each.series_uid, each.received.instance_uid)
    )
    named = {VERSION: ", ".join(versions)} if versions else {}
    return _told(told, headers=_warned(storing.warning) | _named(jobs) | named)
