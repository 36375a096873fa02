"""Sessions: images that a client sends for a while, without putting them into the data set."""

from __future__ import annotations

import bz2
import errno
import gzip
import json
import lzma
import shutil
import tarfile
import time
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, cast

from lib.errors import InvalidRequest, TooLarge, UnknownSession, UnreadableImage
from lib.series import looks_like_dicom
from lib.serving.quota import refuse_more_sessions, share_bytes
from lib.store.files import full_disk_told, write_durably
from lib.store.images import ImageKind
from lib.store.layout import ABOUT_SESSION
from lib.volume import suffix_of

LONGEST_EXPIRY_SECONDS = 3600
"""A session that nobody asked for in this time is closed; clients may ask for less."""

ABOUT = ABOUT_SESSION

MOST_MEMBERS = 20_000
"""Files and folders in one archive."""

CHUNK_BYTES = 1 << 20

COMPRESSED: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
}
"""How the content of a compressed tar archive is read, by the first bytes."""

DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, UnicodeError)
"""What the standard library raises for archives that are broken, encrypted or of a kind that it does not know."""


@dataclass(frozen=True)
class Session:
    """One session, in MONAI Label's words.

    Attributes:
        name: the same as its id.
        path: its folder.
        image: its file, or the folder of its files.
        meta: nothing so far.
        create_ts, last_access_ts: seconds since 1970.
        expiry: seconds without access after which it goes.
        owner: who opened it; clients are not told.
    """

    name: str
    path: str
    image: str
    meta: dict[str, Any]
    create_ts: int
    last_access_ts: int
    expiry: int
    owner: str = ""

    def to_json(self) -> dict[str, Any]:
        """As MONAI Label's clients read it."""
        told = asdict(self)
        del told["owner"]
        return told

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of its image."""
        image = Path(self.image)
        if image.is_file():
            return (image,)
        return tuple(sorted(path for path in image.rglob("*") if path.is_file() and path.name != ABOUT))


def kind_of(files: Sequence[Path]) -> ImageKind:
    """Whether files are one image file, or slices of a DICOM series.

    Raises:
        UnreadableImage: if they are neither.
    """
    if len(files) == 1 and suffix_of(files[0].name):
        return ImageKind.FILE
    if files and all(looks_like_dicom(path) for path in files):
        return ImageKind.SERIES
    names = ", ".join(path.name for path in files[:3]) or "nothing"
    raise UnreadableImage(f"Send one NIfTI, NRRD or picture file, or the DICOM files of one series; found {names}.")


class Sessions:
    """All sessions below one folder; an archive may unpack to so many bytes."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, received: Sequence[tuple[Path, str]], expiry: int, *, unpack: bool, owner: str = "") -> Session:
        """Opens a session with files that a client sent.

        Args:
            received: the files below the data folder and the names they had on the client's side.
            expiry: seconds; 0: the longest.
            unpack: the one file is a ZIP or tar archive.
            owner: who sent them.

        Raises:
            InvalidRequest: if an archive is none, or leads out of its folder.
            TooLarge: if it unpacks to more than is accepted.
            TooManyRequests: if the owner has too many sessions, or too large ones.
        """
        own = [session for session in self._every() if session.owner == owner]
        held = sum(map(_bytes_of, own))
        refuse_more_sessions(owner, len(own), held, sum(path.stat().st_size for path, _ in received), self.folder)
        room = min(self.max_bytes, share_bytes(self.folder, held) - held)
        session_id = str(uuid.uuid4())
        folder = self.folder / session_id
        folder.mkdir()
        try:
            with full_disk_told(self.folder):
                for number, (path, name) in enumerate(received):
                    # The client's name only tells the format; two files may have the same.
                    shutil.move(path, folder / (f"image{suffix_of(name)}" if suffix_of(name) else f"{number:05d}"))
                if unpack:
                    _unpack(next(folder.iterdir()), folder, room)
                session = self._write(replace(_opened(folder, expiry), owner=owner))
            kind_of(session.files)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return session

    def get(self, session_id: str, *, touch: bool = False) -> Session:
        """An open session.

        Raises:
            UnknownSession: if there is none, or it has expired.
        """
        about = self._folder(session_id) / ABOUT
        if not about.is_file():
            raise UnknownSession(f"There is no session {session_id[:64]!r}. Open one with PUT /session/.")
        session = Session(**json.loads(about.read_text(encoding="utf-8")))
        if session.last_access_ts + session.expiry < time.time():
            self.remove(session_id)
            raise UnknownSession(f"Session {session_id} has expired. Open a new one.")
        return self._write(replace(session, last_access_ts=int(time.time()))) if touch else session

    def remove(self, session_id: str) -> None:
        """Closes a session and deletes its files."""
        shutil.rmtree(self._folder(session_id), ignore_errors=True)

    def _every(self) -> Iterator[Session]:
        """All sessions that can be read."""
        for about in self.folder.glob(f"*/{ABOUT}"):
            with suppress(OSError, ValueError, TypeError):
                yield Session(**json.loads(about.read_text(encoding="utf-8")))

    def remove_expired(self) -> None:
        """Closes the sessions whose time is over."""
        for folder in self.folder.iterdir():
            try:
                self.get(folder.name)
            except (UnknownSession, ValueError, TypeError):
                shutil.rmtree(folder, ignore_errors=True)

    def _folder(self, session_id: str) -> Path:
        try:
            return self.folder / str(uuid.UUID(session_id))
        except ValueError as error:
            raise UnknownSession(f"{session_id[:64]!r} is no session id.") from error

    def _write(self, session: Session) -> Session:
        write_durably(Path(session.path) / ABOUT, json.dumps(asdict(session)).encode())
        return session


