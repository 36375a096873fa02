"""Annotations: append-only versions of masks, and which of them counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, delete, func, insert, or_, select, update

from lib.errors import StageConflict, UnknownAnnotation, UnknownImage
from lib.split import Split
from lib.stages import PEOPLE, Role, Stage, Standing, current, in_force, standing
from lib.store import schema
from lib.store.database import Database
from lib.store.images import Images, ImageState
from lib.store.notes import shown

TAG_FINAL = "final"
TAG_ORIGINAL = "original"
TAG_REFINED = "refined"
TAG_VERSION = "version_"


@dataclass(frozen=True)
class NewAnnotation:
    """A mask to be added.

    Attributes:
        image: its image.
        stage: how far it has come.
        author: who made it; ``model:NAME@vN`` for a model.
        role: what the author is.
        mask: digest of the mask file, which is on the disk already.
        looked_at: names of the structures that this author looked for; one that is looked at and absent is a true
            negative.
        voxels: voxels per structure that was looked at.
        parent: version it was made from; ``None``: none.
        tag: what the client called it.
        model_version: segmenter that drew it; ``None``: the one that drew its parent.
        refiner_version: refiner that changed it; ``None``: the one that changed its parent.
        rule: rule that made it.
        client: program that sent it.
        seconds: time the author spent, where the client tells.
        info: what else the client said.
    """

    image: str
    stage: Stage
    author: str
    role: Role
    mask: str
    looked_at: tuple[str, ...]
    voxels: dict[str, int]
    parent: int | None = None
    tag: str = ""
    model_version: int | None = None
    refiner_version: int | None = None
    rule: str = ""
    client: str = ""
    seconds: float | None = None
    info: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Annotation:
    """One row of the annotation table; see ``NewAnnotation`` for the fields.

    Attributes:
        id: counts all annotations of the record, in the order they were stored.
        version: counts those of the image, from 1 without gaps.
        mask: ``None`` for a withdrawal.
        created: when, in UTC.
    """

    id: int
    image: str
    version: int
    stage: Stage
    author: str
    role: Role
    parent: int | None
    mask: str | None
    looked_at: tuple[str, ...]
    voxels: dict[str, int]
    tag: str
    model_version: int | None
    refiner_version: int | None
    rule: str
    client: str
    seconds: float | None
    info: dict[str, Any]
    created: datetime


class Annotations:
    """The annotations of one task."""

    def __init__(self, database: Database, task: str, images: Images) -> None:
        self.database = database
        self.task = task
        self.images = images

    def add(self, new: NewAnnotation) -> Annotation:
        """Appends a version and renews where its image stands.

        Raises:
            UnknownImage: if there is no such image, or it was removed.
            StageConflict: if there is no such parent in force.
        """
        with self.database.transaction() as connection:
            image = self.images.find(new.image)
            if image is None or image.state in (ImageState.HIDDEN, ImageState.ERASED):
                raise UnknownImage(f"There is no image {new.image!r}, so nothing was stored.")
            history = self.history(new.image)
            origin = _origin(new, history)
            values = {
                "stage": new.stage,
                "author": new.author,
                "role": new.role,
                "parent": new.parent,
                "mask": new.mask,
                "looked_at": list(new.looked_at),
                "voxels": new.voxels,
                "tag": new.tag,
                "model_version": _or_that_of(origin, "model_version", new.model_version),
                "refiner_version": _or_that_of(origin, "refiner_version", new.refiner_version),
                "rule": new.rule,
                "client": new.client,
                "seconds": new.seconds,
                "info": new.info,
            }
            added = self._append(connection, new.image, history, values)
            if new.role in PEOPLE:
                self.images.offer(new.image)
            return added

    def withdraw(self, image_id: str, version: int, author: str, role: Role, client: str = "") -> Annotation:
        """Takes a version back; the rows and the mask stay.

        Raises:
            UnknownAnnotation: if there is no such version in force.
        """
        with self.database.transaction() as connection:
            history = self.history(image_id)
            if version not in {annotation.version for annotation in in_force(history)}:
                raise UnknownAnnotation(f"{image_id!r} has no version {version} that could be withdrawn.")
            values = {
                "stage": Stage.WITHDRAWN,
                "author": author,
                "role": role,
                "parent": version,
                "mask": None,
                "looked_at": [],
                "voxels": {},
                "tag": "",
                "client": client,
                "info": {},
            }
            comparison = schema.comparison.c
            is_of_it = or_(comparison.version == version, comparison.expert_version == version)
            connection.execute(
                delete(schema.comparison).where(comparison.task == self.task, comparison.image == image_id, is_of_it)
            )
            return self._append(connection, image_id, history, values)

    def _append(
        self, connection: Connection, image_id: str, history: Sequence[Annotation], values: dict[str, Any]
    ) -> Annotation:
        version = len(history) + 1
        connection.execute(
            insert(schema.annotation).values(
                task=self.task, image=image_id, version=version, created=schema.now(), **values
            )
        )
        added = self.get(image_id, version)
        now_current = current([*history, added])
        image = self.images.is_one(image_id)
        with self.images.tallied(connection, image):
            stands: dict[str, Any] = {
                "standing": standing(now_current),
                "current": now_current.version if now_current else None,
            }
            if added.role in PEOPLE and stands["standing"] is Standing.LABELLED:
                stands["uncompared"] = True
            connection.execute(update(schema.image).where(image).values(stands))
        return added

    def note(self, image_id: str, version: int, info: dict[str, Any]) -> None:
        """Adds a client's remarks to a version, over those of the same name."""
        with self.database.transaction() as connection:
            known = self.get(image_id, version)
            connection.execute(
                update(schema.annotation).where(schema.annotation.c.id == known.id).values(info={**known.info, **info})
            )

    def get(self, image_id: str, version: int) -> Annotation:
        """One version of an image.

        Raises:
            UnknownAnnotation: if it does not exist.
        """
        with self.database.reading() as connection:
            row = connection.execute(self._of(image_id).where(schema.annotation.c.version == version)).one_or_none()
        if row is None:
            raise UnknownAnnotation(f"{image_id!r} has no annotation of version {version}.")
        return _annotation(row)

    def history(self, image_id: str) -> list[Annotation]:
        """All versions of an image, withdrawn ones and withdrawals included, oldest first."""
        with self.database.reading() as connection:
            return [_annotation(row) for row in connection.execute(self._of(image_id))]

    def all_histories(self) -> dict[str, list[Annotation]]:
        """All versions of all images, oldest first, by image id."""
        column = schema.annotation.c
        query = select(schema.annotation).where(column.task == self.task).order_by(column.image, column.version)
        histories: dict[str, list[Annotation]] = {}
        with self.database.reading() as connection:
            for row in connection.execute(query):
                histories.setdefault(row.image, []).append(_annotation(row))
        return histories

    def tagged(self, image_id: str, tag: str) -> Annotation:
        """The version that a tag of MONAI Label's protocol stands for.

        ``final`` is the current expert annotation, else the current human one; ``original`` what an expert starts or
        has started from: a junior's mask or what was refined of it, else the newest draft; ``refined`` what the
        refiner made of the newest mask; ``version_N`` version N; any other tag the newest version stored under it. An
        empty tag is the current annotation.

        Raises:
            UnknownAnnotation: if the image has none.
        """
        history = self.history(image_id)
        found = _by_tag(history, tag)
        if found is None:
            versions = ", ".join(f"version_{a.version} ({a.stage} by {a.author})" for a in history) or "none"
            raise UnknownAnnotation(f"{image_id!r} has no annotation tagged {tag!r}; it has {versions}.")
        return found

    def draft_of(self, image_id: str, author: str) -> Annotation | None:
        """The draft that a model version or a rule made of an image, unless it was withdrawn or its mask is gone."""
        drafts = [
            annotation
            for annotation in in_force(self.history(image_id))
            if annotation.role in (Role.MODEL, Role.RULE) and annotation.author == author and annotation.mask
        ]
        return drafts[-1] if drafts else None

    def refinement_of(self, image_id: str, parent: int, refiner_version: int) -> Annotation | None:
        """What a refiner version made of a version of an image, unless that was withdrawn."""
        refined = [
            annotation
            for annotation in in_force(self.history(image_id))
            if annotation.role is Role.REFINER
            and (annotation.parent, annotation.refiner_version) == (parent, refiner_version)
        ]
        return refined[-1] if refined else None

    def expert_labels(self, split: Split) -> list[Annotation]:
        """The current expert annotation of each readable image on one side of the split, by image id."""
        image, annotation = schema.image.c, schema.annotation.c
        query = (
            select(schema.annotation)
            .join(
                schema.image,
                and_(image.task == annotation.task, image.id == annotation.image, image.current == annotation.version),
            )
            .where(
                image.task == self.task,
                image.state == ImageState.OK,
                image.standing == Standing.LABELLED,
                image.split == split,
            )
            .order_by(image.id)
        )
        with self.database.reading() as connection:
            return [_annotation(row) for row in connection.execute(query)]

    def newest_expert_id(self) -> int:
        """``id`` of the newest expert annotation or withdrawal, 0 if there is none."""
        column = schema.annotation.c
        query = select(func.max(column.id)).where(
            column.task == self.task, column.stage.in_([Stage.EXPERT, Stage.WITHDRAWN])
        )
        with self.database.reading() as connection:
            return connection.scalar(query) or 0

    def expert_count_since(self, annotation_id: int, *, is_corrected: bool = False) -> int:
        """Of how many images expert annotations were stored after the one given.

        Args:
            annotation_id: counts all annotations of the record.
            is_corrected: count only those that were made from another version that was no expert's.
        """
        column = schema.annotation.c
        query = select(func.count(column.image.distinct())).where(
            column.task == self.task, column.stage == Stage.EXPERT, column.id > annotation_id
        )
        if is_corrected:
            origin = schema.annotation.alias("origin")
            is_origin = and_(
                origin.c.task == column.task, origin.c.image == column.image, origin.c.version == column.parent
            )
            query = query.join(origin, is_origin).where(origin.c.stage != Stage.EXPERT)
        with self.database.reading() as connection:
            return connection.scalar(query) or 0

    def count_by_stage(self) -> dict[str, int]:
        """How many images have a current annotation of each stage."""
        image, annotation = schema.image.c, schema.annotation.c
        query = (
            select(annotation.stage, func.count())
            .join(
                schema.image,
                and_(image.task == annotation.task, image.id == annotation.image, image.current == annotation.version),
            )
            .where(image.task == self.task, image.state == ImageState.OK)
            .group_by(annotation.stage)
        )
        with self.database.reading() as connection:
            return {stage: count for stage, count in connection.execute(query)}

    def _of(self, image_id: str) -> Select[Any]:
        column = schema.annotation.c
        return (
            select(schema.annotation).where(column.task == self.task, column.image == image_id).order_by(column.version)
        )


