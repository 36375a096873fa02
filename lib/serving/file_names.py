"""What images are called in the caches of clients."""

from __future__ import annotations

import hashlib
import json
import os
import re
from functools import lru_cache
from pathlib import Path

from lib import __version__
from lib.opened import opened
from lib.store.images import Image, State

UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
"""What no file of any system should be called."""

LONGEST_STEM = 64
"""Letters of an id that are kept in a name: a UID has no more."""

DIGITS = 12
"""Of the digest in a name: 3D Slicer shows the last twenty letters, and takes images of one name for one image."""


def file_name(image: Image, state: State, suffix: str) -> str:
    """What a client may call an image so that no other one has that name, of this server or of another.

    3D Slicer keeps what it was sent under this name, and what lies there it shows again instead of asking.

    Args:
        image: by its id and the moment when this server first saw it.
        state: of its files; another name follows from other ones.
        suffix: of what is sent.
    """
    stem = UNSAFE.sub("_", image.id)[-LONGEST_STEM:].lstrip(".")
    # What is sent of the same files may be another file in another version.
    origin = json.dumps([image.id, image.added.isoformat(), __version__, *state])
    return f"{stem}-{hashlib.sha256(origin.encode()).hexdigest()[:DIGITS]}{suffix}"


def checksum(path: Path, algorithm: str = "sha256") -> str:
    """The digest of a file's bytes, in hexadecimal digits; of a file that has not changed it is remembered.

    Raises:
        UnreadableImage: if it lies outside of its folder, behind a link, or is no file.
        OSError: if it cannot be opened.
    """
    with opened(path) as source:
        status = os.fstat(source.file.fileno())
        return _digest(path, algorithm, (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino))


@lru_cache(maxsize=4096)
def _digest(path: Path, algorithm: str, state: tuple[int, ...]) -> str:
    with opened(path) as source:
        return hashlib.file_digest(source.file, algorithm).hexdigest()  # type: ignore[arg-type]
