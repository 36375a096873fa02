"""``/activelearning``: the next case."""

from __future__ import annotations

import time
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from fastapi import APIRouter, Request

from lib.errors import NotFound, StudiesAway, StudiesRefused, UnreadableImage
from lib.serving.datastore import image_info
from lib.serving.dicomweb import value_of
from lib.serving.file_names import checksum as file_checksum
from lib.serving.loop import LabelingLoop
from lib.serving.routes.common import App, JsonObject, JsonRoute, Name, Who
from lib.store.images import ImageState

router = APIRouter(prefix="/activelearning", tags=["ActiveLearning"], route_class=JsonRoute)

OF_SERIES = ("Modality", "StudyDate", "StudyTime", "PatientID", "StudyInstanceUID", "SeriesInstanceUID")
"""What MONAI Label's panel in OHIF shows of the next case; it opens the study."""


@router.post("/{strategy}")
def next_sample(
    strategy: Name, app: App, who: Who, request: Request, params: JsonObject = None, checksum: bool = True
) -> dict[str, Any]:
    """The image to label next, or a `message` when nothing is left for this person.

    `path` is told to a client at this machine only, and `checksum` is that of what `GET /datastore/image` sends; who
    does not need it gets the image sooner by `checksum=false`.
    """
    asked = params or {}
    annotator = who(asked.get("client_id"))
    result = app.next_sample({**asked, "strategy": strategy, "annotator": annotator})
    file: dict[str, str | None] | None = None
    # What proves unreadable takes no part any more, and the next one is offered.
    while "id" in result and (file := _file(app, result["id"], checksum)) is None:
        result = app.next_sample({**asked, "strategy": strategy, "annotator": annotator})
    if file is None:
        return result
    image = app.record.images.get(result["id"])
    earlier = image.info.get("strategy")
    # The image's notes are free: a client may have written anything there.
    offers = {
        **(earlier if isinstance(earlier, dict) else {}),
        strategy: {"ts": int(time.time()), "client_id": annotator.name},
    }
    app.record.images.note(image.id, {"strategy": offers})
    return {
        **image_info(image, app.datastore().file_name(image)),
        **_of_series(app, image.id),
        "strategy": offers,
        **result,
        **file,
        # Elsewhere another file may lie at the same path.
        **({} if _is_here(request) else {"path": ""}),
    }


def _file(app: LabelingLoop, image_id: str, is_wanted: bool) -> dict[str, str | None] | None:
    """Where the image lies, and the checksum by which it is known again; ``None`` if it takes no part any more.

    Neither is told where it is not known, whatever a client has noted under its name.
    """
    image = app.record.images.get(image_id)
    path, digest = app.library.places(image)[0], None
    if is_wanted:
        # What cannot be sent just now is told with the reason to who asks for it.
        with suppress(UnreadableImage, StudiesAway, StudiesRefused, NotFound, OSError):
            path = app.library.image_file(image)
            digest = f"SHA256:{file_checksum(path)}"
    if app.record.images.get(image_id).state is not ImageState.OK:
        return None
    return {"path": str(path), "checksum": digest}


def _is_here(request: Request) -> bool:
    """Whether the client is at this machine."""
    client, server = request.client, request.scope.get("server")
    try:
        address = ip_address(client.host) if client is not None else None
    except ValueError:
        # A socket of this machine has no address.
        address = None
    return address is None or address.is_loopback or (server is not None and server[0] == str(address))


def _of_series(app: LabelingLoop, image_id: str) -> dict[str, str]:
    """Under which names viewers find an image; nothing if it was not listed for them yet."""
    listing = app.record.listings.of_image(image_id)
    return {} if listing is None else {name: str(value_of(listing.attributes, name)) for name in OF_SERIES}
