"""What was found and what was missed: by lesion, and by case.

A lesion is a connected piece of a mask; voxels that touch by a face, an edge or a corner belong together. Its size is
its volume in mm³, or its area in mm² in an image of one slice, whose thickness means nothing: see ``size_of_voxel``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lib.metrics.masks import as_masks, joint_box
from lib.volume import Array, Grid


@dataclass(frozen=True)
class LesionRule:
    """What counts as a lesion, and when one is found.

    Attributes:
        least_size: mm³ (mm² in an image of one slice); smaller true lesions are not counted, smaller predicted ones
            are taken away before anything else.
        least_overlap: share of a true lesion's voxels that must be predicted, above 0 and up to 1.
    """

    least_size: float = 0.0
    least_overlap: float = 0.1


def size_of_voxel(grid: Grid) -> float:
    """mm³ of a voxel; mm² of a pixel if the grid has one slice."""
    edges_mm = [edge for edge, size in zip(grid.spacing_mm, grid.shape, strict=True) if size > 1]
    return math.prod(edges_mm) if len(edges_mm) == 2 else grid.voxel_mm3


@dataclass(frozen=True)
class LesionCount:
    """Lesions of one structure in one case, or in many cases together.

    Attributes:
        true: lesions in the truth.
        found: those of them that were found.
        false: predicted lesions where there is none.
    """

    true: int
    found: int
    false: int

    @property
    def sensitivity(self) -> float:
        """Share of the true lesions that were found; ``nan`` if there is none."""
        return self.found / self.true if self.true else math.nan


def lesion_count(
    truth: Array,
    prediction: Array,
    voxel_size: float,
    rule: LesionRule = LesionRule(),
) -> LesionCount:
    """Compares two masks lesion by lesion.

    A true lesion is found if enough of its voxels are predicted, by however many pieces. A predicted lesion is false
    if it touches neither a lesion that was found nor a true one that is too small to count. So a lesion drawn much too
    large is found and not false, and one that is only grazed is missed and false.

    Args:
        truth: bool (I, J, K), the expert's mask of one structure.
        prediction: bool (I, J, K), on the same grid as ``truth``.
        voxel_size: mm³ of a voxel; mm² in an image of one slice.
        rule: what counts.

    Returns:
        Zeros where a mask is empty.

    Raises:
        GridMismatch: if the shapes differ.

    Reference:
        Sizes from 250 mm³ and an overlap of 10 %: the prostate cancers of DecNet, Machine Learning in Medical Imaging
        (MLMI 2023), LNCS 14348, pages 341 to 350.
    """
    truth, prediction = as_masks(truth, prediction)
    box = joint_box(truth, prediction)
    true_pieces, true_sizes = _pieces(truth[box], voxel_size)
    predicted_pieces, predicted_sizes = _pieces(prediction[box], voxel_size)
    is_predicted = np.isin(predicted_pieces, _at_least(predicted_sizes, rule.least_size))
    counted = _at_least(true_sizes, rule.least_size)
    shared_sizes = np.bincount(true_pieces[is_predicted], minlength=len(true_sizes)) * voxel_size
    # Shares are compared with room for the last digit: a tenth of ten voxels is enough.
    found = [
        lesion for lesion in counted if shared_sizes[lesion] >= rule.least_overlap * true_sizes[lesion] * (1 - 1e-9)
    ]
    too_small = np.setdiff1d(np.arange(1, len(true_sizes)), counted)
    excused = predicted_pieces[np.isin(true_pieces, [*found, *too_small])]
    false = np.setdiff1d(predicted_pieces[is_predicted], excused)
    return LesionCount(len(counted), len(found), len(false))


def has_lesion(mask: Array, voxel_size: float, least_size: float = 0.0) -> bool:
    """Whether a mask makes its case positive: one of its lesions has at least this size; any voxel does for 0.

    Args:
        mask: bool (I, J, K), of one structure.
        voxel_size: mm³ of a voxel; mm² in an image of one slice.
        least_size: in the same unit.
    """
    mask, _ = as_masks(mask, mask)
    _, sizes = _pieces(mask[joint_box(mask, mask)], voxel_size)
    return bool(_at_least(sizes, least_size).size)


def false_positive_ml(truth: Array, prediction: Array, voxel_mm3: float) -> float:
    """Volume that was predicted outside the truth, in ml; 0.0 if nothing was predicted.

    Where the truth is empty, it is all that a reader must take away, and Dice, which is 0 then, does not tell how
    much that is.

    Raises:
        GridMismatch: if the shapes differ.
    """
    truth, prediction = as_masks(truth, prediction)
    return int(np.count_nonzero(prediction & ~truth)) * voxel_mm3 / 1000


@dataclass(frozen=True)
class CaseCount:
    """How many cases are positive by truth and prediction.

    Attributes:
        positives: cases that have the structure.
        found: those of them that were predicted to have it.
        negatives: cases that do not have it.
        refuted: those of them that were predicted not to have it.
    """

    positives: int
    found: int
    negatives: int
    refuted: int

    @property
    def sensitivity(self) -> float:
        """Share of the positive cases that were found; ``nan`` if there is none."""
        return self.found / self.positives if self.positives else math.nan

    @property
    def specificity(self) -> float:
        """Share of the negative cases that were left alone; ``nan`` if there is none."""
        return self.refuted / self.negatives if self.negatives else math.nan


def case_count(cases: Iterable[tuple[bool, bool]]) -> CaseCount:
    """Counts cases.

    Args:
        cases: for each, whether the truth and whether the prediction is positive.
    """
    pairs = list(cases)
    positives = [predicted for is_true, predicted in pairs if is_true]
    negatives = [predicted for is_true, predicted in pairs if not is_true]
    return CaseCount(len(positives), sum(positives), len(negatives), len(negatives) - sum(negatives))


def _pieces(mask: Array, voxel_size: float) -> tuple[Array, Array]:
    """Int (I, J, K) with the number of each voxel's piece, and the size of each by its number; 0 is the background."""
    pieces, _ = ndimage.label(mask, ndimage.generate_binary_structure(3, 3))
    return pieces, np.bincount(pieces.ravel(), minlength=1) * voxel_size


def _at_least(sizes: Array, least_size: float) -> Array:
    """Numbers of the pieces that are large enough."""
    return np.flatnonzero(sizes[1:] >= least_size * (1 - 1e-9)) + 1
