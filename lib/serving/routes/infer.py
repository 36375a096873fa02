"""``/infer``: a draft of an image, or a refined mask."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, File, UploadFile
from fastapi.responses import JSONResponse, Response
from requests_toolbelt import MultipartEncoder
from starlette.background import BackgroundTask

from lib.errors import InvalidRequest
from lib.serving.loop import LabelingLoop
from lib.serving.made_once import deleted_if_it_fails
from lib.serving.requests import read_params, refuse_redirection
from lib.serving.routes.common import BYTES, App, FormBody, ImageId, JsonText, Name, Who, received, sent
from lib.store.images import ImageKind
from lib.volume import suffix_of

router = APIRouter(prefix="/infer", tags=["Infer"])

WAITING = ThreadPoolExecutor(max_workers=256, thread_name_prefix="infer")
"""Threads that wait for drafts; apart from those that answer everything else."""


class Output(StrEnum):
    """What the reply holds."""

    IMAGE = "image"
    JSON = "json"
    ALL = "all"
    DICOM_SEG = "dicom_seg"


class Sent(NamedTuple):
    """What came with a request only for it."""

    session_id: str
    file: UploadFile | None
    label: UploadFile | None


@router.post("/{model}", response_model=None, dependencies=[FormBody])
async def infer(  # noqa: PLR0913 - MONAI Label's own parameters
    model: Name,
    app: App,
    who: Who,
    image: ImageId = "",
    session_id: Name = "",
    params: JsonText = "{}",
    file: Annotated[UploadFile | None, File(description="an image that only comes for this")] = None,
    label: Annotated[UploadFile | None, File(description="a mask to be refined, that only comes for this")] = None,
    output: Output = Output.ALL,
) -> Response:
    """Drafts an image of the data set (the draft is stored), an uploaded file, or a session's image.

    `image` may also be the SeriesInstanceUID under which viewers find the image.

    `NAME_refine` refines the mask `label`, or version `version` (in `params`), or what is there.
    """
    asked = read_params(params)
    refuse_redirection(asked)
    request = {**asked, "model": model, "image": image, "asker": who(asked.get("client_id")).name}
    wait = asyncio.get_running_loop().run_in_executor
    return await wait(WAITING, _answer, app, request, Sent(session_id, file, label), output)


def _answer(app: LabelingLoop, request: dict[str, Any], came: Sent, output: Output) -> Response:
    request["image"] = _image_of(app, request["image"])
    if output is Output.DICOM_SEG:
        _refuse_no_series(app, request["image"], is_stored=not any(came))
    with ExitStack() as uploads:
        image, request["rough"] = (_uploaded(app, file, uploads) for file in (came.file, came.label))
        if came.session_id:
            request["files"] = app.sessions().get(came.session_id, touch=True).files
        elif image is not None:
            request["files"] = (image,)
        # Who shows the current mask anyway (JSON) presses for a draft.
        request["is_beginning"] = output is not Output.JSON and app.begun.take(request["image"], request["asker"])
        result = app.infer(request)
    mask, told = Path(result["file"]), result["params"]
    if output is not Output.JSON and told["stored"]:
        app.record.openings.note(request["image"], request["asker"], told["annotation_version"])
    if output is Output.DICOM_SEG:
        mask.unlink()
        annotation = app.record.annotations.get(request["image"], told["annotation_version"])
        return sent(app.dicom.files.segmentation(annotation), f"{request['image']}.dcm")
    with deleted_if_it_fails(mask):
        return _reply(mask, told, output)


def _image_of(app: LabelingLoop, name: str) -> str:
    """The id of an image; MONAI Label's panel in OHIF names it by the SeriesInstanceUID that files have there, too."""
    if not name or app.record.images.find(name) is not None:
        return name
    listed = app.record.listings.of_series(name)
    return listed[0].listing.image if len(listed) == 1 else name


def _refuse_no_series(app: LabelingLoop, image_id: str, *, is_stored: bool) -> None:
    """A DICOM segmentation refers to a series that the client has too."""
    if not is_stored or not image_id:
        raise InvalidRequest("output=dicom_seg needs the id of a DICOM series; accepted else are image, json and all.")
    if app.library.readable(image_id).kind is not ImageKind.SERIES:
        raise InvalidRequest(
            f"output=dicom_seg needs a DICOM series, {image_id!r} is a file; accepted are image, json and all."
        )


def _uploaded(app: LabelingLoop, file: UploadFile | None, uploads: ExitStack) -> Path | None:
    """A file that came along, as long as ``uploads`` lasts."""
    if file is None:
        return None
    path = received(app, file)
    suffix = suffix_of(file.filename or "")
    if not path.name.endswith(suffix):
        path = path.rename(path.with_name(path.name + suffix))
    uploads.callback(path.unlink, missing_ok=True)
    return path


def _reply(mask: Path, params: dict[str, Any], output: Output) -> Response:
    if output is Output.JSON:
        mask.unlink()
        return JSONResponse(params)
    if output is Output.IMAGE:
        return sent(mask, mask.name, delete=True)
    return _multipart(mask, params)


def _multipart(mask: Path, params: dict[str, Any]) -> Response:
    """``params`` and the mask in one reply, as MONAI Label's client takes them apart.

    The client saves the mask under the name given here, so the name must be unlike that of any other reply.
    """
    content = mask.read_bytes()
    parts = MultipartEncoder(
        fields={
            "params": (None, json.dumps(params), "application/json"),
            "image": (mask.name, content, BYTES),
        }
    )
    return Response(
        parts.to_string(), media_type=parts.content_type, background=BackgroundTask(mask.unlink, missing_ok=True)
    )
