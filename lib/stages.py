"""What a stored mask is worth, who may make which, and which version of an image counts."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol, TypeVar


class Stage(StrEnum):
    """How far an annotation has come."""

    DRAFT = "draft"
    REFINED = "refined"
    EXPERT = "expert"
    WITHDRAWN = "withdrawn"


class Role(StrEnum):
    """Who made an annotation: people by what they may do, programs by what they are."""

    VIEWER = "viewer"
    ANNOTATOR = "annotator"
    EXPERT = "expert"
    ADMIN = "admin"
    MODEL = "model"
    RULE = "rule"
    REFINER = "refiner"


PEOPLE = (Role.VIEWER, Role.ANNOTATOR, Role.EXPERT, Role.ADMIN)
"""Roles that a person can have, each may do what the earlier ones may."""

PROGRAMS = (Role.MODEL, Role.RULE, Role.REFINER)
"""Roles of what the server computes."""


class Standing(StrEnum):
    """Where an image is on its way, told by its current annotation."""

    UNTOUCHED = "untouched"
    DRAFTED = "drafted"
    WAITING = "waiting"
    LABELLED = "labelled"


class Version(Protocol):
    """What the rules below need to know of an annotation."""

    @property
    def version(self) -> int:
        """Number within the image, from 1 without gaps."""

    @property
    def stage(self) -> Stage:
        """How far it has come."""

    @property
    def role(self) -> Role:
        """Who made it."""

    @property
    def parent(self) -> int | None:
        """The version it was made from, or that it takes back."""


AnyVersion = TypeVar("AnyVersion", bound=Version)


def stage_of(role: Role) -> Stage:
    """The stage of a mask that somebody with this role stores."""
    if role in (Role.EXPERT, Role.ADMIN):
        return Stage.EXPERT
    return Stage.REFINED if role is Role.REFINER else Stage.DRAFT


def standing(version: Version | None) -> Standing:
    """Where an image stands whose current annotation is the one given.

    A junior's mask and a refined one wait for an expert; a draft by a model or a rule waits for anybody.
    """
    if version is None:
        return Standing.UNTOUCHED
    if version.stage is Stage.EXPERT:
        return Standing.LABELLED
    return Standing.DRAFTED if version.role in (Role.MODEL, Role.RULE) else Standing.WAITING


def in_force(versions: Sequence[AnyVersion]) -> list[AnyVersion]:
    """The versions that nobody took back, oldest first; what the refiner made of one goes with it."""
    gone = {version.parent for version in versions if version.stage is Stage.WITHDRAWN}
    kept = []
    for version in sorted(versions, key=lambda version: version.version):
        if version.stage is Stage.REFINED and version.parent in gone:
            gone.add(version.version)
        if version.stage is not Stage.WITHDRAWN and version.version not in gone:
            kept.append(version)
    return kept


def saved_since(versions: Sequence[AnyVersion], known: int) -> AnyVersion | None:
    """The newest version in force that a person has stored after a known one; what programs made does not count.

    Args:
        versions: all of an image.
        known: number of the version that somebody has in front of them; 0: none.
    """
    later = [version for version in in_force(versions) if version.role in PEOPLE and version.version > known]
    return later[-1] if later else None


def current(versions: Sequence[AnyVersion]) -> AnyVersion | None:
    """The version that counts: the newest expert's, else a junior's or refined one, else a program's draft.

    A refined version is as new as what it was made from: it never takes the place of what people stored since.
    """
    order = (Standing.DRAFTED, Standing.WAITING, Standing.LABELLED)

    def rank(version: AnyVersion) -> tuple[int, int, int]:
        source = version.parent if version.stage is Stage.REFINED else None
        return order.index(standing(version)), source or version.version, version.version

    return max(in_force(versions), key=rank, default=None)
