"""Sessions: images that a client sends for a while, without putting them into the data set."""

from __future__ import annotations

import json
import shutil
import tarfile
import time
import uuid
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lib.errors import InvalidRequest, UnknownSession, UnreadableImage
from lib.series import looks_like_dicom
from lib.store.files import full_disk_told, write_durably
from lib.store.images import ImageKind
from lib.volume import suffix_of

LONGEST_EXPIRY_SECONDS = 3600
"""A session that nobody asked for in this time is closed; clients may ask for less."""

ABOUT = "session.json"


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
    """

    name: str
    path: str
    image: str
    meta: dict[str, Any]
    create_ts: int
    last_access_ts: int
    expiry: int

    def to_json(self) -> dict[str, Any]:
        """As MONAI Label's clients read it."""
        return asdict(self)

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
    raise UnreadableImage(f"Send one NIfTI or NRRD file, or the DICOM files of one series; found {names}.")


class Sessions:
    """All sessions below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, received: Sequence[tuple[Path, str]], expiry: int, *, unpack: bool) -> Session:
        """Opens a session with files that a client sent.

        Args:
            received: the files below the data folder and the names they had on the client's side.
            expiry: seconds; 0: the longest.
            unpack: the one file is a ZIP or tar archive.

        Raises:
            InvalidRequest: if an archive is none, or leads out of its folder.
        """
        session_id = str(uuid.uuid4())
        folder = self.folder / session_id
        folder.mkdir()
        try:
            with full_disk_told(self.folder):
                for number, (path, name) in enumerate(received):
                    # The client's name only tells the format; two files may have the same.
                    shutil.move(path, folder / (f"image{suffix_of(name)}" if suffix_of(name) else f"{number:05d}"))
                if unpack:
                    _unpack(next(folder.iterdir()), folder)
                session = self._write(_opened(folder, expiry))
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
        write_durably(Path(session.path) / ABOUT, json.dumps(session.to_json()).encode())
        return session


def _opened(folder: Path, expiry: int) -> Session:
    files = [path for path in folder.rglob("*") if path.is_file()]
    now = int(time.time())
    image = files[0] if len(files) == 1 and suffix_of(files[0].name) else folder
    seconds = min(expiry, LONGEST_EXPIRY_SECONDS) if expiry > 0 else LONGEST_EXPIRY_SECONDS
    return Session(folder.name, str(folder), str(image), {}, now, now, seconds)


def _unpack(archive: Path, folder: Path) -> None:
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as content:
                _refuse_ways_out(content.namelist())
                content.extractall(folder)
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as packed:
                _refuse_ways_out(packed.getnames())
                packed.extractall(folder, filter="data")
        else:
            raise InvalidRequest("uncompress=true needs a ZIP or tar archive, found something else.")
    except (tarfile.TarError, zipfile.BadZipFile) as error:
        raise InvalidRequest(f"The archive cannot be unpacked: {error}.") from error
    archive.unlink()


def _refuse_ways_out(names: Sequence[str]) -> None:
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InvalidRequest(f"The archive leads out of its folder: {name[:100]!r}.")
