"""A mask that is there already becomes a person's: an expert accepts it, or somebody goes back to an earlier one."""

from __future__ import annotations

from dataclasses import replace

from lib.errors import NotAllowed, UnknownAnnotation
from lib.serving.annotator import Annotator
from lib.serving.requests import Submission
from lib.serving.saving import Saved, annotation_by, note_on, refuse_what_is_behind
from lib.stages import Role, Stage, current, in_force, stage_of
from lib.store.annotations import Annotation
from lib.store.record import Record


def accept(record: Record, submission: Submission, version: int | None, annotator: Annotator) -> Saved:
    """Appends an expert's version with the mask of another version.

    What is accepted already is not accepted again, however often and by how many it is asked for. A second expert may
    agree with what another one drew, once, or with a version by its number.

    Args:
        record: gets the row.
        submission: what the client says beside the mask, of which it sends none.
        version: what is accepted; ``None``: the current annotation.
        annotator: who accepts it.

    Raises:
        NotAllowed: if the annotator is no expert.
        UnknownImage, UnknownAnnotation: if there is no such version in force, or its mask is no longer kept.
        SavedMeanwhile: if somebody has saved another mask after the version that is named, and nobody insists.
    """
    if annotator.role not in (Role.EXPERT, Role.ADMIN):
        raise NotAllowed(f"Masks are accepted by experts; {annotator.name} is {annotator.role}.")
    image_id = submission.image_id
    record.images.get(image_id)
    # Somebody else may store or accept at the same time.
    with record.database.transaction():
        history = record.annotations.history(image_id)
        now_current = current(history)
        wanted = now_current if version is None else _in_force(history, version)
        if wanted is None:
            raise UnknownAnnotation(f"{image_id!r} has no mask to accept yet.")
        if now_current is not None and _is_accepted(now_current, wanted, history, version, annotator):
            return Saved(now_current, is_new=False, note="")
        if version is not None and not submission.anyway:
            refuse_what_is_behind(history, version, wanted.mask)
        return _said_again(record, wanted, submission, annotator)


def restore(record: Record, submission: Submission, version: int, annotator: Annotator) -> Saved:
    """Appends a version of a person's own with the mask of an earlier one, of whatever stage.

    Args:
        record: gets the row.
        submission: what the client says beside the mask; ``parent`` is the version that it knows as the current one.
        version: what is restored.
        annotator: who restores it.

    Raises:
        UnknownImage, UnknownAnnotation: if there is no such version in force, or its mask is no longer kept.
        SavedMeanwhile: if somebody has saved another mask after the version that the client knows.
    """
    image_id = submission.image_id
    record.images.get(image_id)
    with record.database.transaction():
        history = record.annotations.history(image_id)
        wanted, now_current = _in_force(history, version), current(history)
        own = [one for one in in_force(history) if one.author == annotator.name]
        # Behind an expert's version a junior's never becomes the current one: there it is restored once.
        is_behind = (
            now_current is not None and now_current.stage is Stage.EXPERT and stage_of(annotator.role) is Stage.DRAFT
        )
        if own and _is_said(own[-1], wanted, annotator) and (own[-1] == now_current or is_behind):
            return Saved(own[-1], is_new=False, note=note_on(record, own[-1]))
        if submission.parent is not None and not submission.anyway:
            refuse_what_is_behind(history, submission.parent, wanted.mask)
        return _said_again(record, wanted, submission, annotator)


def _said_again(record: Record, wanted: Annotation, submission: Submission, annotator: Annotator) -> Saved:
    """A version of this person's with the mask of another one."""
    mask = record.kept_mask(wanted)
    record.assignments.finish(wanted.image, annotator.name)
    new = annotation_by(annotator, replace(submission, looked_at=wanted.looked_at), mask, wanted.voxels, wanted.version)
    annotation = record.annotations.add(new)
    record.openings.note(wanted.image, annotator.name, annotation.version)
    return Saved(annotation, is_new=True, note=note_on(record, annotation))


def _is_said(own: Annotation, wanted: Annotation, annotator: Annotator) -> bool:
    """Whether a person's own version has the wanted mask, and the stage that it would have now."""
    return (own.stage, own.mask, own.looked_at) == (stage_of(annotator.role), wanted.mask, wanted.looked_at)


def _in_force(history: list[Annotation], version: int) -> Annotation:
    found = next((annotation for annotation in in_force(history) if annotation.version == version), None)
    if found is None:
        there = [annotation.version for annotation in in_force(history)]
        raise UnknownAnnotation(f"There is no version {version} in force; there is {there or 'none'}.")
    return found


def _is_accepted(
    now_current: Annotation,
    wanted: Annotation,
    history: list[Annotation],
    version: int | None,
    annotator: Annotator,
) -> bool:
    """Whether the current annotation is an expert's already, with the wanted mask and for what is asked."""
    if now_current.stage is not Stage.EXPERT or now_current.mask != wanted.mask:
        return False
    if now_current.parent == wanted.version or _agreed(in_force(history), now_current, annotator):
        return True
    # Who names no version means the mask and not who accepted it a moment before.
    origin = next((one for one in history if one.version == now_current.parent), None)
    return version is None and origin is not None and origin.mask == now_current.mask


def _agreed(valid: list[Annotation], now_current: Annotation, annotator: Annotator) -> bool:
    """Whether this expert's version is among those since the current mask came."""
    others = [one.version for one in valid if one.stage is Stage.EXPERT and one.mask != now_current.mask]
    since = max(others, default=0)
    return any(one.stage is Stage.EXPERT and one.author == annotator.name and one.version > since for one in valid)
