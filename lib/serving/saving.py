"""A person's mask becomes an annotation, however it came."""

from __future__ import annotations

from collections.abc import Callable

from lib.errors import InvalidRequest
from lib.labels import voxels_per_structure
from lib.serving.annotator import Annotator
from lib.serving.requests import Submission
from lib.stages import stage_of
from lib.store.annotations import Annotation, NewAnnotation
from lib.store.record import Record
from lib.task import Task
from lib.volume import Array, Grid, Volume, nifti_bytes


def save_mask(
    record: Record,
    mask: Array,
    grid: Grid,
    submission: Submission,
    annotator: Annotator,
    *,
    is_from_scratch: bool = False,
    and_then: Callable[[Annotation], None] = lambda annotation: None,
) -> Annotation:
    """Appends a mask to the history of its image.

    Args:
        record: gets the file and the row.
        mask: uint8 (I, J, K) of the task's label values on ``grid``.
        grid: lattice of the image.
        submission: what is known of the mask.
        annotator: who made it.
        is_from_scratch: no draft was corrected, also where there is one.
        and_then: what else belongs to the transaction; what it raises undoes all of it.

    Raises:
        UnknownImage, StageConflict: as the words say.
        InvalidRequest: if the mask holds structures that the submission does not cover.
    """
    voxels = covered_voxels(mask, record.task, submission.looked_at)
    with record.storing_mask(nifti_bytes(Volume(mask, grid.affine))) as digest:
        record.assignments.finish(submission.image_id, annotator.name)
        annotation = record.annotations.add(
            NewAnnotation(
                image=submission.image_id,
                stage=stage_of(annotator.role),
                author=annotator.name,
                role=annotator.role,
                mask=digest,
                looked_at=submission.looked_at,
                voxels=voxels,
                parent=submission.parent,
                tag=submission.tag,
                client=annotator.client,
                seconds=submission.seconds,
                info=submission.info,
            ),
            is_from_scratch=is_from_scratch,
        )
        and_then(annotation)
        return annotation


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
