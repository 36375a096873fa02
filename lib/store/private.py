"""The data folder belongs to the account that the server runs under, and to nobody else at this machine."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from lib.errors import SetupError
from lib.store import layout

LOG = logging.getLogger(__name__)

UMASK = 0o077

FOLDER, FILE = 0o700, 0o600

OTHERS = stat.S_IRWXG | stat.S_IRWXO

SECRETS = (layout.PATIENT_KEY, layout.TOKENS, layout.TICKET_KEY)

ALWAYS = (layout.RECORD, f"{layout.RECORD}-wal", f"{layout.RECORD}-shm", layout.LOCK)
"""Files that are looked at each time; with the secrets, and the folder itself."""

FOLDERS = (layout.MASKS, layout.WEIGHTS, layout.SEGMENTATIONS, layout.UPLOADS, layout.FETCHED, layout.CACHE,
           layout.TEMPORARY, layout.SESSIONS, Path(layout.LOG).parts[0])  # fmt: skip
"""Folders that are walked through where the data folder was open to others."""


def make_private(data: Path) -> None:
    """Makes the data folder if need be, closes it to others, and puts the secrets into a folder of their own.

    From now on whatever this process writes, anywhere, is its account's alone (umask 077). What lies in the data folder
    already, and others may read, is closed: all of it where the folder was open, so that this takes its time once.

    Raises:
        SetupError: if the folder is one for everybody, such as ``/tmp``, if others may read the secrets and that cannot
            be changed, or if a secret lies in its old place and in its new one.
        OSError: if the folder cannot be made or written to.
    """
    os.umask(UMASK)
    data.mkdir(parents=True, exist_ok=True, mode=FOLDER)
    if data.stat().st_mode & stat.S_ISVTX:
        raise SetupError(f"--data {data} is a folder that everybody may write to. Name one below it.")
    (data / layout.KEYS).mkdir(exist_ok=True, mode=FOLDER)
    _bring_secrets(data)
    secrets = (data / layout.KEYS, *(data / name for name in SECRETS))
    if kept_open := [reason for path in secrets if (reason := _closed(path))]:
        raise SetupError(
            f"Others at this machine may read the secrets of the server, and this cannot be changed: {kept_open[0]}. "
            f"Give {data} to the account that the server runs under, on a disk that knows permissions."
        )
    was_open = bool(data.stat().st_mode & OTHERS)
    below = _walked(data / name for name in FOLDERS) if was_open else iter(())
    # The folder last: where this is interrupted, the next start does all of it.
    for path in (*(data / name for name in ALWAYS), *below, data.resolve()):
        if reason := _closed(path):
            LOG.warning(
                "Others at this machine may read what the server stores, and this cannot be changed: %s. Give %s to "
                "the account that the server runs under.", reason, data,
            )  # fmt: skip
            return


def _bring_secrets(data: Path) -> None:
    """Moves the secrets out of their old places."""
    for old, new in zip(map(data.joinpath, layout.BEFORE_KEYS), map(data.joinpath, SECRETS), strict=True):
        if not old.exists():
            continue
        if new.exists() and new.read_bytes() != old.read_bytes():
            raise SetupError(
                f"Both {old} and {new} are there, with different content. The second place is the one that is used: "
                "delete the file that is not wanted, and put the other one there."
            )
        # Another process may do the same just now.
        try:
            old.replace(new)
        except FileNotFoundError:
            continue


def _walked(folders: Iterable[Path]) -> Iterator[Path]:
    """All files and folders below some folders, and those themselves; links are not followed."""
    for folder in folders:
        if folder.is_symlink():
            continue
        for place, _, files in os.walk(folder):
            yield Path(place)
            yield from (Path(place, name) for name in files)


def _closed(path: Path) -> str:
    """Takes the rights of others away; the reason if that cannot be done, else an empty text."""
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode) or not mode & OTHERS:
            return ""
        path.chmod(stat.S_IMODE(mode) & ~OTHERS)
        # A disk without permissions takes the order and does nothing.
        return f"{path} stays open" if path.stat().st_mode & OTHERS else ""
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{path} ({error.strerror})"
