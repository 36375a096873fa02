"""MONAI Label's infer task on top of the drafting."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from lib.serving.drafting import Drafting
from lib.serving.requests import InferRequest
from lib.serving.sessions import kind_of
from lib.store.models import Model
from lib.volume import read_volume, write_volume


@dataclass(frozen=True)
class Made:
    """A draft on its way to a client.

    Attributes:
        path: temporary NIfTI file with the mask.
        author: the model version or the rule.
        model: ``None`` for a rule.
        voxels: per structure.
        findings: what the mask shows, see ``lib.metrics.findings``.
        seconds: time of each step; empty if the draft was there already.
        stored: whether it is in the record, and as which version.
    """

    path: Path
    author: str
    model: Model | None
    voxels: dict[str, int]
    findings: dict[str, Any]
    seconds: dict[str, float]
    stored: dict[str, Any]


class DraftTask(InferTask):
    """Drafts an image by the serving model, or by the task's rule until there is one."""

    def __init__(self, drafting: Drafting, temporary: Path) -> None:
        task = drafting.record.task
        super().__init__(
            type=InferType.SEGMENTATION,
            labels=task.values,
            dimension=2 if task.is_flat else 3,
            description=f"{task.description}: a draft by the serving model"
            + (" or, until there is one, by a rule" if task.draft_rule else ""),
        )
        self._drafting = drafting
        self._temporary = temporary

    def is_valid(self) -> bool:
        """Listed also before it has weights, so that viewers show it."""
        return True

    def config(self) -> dict[str, Any]:
        """What clients are told: whether drafts can be made, and what makes them."""
        model = self._drafting.record.models.serving()
        if model is None:
            # Clients choose a widget by the type of each value and know none for null.
            rule = self._drafting.record.task.draft_rule
            told = {"validated": False, "note": f"a rule drafts ({rule}); no model yet"} if rule else {}
            return {"ready": bool(rule), "model_version": 0, **told}
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
        made = self._of_files(asked) if asked.files else self._of_image(asked)
        path, voxel_ml = self._converted(made.path, asked)
        params = {
            "label_names": self._drafting.record.task.values,
            "latencies": _latencies(made.seconds),
            "model_version": made.model.version if made.model is not None else 0,
            "validated": made.model is not None and made.model.is_validated,
            "author": made.author,
            "voxels": made.voxels,
            "volume_ml": {name: round(count * voxel_ml, 3) for name, count in made.voxels.items()},
            **made.findings,
            "centroids": {},
            **made.stored,
        }
        return str(path), params

    def _of_files(self, asked: InferRequest) -> Made:
        drafted, source = self._drafting.of_file(kind_of(asked.files), list(asked.files), asked.asker)
        path = self._temporary_file(".nii.gz")
        path.write_bytes(drafted.content)
        return Made(
            path, source.author, source.model, drafted.voxels, asdict(drafted.findings), drafted.seconds,
            {"stored": False},
        )  # fmt: skip

    def _of_image(self, asked: InferRequest) -> Made:
        record = self._drafting.record
        draft = self._drafting.of_image(asked.image_id, asked.asker)
        annotation = draft.annotation
        path = self._temporary_file(".nii.gz")
        # MONAI Label deletes the file that infer returns (endpoints/infer.py, send_response): give it a copy.
        shutil.copyfile(record.masks.path(annotation.mask or ""), path)
        model = record.models.get(annotation.model_version) if annotation.model_version is not None else None
        return Made(
            path, annotation.author, model, annotation.voxels, annotation.info.get("findings", {}), draft.seconds,
            {"stored": True, "annotation_version": annotation.version},
        )  # fmt: skip

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
