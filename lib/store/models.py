"""Model versions: which one serves, where each came from, how good it was.

A task has models of two kinds, each with versions, a serving one and a line of parents of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, and_, func, insert, select, update

from lib.errors import UnknownModel
from lib.store import schema
from lib.store.database import Database

BY_HAND = re.compile(r"; (served|retired) by hand by .*", re.DOTALL)
"""The end of a reason that a person added."""


class ModelKind(StrEnum):
    """What a model does: find structures in an image, or bring a mask closer to the expert's."""

    SEGMENTER = "segmenter"
    REFINER = "refiner"


class ModelState(StrEnum):
    """Whether a version is the one that is asked."""

    CANDIDATE = "candidate"
    SERVING = "serving"
    KEPT = "kept"
    REJECTED = "rejected"


@dataclass(frozen=True)
class NewModel:
    """A trained network to be added.

    Attributes:
        parent: version it was fine-tuned from.
        weights: digest of the checkpoint file.
        network: plain description of the network and its preprocessing.
        training: (image id, annotation version) pairs that it learned from.
        validation: pairs that it was measured on.
        metrics: per-case results, as ``lib/training/validate.py`` gives them.
    """

    parent: int | None
    weights: str
    network: dict[str, Any]
    training: list[tuple[str, int]]
    validation: list[tuple[str, int]]
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Model:
    """One row of the model table; see ``NewModel`` for the fields."""

    version: int
    parent: int | None
    weights: str
    network: dict[str, Any]
    training: list[tuple[str, int]]
    validation: list[tuple[str, int]]
    metrics: dict[str, Any]
    state: ModelState
    reason: str
    created: datetime

    @property
    def is_validated(self) -> bool:
        """Whether there were cases to measure it on."""
        return bool(self.validation)


class Models:
    """The versions of one task's models of one kind."""

    def __init__(self, database: Database, task: str, kind: ModelKind = ModelKind.SEGMENTER) -> None:
        self.database = database
        self.task = task
        self.kind = kind

    @property
    def name(self) -> str:
        """How clients call the model, whatever its version."""
        return f"{self.task}_refine" if self.kind is ModelKind.REFINER else self.task

    def author(self, version: int) -> str:
        """How annotations call a version."""
        return f"model:{self.name}@v{version}"

    def add(self, new: NewModel, state: ModelState, reason: str) -> Model:
        """Adds a version; one that serves takes the place of the one before."""
        with self.database.transaction() as connection:
            newest = connection.scalar(select(func.max(schema.model.c.version)).where(self._is_mine)) or 0
            connection.execute(
                insert(schema.model).values(
                    task=self.task,
                    kind=self.kind,
                    version=newest + 1,
                    parent=new.parent,
                    weights=new.weights,
                    network=new.network,
                    training=[list(pair) for pair in new.training],
                    validation=[list(pair) for pair in new.validation],
                    metrics=new.metrics,
                    state=ModelState.KEPT if state is ModelState.SERVING else state,
                    reason=reason,
                    created=schema.now(),
                )
            )
            if state is ModelState.SERVING:
                self._put_in_service(newest + 1, reason)
            return self.get(newest + 1)

    def serve(self, version: int, author: str) -> Model:
        """Makes one version the serving one by hand; the one before is kept.

        The reason goes on telling how the version was judged when it was made.

        Raises:
            UnknownModel: if there is no such version.
        """
        with self.database.transaction():
            self._put_in_service(version, _noted(self.get(version).reason, f"served by hand by {author}"))
            return self.get(version)

    def _put_in_service(self, version: int, reason: str) -> None:
        with self.database.transaction() as connection:
            connection.execute(
                update(schema.model)
                .where(self._is_mine, schema.model.c.state == ModelState.SERVING)
                .values(state=ModelState.KEPT)
            )
            connection.execute(
                update(schema.model)
                .where(self._is_mine, schema.model.c.version == version)
                .values(state=ModelState.SERVING, reason=reason)
            )

    def retire(self, author: str) -> Model:
        """Takes the serving version out of service by hand, without another in its place.

        Raises:
            UnknownModel: if none serves.
        """
        with self.database.transaction() as connection:
            serving = self.serving()
            if serving is None:
                raise UnknownModel(f"No model of {self.name} serves.")
            connection.execute(
                update(schema.model)
                .where(self._is_mine, schema.model.c.version == serving.version)
                .values(state=ModelState.KEPT, reason=_noted(serving.reason, f"retired by hand by {author}"))
            )
            return self.get(serving.version)

    def get(self, version: int) -> Model:
        """One version.

        Raises:
            UnknownModel: if it does not exist.
        """
        with self.database.reading() as connection:
            row = connection.execute(
                select(schema.model).where(self._is_mine, schema.model.c.version == version)
            ).one_or_none()
        if row is None:
            raise UnknownModel(f"{self.name} has no model version {version}.")
        return _model(row)

    def serving(self) -> Model | None:
        """The version that is asked, if any."""
        with self.database.reading() as connection:
            row = connection.execute(
                select(schema.model).where(self._is_mine, schema.model.c.state == ModelState.SERVING)
            ).one_or_none()
        return _model(row) if row is not None else None

    def start(self) -> Model | None:
        """The version that the next training goes on from.

        The serving one; where none serves, the newest kept one that nobody took out of service by hand: imported
        weights, or what was not yet better than a rule.
        """
        kept = (model for model in reversed(self.every()) if model.state is ModelState.KEPT)
        return self.serving() or next((model for model in kept if not BY_HAND.search(model.reason)), None)

    def every(self) -> list[Model]:
        """All versions, oldest first."""
        with self.database.reading() as connection:
            rows = connection.execute(select(schema.model).where(self._is_mine).order_by(schema.model.c.version))
            return [_model(row) for row in rows]

    @property
    def _is_mine(self) -> Any:
        return and_(schema.model.c.task == self.task, schema.model.c.kind == self.kind)


def _noted(reason: str, note: str) -> str:
    """How a version was judged, with the last thing that a person did to it; the audit has all of them."""
    return f"{BY_HAND.sub('', reason)}; {note}"


def _model(row: Row[Any]) -> Model:
    return Model(
        version=row.version,
        parent=row.parent,
        weights=row.weights,
        network=row.network,
        training=[(image, version) for image, version in row.training],
        validation=[(image, version) for image, version in row.validation],
        metrics=row.metrics,
        state=ModelState(row.state),
        reason=row.reason,
        created=row.created,
    )
