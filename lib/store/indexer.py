"""Keeps the image table in step with a folder that people change as they like.

One look walks the folder and compares size, time and inode of each file with what is known. Only new and changed
files are opened, and only their headers are read. What cannot be read is quarantined with its reason; it never
stops the others.
"""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import ColumnElement, delete, insert, select, update

from lib.errors import UnreadableImage
from lib.store import schema
from lib.store.images import Image, ImageKind, Images, ImageState, NewImage
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
        # What is known is read first: a file that comes while the folder is walked is new then, not gone.
        known = self._known()
        present = {seen.path: seen for seen in self._walk()}
        gone = {path: entry for path, entry in known.items() if path not in present}
        new, to_read = self._follow_renames([seen for path, seen in present.items() if path not in known], gone)
        changed = [seen for path, seen in present.items() if path in known and known[path][0] != seen]
        series: dict[str, list[Seen]] = {}
        self._forget({path: image for path, (_, image) in gone.items()}, series)
        for seen in changed:
            image = self.images.find(known[seen.path][1])
            to_read.append((seen, self._kept_id(seen.path, image)))
            if image is not None and image.kind is ImageKind.SERIES:
                series.setdefault(image.id, [])
        unchanged = {path: entry for path, entry in known.items() if present.get(path) == entry[0]}
        to_read += self._next_in_line({image for _, image in gone.values()}, unchanged)
        self._read([*((seen, self.reader.id_of(seen.path)) for seen in new), *to_read], series, report)
        self._put_all_series(series, {*gone, *(seen.path for seen in changed)})
        return Look(len(new), len(changed), len(gone))

    def add(self, path: str) -> str:
        """Reads one file below the folder at once and returns its image id."""
        (seen,) = (seen for seen in (_seen(self.folder, self.folder / path),) if seen)
        series: dict[str, list[Seen]] = {}
        self._read([(seen, self.reader.id_of(path))], series, lambda done, total: None)
        self._put_all_series(series, set())
        (image_id,) = self._owners([path])
        return image_id

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

    def _follow_renames(
        self, new: list[Seen], gone: dict[str, tuple[Seen, str]]
    ) -> tuple[list[Seen], list[tuple[Seen, str]]]:
        """Keeps the ids of files that only have another name now, and takes them out of what is gone.

        Returns:
            The files that are really new, and the renamed ones that must be read once more under their id, since the
            new name may be the cure.
        """
        by_identity = {entry[0].identity: path for path, entry in gone.items()}
        really_new, to_read = [], []
        for seen in new:
            old = by_identity.get(seen.identity)
            image = self.images.find(gone[old][1]) if old is not None else None
            if old is None or image is None or self._is_second(image.id, old):
                really_new.append(seen)
                continue
            del gone[old], by_identity[seen.identity]
            self._move(old, seen, image)
            if image.kind is ImageKind.FILE and image.state is ImageState.QUARANTINED:
                to_read.append((seen, image.id))
        return really_new, to_read

    def _move(self, old: str, seen: Seen, image: Image) -> None:
        source = seen.path if image.kind is ImageKind.FILE else Path(seen.path).parent.as_posix()
        with self.images.database.transaction() as connection:
            self._delete_rows([old])
            self._assign([seen], image.id)
            connection.execute(update(schema.image).where(self.images.is_one(image.id)).values(source=source))

    def _kept_id(self, path: str, image: Image | None) -> str:
        """The id under which a file is read again: the one it has, unless that was only lent or is a series'."""
        if image is None or image.kind is ImageKind.SERIES or self._is_second(image.id, path):
            return self.reader.id_of(path)
        return image.id

    def _next_in_line(self, freed: set[str], unchanged: dict[str, tuple[Seen, str]]) -> list[tuple[Seen, str]]:
        """The files whose own id was taken until now, to be read under it."""
        if not freed:
            return []
        seconds = [(seen, path) for path, (seen, image) in unchanged.items() if self._is_second(image, path)]
        return [(seen, self.reader.id_of(path)) for seen, path in seconds if self.reader.id_of(path) in freed]

    def _is_second(self, image_id: str, path: str) -> bool:
        """Whether the id was only lent to a file because its own was taken."""
        return image_id != self.reader.id_of(path) and re.fullmatch(_lent_id(path), image_id) is not None

    def _forget(self, gone: dict[str, str], series: dict[str, list[Seen]]) -> None:
        """Quarantines images whose files are gone; a series that still has some is noted for another reading."""
        lost: dict[str, set[str]] = {}
        for path, image_id in gone.items():
            lost.setdefault(image_id, set()).add(path)
        ids = sorted(lost)
        for start in range(0, len(ids), BATCH):
            with self.images.database.transaction():
                for image_id in ids[start : start + BATCH]:
                    if self._paths_of(image_id) > lost[image_id]:
                        series.setdefault(image_id, [])
                    else:
                        self._delete_rows(lost[image_id])
                        self._note_gone(image_id)

    def _read(
        self, files: list[tuple[Seen, str]], series: dict[str, list[Seen]], report: Callable[[int, int], None]
    ) -> None:
        for start in range(0, len(files), BATCH):
            # Headers are read before the transaction: other writers must not wait for a slow disk.
            batch = [
                (seen, image_id, self._describe(seen, image_id)) for seen, image_id in files[start : start + BATCH]
            ]
            with self.images.database.transaction():
                for seen, image_id, described in batch:
                    if isinstance(described, Part):
                        series.setdefault(described.series_uid, []).append(seen)
                    else:
                        self._put_file(seen, image_id, described)
            report(min(start + BATCH, len(files)), len(files))

    def _describe(self, seen: Seen, image_id: str) -> Described | Part | str:
        """The image in a file, the series that it is a part of, or the reason why it is neither."""
        try:
            return self.reader.describe_file(self.folder / seen.path, image_id)
        except UnreadableImage as error:
            return str(error)
        except FileNotFoundError:
            return f"{seen.path} is not there under this name: it was moved, or its name is not UTF-8. Rename it."
        except OSError as error:
            return f"{seen.path} cannot be read: {error.strerror or error}."

    def _put_file(self, seen: Seen, image_id: str, described: Described | str) -> None:
        known = self.images.find(image_id)
        if known is not None and self._is_taken(image_id, seen.path):
            if isinstance(described, Described) and known.state is ImageState.QUARANTINED:
                self._lend_other_id(known)
            else:
                if isinstance(described, Described):
                    described = (
                        f"{seen.path} would be image {image_id!r}, which {known.source} is already. Rename one of them."
                    )
                image_id = self._free_id(seen.path)
        if isinstance(described, str):
            patient = self.reader.patient_of(image_id)
            self.images.put(NewImage(image_id, ImageKind.FILE, seen.path, None, "", patient, described))
        else:
            self.images.put(
                NewImage(image_id, ImageKind.FILE, seen.path, described.grid, described.modality, described.patient)
            )
        self._assign([seen], image_id)

    def _is_taken(self, image_id: str, path: str) -> bool:
        """Whether another file is this image."""
        return any(file != (self.root, path) for file in self.images.files(image_id))

    def _free_id(self, path: str) -> str:
        """An id for a file whose own is taken: its path with the extension."""
        plain, own = unicodedata.normalize("NFC", path), self.reader.id_of(path)
        candidates = (plain if number == 1 else f"{plain} ({number})" for number in itertools.count(1))
        return next(found for found in candidates if found != own and not self._is_taken(found, path))

    def _lend_other_id(self, unreadable: Image) -> None:
        """Makes room for a readable image whose id a file took that is none, such as the notes beside a scan."""
        file = schema.file.c
        with self.images.database.transaction() as connection:
            for root, path in self.images.files(unreadable.id):
                lent = self._free_id(path)
                patient = self.reader.patient_of(lent)
                self.images.put(NewImage(lent, ImageKind.FILE, path, None, "", patient, unreadable.reason))
                this = (file.task == self.images.task, file.root == root, file.path == path)
                connection.execute(update(schema.file).where(*this).values(image=lent))

    def _put_all_series(self, series: dict[str, list[Seen]], lost: set[str]) -> None:
        for uid, parts in sorted(series.items()):
            self._put_series(uid, parts, lost)

    def _put_series(self, uid: str, new_parts: list[Seen], lost: set[str]) -> None:
        """Describes a series by all its files, those known already and those found now."""
        left = self._paths_of(uid) & (lost - {seen.path for seen in new_parts})
        paths = sorted((self._paths_of(uid) | {seen.path for seen in new_parts}) - left)
        image = self._described_series(uid, paths) if paths else None
        with self.images.database.transaction():
            self._delete_rows(left)
            if image is None:
                self._note_gone(uid)
            else:
                self.images.put(image)
                self._assign(new_parts, uid)

    def _described_series(self, uid: str, paths: list[str]) -> NewImage:
        source = Path(paths[0]).parent.as_posix()
        try:
            found = self.reader.describe_series([self.folder / path for path in paths])
        except (UnreadableImage, OSError) as error:
            return NewImage(uid, ImageKind.SERIES, source, None, "", uid, str(error))
        return NewImage(uid, ImageKind.SERIES, source, found.grid, found.modality, found.patient)

    def _paths_of(self, image_id: str) -> set[str]:
        return {path for root, path in self.images.files(image_id) if root == self.root}

    def _owners(self, paths: Collection[str]) -> set[str]:
        """The images to which these files belong so far."""
        with self.images.database.reading() as connection:
            return set(connection.scalars(select(schema.file.c.image).where(*self._mine, self._among(paths))))

    def _assign(self, files: list[Seen], image_id: str) -> None:
        """Notes to which image files belong; an image that loses its last file by this is gone."""
        if not files:
            return
        paths = [seen.path for seen in files]
        rows = [{"task": self.images.task, "root": self.root, "image": image_id, **asdict(seen)} for seen in files]
        with self.images.database.transaction() as connection:
            before = self._owners(paths)
            if before:
                self._delete_rows(paths)
            connection.execute(insert(schema.file), rows)
            for other in sorted(before - {image_id}):
                self._note_gone(other)

    def _delete_rows(self, paths: Collection[str]) -> None:
        with self.images.database.transaction() as connection:
            connection.execute(delete(schema.file).where(*self._mine, self._among(paths)))

    def _note_gone(self, image_id: str) -> None:
        """Quarantines an image without files; one that never was more than an unreadable file is forgotten."""
        known = self.images.find(image_id)
        if known is None or known.state in (ImageState.HIDDEN, ImageState.ERASED) or self.images.files(image_id):
            return
        if not self.images.forget_unread(image_id):
            what = known.source if known.kind is ImageKind.FILE else f"Series {image_id}"
            self.images.set_state(
                image_id, ImageState.QUARANTINED, f"{what} is gone. Put it back, or remove the image."
            )

    @staticmethod
    def _among(paths: Collection[str]) -> ColumnElement[bool]:
        return schema.file.c.path.in_(list(paths))

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
    # A name that is not UTF-8 cannot be stored as it is; its bytes are shown instead.
    name = os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", "backslashreplace")
    return Seen(name, status.st_size, status.st_mtime_ns, status.st_ino)


def _lent_id(path: str) -> str:
    """A pattern of the ids that ``Indexer._free_id`` gives."""
    return re.escape(unicodedata.normalize("NFC", path)) + r"( \(\d+\))?"
