"""Pairs to refine: the drawn blocks, drawn roughly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lib.refinement.perturb import perturbed, random_perturbations
from lib.training.cases import TrainingCase
from tests.training.shapes import case, drawn

EDGES_MM = (1.0, 1.0, 1.0)


def rough(seed: int) -> np.ndarray:
    """A rough mask of a drawn case."""
    mask = drawn(seed)[1]
    return perturbed(mask, EDGES_MM, random_perturbations(mask, EDGES_MM, seed))


def pair(seed: int) -> TrainingCase:
    """A drawn case with its rough mask."""
    return replace(case(seed), load_draft=lambda: rough(seed))
