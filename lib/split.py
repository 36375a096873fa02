"""Which patients the models learn from and which only measure them."""

from __future__ import annotations

from enum import StrEnum

EVERY = 5
"""Every fifth patient offered for labelling measures the models."""

ENOUGH = 20
"""Labelled validation patients after which all others are learned from."""

WORTH_SPLITTING = 8
"""Images from which on a split that cannot work is told; with fewer, most is still to come."""


class Split(StrEnum):
    """The side of a patient; it never changes."""

    TRAINING = "training"
    VALIDATION = "validation"


def split_warning(images: int, patients: int, most: int) -> str:
    """Why the images cannot be split well, for people; empty if they can, or are too few to say.

    Args:
        images: readable ones.
        patients: whose they are.
        most: images of the patient who has most.
    """
    if images < WORTH_SPLITTING or (patients >= EVERY and most * 2 <= images):
        return ""
    why = (
        f"Every {EVERY}th patient measures the models, so none of these will"
        if patients < EVERY
        else f"{most} of the images are of one of them, who is either learned from or measured on as a whole"
    )
    return (
        f"{images} images, {patients} patient{'' if patients == 1 else 's'}: {why}. Patients are told by PatientID, or "
        "by the first-level folder. If those are no persons, start with --conf patient REGEX or a patients.csv beside "
        "the images; see README."
    )


def split_of(offered_before: int, labelled_validation: int) -> Split:
    """The side of the next patient.

    Args:
        offered_before: patients that already have a side.
        labelled_validation: validation patients with an expert annotation.
    """
    is_fifth = offered_before % EVERY == EVERY - 1
    return Split.VALIDATION if is_fifth and labelled_validation < ENOUGH else Split.TRAINING
