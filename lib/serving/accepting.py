"""An expert agrees with a mask as it is, which makes it the expert's."""

from __future__ import annotations

from lib.errors import NotAllowed, UnknownAnnotation
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
        The expert's version, and whether it is new: the expert's own current one is not accepted again.

    Raises:
        NotAllowed: if the annotator is no expert.
        UnknownImage, UnknownAnnotation: if there is no such version in force, or its mask is no longer kept.
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
        if now_current is not None and _is_accepted(now_current, wanted, annotator):
            return now_current, False
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


def _is_accepted(now_current: Annotation, wanted: Annotation, annotator: Annotator) -> bool:
    """Whether the current annotation is this expert's, and is or came from the wanted one with the same mask."""
    is_experts = now_current.stage is Stage.EXPERT and now_current.author == annotator.name
    is_it = wanted.version == now_current.version
    return is_experts and (is_it or (now_current.parent == wanted.version and now_current.mask == wanted.mask))
