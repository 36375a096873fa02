"""Digests of image files: by them an image that comes back as a copy is known again.

A file that is renamed keeps size, time and inode. One that is copied to another disk or restored from a backup keeps
only its bytes, and to compare those with a file that is gone, they must have been digested while it was there. That
is done little by little, long after a file was first seen; a digest that is missing costs nothing but this.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import and_, bindparam, exists, select, update

from lib.stages import Standing
from lib.store import schema
from lib.store.folder import Seen
from lib.store.images import ImageKind, Images, ImageState


@dataclass(frozen=True)
class Lost:
    """An image whose file is gone, with the digest that the file had."""

    image: str
    content: str


class Contents:
    """What is known of the bytes of the image files below one root."""

    def __init__(self, images: Images, root: str) -> None:
        self.images = images
        self.root = root

    def unknown(self) -> list[tuple[str, Seen]]:
        """Images with files that are not digested yet; those on which nobody worked come last."""
        file, image = schema.file.c, schema.image.c
        wanted = (image.kind == ImageKind.FILE, image.content.is_(None))
        query = (
            select(file.image, file.path, file.size, file.modified_ns, file.inode)
            .join(schema.image, and_(image.task == file.task, image.id == file.image))
            .where(file.task == self.images.task, file.root == self.root, *wanted)
            .where(image.state.in_((ImageState.OK, ImageState.HIDDEN, ImageState.ERASED)))
            .order_by(image.standing == Standing.UNTOUCHED, file.path)
        )
        with self.images.database.reading() as connection:
            return [(row[0], Seen(*row[1:])) for row in connection.execute(query)]

    def note(self, digests: Collection[tuple[str, Seen, str]]) -> None:
        """Keeps digests of files (image, file, SHA-256), unless they have changed since."""
        file, image = schema.file.c, schema.image.c
        is_unchanged = exists().where(
            file.task == image.task, file.root == self.root, file.path == bindparam("at"), file.image == image.id,
            file.size == bindparam("bytes"), file.modified_ns == bindparam("time"), file.inode == bindparam("node"),
        )  # fmt: skip
        statement = (
            update(schema.image)
            .where(image.task == self.images.task, image.id == bindparam("which"), is_unchanged)
            .values(size=bindparam("bytes"), content=bindparam("digest"))
        )
        rows = [
            {"which": image_id, "at": seen.path, "bytes": seen.size, "time": seen.modified_ns, "node": seen.inode,
             "digest": digest}
            for image_id, seen, digest in digests
        ]  # fmt: skip
        if rows:
            with self.images.database.transaction() as connection:
                connection.execute(statement, rows)

    def lost(self) -> dict[int, list[Lost]]:
        """The images whose digested files are gone, by size in bytes; those on which somebody worked come first."""
        image = schema.image.c
        has_files = exists().where(schema.file.c.task == image.task, schema.file.c.image == image.id)
        query = (
            select(image.id, image.size, image.content)
            .where(image.task == self.images.task, image.content.is_not(None), ~has_files)
            .where(image.state.in_((ImageState.QUARANTINED, ImageState.HIDDEN, ImageState.ERASED)))
            .order_by(image.standing == Standing.UNTOUCHED, image.id)
        )
        found: dict[int, list[Lost]] = {}
        with self.images.database.reading() as connection:
            for row in connection.execute(query):
                found.setdefault(row.size, []).append(Lost(row.id, row.content))
        return found


def digest_of(path: Path) -> str | None:
    """SHA-256 of a file, or ``None`` if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
