"""``/cases``: what the bar inside the viewer asks that DICOM has no words for."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from fastapi import APIRouter

from lib.serving.datastore import annotation_info
from lib.serving.dicom_files import description_of
from lib.serving.dicomweb import value_of
from lib.serving.requests import Submission
from lib.serving.routes.common import App, Who, told_saved
from lib.serving.saving import save_mask
from lib.serving.studies import Series
from lib.store.annotations import TAG_FINAL
from lib.store.listings import Listing
from lib.task import Task

router = APIRouter(prefix="/cases", tags=["Cases"])


@router.get("/")
def cases(app: App, study: str) -> dict[str, Any]:
    """The task, and the images of a study (its StudyInstanceUID), each with its current annotation."""
    task, series = app.record.task, app.dicom.series_of(study)
    current = {one.images[0].image: _told_annotation(one, task) for one in series if one.annotation is not None}
    return {
        "task": _told_task(task),
        "cases": [
            {
                "image": listing.image,
                "name": _name(listing),
                "study_uid": listing.study_uid,
                "series_uid": listing.series_uid,
                "instance_uid": listing.instance_uid,
                "current": current.get(listing.image),
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


def _told_annotation(series: Series, task: Task) -> dict[str, Any]:
    """What is known of an annotation, and as which series viewers find it."""
    assert series.annotation is not None
    told = annotation_info(series.annotation)
    return {**told, "series_uid": series.series_uid, "description": description_of(series.annotation, task)}


@router.post("/no-finding")
def no_finding(app: App, who: Who, image: str, client_id: str | None = None) -> dict[str, Any]:
    """Stores that somebody looked for all structures of the task in an image and that none is there."""
    found, grid = app.library.readable_with_grid(image)
    submission = Submission.from_monailabel(found.id, TAG_FINAL, {}, app.record.task)
    annotation = save_mask(app.record, np.zeros(grid.shape, np.uint8), grid, submission, who(client_id))
    return told_saved(app, annotation)
