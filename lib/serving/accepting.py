"""An expert agrees with a mask as it is, which makes it the expert's."""

from __future__ import annotations

from lib.errors import NotAllowed, StageConflict, UnknownAnnotation
from lib.serving.annotator import Annotator
from lib.serving.requests import Submission
from lib.stages import Role, Stage, current, in_force
from lib.store.annotations import Annotation, NewAnnotation
from lib.store.record import Record


def accept(
    record: Record, submission: Submission, version: int | None, annotator: Annotator
) -> tuple[Annotation, bool]:
    """Appends an expert's version with the mask of another version.

    Args:
        record: gets the row.
        submission: what the client says beside the mask, of which it sends none.
        version: what is accepted; ``None``: the current annotation.
        annotator: who accepts it.

    Returns:
        The expert's version, and whether it is new: what is accepted already is not accepted again, however often
        and by how many it is asked for. A second expert may agree with what another one drew, once, or with a version
        by its number.

    Raises:
        NotAllowed: if the annotator is no expert.
        UnknownImage, UnknownAnnotation: if there is no such version in force, or its mask is no longer kept.
        StageConflict: if another expert's mask came after the version that is named.
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
            return now_current, False
        _refuse_behind_another(now_current, wanted, annotator)
        mask = record.kept_mask(wanted)
        record.assignments.finish(image_id, annotator.name)
        new = NewAnnotation(
            image=image_id,
            stage=Stage.EXPERT,
            author=annotator.name,
            role=annotator.role,
            mask=mask,
            looked_at=wanted.looked_at,
            voxels=wanted.voxels,
            parent=wanted.version,
            tag=submission.tag,
            client=annotator.client,
            seconds=submission.seconds,
            info=submission.info,
        )
        return record.annotations.add(new), True


def _in_force(history: list[Annotation], version: int) -> Annotation:
    found = next((annotation for annotation in in_force(history) if annotation.version == version), None)
    if found is None:
        there = [annotation.version for annotation in in_force(history)]
        raise UnknownAnnotation(f"There is no version {version} to accept; there is {there or 'none'}.")
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


def _refuse_behind_another(now_current: Annotation | None, wanted: Annotation, annotator: Annotator) -> None:
    """Refuses to put an older mask over what another expert has stored since, unseen perhaps."""
    if now_current is None or now_current.stage is not Stage.EXPERT or now_current.mask == wanted.mask:
        return
    if now_current.author != annotator.name and now_current.version > wanted.version:
        raise StageConflict(
            f"Version {now_current.version} by {now_current.author} has come since version {wanted.version}. Look at "
            f"it and accept that one, or withdraw it first."
        )