def _bytes_of(session: Session) -> int:
    """Of its files that are there: it may be closed at this moment."""
    total = 0
    for path in session.files:
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def _opened(folder: Path, expiry: int) -> Session:
    files = [path for path in folder.rglob("*") if path.is_file()]
    now = int(time.time())
    image = files[0] if len(files) == 1 and suffix_of(files[0].name) else folder
    seconds = min(expiry, LONGEST_EXPIRY_SECONDS) if expiry > 0 else LONGEST_EXPIRY_SECONDS
    return Session(folder.name, str(folder), str(image), {}, now, now, seconds)


def _unpack(archive: Path, folder: Path, max_bytes: int) -> None:
    """Replaces an archive by its files under names of our own; what an archive says of itself is not believed."""
    received = archive.rename(folder / ".archive")
    room = _Room(max_bytes)
    try:
        with received.open("rb") as file:
            members = _zip_members(file, room) if zipfile.is_zipfile(file) else _tar_members(file, room)
            for number, (name, content) in enumerate(members):
                with (folder / f"{number:05d}{suffix_of(name)}").open("wb") as target:
                    while chunk := content.read(CHUNK_BYTES):
                        room.take(len(chunk))
                        target.write(chunk)
    except (*DAMAGED, OSError) as error:
        # An error of the system has a number; bzip2's "invalid data" is an OSError without one, and EINVAL is what the
        # system says of a place before the begin of the file, which an archive may name.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise InvalidRequest(
            f"The archive cannot be unpacked ({error}). uncompress=true needs a ZIP or tar archive without password."
        ) from error
    received.unlink()


class _Room:
    """What an archive may still unpack to."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._bytes = self._members = 0

    def take(self, count: int) -> None:
        """Notes bytes that were unpacked."""
        self._bytes += count
        if self._bytes > self.max_bytes:
            raise TooLarge(f"The archive unpacks to more than {self.max_bytes // 2**20} MiB (--conf max_upload_mib).")

    def admit(self, name: str) -> None:
        """Notes a member; refuses names that lead out of the folder, although they are not used."""
        self._members += 1
        if self._members > MOST_MEMBERS:
            raise TooLarge(f"The archive has more than {MOST_MEMBERS} members.")
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
            raise InvalidRequest(f"The archive leads out of its folder: {name[:100]!r}.")


def _zip_members(file: IO[bytes], room: _Room) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(file) as packed:
        for member in packed.infolist():
            room.admit(member.filename)
            if not member.is_dir():
                with packed.open(member) as content:
                    yield member.filename, content


def _tar_members(file: IO[bytes], room: _Room) -> Iterator[tuple[str, IO[bytes]]]:
    with _plain(file) as plain, tarfile.open(fileobj=cast("IO[bytes]", _Counted(plain, room)), mode="r|") as packed:
        for member in packed:
            room.admit(member.name)
            if member.isdir():
                continue
            # A link or a device is not what its name says; a sparse file is larger than what was sent.
            content = packed.extractfile(member) if member.isreg() and not member.issparse() else None
            if content is None:
                raise InvalidRequest(f"The archive holds {member.name[:100]!r}, which is no plain file.")
            yield member.name, content


@contextmanager
def _plain(file: IO[bytes]) -> Iterator[IO[bytes]]:
    file.seek(0)
    begin = file.read(6)
    file.seek(0)
    opened = next((read for magic, read in COMPRESSED.items() if begin.startswith(magic)), None)
    if opened is None:
        yield file
        return
    with opened(file) as plain:
        yield plain


class _Counted:
    """A tar archive as tarfile reads it, with an end to what its headers can make of a few compressed bytes."""

    def __init__(self, file: IO[bytes], room: _Room) -> None:
        self._file = file
        self._headers = _Room(room.max_bytes + MOST_MEMBERS * 2 * tarfile.BLOCKSIZE)

    def read(self, count: int) -> bytes:
        """The next bytes."""
        content = self._file.read(count)
        self._headers.take(len(content))
        return content
