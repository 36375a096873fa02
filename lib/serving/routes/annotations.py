"""``/annotations``: the masks that are there, in the formats of other programs, and what experts say about them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse

from lib.errors import InvalidRequest
from lib.serving.accepting import accept
from lib.serving.formats import annotation_file
from lib.serving.requests import Submission, read_params, refuse_mask_params
from lib.serving.routes.common import App, FormBody, ImageId, JsonText, Name, TagText, Version, Who, sent, told_saved
from lib.store.annotations import TAG_FINAL

router = APIRouter(prefix="/annotations", tags=["Datastore"])


@router.post("/accept", dependencies=[FormBody])
def accept_annotation(
    app: App, who: Who, image: ImageId, version: Version | None = None, params: JsonText = "{}"
) -> dict[str, Any]:
    """Makes the current annotation, or the version named, an expert's as it is; nothing if it is that already."""
    told = read_params(params)
    refuse_mask_params(told)
    submission = Submission.from_monailabel(image, TAG_FINAL, told, app.record.task)
    annotation, is_new = accept(app.record, submission, version, who(submission.client_id))
    return {**told_saved(app, annotation), "new": is_new}


@router.get("/latest")
def latest(
    app: App, image: ImageId, format: Name = "nifti", version: Version | None = None, tag: TagText = ""
) -> FileResponse:
    """The current annotation of an image, a `version` or that of a `tag`, as `nifti`, `nrrd`, `seg` or `rtstruct`."""
    if version is not None and tag:
        raise InvalidRequest(f"Ask for a version or for a tag, found version={version} and tag={tag[:40]!r}.")
    app.record.images.get(image)
    annotations = app.record.annotations
    annotation = annotations.tagged(image, tag) if version is None else annotations.get(image, version)
    file = annotation_file(app.dicom, annotation, format)
    return sent(file.path, file.name, media_type=file.media_type, delete=file.is_temporary)