def tags_of(history: Sequence[Annotation]) -> dict[str, Annotation]:
    """The fixed tags of MONAI Label's protocol that an image has, with the version that each stands for."""
    found = {tag: _by_tag(history, tag) for tag in (TAG_ORIGINAL, TAG_REFINED, TAG_FINAL)}
    return {tag: annotation for tag, annotation in found.items() if annotation is not None}


def _by_tag(history: Sequence[Annotation], tag: str) -> Annotation | None:
    valid = in_force(history)
    if tag == TAG_FINAL:
        return current([annotation for annotation in valid if annotation.role in PEOPLE])
    if tag == TAG_ORIGINAL:
        return current([annotation for annotation in valid if annotation.stage is not Stage.EXPERT])
    if tag == TAG_REFINED:
        return current([annotation for annotation in valid if annotation.stage is Stage.REFINED])
    if tag.startswith(TAG_VERSION) and tag.removeprefix(TAG_VERSION).isdecimal():
        # Compared as texts: a number may have any number of digits.
        return next((a for a in history if f"{TAG_VERSION}{a.version}" == tag and a.mask is not None), None)
    return current(valid) if not tag else current([a for a in valid if a.tag == tag])


def _origin(new: NewAnnotation, history: Sequence[Annotation]) -> Annotation | None:
    """The version that a new one was made from."""
    if new.parent is None:
        return None
    valid = {annotation.version: annotation for annotation in in_force(history)}
    if new.parent not in valid:
        raise StageConflict(f"{new.image!r} has no version {new.parent} to correct; it has {sorted(valid) or 'none'}.")
    return valid[new.parent]


def _or_that_of(origin: Annotation | None, what: str, version: int | None) -> int | None:
    """A model version that is told, else the one behind the annotation that this one was made from."""
    return getattr(origin, what, None) if version is None else version


def _annotation(row: Row[Any]) -> Annotation:
    return Annotation(
        id=row.id,
        image=row.image,
        version=row.version,
        stage=Stage(row.stage),
        author=row.author,
        role=Role(row.role),
        parent=row.parent,
        mask=row.mask,
        looked_at=tuple(row.looked_at),
        voxels=row.voxels,
        tag=row.tag,
        model_version=row.model_version,
        refiner_version=row.refiner_version,
        rule=row.rule,
        client=row.client,
        seconds=row.seconds,
        info=shown(row.info),
        created=row.created,
    )
