"""Measuring a network on cases that it never learned from."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from lib.metrics.detection import false_positive_ml
from lib.metrics.overlap import dice
from lib.metrics.surface import hd95_mm
from lib.networks.checkpoint import Checkpoint
from lib.predictor import Predictor
from lib.training.cases import TrainingCase, checked_mask
from lib.volume import Array, Volume

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaseScore:
    """How a network did on one case.

    A structure that the annotator did not look at, or that the network does not know, has no entry. One that is
    neither in the annotation nor in the prediction has ``None``: both agree, but no Dice is defined.

    Attributes:
        image_id: the case.
        dice: by structure name.
        hd95_mm: by structure name; also ``None`` if one of both masks is empty.
        false_positive_ml: by name of each structure that is not in the annotation, how much was predicted all the
            same; Dice cannot tell a few voxels from a whole organ there.
    """

    image_id: str
    dice: dict[str, float | None]
    hd95_mm: dict[str, float | None]
    false_positive_ml: dict[str, float] = field(default_factory=dict)


def validate(
    checkpoint: Checkpoint,
    cases: Sequence[TrainingCase],
    device: str = "cpu",
    check: Callable[[], None] = lambda: None,
) -> list[CaseScore]:
    """The scores of all cases that can be read, in their order.

    Args:
        checkpoint: the network.
        cases: a case that cannot be read is left out and logged.
        device: of PyTorch.
        check: called before each case; may raise to stop.

    Raises:
        UnacceptableFile: if the weights do not fit the plan.
    """
    predictor = Predictor(checkpoint, device)
    return scores_of(predictor.mask, predictor.plan.structures, cases, check)


def scores_of(
    find: Callable[[Volume], Array],
    structures: Mapping[str, int],
    cases: Sequence[TrainingCase],
    check: Callable[[], None] = lambda: None,
) -> list[CaseScore]:
    """The same for anything that finds structures in an image, such as a rule.

    Args:
        find: gives uint8 (I, J, K) of label values on the image's grid.
        structures: label value by name of what it looks for.
        cases: a case that cannot be read, or that ``find`` refuses, is left out and logged.
        check: called before each case; may raise to stop.
    """
    scores = []
    for case in cases:
        check()
        try:
            scores.append(_score(find, structures, case))
        # A case is read by functions of the caller: whatever they stumble over concerns this case only.
        except Exception as error:
            LOG.warning("Validation case %s is left out: %s", case.image_id, error)
    return scores


def mean_dice(scores: Sequence[CaseScore]) -> float | None:
    """Mean over the structures of each structure's mean over the cases in which its Dice is defined; else ``None``."""
    by_structure: dict[str, list[float]] = {}
    for score in scores:
        for name, value in score.dice.items():
            if value is not None:
                by_structure.setdefault(name, []).append(value)
    means = [sum(values) / len(values) for values in by_structure.values()]
    return sum(means) / len(means) if means else None


def _score(find: Callable[[Volume], Array], structures: Mapping[str, int], case: TrainingCase) -> CaseScore:
    volume = case.load_volume()
    truth = checked_mask(case, volume)
    prediction = find(volume)
    overlaps: dict[str, float | None] = {}
    distances: dict[str, float | None] = {}
    false_ml: dict[str, float] = {}
    for name, value in structures.items():
        if value in case.looked_at:
            masks = truth == value, prediction == value
            overlaps[name] = _defined(dice(*masks))
            distances[name] = _defined(hd95_mm(*masks, volume.grid.spacing_mm))
            if not masks[0].any():
                # One voxel of a fine image is less than a thousandth, and must not read as nothing.
                false_ml[name] = round(false_positive_ml(*masks, volume.grid.voxel_mm3), 6)
    return CaseScore(case.image_id, overlaps, distances, false_ml)


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None
