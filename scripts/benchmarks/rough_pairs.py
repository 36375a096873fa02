"""Pairs of rough and expert masks: people's, from a folder laid out like BU-BIL, or made from expert masks."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from lib.training.cases import TrainingCase
    from lib.volume import Array, Volume

SIZE = 96
"""Pixels along both edges of a prepared crop."""

FIELD = 1.5
"""Edge of the crop over the longer edge of the object."""

JITTER = 0.1
"""The object lies up to this share of the crop's edge off its centre: a network must not learn where the middle is."""

WANTED_DICE = 0.64
"""Mean Dice of made-up drafts: the middle of what the source had, 0.60 to 0.68."""

BU_BIL = ("RawImages", "GoldStandard", "CrowdsourcedAnnotations")
LABELLED = ("images", "labels")
"""Folders of a set with masks that people drew, and of one whose drafts are made up."""

NAMED = 5
"""Of what a wrong folder holds so much is told."""

HANDS = 3
"""Made-up drafts of each drawn image."""


@dataclass(frozen=True)
class Pair:
    """An image, one annotator's mask and the expert's, all (I, J, K)."""

    image_id: str
    annotator: str
    image: Array
    draft: Array
    truth: Array
    affine: Array = field(default_factory=lambda: np.eye(4))

    @property
    def volume(self) -> Volume:
        """The image with its place."""
        from lib.volume import Volume

        return Volume(self.image, self.affine)

    def case(self, structures: Iterable[int], draft: Array) -> TrainingCase:
        """For training, with a draft of these label values."""
        from lib.training.cases import TrainingCase

        name = f"{self.image_id}/{self.annotator}"
        return TrainingCase(name, lambda: self.volume, lambda: self.truth, frozenset(structures), lambda: draft)


@dataclass(frozen=True)
class PairSet:
    """Pairs of one kind, and the names of their structures, whose label values are 1, 2 and so on."""

    pairs: list[Pair]
    structures: tuple[str, ...] = ("object",)


def pair_sets(folder: Path | None, seed: int, drawn: int) -> dict[str, PairSet]:
    """Pairs by name of their set.

    Args:
        folder: a set laid out like BU-BIL, or with such sets, or with NIfTI files in ``images`` and, of the same
            names, in ``labels``, whose drafts are made up; ``None``: drawn heads and breasts.
        seed: of everything random.
        drawn: how many heads, and how many breasts.

    Raises:
        InvalidRequest: if the folder holds none of these.
    """
    if folder is None:
        return {"drawn_bleeds": PairSet(drawn_bleeds(seed, drawn)), "drawn_masses": PairSet(drawn_masses(seed, drawn))}
    name = folder.resolve().name
    if all(any((folder / part).glob("*.nii*")) for part in LABELLED):
        return {name: labelled_volumes(folder, seed)}
    if _is_bu_bil(folder):
        return {name: PairSet(bu_bil_pairs(folder, seed))}
    sets = sorted(one for one in folder.glob("*/") if _is_bu_bil(one))
    if not sets:
        raise _no_pairs(folder)
    return {one.name: PairSet(bu_bil_pairs(one, seed)) for one in sets}


def _is_bu_bil(folder: Path) -> bool:
    return all((folder / part).is_dir() for part in BU_BIL) and any((folder / "GoldStandard").glob("seg_*.png"))


def _no_pairs(folder: Path) -> Exception:
    from lib.errors import InvalidRequest

    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    more = f" and {len(there) - NAMED} more" if len(there) > NAMED else ""
    found = f"holds {', '.join(there[:NAMED])}{more}" if there else "is empty" if folder.is_dir() else "is no folder"
    return InvalidRequest(
        f"There are no pairs in {folder}: it {found}. Wanted are {', '.join(BU_BIL)} in it or in the folders directly "
        f"below it, with files such as GoldStandard/seg_A.png, or NIfTI files of the same names in "
        f"{' and '.join(LABELLED)}. Name the folder that holds these."
    )


