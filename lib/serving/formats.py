"""An annotation as a file in the format that somebody's program reads."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lib.errors import InvalidRequest, NotFound
from lib.labels import write_segments
from lib.serving.made_once import deleted_if_it_fails
from lib.serving.studies import Studies
from lib.store import layout
from lib.store.annotations import Annotation
from lib.store.files import full_disk_told, made_anew
from lib.volume import Volume

DICOM = "application/dicom"


@dataclass(frozen=True)
class AnnotationFile:
    """A file for a client.

    Attributes:
        path: where it lies.
        name: for the client: image, version and what is usual for the format.
        media_type: of the content.
        is_temporary: nobody else needs it.
    """

    path: Path
    name: str
    media_type: str
    is_temporary: bool = False


def annotation_file(studies: Studies, annotation: Annotation, wanted: str) -> AnnotationFile:
    """An annotation in one of ``FORMATS``.

    Args:
        studies: write DICOM objects, and know the record.
        annotation: with a mask.
        wanted: the name of the format.

    Raises:
        InvalidRequest: if there is no such format.
        NotFound: if it is a withdrawal, or its mask is no longer kept.
        UnreadableImage: if the image cannot have the format: radiographs have no contours.
    """
    write = FORMATS.get(wanted)
    if write is None:
        raise InvalidRequest(f"format is one of {', '.join(FORMATS)}; found {wanted[:40]!r}.")
    name = f"{Path(annotation.image).name}_v{annotation.version}"
    if annotation.mask is None or not studies.record.masks.path(annotation.mask).exists():
        raise NotFound(
            f"Version {annotation.version} of {annotation.image!r} has no mask: it is a withdrawal, or its mask is no "
            "longer kept. GET /datastore/label/history lists all versions."
        )
    return write(studies, annotation, name)


def _nifti(studies: Studies, annotation: Annotation, name: str) -> AnnotationFile:
    return AnnotationFile(studies.record.mask_file(annotation), f"{name}.nii.gz", "application/gzip")


def _nrrd(studies: Studies, annotation: Annotation, name: str) -> AnnotationFile:
    _, grid = studies.library.readable_with_grid(annotation.image)
    structures = [one for one in studies.record.task.structures if one.name in annotation.looked_at]
    handle, path = tempfile.mkstemp(suffix=".seg.nrrd", dir=made_anew(studies.library.data / layout.TEMPORARY))
    os.close(handle)
    with deleted_if_it_fails(Path(path)), full_disk_told(studies.library.data):
        write_segments(Path(path), Volume(studies.library.mask(annotation), grid.affine), structures)
    return AnnotationFile(Path(path), f"{name}.seg.nrrd", "application/octet-stream", is_temporary=True)


def _seg(studies: Studies, annotation: Annotation, name: str) -> AnnotationFile:
    return AnnotationFile(studies.files.segmentation(annotation), f"{name}.seg.dcm", DICOM)


def _rtstruct(studies: Studies, annotation: Annotation, name: str) -> AnnotationFile:
    return AnnotationFile(studies.files.structure_set(annotation), f"{name}.rtstruct.dcm", DICOM)


FORMATS: dict[str, Callable[[Studies, Annotation, str], AnnotationFile]] = {
    "nifti": _nifti,
    "nrrd": _nrrd,
    "seg": _seg,
    "rtstruct": _rtstruct,
}
"""By their names in requests."""
