"""``/queue``: the cases that wait for somebody."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from lib.serving.routes.common import App, Offset
from lib.store.annotations import Annotation
from lib.store.queue import ANNOTATOR_STANDINGS, EXPERT_STANDINGS, Waiting

router = APIRouter(prefix="/queue", tags=["ActiveLearning"])

MOST = 500
"""Cases on one page at most."""


@router.get("")
@router.get("/", include_in_schema=False)
def queue(
    app: App,
    role: Literal["expert", "annotator"] = "expert",
    offset: Offset = 0,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
) -> dict[str, Any]:
    """The cases that wait for an expert, longest first, or for an annotator, with what is there of each."""
    standings = EXPERT_STANDINGS if role == "expert" else ANNOTATOR_STANDINGS
    with app.record.database.reading():
        return {
            "role": role,
            "total": app.record.queue.count(standings),
            "offset": offset,
            "cases": [_told(case) for case in app.record.queue.page(standings, offset, limit)],
        }


def _told(case: Waiting) -> dict[str, Any]:
    return {
        "image": case.image,
        "split": case.split,
        "since": case.since.isoformat(),
        "current": case.current,
        "versions": [_told_version(annotation) for annotation in case.versions],
    }


def _told_version(annotation: Annotation) -> dict[str, Any]:
    return {
        "version": annotation.version,
        "stage": annotation.stage,
        "author": annotation.author,
        "role": annotation.role,
        "parent": annotation.parent,
        "created": annotation.created.isoformat(),
    }