def labelled_volumes(folder: Path, seed: int) -> PairSet:
    """One made-up draft of each labelled volume; of an empty label none can be made, so it is left out.

    Raises:
        InvalidRequest: if all labels are empty.
    """
    from lib.errors import InvalidRequest
    from lib.volume import read_volume

    files = sorted((folder / "images").glob("*.nii*"))
    found = []
    for image_file in files:
        truth = read_volume(folder / "labels" / image_file.name).voxels.astype(np.uint8)
        if truth.any():
            image = read_volume(image_file)
            found.append(Pair(image_file.name, "", image.voxels.astype(np.float32), truth, truth, image.affine))
    if not found:
        raise InvalidRequest(
            f"All labels of the {len(files)} images in {folder} are empty; there is nothing to refine."
        )
    if len(found) < len(files):
        print(f"Left out {len(files) - len(found)} of {len(files)} images, whose label is empty.", file=sys.stderr)
    values = range(1, max(int(pair.truth.max()) for pair in found) + 1)
    return PairSet(with_drafts(found, seed), tuple(f"structure {value}" for value in values))


def drawn_bleeds(seed: int, heads: int) -> list[Pair]:
    """The slice with the most blood of each drawn head, as a whole, with rough masks of it."""
    from lib.phantoms.head import draw_head, random_parameters

    found: list[Pair] = []
    for head in range(heads):
        phantom = draw_head(random_parameters(1000 * seed + head, bleeds=("IPH",)))
        k = int((phantom.mask > 0).sum(axis=(0, 1)).argmax())
        image, mask = phantom.image[:, :, k], phantom.mask[:, :, k] > 0
        whole = (np.subtract(image.shape, max(image.shape)) / 2, float(max(image.shape)))
        found += _looked_at(f"head_{head:03}", image, mask, whole)
    return with_drafts(found, seed)


def drawn_masses(seed: int, breasts: int) -> list[Pair]:
    """The surroundings of the mass on each drawn mammogram, with rough masks of it."""
    from lib.phantoms.breast import draw_mammogram, random_parameters

    generator = np.random.default_rng(seed)
    found: list[Pair] = []
    for breast in range(breasts):
        phantom = draw_mammogram(replace(random_parameters(1000 * seed + breast), masses=("round",)))
        image, mask = phantom.image[:, :, 0], phantom.mask[:, :, 0] > 0
        found += _looked_at(f"breast_{breast:03}", image, mask, _window(_box(mask), generator))
    return with_drafts(found, seed)


def with_drafts(pairs: list[Pair], seed: int) -> list[Pair]:
    """The pairs with drafts made from their truth, as rough as ``WANTED_DICE`` says."""
    from lib.refinement.perturb import perturbed, random_perturbations, strength_for

    spacings = [pair.volume.grid.spacing_mm for pair in pairs]
    masks = [(pair.truth, spacing) for pair, spacing in zip(pairs, spacings, strict=True)]
    strength = strength_for(masks, WANTED_DICE, seed)
    return [
        replace(pair, draft=perturbed(mask, spacing, random_perturbations(mask, spacing, seed + at, strength)))
        for at, (pair, (mask, spacing)) in enumerate(zip(pairs, masks, strict=True))
    ]


def _looked_at(image_id: str, image: Array, mask: Array, window: tuple[Array, float]) -> list[Pair]:
    """A part of a plane (I, J) for each hand, still without a rough mask."""
    truth = (_crop(mask.astype(np.float32), window) > 0.5).astype(np.uint8)
    seen = _crop(image.astype(np.float32), window)
    return [Pair(image_id, f"hand_{hand}", seen, truth, truth) for hand in range(HANDS)]


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
    fine: Array = plane[np.ix_(i, j)].astype(np.float32)
    return np.asarray(fine.reshape(SIZE, steps, SIZE, steps).mean((1, 3))[:, :, None])
