"""What the objects that are written here say about their origin, and the texts and UIDs that DICOM allows."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from pydicom.uid import UID, generate_uid

from lib.errors import InvalidSetting

MAKER = "Label Refinery"

LONGEST_TEXT = 64
"""Letters of a long string (PS3.5 section 6.2), such as SegmentLabel and SeriesDescription."""

SEPARATORS = "^=\\"
"""Signs that divide a person's name into parts."""

REPEATED = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
"""What an object must repeat from its images, empty if they do not tell (PS3.3, type 2)."""


@dataclass(frozen=True)
class Algorithm:
    """What drew a mask by itself, or helped to.

    Attributes:
        name: for example ``segmentation``.
        version: for example ``v3``.
        is_learned: a network; otherwise rules, such as thresholds and morphology.
    """

    name: str
    version: str
    is_learned: bool = True


@dataclass(frozen=True)
class Provenance:
    """What an object says about its origin.

    Attributes:
        description: how viewers list it, for example ``DRAFT model segmentation v3``; up to 64 letters.
        creator: who drew it, a person or a program.
        made_at: when.
        seed: names the annotation; equal seeds give equal UIDs, so that one annotation is always the same object.
        algorithm: ``None`` if a person drew it alone.
        is_corrected: a person worked on what the algorithm drew.
    """

    description: str
    creator: str
    made_at: dt.datetime
    seed: str
    algorithm: Algorithm | None = None
    is_corrected: bool = False

    @property
    def algorithm_type(self) -> str:
        """SegmentAlgorithmType (0062,0008)."""
        if self.algorithm is None:
            return "MANUAL"
        return "SEMIAUTOMATIC" if self.is_corrected else "AUTOMATIC"


def uid_of(what: str, *names: str) -> UID:
    """A UID that is always the same for the same things."""
    return generate_uid(entropy_srcs=[MAKER, what, " ".join(names)])


def dicom_text(text: str, what: str) -> str:
    """A text that fits into a long string.

    Raises:
        InvalidSetting: if it is too long or holds a backslash; ``what`` names it.
    """
    if len(text) > LONGEST_TEXT or "\\" in text:
        raise InvalidSetting(
            f"The {what} {text!r} cannot be stored in DICOM: wanted are up to {LONGEST_TEXT} letters and no backslash. "
            "Choose another one."
        )
    return text


def person_name(name: str) -> str:
    """A person's name (PS3.5 section 6.2.1.2) that is all family name, cut if it is too long."""
    return f"{name.translate(dict.fromkeys(map(ord, SEPARATORS), ' '))[: LONGEST_TEXT - 1]}^" if name else ""
