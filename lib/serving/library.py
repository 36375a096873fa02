"""The images of a server: where their files lie, and their voxels."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np

from lib.errors import NoImage, UnreadableImage
from lib.serving.fetched import Fetched
from lib.serving.folder import STUDIES, read_image
from lib.serving.made_once import made_once
from lib.serving.remote import Remote
from lib.serving.settings import StudiesServer
from lib.store import layout
from lib.store.annotations import Annotation
from lib.store.images import Image, ImageKind, ImageState
from lib.store.record import Record
from lib.volume import Array, Grid, Volume, nifti_bytes

LOG = logging.getLogger(__name__)


class Library:
    """All images: those in the studies, which are only read, and those that clients uploaded.

    The studies are a folder, or at a DICOMweb server: then ``fetched`` holds those of its images that were needed
    lately.
    """

    def __init__(self, record: Record, studies: Path | StudiesServer, data: Path) -> None:
        self.record = record
        self.data = data
        fetched = data / layout.FETCHED
        self.fetched = (
            Fetched(Remote(studies), fetched, studies.cache_bytes) if isinstance(studies, StudiesServer) else None
        )
        # Where the studies are a server, nothing lies in the folder that the record may have known before.
        folder = studies if isinstance(studies, Path) else fetched
        self.folders = {STUDIES: folder, layout.UPLOADS: data / layout.UPLOADS, layout.FETCHED: fetched}

    def remote_path(self, image_id: str) -> str | None:
        """Where an image lies at the server of the studies, as ``Fetched`` calls it; ``None`` if it lies here."""
        files = self.record.images.files(image_id) if self.fetched is not None else []
        return next((path for root, path in files if root == layout.FETCHED), None)

    @contextlib.contextmanager
    def using(self, image: Image) -> Iterator[list[Path]]:
        """An image's files; those that were fetched stay at least as long as the block lasts.

        Raises:
            UnreadableImage: if one of them is gone.
            StudiesAway, StudiesRefused, NotFound: if they must be fetched and cannot.
        """
        path = self.remote_path(image.id)
        if path is None or self.fetched is None:
            yield self._files_here(image)
            return
        with self.fetched.using(path) as paths:
            yield paths

    def files(self, image: Image) -> list[Path]:
        """The same for who needs them at once only."""
        with self.using(image) as paths:
            return paths

    def places(self, image: Image) -> list[Path]:
        """Where its files lie, or will lie when they are fetched."""
        return [self.folders[root] / path for root, path in self.record.images.files(image.id)]

    def _files_here(self, image: Image) -> list[Path]:
        paths = self.places(image)
        missing = [path for path in paths if not path.is_file()]
        if missing or not paths:
            reason = f"{missing[0].name if missing else image.source} of image {image.id!r} is gone from the studies."
            self.record.images.set_state(image.id, ImageState.QUARANTINED, reason)
            raise UnreadableImage(reason)
        return paths

    @contextlib.contextmanager
    def reading(self, image: Image) -> Iterator[list[Path]]:
        """An image's files, for a block that reads its voxels: if they prove unreadable, it no longer takes part.

        It is looked at again when its files change; those that change during the block tell nothing.

        Raises:
            UnreadableImage, StudiesAway, StudiesRefused, NotFound: as ``using``, and whatever the block raises.
        """
        with self.using(image) as paths:
            before = _states(paths)
            try:
                yield paths
            except UnreadableImage as error:
                if _states(paths) == before:
                    self._quarantine(image, error)
                raise

    def _quarantine(self, image: Image, error: UnreadableImage) -> None:
        state = ImageState.NO_IMAGE if isinstance(error, NoImage) else ImageState.QUARANTINED
        with self.record.database.transaction():
            now = self.record.images.find(image.id)
            if now is not None and now.state is ImageState.OK:
                self.record.images.set_state(image.id, state, str(error))
                LOG.warning("Image %s is %s: %s", image.id, state, error)

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
                if self.remote_path(image.id) is None:
                    self._files_here(image)
            except UnreadableImage:
                continue
            return image
        return None

    def volume(self, image: Image) -> Volume:
        """The voxels of an image.

        Raises:
            UnreadableImage: if they cannot be read; it is quarantined then.
        """
        with self.reading(image) as paths:
            return read_image(image.kind, paths)

    def mask(self, annotation: Annotation) -> Array:
        """The stored mask, uint8 (I, J, K) on the image's grid."""
        if annotation.mask is None:
            raise UnreadableImage(f"Version {annotation.version} of {annotation.image!r} is a withdrawal.")
        return np.asarray(nib.load(self.record.masks.path(annotation.mask)).dataobj, np.uint8)  # type: ignore[attr-defined]

    def image_file(self, image: Image) -> Path:
        """One file with the image: the file itself, or the series as NIfTI, made once and kept.

        Raises:
            UnreadableImage: if its files are gone, or a series cannot be read; it is quarantined then.
        """
        with self.reading(image) as paths:
            if image.kind is ImageKind.FILE:
                return paths[0]
            if self.remote_path(image.id) is not None:
                # Beside its files, so that it goes when they go.
                return self._as_nifti(image, paths, paths[0].with_name("image.nii.gz"))
            changed = max(path.stat().st_mtime_ns for path in paths)
            return self._as_nifti(
                image, paths, self.data / layout.CACHE / layout.cached_name(image.id, f"{changed}.nii.gz")
            )

    def _as_nifti(self, image: Image, paths: list[Path], target: Path) -> Path:
        def write(unfinished: Path) -> None:
            unfinished.write_bytes(nifti_bytes(read_image(image.kind, paths)))

        return made_once(target, self.data / layout.TEMPORARY, write)


def _states(paths: list[Path]) -> list[tuple[int, int, int] | None]:
    """What changes when a file is written or exchanged; ``None`` for one that is gone."""
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            status = path.stat()
        except FileNotFoundError:
            found.append(None)
        else:
            found.append((status.st_size, status.st_mtime_ns, status.st_ino))
    return found
