"""Keeps the image table in step with a folder that people change as they like.

One look compares size, time and inode of each file with what is known: of all files, or of those that are said to
have changed. Only new and changed files are opened, and only their headers are read; but a new file as large as one
that is gone is compared with it byte by byte, by digests. What cannot be read is quarantined with its reason; it
never stops the others. What the system does not show, such as a folder that cannot be listed, is not gone: what is
known of it stays as it is until a look sees it again.

Two names of one file are two images. When both were gone, a file that comes back under a name that the record knows is
that image; else it is the one that had this file, an annotated one before others.
"""

from __future__ import annotations

import errno
import itertools
import logging
import re
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

from sqlalchemy import ColumnElement, and_, delete, insert, or_, select, update

from lib.errors import NoImage, UnreadableImage
from lib.stages import Standing
from lib.store import schema
from lib.store.contents import Contents, Lost, digest_of
from lib.store.folder import ALWAYS_SKIPPED, OF_MACHINE, Folder, Seen, Skipped, Unseen, refusal, shown, words_of
from lib.store.images import TRIED_AGAIN, UNREAD, Image, ImageKind, Images, ImageState, NewImage
from lib.store.scattered import Scattered
from lib.volume import Grid

LOG = logging.getLogger(__name__)

BATCH = 200
"""Images that are written in one transaction."""


INODES = 10_000
"""Files that are asked for in one query."""


@dataclass(frozen=True)
class Described:
    """What a reader found out about one file, or about all files of one series.

    Attributes:
        grid: lattice of the image.
        modality: where the file tells it.
        patient: key of the patient.
        stack: of a single slice, what all slices of its stack would say alike; else empty.
        doubt: what other programs read otherwise of it.
    """

    grid: Grid
    modality: str
    patient: str
    stack: str = ""
    doubt: str = ""


@dataclass(frozen=True)
class Part:
    """A file that is one slice of a series, or a radiograph, which makes a series of its own."""

    series_uid: str


@dataclass(frozen=True)
class Unread:
    """Why a file gave no image; one that is none was never meant to."""

    reason: str
    is_image: bool = True


class Reader(Protocol):
    """Reads headers for the indexer, which knows no file format itself."""

    def describe_file(self, path: Path, image_id: str) -> Described | Part:
        """Describes an image file, or tells of which series it is a part; raises ``UnreadableImage`` or ``NoImage``."""

    def describe_series(self, paths: list[Path]) -> Described:
        """Describes the files of one series; raises ``UnreadableImage`` or ``NoImage``."""

    def id_of(self, relative: str) -> str:
        """The image id for a path below the root."""

    def patient_of(self, image_id: str) -> str:
        """The patient key of a file that cannot be read."""


Read = tuple[Seen, str, "Described | Unread"]
"""A file, the id it would have, and what it turned out to be."""


@dataclass(frozen=True)
class Look:
    """What one look at the folder brought."""

    added: int
    changed: int
    gone: int


