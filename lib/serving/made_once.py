"""Files and folders that are made when they are first asked for: once, and whole or not at all.

What is being made lies below ``tmp``, which is emptied at each start, under a name of its own; it is renamed into its
place when it is whole. So no reader sees half of it, and nothing is left when the making fails or is killed.
"""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lib.serving.one_at_a_time import OneAtATime
from lib.store.files import full_disk_told

MAKERS = max(2, (os.cpu_count() or 1) // 2)
"""How many things a process makes at once: each may need the memory of a large image."""

_making = OneAtATime()
_makers = threading.BoundedSemaphore(MAKERS)
_maker = threading.local()


def made_once(target: Path, temporary: Path, write: Callable[[Path], object]) -> Path:
    """A file or folder that is there, or else is made; whoever else wants it meanwhile waits for the first.

    Args:
        target: what is wanted.
        temporary: folder on the same file system for what is not finished.
        write: makes the file or folder, under the name that it is given.

    Raises:
        StorageFull: if there is no room; nothing is left behind then, nor after any other error of ``write``.
    """
    if target.exists():
        return target
    with _making.making(target):
        if not target.exists():
            with _turn(), unfinished(target, temporary) as name:
                write(name)
    return target


@contextmanager
def unfinished(target: Path, temporary: Path) -> Iterator[Path]:
    """A name for what is being made; it becomes ``target`` if the block ends well, and is deleted if it does not.

    Raises:
        StorageFull: if there is no room.
    """
    temporary.mkdir(parents=True, exist_ok=True)
    name = temporary / f"made-{uuid.uuid4().hex}"
    try:
        with full_disk_told(target.parent):
            yield name
            target.parent.mkdir(parents=True, exist_ok=True)
            _placed(name, target)
    finally:
        remove(name)


def _placed(name: Path, target: Path) -> None:
    try:
        name.replace(target)
    except OSError:
        # Another process has made the folder meanwhile.
        if not target.exists():
            raise


@contextmanager
def deleted_if_it_fails(path: Path) -> Iterator[None]:
    """A block that writes a temporary file for a reply, which does not stay if the block fails, as on a full disk."""
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def remove(path: Path) -> None:
    """Deletes a file or folder, if it is there; a full disk or a file that goes meanwhile is no reason not to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _turn() -> Iterator[None]:
    """Waits for one of the makers' places; what is needed for something that is being made is made in the same one."""
    if getattr(_maker, "is_at_work", False):
        yield
        return
    with _makers:
        _maker.is_at_work = True
        try:
            yield
        finally:
            _maker.is_at_work = False
