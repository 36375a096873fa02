"""What experts changed: figures of an earlier version of an image beside an expert's version of it.

They are computed after the expert's save, when nobody waits. ``Annotations`` marks the image in the transaction that
stores or withdraws a version; whoever computes takes a marked image and takes the mark off together with storing the
figures. So a crash in between loses nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, delete, func, insert, select, update

from lib.stages import Role, Stage, current, in_force
from lib.store import schema
from lib.store.annotations import Annotation
from lib.store.database import Database
from lib.store.images import Images, ImageState


@dataclass(frozen=True)
class Pair:
    """Two versions of an image that are to be compared.

    Attributes:
        earlier: by a model, rule, refiner or annotator.
        expert: by an expert.
        is_ancestor: whether the expert's version was made from the earlier one, directly or by way of others that were
            no expert's. So what experts change of each other's is never counted as a change of the draft.
        annotator: whose case this pair is in the report on annotators; ``None``: nobody's.
    """

    earlier: Annotation
    expert: Annotation
    is_ancestor: bool
    annotator: str | None


@dataclass(frozen=True)
class Comparison:
    """One row of the comparison table; see ``Pair``.

    Attributes:
        image: its id.
        version: the earlier one.
        expert_version: the expert's.
        role: of who made the earlier one.
        is_ancestor: see ``Pair``.
        annotator: see ``Pair``.
        structures: figures by name, of each structure that both looked at; ``None`` where a figure is undefined.
        reason: why there are no figures; else empty.
    """

    image: str
    version: int
    expert_version: int
    role: Role
    is_ancestor: bool
    annotator: str | None
    structures: dict[str, dict[str, float | None]]
    reason: str = ""


@dataclass(frozen=True)
class Corrected:
    """What experts made of the versions of one role, all together.

    Attributes:
        corrections: how many expert versions were made from one of them.
        drawn_mm: outlines that had to be drawn anew.
        outline_mm: all outlines of the expert versions: what drawing without anything at hand would have taken.
    """

    corrections: int
    drawn_mm: float
    outline_mm: float


@dataclass(frozen=True)
class Cases:
    """How many cases there are of an annotator.

    Attributes:
        compared: with figures.
        waiting: images of which the figures are missing, or older than the newest version.
    """

    compared: int
    waiting: int


class Comparisons:
    """The comparisons of one task."""

    def __init__(self, database: Database, task: str, images: Images) -> None:
        self.database = database
        self.task = task
        self.images = images

    def next_image(self) -> str | None:
        """An image whose comparisons are missing or out of date."""
        image = schema.image.c
        query = select(image.id).where(image.task == self.task, image.uncompared.is_(True)).limit(1)
        with self.database.reading() as connection:
            return connection.scalar(query)

    def is_waiting(self, image_id: str) -> bool:
        """Whether comparisons of this image are missing or out of date."""
        with self.database.reading() as connection:
            return bool(connection.scalar(select(schema.image.c.uncompared).where(self.images.is_one(image_id))))

    def put(self, image_id: str, newest: int, compared: Sequence[Comparison]) -> bool:
        """Keeps the comparisons of an image in place of its earlier ones.

        Args:
            image_id: the image.
            newest: its newest version when they were computed.
            compared: all of them.

        Returns:
            Whether they were kept; not if a newer version was stored or the patient erased meanwhile.
        """
        column, annotation = schema.comparison.c, schema.annotation.c
        of_image = and_(column.task == self.task, column.image == image_id)
        versions = select(func.max(annotation.version)).where(
            annotation.task == self.task, annotation.image == image_id
        )
        with self.database.transaction() as connection:
            if connection.scalar(versions) != newest or not self.is_waiting(image_id):
                return False
            connection.execute(delete(schema.comparison).where(of_image))
            if compared:
                connection.execute(insert(schema.comparison), [self._row(one) for one in compared])
            connection.execute(update(schema.image).where(self.images.is_one(image_id)).values(uncompared=None))
            return True

    def _row(self, one: Comparison) -> dict[str, Any]:
        return {
            "task": self.task,
            **vars(one),
            "drawn_mm": _sum(one, "added_path_mm"),
            "outline_mm": _sum(one, "outline_mm"),
        }

    def of_image(self, image_id: str) -> list[Comparison]:
        """All comparisons of an image, by the expert's version, then by the earlier one."""
        return self._found(schema.comparison.c.image == image_id)

    def of_annotator(self, name: str) -> list[Comparison]:
        """The cases of an annotator, one for each image that was not removed, by image id."""
        return self._found(schema.comparison.c.annotator == name)

    def _found(self, condition: ColumnElement[bool]) -> list[Comparison]:
        column = schema.comparison.c
        query = (
            select(
                column.image, column.version, column.expert_version, column.role, column.is_ancestor,
                column.annotator, column.structures, column.reason,
            )
            .where(self._is_shown, condition)
            .order_by(column.image, column.expert_version, column.version)
        )  # fmt: skip
        with self.database.reading() as connection:
            return [
                Comparison(image, version, expert_version, Role(role), *others)
                for image, version, expert_version, role, *others in connection.execute(query)
            ]

    def annotators(self) -> dict[str, Cases]:
        """Everybody who has cases, compared or waiting, by name."""
        column = schema.comparison.c
        compared = (
            select(column.annotator, func.count())
            .where(self._is_shown, column.annotator.is_not(None), column.reason == "")
            .group_by(column.annotator)
        )
        author = schema.annotation.c.author
        waiting = self._waiting(author, func.count(schema.annotation.c.image.distinct())).group_by(author)
        with self.database.reading() as connection:
            done = {str(name): count for name, count in connection.execute(compared)}
            open_ = {str(name): count for name, count in connection.execute(waiting)}
        return {name: Cases(done.get(name, 0), open_.get(name, 0)) for name in sorted(done.keys() | open_.keys())}

    def count_waiting(self, name: str) -> int:
        """Images of an annotator whose comparisons are missing or out of date."""
        annotation = schema.annotation.c
        with self.database.reading() as connection:
            query = self._waiting(func.count(annotation.image.distinct())).where(annotation.author == name)
            return connection.scalar(query) or 0

    def _waiting(self, *columns: Any) -> Select[Any]:
        image, annotation = schema.image.c, schema.annotation.c
        return (
            select(*columns)
            .select_from(schema.image)
            .join(schema.annotation, and_(image.task == annotation.task, image.id == annotation.image))
            .where(
                image.task == self.task,
                image.state != ImageState.HIDDEN,
                image.uncompared.is_(True),
                annotation.role == Role.ANNOTATOR,
                annotation.stage != Stage.WITHDRAWN,
            )
        )

    def totals(self) -> dict[Role, Corrected]:
        """What experts made of the versions that models, rules, refiners and annotators had made, removed images aside.

        An expert's version that was made from another expert's is in no sum.
        """
        column = schema.comparison.c
        query = (
            select(column.role, func.count(), func.sum(column.drawn_mm), func.sum(column.outline_mm))
            .where(self._is_shown, column.is_ancestor, column.reason == "")
            .group_by(column.role)
        )
        with self.database.reading() as connection:
            return {Role(role): Corrected(*figures) for role, *figures in connection.execute(query)}

    @property
    def _is_shown(self) -> ColumnElement[bool]:
        image, column = schema.image.c, schema.comparison.c
        # The few removed images are named instead of looking every image up.
        removed = select(image.id).where(image.task == self.task, image.state == ImageState.HIDDEN)
        return and_(column.task == self.task, column.image.not_in(removed))