class Indexer:
    """Looks after one folder of images."""

    def __init__(
        self, images: Images, root: str, folder: Path, reader: Reader, skipped: Skipped = ALWAYS_SKIPPED
    ) -> None:
        self.images = images
        self.root = root
        self.folder = folder
        self.files = Folder(folder, skipped)
        self.reader = reader
        self.contents = Contents(images, root)
        self._scattered = Scattered(images, self._described_again)
        self._looking = Lock()
        # What files were like that went since the start, with their images: a file may be on its way when one looks.
        self._lately_gone: dict[tuple[int, int, int], set[str]] = {}
        self._unseen: set[Unseen] = set()
        self._undigested: list[tuple[str, Seen]] = []

    @property
    def unseen(self) -> list[Unseen]:
        """What the looks so far could not see, and none has seen since."""
        return sorted(self._unseen, key=lambda one: one.path)

    @property
    def is_away(self) -> bool:
        """Whether nothing in the folder can be seen."""
        return any(not one.path for one in self._unseen)

    @property
    def fault(self) -> str:
        """What cannot be seen, as a sentence; empty if all can."""
        unseen = self.unseen
        if not unseen:
            return ""
        first, reason = self.folder / unseen[0].path, unseen[0].reason.rstrip(".")
        if self.is_away:
            return f"The images are away: {first}: {reason}. They stay as they are; the folder is looked at again."
        more = f", nor can {len(unseen) - 1} other folders or files" if len(unseen) > 1 else ""
        return f"{first} cannot be seen ({reason}){more}. The images there stay as they are; it is looked at again."

    def look(
        self,
        report: Callable[[int, int], None] = lambda done, total: None,
        paths: Collection[str] | None = None,
    ) -> Look:
        """Compares the folder with the record and brings the record up to date.

        Args:
            report: is told how many of the new and changed files are done, and how many there are.
            paths: files and folders below the folder that may have changed; by default it is walked as a whole.
        """
        with self._looking:
            before = self._unseen
            # What is known is read first: a file that comes while the folder is walked is new then, not gone.
            known = self._known(paths)
            present = self._present(paths, is_filled=bool(known))
            new = [seen for path, seen in present.items() if path not in known]
            gone = {path: entry for path, entry in known.items() if path not in present and not self._is_unseen(path)}
            gone |= self._former_names(new)
            new, to_read = self._follow_renames(new, gone)
            changed = [seen for path, seen in present.items() if path in known and known[path][0] != seen]
            series: dict[str, list[Seen]] = {}
            self._forget(gone, series)
            new, returned = self._recognised(new)
            for seen in changed:
                image = self.images.find(known[seen.path][1])
                to_read.append((seen, self._kept_id(seen.path, image)))
                if image is not None and image.kind is ImageKind.SERIES:
                    series.setdefault(image.id, [])
            to_read += returned
            freed = {image for _, image in gone.values()}
            if paths is None or freed:
                to_read += self._next_in_line({seen.path for seen in changed})
            to_read += self._tried_again(present, series)
            self._read([*((seen, self.reader.id_of(seen.path)) for seen in new), *to_read], series, report)
            self._put_all_series(series, {*gone, *(seen.path for seen in changed)})
            if paths is None:
                self._undigested = []
            self._tell_unseen(before)
            return Look(len(new), len(changed), len(gone))

    def add(self, path: str) -> str:
        """Reads one file below the folder at once and returns its image id.

        Raises:
            OSError: if the system does not show it.
        """
        (seen,) = (seen for seen in (self.files.seen(path),) if seen)
        series: dict[str, list[Seen]] = {}
        if isinstance(seen, Unseen):
            raise OSError(errno.EIO, seen.reason, path)
        self._read([(seen, self.reader.id_of(path))], series, lambda done, total: None)
        self._put_all_series(series, set())
        return self._owners([path])[path]

    def digest_some(self, seconds: float) -> int:
        """Digests files whose bytes are not known yet, for about this long, and tells how many it could."""
        waiting = self._undigested = self._undigested or self.contents.unknown()[::-1]
        digested: list[tuple[str, Seen, str]] = []
        end = time.monotonic() + seconds
        while waiting and time.monotonic() < end and len(digested) < BATCH:
            image_id, seen = waiting.pop()
            digest = digest_of(self.folder / seen.path)
            if digest is not None and self.files.seen(seen.path) == seen:
                digested.append((image_id, seen, digest))
        self.contents.note(digested)
        return len(digested)

    def _present(self, paths: Collection[str] | None, *, is_filled: bool) -> dict[str, Seen]:
        """The files that are there, by path; notes what could not be seen."""
        found = list(self._walk() if paths is None else (seen for path in paths for seen in self.files.at(path)))
        if paths is None and not found and is_filled and not self.files.was_filled:
            found.append(Unseen("", "It is empty, and was not when it was last looked at; is its disk mounted?"))
        unseen = {seen for seen in found if isinstance(seen, Unseen)}
        covered = [Unseen(path, "") for path in ([""] if paths is None else paths)]
        self._unseen = unseen | {one for one in self._unseen if not any(place.covers(one.path) for place in covered)}
        return {seen.path: seen for seen in found if isinstance(seen, Seen)}

    def _walk(self) -> Iterator[Seen | Unseen]:
        return self.files.walk()

    def _is_unseen(self, path: str) -> bool:
        return any(unseen.covers(path) for unseen in self._unseen)

    def _known(self, paths: Collection[str] | None) -> dict[str, tuple[Seen, str]]:
        file = schema.file.c
        wanted = [None] if paths is None else [_at_or_below(shown(path)) for path in paths]
        query = select(file.path, file.size, file.modified_ns, file.inode, file.image).where(*self._mine)
        with self.images.database.reading() as connection:
            rows = (row for one in wanted for row in connection.execute(query if one is None else query.where(one)))
            return {row[0]: (Seen(*row[:4]), row.image) for row in rows}

    def _former_names(self, new: list[Seen]) -> dict[str, tuple[Seen, str]]:
        """The names that new files had before: renamed while one looked, or where one does not look this time."""
        file, identities = schema.file.c, {seen.identity for seen in new}
        inodes = sorted({seen.inode for seen in new})
        query = select(file.path, file.size, file.modified_ns, file.inode, file.image).where(*self._mine)
        found = {}
        with self.images.database.reading() as connection:
            for start in range(0, len(inodes), INODES):
                for row in connection.execute(query.where(file.inode.in_(inodes[start : start + INODES]))):
                    seen = Seen(*row[:4])
                    if seen.identity in identities and self.files.seen(seen.path) is None:
                        found[seen.path] = (seen, row.image)
        return found

    def _follow_renames(
        self, new: list[Seen], gone: dict[str, tuple[Seen, str]]
    ) -> tuple[list[Seen], list[tuple[Seen, str]]]:
        """Keeps the ids of files that only have another name now, and takes them out of what is gone.

        Returns:
            The files that are really new, and the renamed ones that must be read once more under their id, since the
            new name may be the cure.
        """
        by_identity: dict[tuple[int, int, int], list[str]] = {}
        for path in sorted(gone):
            by_identity.setdefault(gone[path][0].identity, []).append(path)
        for paths in by_identity.values():
            if len(paths) > 1:
                paths.sort(key=lambda path: self._is_untouched(gone[path][1]))
        really_new, to_read = [], []
        for seen in new:
            old = next(iter(by_identity.get(seen.identity, [])), None)
            image = self.images.find(gone[old][1]) if old is not None else None
            if old is None or image is None or self._is_second(image.id, old):
                really_new.append(seen)
                continue
            del gone[old]
            by_identity[seen.identity].remove(old)
            self._move(old, seen, image)
            if image.kind is ImageKind.FILE and image.state in UNREAD:
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

    def _recognised(self, new: list[Seen]) -> tuple[list[Seen], list[tuple[Seen, str]]]:
        """Finds the images of files that were gone and are back under another name or as a copy.

        Returns:
            The files that are really new, and the others with the ids of their images, to be read under them.
        """
        lost = self.contents.lost() if new else {}
        # A name that the record knows is that image's, also where the file had another name as well.
        own = {self.reader.id_of(seen.path) for seen in new}
        taken = {image_id for image_id in self.images.known(own) if not self.images.files(image_id)}
        really_new, returned = [], []
        for seen in new:
            image_id = self._same_file(seen, taken) or self._same_content(seen, lost.get(seen.size, []))
            if image_id is None:
                really_new.append(seen)
            else:
                returned.append((seen, image_id))
                taken.add(image_id)
        return really_new, returned

    def _same_file(self, seen: Seen, taken: set[str]) -> str | None:
        """The image whose file was this one when it went; a DICOM file tells its image itself."""
        if self.reader.id_of(seen.path) in taken:
            return None
        found = [self.images.find(image_id) for image_id in self._lately_gone.get(seen.identity, set()) - taken]
        lost = [image for image in found if image and image.kind is ImageKind.FILE and not self.images.files(image.id)]
        # Where it lay last tells more than who worked on it.
        lost.sort(key=lambda image: (image.source != seen.path, image.standing is Standing.UNTOUCHED, image.id))
        return lost[0].id if lost else None

    def _same_content(self, seen: Seen, candidates: list[Lost]) -> str | None:
        """The image among those of a file's size whose bytes it has, unless it has the name of an image itself."""
        # Two looks never share the list, so whom it names is taken out.
        if not candidates or self.images.known([self.reader.id_of(seen.path)]):
            return None
        digest = digest_of(self.folder / seen.path)
        found = next((lost for lost in candidates if lost.content == digest), None)
        if found is None or self.images.files(found.image):
            return None
        candidates.remove(found)
        return found.image

    def _next_in_line(self, changed: set[str]) -> list[tuple[Seen, str]]:
        """The files whose own id was taken and is free by now, to be read under it."""
        file, image = schema.file.c, schema.image.c
        unread = (
            select(file.path, file.size, file.modified_ns, file.inode, file.image)
            .join(schema.image, and_(image.task == file.task, image.id == file.image))
            .where(*self._mine, image.state.in_(UNREAD))
        )
        with self.images.database.reading() as connection:
            seconds = [(Seen(*row[:4]), row.image) for row in connection.execute(unread)]
        seconds = [
            (seen, self.reader.id_of(seen.path))
            for seen, image_id in seconds
            if self._is_second(image_id, seen.path) and seen.path not in changed
        ]
        return [(seen, own) for seen, own in seconds if not self.images.files(own)]

    def _tried_again(self, present: dict[str, Seen], series: dict[str, list[Seen]]) -> list[tuple[Seen, str]]:
        """The files that the system did not give and gives now, to be read; of a series is noted that it shall be."""
        to_read = []
        for image in self.images.tried_again():
            paths = sorted(self._paths_of(image.id))
            if not paths or any(path not in present or refusal(self.folder / path) for path in paths):
                continue
            if image.kind is ImageKind.SERIES:
                series.setdefault(image.id, [])
            else:
                to_read += [(present[path], image.id) for path in paths]
        return to_read

    def _tell_unseen(self, before: set[Unseen]) -> None:
        """Says once what cannot be seen, and once that it can be seen again."""
        for unseen in sorted(self._unseen - before, key=lambda one: one.path):
            LOG.warning(
                "%s cannot be seen: %s. What is known of it stays as it is until the next look.",
                self.folder / unseen.path, unseen.reason.rstrip("."),
            )  # fmt: skip
        if before and not self._unseen:
            LOG.warning("Everything in %s can be seen again.", self.folder)

    def _is_second(self, image_id: str, path: str) -> bool:
        """Whether the id was only lent to a file because its own was taken."""
        return image_id != self.reader.id_of(path) and re.fullmatch(_lent_id(path), image_id) is not None

    def _forget(self, gone: dict[str, tuple[Seen, str]], series: dict[str, list[Seen]]) -> None:
        """Quarantines images whose files are gone; a series that still has some is noted for another reading."""
        lost: dict[str, set[str]] = {}
        for path, (seen, image_id) in gone.items():
            lost.setdefault(image_id, set()).add(path)
            if not self._is_second(image_id, path):
                self._lately_gone.setdefault(seen.identity, set()).add(image_id)
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
            whole: list[Read] = []
            for seen, image_id, described in batch:
                if isinstance(described, Unseen):
                    self._unseen.add(described)
                elif isinstance(described, Part):
                    series.setdefault(described.series_uid, []).append(seen)
                else:
                    whole.append((seen, image_id, described))
            with self.images.database.transaction():
                for seen, image_id, described in self._put_new_files(whole):
                    self._put_file(seen, image_id, described)
            report(min(start + BATCH, len(files)), len(files))

    def _describe(self, seen: Seen, image_id: str) -> Described | Part | Unread | Unseen:
        """The image in a file, the series that it is a part of, or the reason why it is neither."""
        try:
            # Readers may take what the system refuses for a damaged file.
            if error := refusal(self.folder / seen.path):
                raise error
            return self.reader.describe_file(self.folder / seen.path, image_id)
        except UnreadableImage as error:
            return Unread(str(error), is_image=not isinstance(error, NoImage))
        except FileNotFoundError:
            return Unread(
                f"{seen.path} is not there under this name: it was moved, or its name is not UTF-8. Rename it."
            )
        except OSError as error:
            if error.errno in OF_MACHINE:
                return Unseen(seen.path, words_of(error))
            return Unread(f"{seen.path} cannot be read: {words_of(error)}.{TRIED_AGAIN}")

    def _put_new_files(self, files: list[Read]) -> list[Read]:
        """Adds at once the images of which nothing is known and that no other file would be, and returns the rest."""
        claims = Counter(image_id for _, image_id, _ in files)
        taken = self.images.known(claims)
        owned = self._owners([seen.path for seen, _, _ in files])
        is_new = [
            claims[image_id] == 1 and image_id not in taken and seen.path not in owned for seen, image_id, _ in files
        ]
        new = [entry for entry, chosen in zip(files, is_new, strict=True) if chosen]
        self.images.put_new([self._new_image(*entry) for entry in new])
        self._insert_rows([(seen, image_id) for seen, image_id, _ in new])
        return [entry for entry, chosen in zip(files, is_new, strict=True) if not chosen]

    def _put_file(self, seen: Seen, image_id: str, described: Described | Unread) -> None:
        known = self.images.find(image_id)
        if known is not None and self._is_taken(image_id, seen.path):
            if isinstance(described, Described) and known.state in UNREAD:
                self._lend_other_id(known)
            else:
                if isinstance(described, Described):
                    described = Unread(
                        f"{seen.path} would be image {image_id!r}, which {known.source} is already. Rename one of them."
                    )
                image_id = self._free_id(seen.path)
        self.images.put(self._new_image(seen, image_id, described))
        self._assign([seen], image_id)

    def _new_image(self, seen: Seen, image_id: str, described: Described | Unread) -> NewImage:
        if isinstance(described, Unread):
            patient = self.reader.patient_of(image_id)
            return NewImage(
                image_id, ImageKind.FILE, seen.path, None, "", patient, described.reason, described.is_image
            )
        return NewImage(
            image_id, ImageKind.FILE, seen.path, described.grid, described.modality, described.patient,
            doubt=described.doubt,
        )  # fmt: skip

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
                is_image = unreadable.state is not ImageState.NO_IMAGE
                self.images.put(NewImage(lent, ImageKind.FILE, path, None, "", patient, unreadable.reason, is_image))
                this = (file.task == self.images.task, file.root == root, file.path == path)
                connection.execute(update(schema.file).where(*this).values(image=lent))

    def _put_all_series(self, series: dict[str, list[Seen]], lost: set[str]) -> None:
        for uid, parts in sorted(series.items()):
            self._put_series(uid, parts, lost)
        self._scattered.quarantine()

    def _put_series(self, uid: str, new_parts: list[Seen], lost: set[str]) -> None:
        """Describes a series by all its files, those known already and those found now."""
        left = self._paths_of(uid) & (lost - {seen.path for seen in new_parts})
        paths = sorted((self._paths_of(uid) | {seen.path for seen in new_parts}) - left)
        image = self._described_series(uid, paths) if paths else None
        if isinstance(image, Unseen) or any(self._is_unseen(path) for path in paths):
            # Nothing is noted, so that the next look finds the same and does it.
            self._unseen |= {image} if isinstance(image, Unseen) else set()
            return
        with self.images.database.transaction():
            self._delete_rows(left)
            if image is None:
                self._note_gone(uid)
            else:
                self.images.put(image)
                self._assign(new_parts, uid)

    def _described_series(self, uid: str, paths: list[str]) -> NewImage | Unseen:
        source = Path(paths[0]).parent.as_posix()
        refused = next(((path, error) for path in paths if (error := refusal(self.folder / path))), None)
        if refused is not None and refused[1].errno in OF_MACHINE:
            return Unseen(refused[0], words_of(refused[1]))
        try:
            if refused is not None:
                raise UnreadableImage(f"{refused[0]} cannot be read: {words_of(refused[1])}.{TRIED_AGAIN}")
            found = self.reader.describe_series([self.folder / path for path in paths])
        except (UnreadableImage, OSError) as error:
            modality = error.modality if isinstance(error, NoImage) else ""
            is_image = not isinstance(error, NoImage)
            return NewImage(uid, ImageKind.SERIES, source, None, modality, uid, str(error), is_image)
        self._scattered.note(uid, found)
        return NewImage(uid, ImageKind.SERIES, source, found.grid, found.modality, found.patient)

    def _described_again(self, image: Image) -> Described | None:
        """A series that an earlier process described; ``None`` if it cannot be read."""
        try:
            return self.reader.describe_series([self.folder / path for path in self._paths_of(image.id)])
        except (UnreadableImage, OSError):
            return None

    def _paths_of(self, image_id: str) -> set[str]:
        return {path for root, path in self.images.files(image_id) if root == self.root}

    def _owners(self, paths: Collection[str]) -> dict[str, str]:
        """The images to which these files belong so far, by path."""
        file = schema.file.c
        with self.images.database.reading() as connection:
            rows = connection.execute(select(file.path, file.image).where(*self._mine, self._among(paths)))
            return {row.path: row.image for row in rows}

    def _assign(self, files: list[Seen], image_id: str) -> None:
        """Notes to which image files belong; an image that loses its last file by this is gone."""
        if not files:
            return
        paths = [seen.path for seen in files]
        with self.images.database.transaction():
            before = set(self._owners(paths).values())
            if before:
                self._delete_rows(paths)
            self._insert_rows([(seen, image_id) for seen in files])
            for other in sorted(before - {image_id}):
                self._note_gone(other)

    def _insert_rows(self, files: list[tuple[Seen, str]]) -> None:
        rows = [
            {"task": self.images.task, "root": self.root, "image": image_id, **asdict(seen)} for seen, image_id in files
        ]
        if rows:
            with self.images.database.transaction() as connection:
                connection.execute(insert(schema.file), rows)

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

    def _is_untouched(self, image_id: str) -> bool:
        """Whether nobody has worked on an image, nor a model."""
        image = self.images.find(image_id)
        return image is None or image.standing is Standing.UNTOUCHED

    @staticmethod
    def _among(paths: Collection[str]) -> ColumnElement[bool]:
        return schema.file.c.path.in_(list(paths))

    @property
    def _mine(self) -> tuple[Any, Any]:
        return schema.file.c.task == self.images.task, schema.file.c.root == self.root


def _at_or_below(path: str) -> ColumnElement[bool]:
    """The condition for the file at a path, and for all that lies in a folder there."""
    file = schema.file.c
    # "0" is what follows "/": one range of the index.
    return or_(file.path == path, and_(file.path > f"{path}/", file.path < f"{path}0"))


def _lent_id(path: str) -> str:
    """A pattern of the ids that ``Indexer._free_id`` gives."""
    return re.escape(unicodedata.normalize("NFC", path)) + r"( \(\d+\))?"
