"""What scoring computes: how far two tags of each image lie apart."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

from lib.errors import DamagedFile, UnknownAnnotation
from lib.metrics.overlap import dice
from lib.serving.library import Library
from lib.stages import Standing
from lib.store.annotations import TAG_FINAL, TAG_ORIGINAL
from lib.store.record import Record

LOG = logging.getLogger(__name__)


def dice_of_tags(
    record: Record, library: Library, arguments: dict[str, Any], check: Callable[[], None]
) -> dict[str, Any]:
    """Dice per structure between two tags of every labelled image that has both.

    Args:
        record: where the annotations are.
        library: reads the masks.
        arguments: ``y`` and ``y_pred``, tags; the expert's and the model's unless named.
        check: called before each image; may raise to stop.

    Returns:
        ``images``: Dice by structure by image id; ``mean``: over images by structure, ``None`` where undefined;
        ``model_versions``: by image id, the model whose mask was compared.
    """
    truth_tag, other_tag = arguments.get("y") or TAG_FINAL, arguments.get("y_pred") or TAG_ORIGINAL
    images: dict[str, dict[str, float | None]] = {}
    model_versions: dict[str, int | None] = {}
    for image_id in record.images.ids(Standing.LABELLED, Standing.WAITING):
        check()
        try:
            truth = record.annotations.tagged(image_id, truth_tag)
            other = record.annotations.tagged(image_id, other_tag)
        except UnknownAnnotation:
            continue
        if truth.mask is None or other.mask is None:
            # The mask of an old draft is no longer kept.
            continue
        try:
            voxels, other_voxels = library.mask(truth), library.mask(other)
        except (UnknownAnnotation, DamagedFile) as error:
            LOG.warning("%s is not compared: %s", image_id, error)
            continue
        model_versions[image_id] = other.model_version
        images[image_id] = {
            structure.name: _defined(dice(voxels == structure.value, other_voxels == structure.value))
            for structure in record.task.structures
            if structure.name in truth.looked_at and structure.name in other.looked_at
        }
    return {"images": images, "mean": _means(images, record), "model_versions": model_versions}


def _means(images: dict[str, dict[str, float | None]], record: Record) -> dict[str, float | None]:
    means: dict[str, float | None] = {}
    for structure in record.task.structures:
        values = [scores.get(structure.name) for scores in images.values()]
        defined = [value for value in values if value is not None]
        means[structure.name] = round(sum(defined) / len(defined), 4) if defined else None
    return means


def _defined(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


METHODS: dict[str, Callable[[Record, Library, dict[str, Any], Callable[[], None]], dict[str, Any]]] = {
    "dice": dice_of_tags,
}
"""What each scoring method computes."""
