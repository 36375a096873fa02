"""The hostile file of a number: drawn from the seed and the number alone, so that each can be sent again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

from scripts.benchmarks.hostile.archives import ARCHIVES
from scripts.benchmarks.hostile.dicom import dicom
from scripts.benchmarks.hostile.foreign import foreign
from scripts.benchmarks.hostile.nifti import nifti, packed_nifti
from scripts.benchmarks.hostile.nrrd import nrrd
from scripts.benchmarks.hostile.pictures import PICTURES, picture
from scripts.benchmarks.hostile.reach import Chance, Reach, odd_count
from scripts.benchmarks.hostile.weights import weights


class Way(StrEnum):
    """How a file reaches the server."""

    IMAGE = "image"
    MASK = "mask"
    STOW = "stow"
    INFER = "infer"
    ROUGH = "rough"
    SESSION = "session"
    WEIGHTS = "weights"


def _buffer(chance: Chance, reach: Reach) -> bytes:
    """OHIF's raw mask, of about the right length."""
    length = chance.choice([reach.voxels, 2 * reach.voxels, min(max(0, odd_count(chance, reach.voxels)), 1 << 26)])
    return chance.choice([bytes(length), b"\x01" * length, b"\xff" * length])


FORMATS: dict[str, Callable[[Chance, Reach], bytes]] = {
    ".nrrd": nrrd,
    ".seg.nrrd": nrrd,
    ".nii": nifti,
    ".nii.gz": packed_nifti,
    ".bin": _buffer,
    ".pt": weights,
    **ARCHIVES,
    **{suffix: lambda chance, reach, suffix=suffix: picture(suffix, chance) for suffix in PICTURES},
    **{
        f"{kind}.dcm": lambda chance, reach, kind=kind: dicom(kind, chance, reach)
        for kind in ("ct", "mr", "mg", "seg", "rt")
    },
    "foreign": foreign,
}
"""What is drawn under each suffix, or kind of DICOM object."""

VOLUMES = (".nrrd", ".seg.nrrd", ".nii", ".nii.gz")
NAMED_LIKE = (*VOLUMES, *PICTURES, ".dcm", ".bin")
"""Suffixes that a foreign file may have."""

OBJECTS = tuple(kind for kind in FORMATS if kind.endswith(".dcm"))

WAYS: dict[Way, tuple[str, ...]] = {
    Way.IMAGE: (*VOLUMES * 3, *PICTURES, *("foreign",) * 3),
    Way.MASK: (*VOLUMES * 3, ".bin", *("foreign",) * 3),
    Way.STOW: OBJECTS * 2,
    Way.INFER: (*VOLUMES * 2, *PICTURES, "foreign"),
    Way.ROUGH: (*VOLUMES, "foreign"),
    Way.SESSION: (*ARCHIVES, *OBJECTS, *VOLUMES, "foreign"),
    Way.WEIGHTS: (".pt",) * 3,
}
"""What is sent on each way; as often as it stands here."""

KINDS = [(way, kind) for way, kinds in WAYS.items() for kind in kinds]
KINDS += [(way, suffix) for way, suffix in product((Way.IMAGE, Way.MASK), (".pt", ".zip", "ct.dcm", "seg.dcm"))]
random.Random(13).shuffle(KINDS)

MISNAMED = 0.12
"""Share of files that have the name of another format."""


@dataclass(frozen=True)
class HostileFile:
    """A file to be sent.

    Attributes:
        number: by which it is drawn again.
        way: how it is sent.
        kind: as what it was drawn, a key of ``FORMATS``.
        name: under which it is sent.
        content: its bytes.
    """

    number: int
    way: Way
    kind: str
    name: str
    content: bytes

    def __str__(self) -> str:
        """``file 17: .nrrd as mask, x.nrrd, 812 bytes``, for messages."""
        return f"file {self.number}: {self.kind} as {self.way}, {self.name}, {len(self.content)} bytes"


def way_of(number: int) -> Way:
    """How the file of this number is sent."""
    return KINDS[number % len(KINDS)][0]


def hostile_file(number: int, seed: int, reach: Reach) -> HostileFile:
    """The file of this number; all ways and formats take turns."""
    way, kind = KINDS[number % len(KINDS)]
    chance = Chance(f"{seed} file {number}")
    content = FORMATS[kind](chance, reach)
    suffix = kind if kind.startswith(".") else ".dcm" if kind in OBJECTS else chance.choice(NAMED_LIKE)
    if chance.random() < MISNAMED or (way in (Way.IMAGE, Way.MASK) and suffix not in NAMED_LIKE):
        suffix = chance.choice(NAMED_LIKE)
    stem = chance.choice(["hostile"] * 8 + ["x.y", "\u202eevil", "..", "a b", "%2e%2e"])
    return HostileFile(number, way, kind, f"{stem}_{number}{suffix}", content)
