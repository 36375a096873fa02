"""``/datastore``: images and labels."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse

from lib.errors import InvalidRequest, NotFound
from lib.serving.accepting import accept
from lib.serving.datastore import LABEL_SUFFIX, annotation_info
from lib.serving.file_names import checksum
from lib.serving.measuring import efforts
from lib.serving.requests import Submission, read_params
from lib.serving.routes.common import (
    App,
    Count,
    FormBody,
    ImageId,
    JsonText,
    Name,
    OneFile,
    TagText,
    Who,
    received,
    sent,
    sent_open,
    told_saved,
)  # fmt: skip
from lib.store.annotations import TAG_FINAL
from lib.volume import suffix_of

router = APIRouter(prefix="/datastore", tags=["Datastore"])


class Output(StrEnum):
    """What `GET /datastore/` tells."""

    STATS = "stats"
    ALL = "all"
    TRAIN = "train"


@router.get("/")
def datastore(app: App, output: Output = Output.STATS) -> Any:
    """Counts, or all images with their labels, or the pairs that training uses."""
    store = app.datastore()
    return {Output.STATS: store.status, Output.ALL: store.json, Output.TRAIN: store.datalist}[output]()


@router.put("/", include_in_schema=False)
@router.put("/image")
def add_image(app: App, who: Who, file: OneFile, image: ImageId = "", params: JsonText = "{}") -> dict[str, str]:
    """Takes in an image; its id is `image`, or the file's name without extension."""
    info = read_params(params)
    annotator = who(info.get("client_id"))
    name = Path(file.filename or "").name
    path = received(app, file)
    try:
        added = app.intake.upload(image or name.removesuffix(suffix_of(name)), path, name)
    finally:
        path.unlink(missing_ok=True)
    app.record.images.note(added.id, {**info, "user": annotator.name})
    return {"image": added.id}


@router.delete("/", include_in_schema=False)
@router.delete("/image")
def remove_image(app: App, id: ImageId) -> dict[str, str]:
    """Hides an image; its files and labels are kept."""
    app.datastore().remove_image(id)
    return {}


@router.get("/image")
def image(app: App, image: ImageId) -> FileResponse:
    """The image file; a DICOM series as NIfTI."""
    known = app.library.readable(image)
    return sent_open(app.library.image_file(known), app.datastore().file_name(known))


@router.head("/image")
def check_image(app: App, image: ImageId, check_sum: Name = "") -> dict[str, str]:
    """200 if there is such an image, and if it has this checksum (`SHA256:…`, `MD5:…`)."""
    path = app.library.image_file(app.library.readable(image))
    if check_sum and not _has_checksum(path, check_sum):
        raise NotFound(f"{image!r} has another checksum than {check_sum}.")
    return {}


def _has_checksum(path: Path, check_sum: str) -> bool:
    algorithm, colon, digest = check_sum.partition(":")
    name = algorithm.lower() if colon else "sha256"
    if name not in ("sha256", "sha512", "md5"):
        raise InvalidRequest(f"check_sum is SHA256:…, SHA512:… or MD5:…, found {check_sum[:40]!r}.")
    return checksum(path, name) == (digest if colon else check_sum).lower()


@router.get("/image/info")
def get_image_info(app: App, image: ImageId) -> dict[str, Any]:
    """What is known of an image and what clients noted about it."""
    found: dict[str, Any] = app.datastore().get_image_info(image)
    return found


@router.put("/image/info", dependencies=[FormBody])
def put_image_info(app: App, who: Who, image: ImageId, info: JsonText = "{}") -> None:
    """Notes something about an image, and who did; earlier notes of the same names stay under `earlier_notes`."""
    app.datastore().note_image(image, read_params(info, "info"), who(None))


@router.put("/label")
def save_label(
    app: App, who: Who, label: OneFile, image: ImageId, tag: TagText = TAG_FINAL, params: JsonText = "{}"
) -> dict[str, Any]:
    """Stores a mask as a new version of the image's annotation.

    `notes` names what of `params` is only kept, `remarks` tells what of the mask was not taken as it came.
    """
    submission = Submission.from_monailabel(image, tag or TAG_FINAL, read_params(params), app.record.task)
    path = received(app, label)
    try:
        saved, remarks = app.datastore().store(submission, path, who(submission.client_id))
    finally:
        path.unlink(missing_ok=True)
    return {**told_saved(app, saved), "notes": submission.notes, "remarks": remarks}


