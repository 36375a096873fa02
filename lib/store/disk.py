"""On what kind of disk a folder lies."""

from __future__ import annotations

import os
import re
from pathlib import Path

from lib.errors import LabelRefineryError, SetupError
from lib.store import layout
from lib.store.files import made_anew

NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs",
           "fuse.glusterfs", "fuse.ceph", "beegfs", "gpfs", "fuse.s3fs", "fuse.rclone")  # fmt: skip
"""Kinds of file systems that several machines share; names as Linux gives them in mountinfo."""


def file_system(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The kind of file system below a folder, or an empty text where the system does not tell."""
    if not mounts.is_file():
        return ""
    found, depth = "", -1
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        place, _, kind = line.partition(" - ")
        point = Path(_unescaped(place.split()[4]))
        if folder.resolve().is_relative_to(point) and len(point.parts) >= depth:
            found, depth = kind.split()[0], len(point.parts)
    return found


def _unescaped(name: str) -> str:
    """A name as mountinfo writes it: blank, tab, line end and backslash stand there as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), name)


def refuse_network_disk(folder: Path) -> None:
    """Refuses a folder on a network disk: SQLite's log needs memory that all its processes share.

    Raises:
        SetupError: if the folder lies on one.
    """
    kind = file_system(folder)
    if kind in NETWORK:
        raise SetupError(
            f"{folder} lies on a network disk ({kind}), where SQLite can lose data. Name a --data folder on a local "
            "disk, or keep the record in PostgreSQL: --conf store postgresql+psycopg://USER:PASSWORD@HOST/NAME."
        )


def data_fault(data: Path) -> str:
    """What is wrong with the folders that a server writes to, as a sentence; empty if nothing is.

    It asks the system a few questions and opens nothing. A deleted folder of temporary files is made anew.
    """
    try:
        made_anew(data / layout.TEMPORARY)
    except LabelRefineryError as error:
        return str(error)
    for name in (layout.MASKS, layout.WEIGHTS, layout.SEGMENTATIONS, layout.TEMPORARY):
        folder = data / name
        if not folder.is_dir():
            return f"The folder {name} is gone: put back {folder}, or mount its disk."
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            return f"The folder {name} cannot be written to: make {folder} writable for the server's account."
    return ""
