"""``/activelearning``: the next case."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter

from lib.serving.datastore import image_info
from lib.serving.dicomweb import value_of
from lib.serving.loop import LabelingLoop
from lib.serving.routes.common import App, JsonObject, JsonRoute, Name, Who

router = APIRouter(prefix="/activelearning", tags=["ActiveLearning"], route_class=JsonRoute)

OF_SERIES = ("Modality", "StudyDate", "StudyTime", "PatientID", "StudyInstanceUID", "SeriesInstanceUID")
"""What MONAI Label's panel in OHIF shows of the next case; it opens the study."""


@router.post("/{strategy}")
def next_sample(strategy: Name, app: App, who: Who, params: JsonObject = None) -> dict[str, Any]:
    """The image to label next, or a `message` when nothing is left for this person."""
    asked = params or {}
    annotator = who(asked.get("client_id"))
    result = app.next_sample({**asked, "strategy": strategy, "annotator": annotator})
    if "id" not in result:
        return result
    image = app.record.images.get(result["id"])
    earlier = image.info.get("strategy")
    # The image's notes are free: a client may have written anything there.
    offers = {
        **(earlier if isinstance(earlier, dict) else {}),
        strategy: {"ts": int(time.time()), "client_id": annotator.name},
    }
    app.record.images.note(image.id, {"strategy": offers})
    return {**image_info(image), **_of_series(app, image.id), "strategy": offers, **result}


def _of_series(app: LabelingLoop, image_id: str) -> dict[str, str]:
    """Under which names viewers find an image; nothing if it was not listed for them yet."""
    listing = app.record.listings.of_image(image_id)
    return {} if listing is None else {name: str(value_of(listing.attributes, name)) for name in OF_SERIES}