@router.get("/label")
def label(app: App, who: Who, label: ImageId = "", image: ImageId = "", tag: TagText = TAG_FINAL) -> FileResponse:
    """The mask that a tag stands for, as gzipped NIfTI; its structures are numbered 1, 2, 3 … as in `label_names`."""
    label_id = _label_id(label, image)
    path, is_temporary = app.datastore().label_file(label_id, tag)
    app.record.openings.note(label_id, who(None).name, app.record.annotations.tagged(label_id, tag).version)
    return sent(path, f"{Path(label_id).name}{LABEL_SUFFIX}", delete=is_temporary)


@router.head("/label")
def check_label(app: App, label: ImageId = "", image: ImageId = "", tag: TagText = TAG_FINAL) -> dict[str, str]:
    """200 if there is such a mask."""
    app.datastore().get_label_uri(_label_id(label, image), tag)
    return {}


def _label_id(label: str, image: ImageId) -> str:
    if not (label or image):
        raise InvalidRequest("Name the label: ?label=ID&tag=final. A label has the id of its image.")
    return label or image


@router.delete("/label")
def remove_label(app: App, who: Who, id: ImageId, tag: TagText) -> dict[str, str]:
    """Withdraws a label; the version and its mask are kept."""
    app.datastore().withdraw(id, tag, who(None))
    return {}


@router.get("/label/info")
def get_label_info(app: App, label: ImageId, tag: TagText = TAG_FINAL) -> dict[str, Any]:
    """What is known of a label and what its client said."""
    found: dict[str, Any] = app.datastore().get_label_info(label, tag)
    return found


@router.put("/label/info", dependencies=[FormBody])
def put_label_info(app: App, who: Who, label: ImageId, tag: TagText = TAG_FINAL, info: JsonText = "{}") -> None:
    """Notes something about a label, and who did; earlier notes of the same names stay under `earlier_notes`.

    What MONAI Label Reviewer calls approved is accepted, as by `POST /annotations/accept`.
    """
    told = read_params(info, "info")
    approval = told.get("segmentationMeta")
    if isinstance(approval, dict) and approval.get("status") == "approved":
        person = who(approval.get("approvedBy") or None)
        app.record.images.get(label)
        version = app.record.annotations.tagged(label, tag).version
        submission = Submission.from_monailabel(label, TAG_FINAL, {}, app.record.task)
        told_saved(app, accept(app.record, submission, version, person))
    app.datastore().note_label(label, tag, told, who(None))


@router.put("/updatelabelinfo", include_in_schema=False, dependencies=[FormBody])
def put_label_params(app: App, who: Who, label: ImageId, tag: TagText = TAG_FINAL, params: JsonText = "{}") -> None:
    """The older name of `PUT /datastore/label/info`."""
    put_label_info(app, who, label, tag, params)


@router.get("/label/history")
def history(app: App, image: ImageId) -> list[dict[str, Any]]:
    """All versions of an image's annotation, oldest first, withdrawn ones included, with what experts changed."""
    app.record.images.get(image)
    changed = efforts(app.record, image)
    return [
        {**annotation_info(annotation), "effort": changed.get(annotation.version)}
        for annotation in app.record.annotations.history(image)
    ]


@router.get("/scores")
def scores(app: App, image: ImageId) -> list[dict[str, Any]]:
    """All numbers kept about an image, newest model version first; `value` is null where a kind is undefined for it."""
    app.record.images.get(image)
    return [{**asdict(score), "created": score.created.isoformat()} for score in app.record.scores.of_image(image)]


@router.get("/dataset")
def dataset(app: App, limit_cases: Count | None = None) -> FileResponse:
    """All labelled images with their masks as one ZIP file; the header `Left-Out` counts those whose file is lost."""
    path, left_out = app.datastore().archive(limit_cases)
    reply = sent(path, "dataset.zip", delete=True)
    reply.headers["Left-Out"] = str(len(left_out))
    return reply
