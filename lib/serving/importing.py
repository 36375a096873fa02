"""Weights that a person brings along become a model version."""

from __future__ import annotations

from lib.errors import UnacceptableFile
from lib.networks.checkpoint import Checkpoint
from lib.networks.segmenter import fitted, network_of
from lib.store.models import Model, ModelState, NewModel
from lib.store.record import Record


def import_weights(record: Record, content: bytes) -> Model:
    """Checks a checkpoint and lets it serve.

    Args:
        record: gets the new version.
        content: a file that ``GET /model/NAME`` of this or another server gave.

    Raises:
        UnacceptableFile: if it is no checkpoint, does not fit its own plan, or knows other structures.
    """
    checkpoint = Checkpoint.from_bytes(content)
    fitted(network_of(checkpoint.plan), checkpoint.weights)
    values = record.task.values
    other = {name: value for name, value in checkpoint.plan.structures.items() if values.get(name) != value}
    if other:
        raise UnacceptableFile(f"The weights were made for {checkpoint.plan.structures}, this task has {values}.")
    return record.models.add(
        NewModel(
            parent=None,
            weights=record.weights.put(checkpoint.to_bytes()),
            network=checkpoint.plan.to_json(),
            training=[],
            validation=[],
            metrics={},
        ),
        ModelState.SERVING,
        "uploaded, not validated",
    )
