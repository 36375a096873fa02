"""Headers of whole series in one file each, so that only the first look at a series reads all of its DICOM files."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from lib import __version__
from lib.serving.dicomweb import InstanceHeader, header_of
from lib.serving.library import Library
from lib.serving.made_once import unfinished
from lib.store import layout
from lib.store.images import Image, ImageState

LOG = logging.getLogger(__name__)


class KeptHeaders:
    """The headers of series; what is missing, damaged or out of date is read from the DICOM files.

    Requests only read them. One thread writes them, and takes half of a processor at most.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self._record = library.record
        self._folder = library.data / layout.CACHE
        self._wanted: deque[str] = deque()
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def of(self, image_id: str, paths: Sequence[Path]) -> list[InstanceHeader]:
        """The headers of an image's files, in their order.

        Raises:
            UnreadableImage: if one of them is damaged.
        """
        kept = self._read(image_id, paths) if len(paths) > 1 else None
        return kept if kept is not None else [header_of(path) for path in paths]

    def start(self, look: Callable[[], None]) -> None:
        """Keeps the headers of all series from now on.

        Args:
            look: what shall be done before; it may find new ones.
        """
        self._thread = threading.Thread(target=self._keep_all, args=[look], name="headers", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends it, after the series that it is at."""
        self._stopping.set()
        self._woken.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def is_stopping(self) -> bool:
        """Whether the server stops."""
        return self._stopping.is_set()

    def want(self, image_ids: Iterable[str]) -> None:
        """Says which images are new, or changed."""
        if self._thread is not None:
            self._wanted.extend(image_ids)
            self._woken.set()

    def _keep_all(self, look: Callable[[], None]) -> None:
        try:
            look()
            self._wanted.clear()
            self.want(image.id for image in self._record.images.every(ImageState.OK))
        except Exception:
            LOG.exception("Series that are here already are read when somebody opens them.")
        while not self._stopping.is_set():
            begin = time.monotonic()
            if self._wanted:
                self._try(self._wanted.popleft())
                self._stopping.wait(time.monotonic() - begin)
            else:
                self._woken.wait()
                self._woken.clear()

    def _try(self, image_id: str) -> None:
        try:
            self.keep(self._library.readable(image_id))
        # One image must not hide the others.
        except Exception as error:
            LOG.info("The headers of %s are not kept: %s", image_id, error)

    def keep(self, image: Image) -> None:
        """Writes the headers of an image unless they are kept, or it is no series of several files.

        Raises:
            UnreadableImage: if one of its files is gone or damaged.
            StorageFull: if there is no room.
        """
        paths = self._library.files(image)
        if len(paths) < 2 or self._read(image.id, paths) is not None:
            return
        key = _key(paths)
        content = f"{key}\n{json.dumps(_packed([header_of(path) for path in paths]))}"
        place = self._place(image.id)
        # Writers of the record take turns, and erasing is one: nothing of a patient is written after it.
        with self._record.database.transaction():
            now = self._record.images.find(image.id)
            # A file may have been exchanged since: what was read before must not pass for the new one.
            if now is not None and now.state is ImageState.OK and key == _key(paths):
                with unfinished(place, self._library.data / layout.TEMPORARY) as name:
                    name.write_text(content, encoding="utf-8")

    def _place(self, image_id: str) -> Path:
        return self._folder / layout.cached_name(image_id, "headers.json")

    def _read(self, image_id: str, paths: Sequence[Path]) -> list[InstanceHeader] | None:
        try:
            key, _, content = self._place(image_id).read_text(encoding="utf-8").partition("\n")
            return _unpacked(json.loads(content), paths) if key == _key(paths) else None
        except (OSError, ValueError, LookupError, TypeError):
            return None


def _key(paths: Sequence[Path]) -> str:
    """What changes when a file does, or what is told of it."""
    states = [(str(path), path.stat()) for path in paths]
    return json.dumps([__version__, *((name, state.st_size, state.st_mtime_ns) for name, state in states)])


def _packed(headers: list[InstanceHeader]) -> Any:
    """Headers as JSON; what all of a series have alike stands there once."""
    first = headers[0].told
    shared = {tag: value for tag, value in first.items() if all(one.told.get(tag) == value for one in headers)}
    own = [
        {
            "told": {tag: value for tag, value in one.told.items() if tag not in shared},
            "long": one.long,
            "syntax": one.syntax,
            "pixels_at": one.pixels_at,
            "size": one.size,
            "modified_ns": one.modified_ns,
        }
        for one in headers
    ]
    return {"shared": shared, "own": own}


def _unpacked(packed: Any, paths: Sequence[Path]) -> list[InstanceHeader]:
    shared = packed["shared"]
    return [
        InstanceHeader(path, **{**own, "told": dict(sorted((shared | own["told"]).items()))})
        for path, own in zip(paths, packed["own"], strict=True)
    ]
