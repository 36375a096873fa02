"""The images of a server: where their files lie, and their voxels."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np

from lib.decoder import foreign
from lib.errors import NoImage, StudiesAway, UnknownImage, UnreadableImage
from lib.opened import fence
from lib.serving.fetched import Fetched
from lib.serving.folder import STUDIES
from lib.serving.made_once import made_once, remove
from lib.serving.remote import Remote
from lib.serving.settings import StudiesServer
from lib.store import layout
from lib.store.annotations import Annotation
from lib.store.folder import ABSENT, words_of
from lib.store.images import TRIED_AGAIN, Image, ImageKind, ImageState
from lib.store.record import Record
from lib.volume import Array, Grid, Volume, sent_suffix, suffix_of

LOG = logging.getLogger(__name__)

SENT_FORM = 2
"""How files are written that are sent in place of an image's own; it stands in their names below the cache."""


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
        self._meanings: dict[Path, tuple[object, bool]] = {}
        for place in self.folders.values():
            fence(place)

    def remote_path(self, image_id: str) -> str | None:
        """Where an image lies at the server of the studies, as ``Fetched`` calls it; ``None`` if it lies here."""
        files = self.record.images.files(image_id) if self.fetched is not None else []
        return next((path for root, path in files if root == layout.FETCHED), None)

    @contextlib.contextmanager
    def using(self, image: Image) -> Iterator[list[Path]]:
        """An image's files; those that were fetched stay at least as long as the block lasts.

        Raises:
            UnreadableImage: if one of them is gone, or may not be read; it is quarantined then.
            StudiesAway: if their folder is away, or the system does not show them; nothing changes then.
            StudiesAway, StudiesRefused, NotFound: if they must be fetched and cannot.
        """
        path = self.remote_path(image.id)
        if path is None or self.fetched is None:
            yield self._files_here(image)
            return
        is_new = not self.fetched.has(path)
        with self.fetched.using(path) as paths:
            if is_new and paths:
                self._refuse_erased(image.id, paths[0].parent)
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
        refused = next(((path, error) for path in paths if (error := _refusal(path))), None)
        if paths and refused is None:
            return paths
        path, error = refused or (Path(image.source), FileNotFoundError())
        of_image = f"{path.name} of image {image.id!r}"
        self._refuse_if_away()
        if isinstance(error, FileNotFoundError):
            reason = f"{of_image} is gone from the studies.{TRIED_AGAIN}"
        elif isinstance(error, _NotAllowed):
            reason = f"{of_image} cannot be read: {words_of(error)}.{TRIED_AGAIN}"
        else:
            raise StudiesAway(
                f"{of_image} cannot be seen at the moment: {words_of(error)}. Look at the disk or the permissions of "
                "the studies, and send it again."
            )
        self.record.images.set_state(image.id, ImageState.QUARANTINED, reason)
        raise UnreadableImage(reason)

    def _refuse_if_away(self) -> None:
        """Refuses everything while the folder of studies as a whole is away, of which no image is to blame.

        Raises:
            StudiesAway: if it is not there, cannot be listed, or is empty.
        """
        folder = self.folders[STUDIES]
        try:
            with os.scandir(folder) as found:
                reason = "" if next(found, None) else "it is empty"
        except OSError as error:
            reason = words_of(error)
        if reason and self.fetched is None and self.record.images.has_files(STUDIES):
            raise StudiesAway(f"The studies are away: {folder}: {reason}. Mount that folder, and send it again.")

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
        """The first image whose files are there and as they were; the others are quarantined.

        Raises:
            StudiesAway: if there are images, and the system shows the files of none.
        """
        away: StudiesAway | None = None
        for image in images:
            try:
                if self.remote_path(image.id) is None:
                    self._files_here(image)
            except UnreadableImage:
                continue
            except StudiesAway as error:
                self._refuse_if_away()
                away = error
                continue
            return image
        if away is not None:
            raise away
        return None

    def volume(self, image: Image) -> Volume:
        """The voxels of an image.

        Raises:
            UnreadableImage: if they cannot be read; it is quarantined then.
        """
        with self.reading(image) as paths:
            return foreign.volume(paths, is_series=image.kind is ImageKind.SERIES)

    def mask(self, annotation: Annotation) -> Array:
        """The stored mask, uint8 (I, J, K) on the image's grid."""
        if annotation.mask is None:
            raise UnreadableImage(f"Version {annotation.version} of {annotation.image!r} is a withdrawal.")
        return np.asarray(nib.load(self.record.mask_file(annotation)).dataobj, np.uint8)  # type: ignore[attr-defined]

    def sent_suffix(self, image: Image) -> str:
        """How the name ends of what ``image_file`` gives."""
        own = ".nii.gz" if image.kind is ImageKind.SERIES else suffix_of(image.source)
        return own if image.grid is None else sent_suffix(image.grid, own)

    def image_file(self, image: Image) -> Path:
        """One file with the image, which all programs read alike: its own if it is such a one, else made once and kept.

        Raises:
            UnreadableImage: if its files are gone, or cannot be read; it is quarantined then.
        """
        suffix = self.sent_suffix(image)
        with self.reading(image) as paths:
            is_file = image.kind is ImageKind.FILE
            if is_file and suffix == suffix_of(paths[0].name) and self._has_one_meaning(paths[0]):
                return paths[0]
            if self.remote_path(image.id) is not None:
                # Beside its files, so that it goes when they go.
                return self._as_sent(image, paths, paths[0].with_name(f"image{suffix}"))
            changed = max(path.stat().st_mtime_ns for path in paths)
            name = layout.cached_name(image.id, f"{changed}-{SENT_FORM}{suffix}")
            return self._as_sent(image, paths, self.data / layout.CACHE / name)

    def _has_one_meaning(self, path: Path) -> bool:
        (state,) = _states([path])
        known = self._meanings.get(path)
        if state is None or known is None or known[0] != state:
            known = (state, foreign.has_one_meaning(path))
            self._meanings[path] = known
        return known[1]

    def _as_sent(self, image: Image, paths: list[Path], target: Path) -> Path:
        def write(unfinished: Path) -> None:
            suffix = self.sent_suffix(image)
            unfinished.write_bytes(foreign.sent(paths, suffix, is_series=image.kind is ImageKind.SERIES).data)

        return self.made(image.id, target, write)

    def made(self, image_id: str, target: Path, write: Callable[[Path], object]) -> Path:
        """A file or folder that is made of an image, once; see ``made_once``.

        Raises:
            UnknownImage: if its patient was erased meanwhile; what was made is deleted then.
        """
        if target.exists():
            return target
        made = made_once(target, self.data / layout.TEMPORARY, write)
        self._refuse_erased(image_id, made)
        return made

    def _refuse_erased(self, image_id: str, made: Path) -> None:
        # Writers take turns, and erasing is one: it has ended, or it begins now and finds what was made.
        with self.record.database.transaction():
            if self.record.images.erased_among([image_id]):
                remove(made)
                raise UnknownImage(f"There is no image {image_id!r} any more: its patient was erased meanwhile.")


class _NotAllowed(PermissionError):
    """A file is there, and may not be read."""


def _refusal(path: Path) -> OSError | None:
    """Why a file cannot be opened, as far as that can be told without opening it; ``None`` if it can."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    except OSError as error:
        is_absent = error.errno in ABSENT
        return FileNotFoundError(error.errno, os.strerror(errno.ENOENT)) if is_absent else error
    return None if os.access(path, os.R_OK) else _NotAllowed(errno.EACCES, os.strerror(errno.EACCES))


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
