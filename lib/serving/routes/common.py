"""What the routes share: the app, the person who asks, and files that come and go."""

from __future__ import annotations

import shutil
import string
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le, MaxLen
from anyio import CancelScope
from fastapi import Body, Depends, File, Form, Request, Response, UploadFile
from fastapi.responses import FileResponse
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from lib.errors import InvalidRequest, NotFound, TooLarge, UnreadableImage
from lib.opened import opened
from lib.serving.annotator import Annotator, annotator_of
from lib.serving.loop import LabelingLoop
from lib.serving.requests import LONGEST_TAG, read_json
from lib.serving.saving import Saved
from lib.store.files import full_disk_told, made_anew
from lib.store.listings import Listing
from lib.store.schema import LONGEST_NAME

COPY_BYTES = 1 << 20

ImageId = Annotated[str, MaxLen(8192)]
"""Id of an image, or of its label; ids are as long as paths, which end at 4096 bytes."""

Name = Annotated[str, MaxLen(LONGEST_NAME)]
"""Of a person, a model, a strategy, a job, a format, a study, …"""

TagText = Annotated[str, MaxLen(LONGEST_TAG)]
"""What a client calls a version."""

Version = Annotated[int, Ge(0), Le(2**31 - 1)]
"""Of an annotation or a model; PostgreSQL has no larger one."""

Offset = Annotated[int, Ge(0), Le(2**31)]
"""How many are left out; there cannot be more cases."""

Count = Annotated[int, Ge(0), Le(2**31 - 1)]
"""Of things, or of seconds."""

Spent = Annotated[float, Ge(0), Le(1e9)]
"""Seconds that a person spent."""

PLAIN = frozenset(string.ascii_letters + string.digits + "._-")
"""Letters of a client's file name that are kept."""

ASKED_AGAIN = {"Cache-Control": "no-cache"}
"""For files: others may stand at the same address at any time, and browsers keep what is silent about that."""

BYTES = "application/octet-stream"
"""Media type of files that are sent, as MONAI Label's clients know it."""


# No threads are needed for these: a thread's turn takes longer than they do.
async def _app_of(request: Request) -> Any:
    return request.app.state.loop


App = Annotated[LabelingLoop, Depends(_app_of)]
"""The running app."""


async def _who_of(request: Request) -> Callable[[Any], Annotator]:
    """The person whom the gate let in, or at an open server whom the client names."""
    signed_in: Annotator | None = request.state.person
    role = request.app.state.loop.settings.role

    def who(client_id: Any) -> Annotator:
        if signed_in is None:
            request.state.person = annotator_of(client_id, role, request.headers.get("user-agent", ""))
        return request.state.person

    return who


Who = Annotated[Callable[[Any], Annotator], Depends(_who_of)]
"""Tells who asks, given the ``client_id`` of the request."""


JsonText = Annotated[str, Form(description="JSON object; the keys stand in docs/clients.md")]
"""A form field with everything that MONAI Label's clients say beside a file."""


class _BoundedJson(Request):
    """A request whose JSON is read as that of form fields is."""

    async def json(self) -> Any:
        """The body.

        Raises:
            InvalidRequest: if it is no JSON, or more of it than is taken.
        """
        return read_json(await self.body(), "The body")


class JsonRoute(APIRoute):
    """A route with a JSON body, all of which is within the bounds of ``read_json``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request."""
        answer = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            return await answer(_BoundedJson(request.scope, request.receive))

        return bounded


JsonObject = Annotated[dict[str, Any] | None, Body()]
"""A JSON body; only for routes of the class ``JsonRoute``."""

OneFile = Annotated[UploadFile, File(description="one file")]


def _refuse_json(request: Request) -> None:
    """Refuses what would otherwise be read as a form without fields."""
    if request.headers.get("content-type", "").lower().startswith("application/json"):
        raise InvalidRequest(
            "This request takes no JSON body: send a form (multipart/form-data) whose field params, or info, holds "
            "the JSON text. All else stands in the query, as ?image=ID."
        )


FormBody = Depends(_refuse_json)
"""For routes whose body is a form, all of whose fields may be missing."""


def received(app: LabelingLoop, upload: UploadFile) -> Path:
    """Copies an upload to a file below the data folder; its name ends like the client's.

    Raises:
        TooLarge: if it is larger than the settings allow.
        StorageFull: if there is no room.
    """
    limit = app.settings.max_upload_mib * 1024 * 1024
    if upload.size is not None and upload.size > limit:
        raise TooLarge(f"{upload.filename} has {upload.size} bytes; at most {app.settings.max_upload_mib} MiB.")
    # The client's name is text: of its end, what cannot lead elsewhere.
    kept = "".join(letter for letter in (upload.filename or "")[-60:] if letter in PLAIN)
    handle, name = tempfile.mkstemp(prefix="received-", suffix=f"-{kept}", dir=made_anew(app.temporary))
    try:
        with full_disk_told(app.temporary), open(handle, "wb") as file:
            shutil.copyfileobj(upload.file, file, COPY_BYTES)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def told_saved(app: LabelingLoop, saved: Saved) -> dict[str, Any]:
    """What a client is told of what it has just saved, with the jobs that follow on it; none on what was there."""
    annotation = saved.annotation
    return {
        **(app.saved(annotation) if saved.is_new else {}),
        "image": annotation.image,
        "label": annotation.image,
        "tag": annotation.tag,
        "split": app.record.images.get(annotation.image).split,
        "version": annotation.version,
        "stage": annotation.stage,
        "author": annotation.author,
        "parent": annotation.parent,
        "new": saved.is_new,
        "note": saved.note,
    }


def viewable(app: LabelingLoop, image_id: str) -> Listing:
    """How viewers find an image.

    Raises:
        UnknownImage: if there is none with this id.
        UnreadableImage: if it is none, or quarantined; with the reason.
        NotFound: if viewers cannot show it.
    """
    app.library.readable(image_id)
    app.dicom.list_new()
    listing = app.record.listings.of_image(image_id)
    if listing is None:
        raise NotFound(f"Viewers cannot show image {image_id!r}; the server's log says why.")
    return listing


def sent(path: Path, name: str, *, media_type: str = BYTES, delete: bool = False) -> FileResponse:
    """Streams a file under a name for the client; a temporary one is deleted afterwards."""
    kind = _SentOnce if delete else FileResponse
    return kind(path, headers=ASKED_AGAIN, media_type=media_type, filename=name)


def sent_open(path: Path, name: str | None = None, *, media_type: str = BYTES) -> FileResponse:
    """Streams a file that others may exchange meanwhile: it is opened now, within its folder, and sent as it is open.

    Raises:
        UnreadableImage: if it lies outside of its folder, behind a link, or cannot be opened.
    """
    return _SentOpen(path, name, media_type)


class _SentOpen(FileResponse):
    """Sends what is open, whatever lies at its path, and closes it."""

    def __init__(self, path: Path, name: str | None, media_type: str) -> None:
        self._files = ExitStack()
        try:
            source = self._files.enter_context(opened(path))
        except OSError as error:
            raise UnreadableImage(f"{path.name} cannot be opened: {error.strerror}.") from error
        open_file = f"/proc/self/fd/{source.file.fileno()}"
        super().__init__(open_file, headers=ASKED_AGAIN, media_type=media_type, filename=name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._files:
            await super().__call__(scope, receive, send)


class _SentOnce(FileResponse):
    """Deletes its file whatever becomes of the reply: sent, refused for a range that is none, or left by its client."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the file."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with CancelScope(shield=True):
                await run_in_threadpool(Path(self.path).unlink, missing_ok=True)
