"""Keeps the image table in step with a folder that people change as they like.

One look walks the folder and compares size, time and inode of each file with what is known. Only new and changed
files are opened, and only their headers are read. What cannot be read is quarantined with its reason; it never
stops the others.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import delete, insert, select, update

from lib.errors import UnreadableImage
from lib.store import schema
from lib.store.images import ImageKind, Images, ImageState, NewImage
from lib.volume import Grid

SKIPPED_FOLDERS = ("labels",)
"""First-level folders that hold no images; MONAI Label puts its label files there."""

BATCH = 200
"""Images that are written in one transaction."""


@dataclass(frozen=True)
class Described:
    """What a reader found out about one file, or about all files of one series.

    Attributes:
        grid: lattice of the image.
        modality: where the file tells it.
        patient: key of the patient.
    """

    grid: Grid
    modality: str
    patient: str


@dataclass(frozen=True)
class Part:
    """A file that is one slice of a series."""

    series_uid: str


class Reader(Protocol):
    """Reads headers for the indexer, which knows no file format itself."""

    def describe_file(self, path: Path, image_id: str) -> Described | Part:
        """Describes an image file, or tells of which series it is a part; raises ``UnreadableImage``."""

    def describe_series(self, paths: list[Path]) -> Described:
        """Describes the files of one series; raises ``UnreadableImage``."""

    def id_of(self, relative: str) -> str:
        """The image id for a path below the root."""

    def patient_of(self, image_id: str) -> str:
        """The patient key of a file that cannot be read."""


@dataclass(frozen=True)
class Seen:
    """A file as the folder shows it."""

    path: str
    size: int
    modified_ns: int
    inode: int

    @property
    def identity(self) -> tuple[int, int, int]:
        """What a file keeps when it is renamed."""
        return self.size, self.modified_ns, self.inode


@dataclass(frozen=True)
class Look:
    """What one look at the folder brought."""

    added: int
    changed: int
    gone: int


class Indexer:
    """Looks after one folder of images."""

    def __init__(self, images: Images, root: str, folder: Path, reader: Reader, ignored: Iterable[str] = ()) -> None:
        self.images = images
        self.root = root
        self.folder = folder
        self.reader = reader
        self.ignored = frozenset(ignored)

    def look(self, report: Callable[[int, int], None] = lambda done, total: None) -> Look:
        """Compares the folder with the record and brings the record up to date.

        Args:
            report: is told how many of the new and changed files are done, and how many there are.
        """
        present = {seen.path: seen for seen in self._walk()}
        known = self._known()
        new = [seen for path, seen in present.items() if path not in known]
        changed = [seen for path, seen in present.items() if path in known and known[path][0] != seen]
        gone = {path: entry for path, entry in known.items() if path not in present}
        new = self._follow_renames(new, gone)
        touched = {image for _, image in gone.values()}
        self._forget([*gone, *(seen.path for seen in changed)])
        touched |= {known[seen.path][1] for seen in changed}
        self._read([*new, *changed], report)
        self._quarantine_missing(touched)
        return Look(len(new), len(changed), len(gone))

    def add(self, path: str) -> str:
        """Reads one file below the folder at once and returns its image id."""
        (seen,) = (seen for seen in (_seen(self.folder, self.folder / path),) if seen)
        self._forget([path])
        self._read([seen], lambda done, total: None)
        with self.images.database.reading() as connection:
            return str(connection.scalar(select(schema.file.c.image).where(*self._mine, schema.file.c.path == path)))

    def _walk(self) -> Iterator[Seen]:
        stack = [self.folder]
        while stack:
            try:
                entries = sorted(os.scandir(stack.pop()), key=lambda entry: entry.name)
            except OSError:
                continue
            for entry in entries:
                is_top = Path(entry.path).parent == self.folder
                if entry.name.startswith(".") or (is_top and entry.name in {*self.ignored, *SKIPPED_FOLDERS}):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    stack.append(Path(entry.path))
                elif seen := _seen(self.folder, Path(entry.path)):
                    yield seen

    def _known(self) -> dict[str, tuple[Seen, str]]:
        file = schema.file.c
        with self.images.database.reading() as connection:
            rows = connection.execute(
                select(file.path, file.size, file.modified_ns, file.inode, file.image).where(*self._mine)
            )
            return {row[0]: (Seen(*row[:4]), row.image) for row in rows}

    def _follow_renames(self, new: list[Seen], gone: dict[str, tuple[Seen, str]]) -> list[Seen]:
        """Keeps the ids of files that only have another name now; returns those that are really new."""
        by_identity = {entry[0].identity: path for path, entry in gone.items()}
        really_new = []
        for seen in new:
            old = by_identity.pop(seen.identity, None)
            if old is None:
                really_new.append(seen)
                continue
            _, image = gone.pop(old)
            with self.images.database.transaction() as connection:
                connection.execute(
                    update(schema.file).where(*self._mine, schema.file.c.path == old).values(path=seen.path)
                )
                connection.execute(
                    update(schema.image)
                    .where(
                        schema.image.c.task == self.images.task,
                        schema.image.c.id == image,
                        schema.image.c.kind == ImageKind.FILE,
                    )
                    .values(source=seen.path)
                )
        return really_new

    def _forget(self, paths: list[str]) -> None:
        with self.images.database.transaction() as connection:
            for path in paths:
                connection.execute(delete(schema.file).where(*self._mine, schema.file.c.path == path))

    def _read(self, files: list[Seen], report: Callable[[int, int], None]) -> None:
        series: dict[str, list[Seen]] = {}
        for start in range(0, len(files), BATCH):
            # Headers are read before the transaction: other writers must not wait for a slow disk.
            batch = [(seen, self._describe(seen)) for seen in files[start : start + BATCH]]
            with self.images.database.transaction():
                for seen, described in batch:
                    if isinstance(described, Part):
                        series.setdefault(described.series_uid, []).append(seen)
                    else:
                        self._put_file(seen, described)
            report(min(start + BATCH, len(files)), len(files))
        for uid, parts in sorted(series.items()):
            self._put_series(uid, parts)

    def _describe(self, seen: Seen) -> Described | Part | str:
        """The image in a file, the series that it is a part of, or the reason why it is neither."""
        try:
            return self.reader.describe_file(self.folder / seen.path, self.reader.id_of(seen.path))
        except UnreadableImage as error:
            return str(error)
        except OSError as error:
            return f"{seen.path} cannot be read: {error.strerror}."

    def _put_file(self, seen: Seen, described: Described | str) -> None:
        image_id = self.reader.id_of(seen.path)
        known = self.images.find(image_id)
        if known is not None and known.source != seen.path and self.images.files(image_id):
            described = f"{seen.path} would be image {image_id!r}, which {known.source} is already. Rename one of them."
            image_id = unicodedata.normalize("NFC", seen.path)
        if isinstance(described, str):
            patient = self.reader.patient_of(image_id)
            self.images.put(NewImage(image_id, ImageKind.FILE, seen.path, None, "", patient, described))
        else:
            self.images.put(
                NewImage(image_id, ImageKind.FILE, seen.path, described.grid, described.modality, described.patient)
            )
        self._put_rows([seen], image_id)

    def _put_series(self, uid: str, new_parts: list[Seen]) -> None:
        """Describes a series by all its files, those known already and those found now."""
        paths = sorted({*self._paths_of(uid), *(seen.path for seen in new_parts)})
        source = Path(paths[0]).parent.as_posix()
        try:
            found = self.reader.describe_series([self.folder / path for path in paths])
            image = NewImage(uid, ImageKind.SERIES, source, found.grid, found.modality, found.patient)
        except (UnreadableImage, OSError) as error:
            image = NewImage(uid, ImageKind.SERIES, source, None, "", uid, str(error))
        with self.images.database.transaction():
            self.images.put(image)
            self._put_rows(new_parts, uid)

    def _paths_of(self, image_id: str) -> list[str]:
        return [path for root, path in self.images.files(image_id) if root == self.root]

    def _put_rows(self, files: list[Seen], image_id: str) -> None:
        rows = [{"task": self.images.task, "root": self.root, "image": image_id, **asdict(seen)} for seen in files]
        if rows:
            with self.images.database.transaction() as connection:
                connection.execute(insert(schema.file), rows)

    def _quarantine_missing(self, touched: set[str]) -> None:
        """Images that lost all their files; a series that lost some is described again."""
        for image_id in sorted(touched):
            known = self.images.find(image_id)
            if known is None or known.state in (ImageState.HIDDEN, ImageState.ERASED):
                continue
            if not self.images.files(image_id):
                self.images.set_state(
                    image_id, ImageState.QUARANTINED, f"{known.source} is gone. Put it back, or remove the image."
                )
            elif known.kind is ImageKind.SERIES:
                self._put_series(image_id, [])

    @property
    def _mine(self) -> tuple[Any, Any]:
        return schema.file.c.task == self.images.task, schema.file.c.root == self.root


def _seen(folder: Path, path: Path) -> Seen | None:
    """The file as it is, or ``None`` for what is no regular file or leads out of the folder."""
    try:
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            return None
        status = path.stat()
    except OSError:
        return None
    if not path.is_file():
        return None
    return Seen(path.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns, status.st_ino)
