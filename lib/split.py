"""Which patients the models learn from and which only measure them."""

from __future__ import annotations

from enum import StrEnum

EVERY = 5
"""Every fifth patient offered for labelling measures the models."""

ENOUGH = 20
"""Labelled validation patients after which all others are learned from."""


class Split(StrEnum):
    """The side of a patient; it never changes."""

    TRAINING = "training"
    VALIDATION = "validation"


def split_of(offered_before: int, labelled_validation: int) -> Split:
    """The side of the next patient.

    Args:
        offered_before: patients that already have a side.
        labelled_validation: validation patients with an expert annotation.
    """
    is_fifth = offered_before % EVERY == EVERY - 1
    return Split.VALIDATION if is_fifth and labelled_validation < ENOUGH else Split.TRAINING
