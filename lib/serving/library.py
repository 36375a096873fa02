"""The images of a server: where their files lie, and their voxels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np

from lib.errors import UnreadableImage
from lib.serving.folder import STUDIES, read_image
from lib.store import layout
from lib.store.annotations import Annotation
from lib.store.files import full_disk_told
from lib.store.images import Image, ImageKind, ImageState
from lib.store.record import Record
from lib.volume import Array, Grid, Volume, nifti_bytes


class Library:
    """All images: those in the folder of studies, which is only read, and those that clients uploaded."""

    def __init__(self, record: Record, studies: Path, data: Path) -> None:
        self.record = record
        self.data = data
        self.folders = {STUDIES: studies, layout.UPLOADS: data / layout.UPLOADS}

    def files(self, image: Image) -> list[Path]:
        """Where an image's files lie.

        Raises:
            UnreadableImage: if one of them is gone.
        """
        paths = [self.folders[root] / path for root, path in self.record.images.files(image.id)]
        missing = [path for path in paths if not path.is_file()]
        if missing or not paths:
            reason = f"{missing[0].name if missing else image.source} of image {image.id!r} is gone from the studies."
            self.record.images.set_state(image.id, ImageState.QUARANTINED, reason)
            raise UnreadableImage(reason)
        return paths

    def readable(self, image_id: str) -> Image:
        """An image that takes part.

        Raises:
            UnknownImage: if there is none with this id.
            UnreadableImage: if it is none, or quarantined; with the reason.
        """
        return self.readable_with_grid(image_id)[0]

    def readable_with_grid(self, image_id: str) -> tuple[Image, Grid]:
        """The same with its lattice, which every image that takes part has."""
        image = self.record.images.get(image_id)
        if image.state is ImageState.NO_IMAGE:
            raise UnreadableImage(image.reason)
        if image.state is not ImageState.OK or image.grid is None:
            raise UnreadableImage(f"Image {image_id!r} is quarantined: {image.reason}")
        return image, image.grid

    def offerable(self, images: Iterator[Image]) -> Image | None:
        """The first image whose files are there and as they were; the others are quarantined."""
        for image in images:
            try:
                self.files(image)
            except UnreadableImage:
                continue
            return image
        return None

    def volume(self, image: Image) -> Volume:
        """The voxels of an image.

        Raises:
            UnreadableImage: if they cannot be read.
        """
        return read_image(image.kind, self.files(image))

    def mask(self, annotation: Annotation) -> Array:
        """The stored mask, uint8 (I, J, K) on the image's grid."""
        if annotation.mask is None:
            raise UnreadableImage(f"Version {annotation.version} of {annotation.image!r} is a withdrawal.")
        return np.asarray(nib.load(self.record.masks.path(annotation.mask)).dataobj, np.uint8)  # type: ignore[attr-defined]

    def image_file(self, image: Image) -> Path:
        """One file with the image: the file itself, or the series as NIfTI, made once and kept."""
        paths = self.files(image)
        if image.kind is ImageKind.FILE:
            return paths[0]
        changed = max(path.stat().st_mtime_ns for path in paths)
        target = self.data / layout.CACHE / f"{image.id}-{changed}.nii.gz"
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            unfinished = target.with_name(f".{target.name}.{os.getpid()}")
            with full_disk_told(target.parent):
                unfinished.write_bytes(nifti_bytes(read_image(image.kind, paths)))
                unfinished.replace(target)
        return target
