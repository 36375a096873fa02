"""``/annotations``: the masks that are there, in the formats of other programs, and what experts say about them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse

from lib.errors import InvalidRequest
from lib.serving.accepting import accept, restore
from lib.serving.formats import annotation_file
from lib.serving.loop import LabelingLoop
from lib.serving.requests import Submission, read_params, refuse_mask_params
from lib.serving.routes.common import App, FormBody, ImageId, JsonText, Name, TagText, Version, Who, sent, told_saved
from lib.store.annotations import TAG_FINAL

router = APIRouter(prefix="/annotations", tags=["Datastore"])


@router.post("/accept", dependencies=[FormBody])
def accept_annotation(
    app: App, who: Who, image: ImageId, version: Version | None = None, anyway: bool = False, params: JsonText = "{}"
) -> dict[str, Any]:
    """Makes the current annotation, or the version named, an expert's as it is; nothing if it is that already.

    A version after which somebody has saved another mask is refused (409), unless `anyway` is true.
    """
    submission = _without_mask(app, image, read_params(params), anyway=anyway)
    return told_saved(app, accept(app.record, submission, version, who(submission.client_id)))


@router.post("/restore", dependencies=[FormBody])
def restore_annotation(
    app: App,
    who: Who,
    image: ImageId,
    version: Version,
    parent: Version | None = None,
    anyway: bool = False,
    params: JsonText = "{}",
) -> dict[str, Any]:
    """Stores the mask of an earlier version again, as a new one of this person.

    `parent` is the version that the client knows as the current one: if somebody has saved since, this is refused
    (409), unless `anyway` is true.
    """
    submission = replace(_without_mask(app, image, read_params(params), anyway=anyway), parent=parent)
    return told_saved(app, restore(app.record, submission, version, who(submission.client_id)))


def _without_mask(app: LabelingLoop, image: str, told: dict[str, Any], *, anyway: bool) -> Submission:
    """What a client says of a mask that is there already."""
    refuse_mask_params(told)
    return replace(Submission.from_monailabel(image, TAG_FINAL, told, app.record.task), anyway=anyway)


@router.get("/latest")
def latest(
    app: App, who: Who, image: ImageId, format: Name = "nifti", version: Version | None = None, tag: TagText = ""
) -> FileResponse:
    """The current annotation of an image, a `version` or that of a `tag`, as `nifti`, `nrrd`, `seg` or `rtstruct`."""
    if version is not None and tag:
        raise InvalidRequest(f"Ask for a version or for a tag, found version={version} and tag={tag[:40]!r}.")
    app.record.images.get(image)
    annotations = app.record.annotations
    annotation = annotations.tagged(image, tag) if version is None else annotations.get(image, version)
    file = annotation_file(app.dicom, annotation, format)
    app.record.openings.note(image, who(None).name, annotation.version)
    return sent(file.path, file.name, media_type=file.media_type, delete=file.is_temporary)
