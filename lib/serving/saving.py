"""A person's mask becomes an annotation, however it came."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lib.errors import InvalidRequest, SavedMeanwhile
from lib.labels import voxels_per_structure
from lib.serving.annotator import Annotator
from lib.serving.requests import Submission
from lib.stages import PEOPLE, current, in_force, saved_since, stage_of
from lib.store.annotations import Annotation, NewAnnotation
from lib.store.record import Record
from lib.task import Task
from lib.volume import Array, Grid, Volume, nifti_bytes


@dataclass(frozen=True)
class Saved:
    """What came of a mask that somebody saved.

    Attributes:
        annotation: the version that it is now.
        is_new: whether it was none before.
        note: what the person should know of it beside; mostly empty.
    """

    annotation: Annotation
    is_new: bool
    note: str


@dataclass(frozen=True)
class PackedMask:
    """A mask as it is kept.

    Attributes:
        content: gzipped NIfTI file of the task's label values on the image's grid.
        voxels: voxels per structure that was looked at.
    """

    content: bytes
    voxels: dict[str, int]


def packed(mask: Array, grid: Grid, task: Task, looked_at: tuple[str, ...]) -> PackedMask:
    """Packs a mask, uint8 (I, J, K) of the task's label values on ``grid``; others need not wait for that.

    Raises:
        InvalidRequest: if it holds structures that were not looked at.
    """
    voxels = covered_voxels(mask, task, looked_at)
    return PackedMask(nifti_bytes(Volume(mask, grid.affine)), voxels)


def save_mask(record: Record, mask: Array, grid: Grid, submission: Submission, annotator: Annotator) -> Saved:
    """Packs a mask, uint8 (I, J, K) of the task's label values on ``grid``, and appends it as ``save_packed``.

    Raises:
        InvalidRequest: if the mask holds structures that the submission does not cover; and as ``save_packed``.
    """
    content = packed(mask, grid, record.task, submission.looked_at)
    return save_packed(record, content, submission, annotator)


def save_packed(
    record: Record,
    mask: PackedMask,
    submission: Submission,
    annotator: Annotator,
    and_then: Callable[[Annotation], None] = lambda annotation: None,
) -> Saved:
    """Appends a mask to the history of its image; the same mask sent again is the version that it has become already.

    A client that does not say which version it was made from has corrected the one that the server gave this person
    last, else the current one.

    Args:
        record: gets the file and the row.
        mask: of the structures that the submission covers.
        submission: what is known of the mask.
        annotator: who made it.
        and_then: what else belongs to the transaction; what it raises undoes all of it.

    Raises:
        UnknownImage, StageConflict: as the words say.
        SavedMeanwhile: if somebody has saved after the version that the client names, and it does not insist.
    """
    image_id = submission.image_id
    with record.storing_mask(mask.content) as digest:
        history = record.annotations.history(image_id)
        parent = _made_from(record, history, submission, annotator)
        record.assignments.finish(image_id, annotator.name)
        new = annotation_by(annotator, submission, digest, mask.voxels, parent)
        known = _saved_already(new, history)
        if known is None and submission.parent is not None and not submission.anyway:
            refuse_what_is_behind(history, submission.parent)
        annotation = known or record.annotations.add(new)
        and_then(annotation)
        record.openings.note(image_id, annotator.name, annotation.version)
        note = note_on(record, annotation) or (_note_on_meanwhile(history, annotation, parent) if not known else "")
        return Saved(annotation, known is None, note)


def annotation_by(
    annotator: Annotator, submission: Submission, mask: str, voxels: dict[str, int], parent: int
) -> NewAnnotation:
    """What a person's mask is in the record.

    Args:
        annotator: whose it is; the role gives the stage.
        submission: what is known of it.
        mask: digest of its file.
        voxels: voxels per structure that was looked at.
        parent: version it was made from; 0: none.
    """
    return NewAnnotation(
        image=submission.image_id,
        stage=stage_of(annotator.role),
        author=annotator.name,
        role=annotator.role,
        mask=mask,
        looked_at=submission.looked_at,
        voxels=voxels,
        parent=parent or None,
        tag=submission.tag,
        client=annotator.client,
        seconds=submission.seconds,
        info=submission.info,
    )


def covered_voxels(mask: Array, task: Task, looked_at: tuple[str, ...]) -> dict[str, int]:
    """How many voxels of a mask belong to each structure that was looked at, zeros included.

    Raises:
        InvalidRequest: if it holds other structures too.
    """
    voxels = voxels_per_structure(mask, task.structures)
    outside = [name for name, count in voxels.items() if count and name not in looked_at]
    if outside:
        raise InvalidRequest(f"The mask holds {outside}, but structures covers only {list(looked_at)}.")
    return {name: voxels[name] for name in looked_at}


def refuse_what_is_behind(history: Sequence[Annotation], known: int, mask: str | None = None) -> None:
    """Refuses what was made from a version after which somebody has saved another mask.

    Args:
        history: all versions of the image.
        known: the version that the client had; 0: none.
        mask: digest; who saved an equal one has not changed anything.

    Raises:
        SavedMeanwhile: with who did and when.
    """
    later = saved_since(history, known)
    if later is not None and (mask is None or later.mask != mask):
        raise SavedMeanwhile(
            f"{_told(later, known)}; nothing was stored. Look at it first, or save yours anyway (anyway=true): "
            "then both are kept.",
            later.version,
        )


def _made_from(record: Record, history: Sequence[Annotation], submission: Submission, annotator: Annotator) -> int:
    """Number of the version that a mask was made from; 0: none."""
    if submission.parent is not None:
        return submission.parent
    given = record.openings.last(submission.image_id, annotator.name)
    if any(one.version == given for one in in_force(history)):
        return given or 0
    now_current = current(history)
    return now_current.version if now_current is not None else 0


def _saved_already(new: NewAnnotation, history: Sequence[Annotation]) -> Annotation | None:
    """The version that says the same, by the same person, if it was made from the same or is itself sent back.

    Who says again what somebody else has contradicted since says something new.
    """
    same = [
        one
        for one in in_force(history)
        if (one.mask, one.author, one.stage, one.looked_at) == (new.mask, new.author, new.stage, new.looked_at)
        and (one.parent == new.parent or (one.version == new.parent and saved_since(history, one.version) is None))
    ]
    return same[-1] if same else None


def note_on(record: Record, annotation: Annotation) -> str:
    """What becomes of a version that did not become the current one; empty if it did."""
    now_current = current(record.annotations.history(annotation.image))
    if now_current is None or now_current.version == annotation.version or now_current.role not in PEOPLE:
        return ""
    return (
        f"Version {now_current.version} by the {now_current.role} {now_current.author} stays the current one; yours is "
        f"kept as version {annotation.version}, which can be looked at and restored."
    )


def _note_on_meanwhile(history: Sequence[Annotation], annotation: Annotation, parent: int) -> str:
    """Who has saved since the version that a new one was made from."""
    later = saved_since(history, parent)
    if later is None:
        return ""
    return f"{_told(later, parent)}. Both are kept; version {annotation.version} is the current one now."


def _told(later: Annotation, known: int) -> str:
    """Who has saved, and when, after the version that somebody had (0: none)."""
    before = f"version {known}, which yours was made from" if known else "you began without any"
    return f"{later.author} saved version {later.version} on {later.created:%Y-%m-%d at %H:%M} UTC, after {before}"
