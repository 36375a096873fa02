"""MONAI Label's strategies: which image is next."""

from __future__ import annotations

from datetime import timedelta
from itertools import islice
from typing import Any

from monailabel.interfaces.tasks.strategy import Strategy

from lib.serving.annotator import annotator_of
from lib.serving.library import Library
from lib.serving.settings import Settings
from lib.stages import Role, Standing
from lib.store.assignments import Purpose
from lib.store.images import Image


class NextCase(Strategy):
    """The first image in some order that may be offered; see ``Images.candidates`` for who may get what."""

    def __init__(self, library: Library, settings: Settings, *, by_id: bool, description: str) -> None:
        super().__init__(description)
        self._library = library
        self._settings = settings
        self._by_id = by_id

    def upcoming(self, count: int) -> list[Image]:
        """The images that would be offered next to somebody who comes for the first time; nobody has corrected them."""
        images = self._library.record.images
        return list(islice(images.candidates("", Role.ANNOTATOR, by_id=self._by_id), count))

    def __call__(self, request: dict[str, Any], datastore: Any) -> dict[str, Any] | None:
        """Offers the next image to ``annotator``, else to whom ``client_id`` names; ``None`` when nothing is left."""
        annotator = request.get("annotator") or annotator_of(request.get("client_id"), self._settings.role, "")
        record = self._library.record
        lasting = timedelta(minutes=self._settings.assign_minutes)
        # Chosen and given away in one transaction, or two people who ask at once would get the same image.
        with record.database.transaction():
            image = self._library.offerable(record.images.candidates(annotator.name, annotator.role, by_id=self._by_id))
            if image is None:
                return None
            purpose = Purpose.REVIEW if image.standing is Standing.WAITING else Purpose.LABEL
            record.assignments.assign(image.id, annotator.name, purpose, lasting)
            return {"id": image.id, "split": record.images.offer(image.id)}


def strategies(library: Library, settings: Settings) -> dict[str, NextCase]:
    """All strategies by the name under which clients ask for them."""
    return {
        "random": NextCase(
            library, settings, by_id=False, description="Random order, drawn once; offered cases come last"
        ),
        "first": NextCase(library, settings, by_id=True, description="Alphabetical order"),
    }
