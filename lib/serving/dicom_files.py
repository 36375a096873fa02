"""Images and masks as DICOM files: an image's own, or what stands for it, and masks as segmentations and contours.

What is no such file is written when it is first asked for, and kept below ``cache``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pydicom

from lib import __version__
from lib.decoder import foreign
from lib.dicom.derived import DerivedSeries
from lib.dicom.provenance import LONGEST_TEXT, Algorithm, Provenance
from lib.dicom.segmentation import uids_of, write_segmentation
from lib.dicom.source import SourceSeries, read_source
from lib.dicom.structure_set import write_structure_set
from lib.errors import UnreadableImage
from lib.serving.library import Library
from lib.stages import PROGRAMS, Role, Stage
from lib.store import layout
from lib.store.annotations import Annotation
from lib.store.images import Image, ImageKind
from lib.store.record import Record
from lib.task import Task
from lib.volume import Array, Grid, Volume, view_on

FORM = 4
"""How files below ``cache`` are written; counts up when that changes, so that none written before is taken."""


class DicomFiles:
    """The DICOM files of images and masks."""

    def __init__(self, record: Record, library: Library) -> None:
        self.record = record
        self.library = library

    def of_image(self, image: Image) -> list[Path]:
        """An image as DICOM files: its own, or those of the derived series, written once."""
        files = self.library.files(image)
        if image.kind is ImageKind.SERIES:
            return files
        window = "-".join(f"{bound:g}" for bound in self.record.task.window_hu or ())
        folder = self._cache_place(image.id, f"{files[0].stat().st_mtime_ns}-{window}-dicom{FORM}")
        self.library.made(image.id, folder, lambda unfinished: self._write_derived(image, unfinished))
        return sorted(folder.iterdir())

    def _write_derived(self, image: Image, folder: Path) -> None:
        folder.mkdir()
        with self.library.reading(image) as (path,):
            foreign.derived_files(path, derived_series(image), self.record.task.window_hu, folder)

    def source(self, image: Image) -> SourceSeries:
        """The series that segmentations of an image refer to."""
        with self.library.using(image):
            return read_source(self.of_image(image))

    def segmentation(self, annotation: Annotation) -> Path:
        """A mask as a DICOM segmentation, written once.

        Raises:
            UnknownAnnotation: if the mask is no longer kept.
        """
        return self._object_file(annotation, "", write_segmentation)

    def structure_set(self, annotation: Annotation) -> Path:
        """A mask as contours, written once.

        Raises:
            UnknownAnnotation: if the mask is no longer kept.
            UnreadableImage: if the image is a radiograph, which has no place in the patient.
        """
        return self._object_file(annotation, "-rtstruct", write_structure_set)

    def _object_file(self, annotation: Annotation, kind: str, write: Callable[..., pydicom.Dataset]) -> Path:
        digest = self.record.kept_mask(annotation)[:16]
        path = self._cache_place(annotation.image, f"v{annotation.version}-{digest}{kind}-{FORM}.dcm")
        return self.library.made(
            annotation.image, path, lambda unfinished: self._write_object(annotation, write, unfinished)
        )

    def _write_object(self, annotation: Annotation, write: Callable[..., pydicom.Dataset], path: Path) -> None:
        image, grid = self.library.readable_with_grid(annotation.image)
        with self.library.using(image):
            source = self.source(image)
            mask = on_grid(self.library.mask(annotation), grid, source.grid, image.id)
            made_by = provenance_of(annotation, self.record.annotations.history(image.id), self.record.task)
            written = write(mask, self.record.task, source, made_by, looked_at=annotation.looked_at)
        written.save_as(path, enforce_file_format=True)

    def _cache_place(self, image_id: str, what: str) -> Path:
        return self.library.data / layout.CACHE / layout.cached_name(image_id, what)


def derived_series(image: Image) -> DerivedSeries:
    """The DICOM series that stands for an image that is none."""
    if image.grid is None:
        raise UnreadableImage(f"Image {image.id!r} never was read: {image.reason}")
    return DerivedSeries(image.id, image.patient, image.modality, image.grid, image.added)


def on_grid(mask: Array, grid: Grid, wanted: Grid, name: str) -> Array:
    """A mask on the grid of an image as one on the grid of its DICOM series, or the other way round.

    Both are the same lattice, but readers of DICOM count slices along the normal of their plane, files as they like.
    """
    return view_on(Volume(mask, grid.affine), wanted, name)


def seed_of(annotation: Annotation) -> str:
    """What names an annotation: equal version numbers of another record hold other masks."""
    return f"v{annotation.version} {annotation.mask}"


def series_uid_of(source_name: str, annotation: Annotation) -> str:
    """SeriesInstanceUID of the segmentation that is written of an annotation.

    Args:
        source_name: of the series that it refers to, see ``Listing``.
        annotation: with a mask.
    """
    return uids_of(source_name, seed_of(annotation))[0]


def description_of(annotation: Annotation, task: Task) -> str:
    """How viewers list an annotation."""
    if annotation.role is Role.MODEL and annotation.model_version is None:
        # Another program's, found at the server of the studies: its author is ``model:NAME``.
        told = f"DRAFT {annotation.author.replace(':', ' ', 1)}"
    elif annotation.role is Role.MODEL:
        told = f"DRAFT model {task.name} v{annotation.model_version}"
    elif annotation.role is Role.RULE:
        told = f"DRAFT rule {annotation.rule}"
    elif annotation.stage is Stage.REFINED:
        told = "REFINED"
    else:
        told = f"{annotation.stage.upper()} {annotation.author}"
    return told.replace("\\", " ")[:LONGEST_TEXT]


def provenance_of(annotation: Annotation, history: Sequence[Annotation], task: Task) -> Provenance:
    """What a segmentation says about an annotation's origin.

    What counts is what the annotation was made from, step by step: who accepts a draft as it is, or corrects one, did
    not draw it alone; what the refiner makes of a program's draft, no person has touched, but of an annotator's mask it
    leaves most.

    Args:
        annotation: any, with a mask.
        history: all versions of its image.
        task: whose models drew and refined.
    """
    steps = _made_from(annotation, history)
    programs = [step for step in steps if step.role in PROGRAMS]
    return Provenance(
        description=description_of(annotation, task),
        creator=annotation.author,
        made_at=annotation.created,
        seed=seed_of(annotation),
        algorithm=_algorithm(programs[0], task) if programs else None,
        is_corrected=len(programs) < len(steps),
    )


def _made_from(annotation: Annotation, history: Sequence[Annotation]) -> list[Annotation]:
    """The annotation, its parent, and so on."""
    versions = {before.version: before for before in history}
    steps = [annotation]
    while (parent := versions.get(steps[-1].parent or 0)) is not None:
        steps.append(parent)
    return steps


def _algorithm(made: Annotation, task: Task) -> Algorithm:
    """What made a program's annotation."""
    name = made.author.partition(":")[2]
    if made.role is Role.RULE:
        return Algorithm(made.rule, __version__, is_learned=False)
    if made.role is Role.REFINER:
        return Algorithm(name.rpartition("@")[0][:LONGEST_TEXT], f"v{made.refiner_version}")
    if made.model_version is not None:
        return Algorithm(task.name, f"v{made.model_version}")
    return Algorithm(name[:LONGEST_TEXT], "unknown")
