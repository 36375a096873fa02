"""DICOM segmentations that people stored: kept as they came, beside the annotations that they became."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import exists, insert, select

from lib.store import schema
from lib.store.database import Database
from lib.store.files import FileStore


@dataclass(frozen=True)
class StoredSegmentation:
    """One stored object.

    Attributes:
        instance_uid: SOPInstanceUID (0008,0018).
        series_uid: SeriesInstanceUID (0020,000E).
        image: the image that it shows.
        version: the annotation that it became.
        content: digest of the file.
    """

    instance_uid: str
    series_uid: str
    image: str
    version: int
    content: str


class Segmentations:
    """The stored objects of one task; files lie in ``files``."""

    def __init__(self, database: Database, task: str, files: FileStore) -> None:
        self.database = database
        self.task = task
        self.files = files

    def add(self, new: StoredSegmentation) -> None:
        """Notes an object whose file is on the disk already."""
        with self.database.transaction() as connection:
            connection.execute(insert(schema.segmentation).values(task=self.task, **vars(new)))

    def find(self, instance_uid: str) -> StoredSegmentation | None:
        """The object with this UID."""
        column = schema.segmentation.c
        found = self._where(column.instance_uid == instance_uid)
        return found[0] if found else None

    def of_image(self, image_id: str) -> list[StoredSegmentation]:
        """All objects of an image, in the order of their versions."""
        return self._where(schema.segmentation.c.image == image_id)

    def every(self) -> list[StoredSegmentation]:
        """All objects."""
        return self._where()

    def delete_unused(self, digests: Iterable[str]) -> int:
        """Deletes those of these files that no row names, as a writer, and tells how many."""
        content, deleted = schema.segmentation.c.content, 0
        with self.database.transaction() as connection:
            for digest in digests:
                path = self.files.path(digest)
                if path.exists() and not connection.scalar(select(exists().where(content == digest))):
                    path.unlink()
                    deleted += 1
        return deleted

    def _where(self, *conditions: object) -> list[StoredSegmentation]:
        column = schema.segmentation.c
        query = select(schema.segmentation).where(column.task == self.task, *conditions)  # type: ignore[arg-type]
        with self.database.reading() as connection:
            rows = connection.execute(query.order_by(column.version)).all()
        return [StoredSegmentation(r.instance_uid, r.series_uid, r.image, r.version, r.content) for r in rows]
