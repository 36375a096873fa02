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
    """The versions that nobody took back, oldest first."""
    taken_back = {version.parent for version in versions if version.stage is Stage.WITHDRAWN}
    kept = [v for v in versions if v.stage is not Stage.WITHDRAWN and v.version not in taken_back]
    return sorted(kept, key=lambda version: version.version)


def current(versions: Sequence[AnyVersion]) -> AnyVersion | None:
    """The version that counts: the newest expert's, else a junior's or refined one, else a program's draft."""
    order = (Standing.DRAFTED, Standing.WAITING, Standing.LABELLED)
    ranked = sorted(in_force(versions), key=lambda version: (order.index(standing(version)), version.version))
    return ranked[-1] if ranked else None