def pairs_of(history: Sequence[Annotation]) -> list[Pair]:
    """The versions of an image that are to be compared; withdrawn ones are in no pair.

    Each expert version with every version in its ancestry back to the last expert's before it, which needed no work on
    these any more; and the newest version that each annotator made by themselves, not from an expert's, with the newest
    expert version that came of it, also by way of an earlier expert's, else with the current one.

    Args:
        history: all versions of one image.
    """
    valid = [annotation for annotation in in_force(history) if annotation.mask is not None]
    experts = [annotation for annotation in valid if annotation.stage is Stage.EXPERT]
    if not experts:
        return []
    ancestry = {expert.version: _ancestry(expert, history) for expert in experts}
    taken_over = {expert.version: _until_expert(ancestry[expert.version], experts) for expert in experts}
    drawn_by_experts = {annotation.version for annotation in history if annotation.stage is Stage.EXPERT}
    newest = {
        annotation.author: annotation
        for annotation in valid
        # A copy of an expert's mask says nothing of who changed it here and there.
        if annotation.role is Role.ANNOTATOR and drawn_by_experts.isdisjoint(_ancestry(annotation, history))
    }
    cases = {
        mine.version: next((e for e in reversed(experts) if mine.version in ancestry[e.version]), current(experts))
        for mine in newest.values()
    }
    return [
        Pair(earlier, expert, is_ancestor, earlier.author if is_case else None)
        for expert in experts
        for earlier in valid
        if earlier.stage is not Stage.EXPERT
        for is_ancestor in [earlier.version in taken_over[expert.version]]
        for is_case in [cases.get(earlier.version) == expert]
        if is_ancestor or is_case
    ]


def _ancestry(annotation: Annotation, history: Sequence[Annotation]) -> list[int]:
    """The versions that a version was made from, directly or by way of others, newest first."""
    parents = {earlier.version: earlier.parent for earlier in history}
    found: list[int] = []
    parent = annotation.parent
    while parent is not None:
        found.append(parent)
        parent = parents[parent]
    return found


def _until_expert(ancestry: Sequence[int], experts: Sequence[Annotation]) -> list[int]:
    """What comes before the first expert's version in an ancestry, one that was withdrawn aside."""
    ends = {expert.version for expert in experts}
    return list(takewhile(lambda version: version not in ends, ancestry))


def _sum(one: Comparison, figure: str) -> float:
    return math.fsum(figures[figure] or 0.0 for figures in one.structures.values())
