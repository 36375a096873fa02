"""Pairs of rough and expert masks: from a folder laid out like BU-BIL, or drawn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from lib.training.cases import TrainingCase
    from lib.volume import Array

SIZE = 96
"""Pixels along both edges of a prepared crop."""

FIELD = 1.5
"""Edge of the crop over the longer edge of the object."""

JITTER = 0.1
"""The object lies up to this share of the crop's edge off its centre: a network must not learn where the middle is."""


@dataclass(frozen=True)
class Pair:
    """An image, one annotator's mask and the expert's, all (I, J, K)."""

    image_id: str
    annotator: str
    image: Array
    draft: Array
    truth: Array

    def case(self, draft: Array | None = None) -> TrainingCase:
        """For training; ``draft`` takes the place of the annotator's mask."""
        from lib.training.cases import TrainingCase
        from lib.volume import Volume

        name = f"{self.image_id}/{self.annotator}"
        given = self.draft if draft is None else draft
        return TrainingCase(
            name, lambda: Volume(self.image, np.eye(4)), lambda: self.truth, frozenset({1}), lambda: given
        )


def pair_sets(folder: Path | None, seed: int, heads: int) -> dict[str, list[Pair]]:
    """Pairs by name of their set: each folder with gold standards in the folder, or slices of so many drawn heads."""
    if folder is None:
        return {"drawn_bleeds": drawn_pairs(seed, heads)}
    sets = sorted(gold.parent for gold in folder.glob("*/GoldStandard"))
    return {one.name: bu_bil_pairs(one, seed) for one in sets}


def drawn_pairs(seed: int, heads: int) -> list[Pair]:
    """The slice with the most blood of each drawn head, with three rough masks of it."""
    from lib.phantoms.head import draw_head, random_parameters
    from lib.refinement.perturb import perturbed, random_perturbations

    pairs = []
    for head in range(heads):
        phantom = draw_head(random_parameters(1000 * seed + head, bleeds=("IPH",)))
        k = int((phantom.mask > 0).sum(axis=(0, 1)).argmax())
        whole = (np.subtract(phantom.image.shape[:2], max(phantom.image.shape)) / 2, float(max(phantom.image.shape)))
        image = _crop(phantom.image[:, :, k].astype(np.float32), whole)
        truth = (_crop((phantom.mask[:, :, k] > 0).astype(np.float32), whole) > 0.5).astype(np.uint8)
        for hand in range(3):
            how = random_perturbations(truth, (1.0, 1.0, 1.0), 10 * head + hand)
            pairs.append(Pair(f"head_{head:03}", f"hand_{hand}", image, perturbed(truth, (1.0, 1.0, 1.0), how), truth))
    return pairs


def bu_bil_pairs(folder: Path, seed: int) -> list[Pair]:
    """All pairs of one set (``RawImages``, ``GoldStandard``, ``CrowdsourcedAnnotations/*``).

    Masks are 0 where the object is. Those of the crowd are crops: the box of the object made twice as large, as far
    as the frame allows. Gold is on the full frame; the raw image is either.
    """
    generator = np.random.default_rng(seed)
    pairs = []
    for gold_file in sorted((folder / "GoldStandard").glob("seg_*.png")):
        truth = _read(gold_file) == 0
        box = _box(truth)
        image = _read(folder / "RawImages" / gold_file.name.removeprefix("seg_")).astype(np.float32)
        if image.shape != truth.shape:
            image = _placed(image, truth.shape, box, float(np.median(image[[0, -1]])))
        window = _window(box, generator)
        for annotator in sorted((folder / "CrowdsourcedAnnotations").iterdir()):
            drawn = (_read(annotator / gold_file.name) == 0).astype(np.float32)
            draft = drawn if drawn.shape == truth.shape else _placed(drawn, truth.shape, box, 0.0)
            crops = [_crop(plane, window) for plane in (image, draft, truth.astype(np.float32))]
            masks = [(crop > 0.5).astype(np.uint8) for crop in crops[1:]]
            pairs.append(Pair(gold_file.stem, annotator.name, crops[0], *masks))
    return pairs


def _read(file: Path) -> Array:
    return np.asarray(Image.open(file).convert("L"))


def _box(truth: Array) -> Array:
    """First and last + 1 pixel along both axes, (2, 2)."""
    found = np.argwhere(truth)
    return np.stack([found.min(0), found.max(0) + 1])


def _placed(crop: Array, shape: tuple[int, ...], box: Array, outside: float) -> Array:
    """A crop put back onto the full frame."""
    half = (box[1] - box[0]) // 2
    middle = (np.maximum(box[0] - half, 0) + np.minimum(box[1] + half, shape)) / 2
    start = np.rint(middle - np.array(crop.shape) / 2).astype(int)
    frame = np.full(shape, outside, np.float32)
    low, high = np.maximum(start, 0), np.minimum(start + crop.shape, shape)
    (i0, j0), (i1, j1) = low - start, high - start
    frame[low[0] : high[0], low[1] : high[1]] = crop[i0:i1, j0:j1]
    return frame


def _window(box: Array, generator: np.random.Generator) -> tuple[Array, float]:
    """Corner and edge of the square that is looked at."""
    edge = float((box[1] - box[0]).max() * FIELD)
    centre = box.mean(0) + generator.uniform(-JITTER, JITTER, 2) * edge
    return centre - edge / 2, edge


def _crop(plane: Array, window: tuple[Array, float]) -> Array:
    """The square at ``SIZE`` pixels, (SIZE, SIZE, 1); the border is repeated beyond the frame."""
    corner, edge = window
    steps = max(int(edge // SIZE), 1)
    at = [corner[axis] + (np.arange(SIZE * steps) + 0.5) * edge / (SIZE * steps) for axis in (0, 1)]
    i, j = (np.clip(at[axis].astype(int), 0, plane.shape[axis] - 1) for axis in (0, 1))
    fine = plane[np.ix_(i, j)].astype(np.float32)
    return fine.reshape(SIZE, steps, SIZE, steps).mean((1, 3))[:, :, None]
