"""``/cases``: what the bar inside the viewer asks that DICOM has no words for."""

from __future__ import annotations

import re
from typing import Annotated, Any

import numpy as np
from annotated_types import MaxLen
from fastapi import APIRouter, Request

from lib.errors import UnknownAnnotation
from lib.serving.datastore import annotation_info
from lib.serving.dicom_files import description_of, series_uid_of
from lib.serving.dicomweb import value_of
from lib.serving.gate import bearer
from lib.serving.requests import Submission
from lib.serving.routes.common import App, ImageId, Name, Spent, Version, Who, told_saved, viewable
from lib.serving.saving import save_mask
from lib.serving.studies import Series
from lib.stages import current, in_force
from lib.store.annotations import TAG_FINAL, Annotation
from lib.store.listings import Listing
from lib.task import Task

router = APIRouter(prefix="/cases", tags=["Cases"])


@router.get("/")
def cases(app: App, study: Name) -> dict[str, Any]:
    """The task, and the images of a study (its StudyInstanceUID), each with its current annotation."""
    task, series = app.record.task, app.dicom.series_of(study)
    told = {one.images[0].image: _told_current(app, one) for one in series if one.annotation is not None}
    return {
        "task": _told_task(task),
        "cases": [
            {
                "image": listing.image,
                "name": _name(listing),
                "study_uid": listing.study_uid,
                "series_uid": listing.series_uid,
                "instance_uid": listing.instance_uid,
                "current": told.get(listing.image),
            }
            for one in series
            if one.annotation is None
            for listing in one.images
        ],
    }


def _name(listing: Listing) -> str:
    """What people call an image: the name of its file, or patient, series and date of a DICOM image."""
    if listing.image != listing.source_name:
        return listing.image
    day = re.sub(r"^(\d{4})(\d\d)(\d\d)$", r"\1-\2-\3", listing.study_date)
    told = [listing.patient_id, str(value_of(listing.attributes, "SeriesDescription")), day]
    return ", ".join(filter(None, told)) or listing.image


def _told_task(task: Task) -> dict[str, Any]:
    structures = [{"name": one.name, "value": one.value, "colour": one.colour} for one in task.structures]
    return {"name": task.name, "structures": structures, "window_hu": task.window_hu}


def _told_current(app: App, series: Series) -> dict[str, Any]:
    """What is known of a current annotation, and of the one with another mask that it was made from (``before``)."""
    annotation = series.annotation
    assert annotation is not None
    before = None
    if annotation.parent is not None:
        parent = app.record.annotations.get(annotation.image, annotation.parent)
        # Who accepts a mask leaves it as it is.
        if app.record.has_mask(parent) and parent.mask != annotation.mask:
            uid = series_uid_of(series.images[0].source_name, parent)
            before = _told_annotation(parent, uid, app.record.task)
    return {**_told_annotation(annotation, series.series_uid, app.record.task), "before": before}


def _told_annotation(annotation: Annotation, series_uid: str, task: Task) -> dict[str, Any]:
    """What is known of an annotation, and as which series viewers find it."""
    described = {"series_uid": series_uid, "description": description_of(annotation, task)}
    return {**annotation_info(annotation), **described}


@router.get("/versions")
def versions(app: App, image: ImageId) -> dict[str, Any]:
    """The versions of an image that can be looked at or restored, newest first, each with the series that shows it."""
    listing = viewable(app, image)
    kept = [one for one in in_force(app.record.annotations.history(image)) if app.record.has_mask(one)]
    told = [_told_annotation(one, app.dicom.series_of_version(listing, one), app.record.task) for one in kept]
    return {"versions": told[::-1]}


@router.post("/no-finding")
def no_finding(
    app: App,
    who: Who,
    image: ImageId,
    client_id: str | None = None,
    parent: Version | None = None,
    anyway: bool = False,
    seconds: Spent | None = None,
) -> dict[str, Any]:
    """Stores that somebody looked for all structures of the task in an image and that none is there.

    If somebody has saved after the version `parent`, this is refused (409), unless `anyway` is true.
    """
    found, grid = app.library.readable_with_grid(image)
    said = {"parent": parent, "anyway": anyway, "seconds": seconds}
    submission = Submission.from_monailabel(found.id, TAG_FINAL, said, app.record.task)
    nothing = np.zeros(grid.shape, np.uint8)
    return told_saved(app, save_mask(app.record, nothing, grid, submission, who(client_id)))


Window = Annotated[str, MaxLen(64)]
"""What tells the windows of one person apart."""


@router.post("/open")
def open_here(
    app: App, who: Who, request: Request, image: ImageId, version: Version, tab: Window, client_id: str | None = None
) -> dict[str, Any]:
    """Tells that somebody has a case on the screen, with this version (0: none); who else has, and what is current.

    `ends` are the seconds until this person has to sign in again, `null` if never.
    """
    name = who(client_id).name
    app.record.images.get(image)
    history = app.record.annotations.history(image)
    if any(one.version == version for one in history):
        app.record.openings.note(image, name, version)
    elif version:
        raise UnknownAnnotation(f"{image!r} has no version {version}, so nobody has it open.")
    others, newest = app.presence.here(image, name, tab, version), current(history)
    token = bearer(request.headers)
    return {
        "others": [{"name": one.name, "version": one.version, "since": one.since.isoformat()} for one in others],
        "current": annotation_info(newest) if newest is not None else None,
        "ends": request.app.state.access.seconds_left(token) if token else None,
    }


@router.delete("/open")
def close_here(app: App, who: Who, image: ImageId, tab: Window, client_id: str | None = None) -> dict[str, str]:
    """Tells that it is no longer."""
    app.presence.left(image, who(client_id).name, tab)
    return {}
