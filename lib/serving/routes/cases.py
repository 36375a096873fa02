"""``/cases``: what the bar inside the viewer asks that DICOM has no words for."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from fastapi import APIRouter

from lib.serving.annotator import Annotator
from lib.serving.datastore import annotation_info
from lib.serving.dicom_files import description_of, series_uid_of
from lib.serving.dicomweb import value_of
from lib.serving.requests import Submission
from lib.serving.routes.common import App, ImageId, Name, Who, told_saved
from lib.serving.saving import save_mask
from lib.serving.studies import Series
from lib.stages import current, stage_of
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


@router.post("/no-finding")
def no_finding(app: App, who: Who, image: ImageId, client_id: str | None = None) -> dict[str, Any]:
    """Stores that somebody looked for all structures of the task in an image and that none is there."""
    found, grid = app.library.readable_with_grid(image)
    submission = Submission.from_monailabel(found.id, TAG_FINAL, {}, app.record.task)
    annotator, nothing = who(client_id), np.zeros(grid.shape, np.uint8)
    # Who presses twice has said it once.
    with app.record.database.transaction():
        said = current(app.record.annotations.history(found.id))
        if said is None or not _says_nothing_is_there(said, submission, annotator):
            said = save_mask(app.record, nothing, grid, submission, annotator)
    return told_saved(app, said)


def _says_nothing_is_there(said: Annotation, submission: Submission, annotator: Annotator) -> bool:
    """Whether an annotation is this person's own, of the same stage, and found none of the structures."""
    is_own = said.author == annotator.name and said.stage is stage_of(annotator.role)
    return is_own and said.looked_at == submission.looked_at and not any(said.voxels.values())
