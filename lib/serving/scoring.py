"""MONAI Label's scoring methods."""

from __future__ import annotations

from typing import Any

from monailabel.interfaces.tasks.scoring import ScoringMethod

from lib.serving.comparison import METHODS
from lib.serving.library import Library
from lib.store.record import Record


class RecordScoring(ScoringMethod):
    """One of ``METHODS`` for MONAI Label: computed at once when it is called."""

    def __init__(self, method: str, record: Record, library: Library) -> None:
        super().__init__(description="Dice between the expert's mask and the model's draft of each image")
        self.method = method
        self.record = record
        self.library = library

    def __call__(self, request: dict[str, Any], datastore: Any) -> dict[str, Any]:
        """Computes the scores of all images."""
        return METHODS[self.method](self.record, self.library, request, lambda: None)
