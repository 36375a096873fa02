"""A small record whose masks and weights are really on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lib.stages import Role
from lib.store.annotations import Annotation
from lib.store.models import Model, ModelState, NewModel
from lib.store.record import Record
from tests.store.records import add


def data_of(record: Record) -> Path:
    """The data folder of a record."""
    return record.masks.folder.parent


def store(record: Record, image_id: str, role: Role, content: bytes, author: str = "", **more: Any) -> Annotation:
    """Stores a mask with its file, as the server does."""
    return add(record, image_id, role, author, mask=record.masks.put(content), **more)


def train(record: Record, content: bytes, *cases: tuple[str, int], state: ModelState = ModelState.SERVING) -> Model:
    """Adds a model version with its file."""
    return record.models.add(NewModel(None, record.weights.put(content), {}, list(cases), [], {}), state, "first")


def draft(record: Record, image_id: str, model: int, content: bytes) -> Annotation:
    """The draft of a model version."""
    return store(record, image_id, Role.MODEL, content, f"model@v{model}", model_version=model)


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
