"""Opens the record and the images of an app for a command, as the server would, without being a server."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lib.errors import SetupError
from lib.patients import read_patient_rule
from lib.serving.folder import FolderReader
from lib.serving.intake import Intake
from lib.serving.library import Library
from lib.serving.loop import LabelingLoop, patient_key
from lib.serving.settings import configured, read_settings, studies_place
from lib.serving.worker import Workplace, open_workplace
from lib.store.lock import FolderLock


def task_class(app_dir: Path) -> type[LabelingLoop]:
    """The class of an app.

    Raises:
        SetupError: if the folder holds no app.
    """
    main = app_dir / "main.py"
    if not main.is_file():
        raise SetupError(f"--app {app_dir} holds no main.py. Name the folder of an app, such as apps/segmentation.")
    spec = importlib.util.spec_from_file_location(f"app_{app_dir.name}", main)
    if spec is None or spec.loader is None:
        raise SetupError(f"{main} cannot be loaded as Python.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = [entry for entry in vars(module).values() if _is_app(entry)]
    if len(found) != 1:
        raise SetupError(f"{main} must define one class of LabelingLoop, found {len(found)}.")
    app: type[LabelingLoop] = found[0]
    return app


def _is_app(entry: Any) -> bool:
    return isinstance(entry, type) and issubclass(entry, LabelingLoop) and entry is not LabelingLoop


def open_app(
    app_dir: Path,
    studies: str,
    conf: Mapping[str, str],
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Library:
    """The images that lie in the folder of studies now, and their record.

    A server that runs on the same data folder looks at the studies by itself: then only the record is read.

    Args:
        app_dir: folder of the app.
        studies: as for the server.
        conf: as for the server: other settings would sort new images to other patients.
        report: is told how many of the new files are read, and how many there are.

    Raises:
        SetupError: if a setting is not accepted, or the record was made with other label values.
    """
    settings = read_settings(conf, app_dir.name)
    place = studies_place(studies, settings)
    folder = place if isinstance(place, Path) else None
    workplace = Workplace(configured(task_class(app_dir).TASK, settings, folder), place, settings)
    record, library = open_workplace(workplace)
    with _no_server(settings.data) as is_alone:
        if is_alone:
            patients = read_patient_rule(folder, settings.patient, patient_key(settings.data))
            Intake(library, FolderReader(patients, record.task), settings.ignored).look(report)
    return library


@contextmanager
def _no_server(data: Path) -> Iterator[bool]:
    """Tells whether no server uses the folder, and keeps one from starting meanwhile."""
    lock = FolderLock.taken(data)
    if lock is None:
        yield False
        return
    with lock:
        yield True
