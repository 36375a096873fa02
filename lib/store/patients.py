"""Gives images the patients that the present rule tells, where that rule has changed since they came."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, and_, bindparam, select, update

from lib.errors import SetupError
from lib.split import Split
from lib.stages import Stage
from lib.store import schema
from lib.store.audit import Change
from lib.store.erase import cached, delete_paths
from lib.store.images import ImageKind, ImageState
from lib.store.record import Record


@dataclass(frozen=True)
class Renewed:
    """What came of a changed rule.

    Attributes:
        images: that are another patient's than before.
        patients: whose they are now.
        learned: labelled images that measured the models and are learned from now.
    """

    images: int = 0
    patients: int = 0
    learned: int = 0


@dataclass(frozen=True)
class _Image:
    """One image.

    Attributes:
        id: of the image.
        before: its patient by the record.
        patient: its patient by the rule.
        split: the side of the one before.
    """

    id: str
    before: str
    patient: str
    split: Split | None


def renew_patients(
    record: Record, data: Path, patient_of: Callable[[str], str], author: str, *, may_learn: bool = False
) -> Renewed:
    """Gives each image file the patient of the rule; DICOM series tell theirs themselves, erased images keep it.

    Sides follow: what an expert labelled keeps its side, since models learned from it or were measured on it, and
    gives it to all images of its patient. A patient of whom nobody labelled anything gets one at the next offer.

    Args:
        record: is changed as a whole or not at all, with one row in its audit.
        data: its data folder; what was written for viewers of these images is deleted, since it tells the patient.
        patient_of: the rule: patient by image id.
        author: who started this.
        may_learn: a patient with labels on both sides is learned from. Else that is refused.

    Raises:
        SetupError: if a patient would be both learned from and measured on.
    """
    with record.database.transaction() as connection:
        every = _images(connection, record.task.name, patient_of)
        moved = [image for image in every if image.patient != image.before]
        if not moved:
            return Renewed()
        touched = {image.before for image in moved} | {image.patient for image in moved}
        labelled = _labelled(connection, record.task.name, every)
        torn = [patient for patient in touched if len({image.split for image in labelled[patient]}) > 1]
        if torn and not may_learn:
            raise SetupError(_refusal(labelled[torn[0]], len(torn)))
        sides = {patient: _side(labelled[patient]) for patient in touched}
        with record.images.tallied(connection, schema.image.c.task == record.task.name):
            _write(connection, record.task.name, [image for image in every if image.patient in touched], sides)
        learned = sum(image.split is Split.VALIDATION for patient in torn for image in labelled[patient])
        renewed = Renewed(len(moved), len({image.patient for image in moved}), learned)
        record.audit.add(_change(author, renewed))
        delete_paths(cached(data, [image.id for image in moved]))
    return renewed


def _images(connection: Connection, task: str, patient_of: Callable[[str], str]) -> list[_Image]:
    image = schema.image.c
    query = select(image.id, image.kind, image.patient, image.split).order_by(image.id)
    rows = connection.execute(query.where(image.task == task, image.state != ImageState.ERASED))
    return [
        _Image(
            row.id,
            row.patient,
            patient_of(row.id) if row.kind == ImageKind.FILE else row.patient,
            Split(row.split) if row.split else None,
        )
        for row in rows
    ]


def _labelled(connection: Connection, task: str, images: Sequence[_Image]) -> Mapping[str, list[_Image]]:
    """The images that an expert ever labelled, by patient; models may have seen what was withdrawn since."""
    annotation = schema.annotation.c
    query = select(annotation.image).distinct().where(annotation.task == task, annotation.stage == Stage.EXPERT)
    ids = set(connection.scalars(query))
    found: dict[str, list[_Image]] = defaultdict(list)
    for image in images:
        if image.id in ids and image.split is not None:
            found[image.patient].append(image)
    return found


def _side(labelled: Sequence[_Image]) -> Split | None:
    """The side of a patient: learned from as soon as one image was."""
    sides = {image.split for image in labelled}
    return Split.TRAINING if Split.TRAINING in sides else next(iter(sides), None)


def _write(connection: Connection, task: str, images: Sequence[_Image], sides: Mapping[str, Split | None]) -> None:
    column = schema.image.c
    this = and_(column.task == task, column.id == bindparam("this"))
    # Viewers find a derived series by its patient, so it is listed anew.
    change = update(schema.image).where(this).values(patient=bindparam("whose"), split=bindparam("side"), listed=None)
    connection.execute(
        change, [{"this": image.id, "whose": image.patient, "side": sides[image.patient]} for image in images]
    )


def _refusal(labelled: Sequence[_Image], patients: int) -> str:
    ids = {image.split: image.id for image in labelled}
    return (
        f"By --conf patient and patients.csv {patients} {'patient' if patients == 1 else 'patients'} would be both "
        f"learned from and measured on: {ids[Split.TRAINING]!r} and {ids[Split.VALIDATION]!r} are one person's, for "
        "example. Start with the rule of before. If the new one is right, .venv/bin/python -m scripts.renew_patients "
        "has all images of such persons learned from; see README."
    )


def _change(author: str, renewed: Renewed) -> Change:
    told = f"images={renewed.images}&patients={renewed.patients}&learned={renewed.learned}"
    return Change(author, "admin", "", "", "RENEW", "patients", told, 200)
