"""A consistent copy of the record and its files, while the server goes on."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import insert, select, update

from lib.errors import SetupError
from lib.store import layout, schema
from lib.store.database import Database
from lib.store.files import full_disk_told
from lib.store.record import Record, default_url

ROWS = 1000

OTHER_FILES = (layout.PATIENT_KEY, layout.TOKENS, layout.UPLOADS)
"""Beside the record and the content-named files."""


def back_up(
    record: Record, data: Path, target: Path, report: Callable[[int, int], None] = lambda done, total: None
) -> int:
    """Copies rows and files into an empty folder, which is itself a data folder that a server can start on.

    The rows are read in one transaction. Files named by their content never change and are on the disk before their
    row, so copying them afterwards gives a consistent whole.

    Args:
        record: what to copy, in SQLite or PostgreSQL; the copy is SQLite.
        data: its data folder.
        target: a folder that does not exist yet, or is empty.
        report: is told how many files are copied, and how many there are.

    Returns:
        Files copied.

    Raises:
        SetupError: if the target holds anything.
        StorageFull: if it has no room; like after any other error, nothing is left there then.
    """
    if target.exists() and any(target.iterdir()):
        raise SetupError(f"{target} is not empty. Name a folder that does not exist yet.")
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with full_disk_told(target):
            _copy_rows(record, target)
            return _copy_files(record, data, target, report)
    except BaseException:
        # Half a copy looks like a whole one.
        shutil.rmtree(target, ignore_errors=True)
        raise


def _copy_rows(record: Record, target: Path) -> None:
    copy = Database(default_url(target))
    copy.migrate()
    with record.database.reading() as source, copy.transaction() as sink:
        for table in schema.metadata.sorted_tables:
            # It holds patients' names, and is made anew from the studies.
            if table is schema.listing:
                continue
            rows = source.execution_options(yield_per=ROWS).execute(select(table)).mappings()
            for part in rows.partitions(ROWS):
                sink.execute(insert(table), [dict(row) for row in part])
        sink.execute(update(schema.image).values(listed=None))
    copy.close()


def _copy_files(record: Record, data: Path, target: Path, report: Callable[[int, int], None]) -> int:
    stores = (record.masks, record.weights, record.segmentations.files)
    files = [path for store in stores for path in store.folder.glob("*/[!.]*")]
    for done, path in enumerate(files, start=1):
        place = target / path.relative_to(data)
        place.parent.mkdir(parents=True, exist_ok=True)
        # One that was pruned meanwhile is missed by nobody, or else by whoever checks the copy.
        with contextlib.suppress(FileNotFoundError):
            shutil.copy2(path, place)
        report(done, len(files))
    for name in OTHER_FILES:
        if (data / name).is_dir():
            shutil.copytree(data / name, target / name, dirs_exist_ok=True)
        elif (data / name).exists():
            (target / name).parent.mkdir(exist_ok=True, mode=0o700)
            shutil.copy2(data / name, target / name)
    os.sync()
    return len(files)
