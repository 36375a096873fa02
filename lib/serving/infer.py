"""MONAI Label's infer task on top of the drafting."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from lib.serving.drafting import Drafting
from lib.serving.requests import InferRequest
from lib.serving.sessions import kind_of
from lib.volume import read_volume, write_volume


class DraftTask(InferTask):
    """Drafts an image by the serving model."""

    def __init__(self, drafting: Drafting, temporary: Path) -> None:
        task = drafting.record.task
        super().__init__(
            type=InferType.SEGMENTATION,
            labels=task.values,
            dimension=3,
            description=f"{task.description}: a draft by the serving model",
        )
        self._drafting = drafting
        self._temporary = temporary

    def is_valid(self) -> bool:
        """Listed also before it has weights, so that viewers show it."""
        return True

    def config(self) -> dict[str, Any]:
        """What clients are told: whether there is a model, and which."""
        model = self._drafting.record.models.serving()
        if model is None:
            # Clients choose a widget by the type of each value and know none for null.
            return {"ready": False, "model_version": 0}
        return {
            "ready": True,
            "model_version": model.version,
            "validated": model.is_validated,
            "note": model.reason if model.is_validated else "not validated",
        }

    def get_path(self, validate: bool = True) -> str | None:
        """Path of the serving weights."""
        model = self._drafting.record.models.serving()
        return str(self._drafting.record.weights.path(model.weights)) if model is not None else None

    def __call__(self, request: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """Drafts; returns a temporary file that the caller deletes, and what is known of the draft.

        Raises:
            NoModelYet, UnknownImage, UnreadableImage, ComputationInterrupted: as the words say.
        """
        asked = InferRequest.from_monailabel(request)
        task = self._drafting.record.task
        if asked.files:
            drafted, model = self._drafting.of_file(kind_of(asked.files), list(asked.files))
            path = self._temporary_file(".nii.gz")
            path.write_bytes(drafted.content)
            told: dict[str, Any] = {"stored": False}
            voxels, seconds, version = drafted.voxels, drafted.seconds, model.version
        else:
            draft = self._drafting.of_image(asked.image_id)
            annotation = draft.annotation
            path = self._temporary_file(".nii.gz")
            # MONAI Label deletes the file that infer returns (endpoints/infer.py, send_response): give it a copy.
            shutil.copyfile(self._drafting.record.masks.path(annotation.mask or ""), path)
            told = {"stored": True, "annotation_version": annotation.version, "author": annotation.author}
            voxels, seconds, version = annotation.voxels, draft.seconds, annotation.model_version or 0
        path, voxel_ml = self._converted(path, asked)
        model = self._drafting.record.models.get(version)
        params = {
            "label_names": task.values,
            "latencies": _latencies(seconds),
            "model_version": version,
            "validated": model.is_validated,
            "voxels": voxels,
            "volume_ml": {name: round(count * voxel_ml, 3) for name, count in voxels.items()},
            "centroids": {},
            **told,
        }
        return str(path), params

    def _temporary_file(self, suffix: str) -> Path:
        handle, name = tempfile.mkstemp(prefix="draft-", suffix=suffix, dir=self._temporary)
        Path(name).chmod(0o600)
        open(handle).close()
        return Path(name)

    def _converted(self, path: Path, asked: InferRequest) -> tuple[Path, float]:
        """The mask in the format asked for, and the millilitres of a voxel."""
        volume = read_volume(path)
        if asked.result_suffix != ".nii.gz":
            converted = self._temporary_file(asked.result_suffix)
            write_volume(converted, volume, compressed=asked.compressed)
            path.unlink()
            path = converted
        return path, volume.grid.voxel_mm3 / 1000


def _latencies(seconds: dict[str, float]) -> dict[str, Any]:
    """Seconds of each step in MONAI Label's words; zeros for a draft that was there already."""
    step = {name: seconds.get(name, 0.0) for name in ("read", "prepare", "network", "restore", "write", "total")}
    return {
        "pre": round(step["read"] + step["prepare"], 4),
        "infer": step["network"],
        "invert": step["restore"],
        "post": 0.0,
        "write": step["write"],
        "total": step["total"],
        "transform": {"pre": {}, "post": {}},
    }
