"""MONAI Label's infer tasks on top of the drafting and the refining."""

from __future__ import annotations

import shutil
import tempfile
from abc import abstractmethod
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from lib.errors import InvalidRequest, NoModelYet
from lib.labels import numbered_by_position
from lib.serving.drafting import Drafting
from lib.serving.inference import Drafted, RoughMask
from lib.serving.made_once import deleted_if_it_fails
from lib.serving.refining import Refining
from lib.serving.renumbering import renumbered
from lib.serving.requests import InferRequest
from lib.serving.sessions import kind_of
from lib.stages import Standing, current, standing
from lib.store.annotations import Annotation
from lib.store.files import made_anew
from lib.store.images import ImageKind
from lib.store.models import Model, Models
from lib.store.record import Record
from lib.volume import Volume, read_grid, read_volume, sent_suffix, write_volume


@dataclass(frozen=True)
class Made:
    """A mask on its way to a client.

    Attributes:
        path: temporary NIfTI file with the mask.
        author: the model version or the rule.
        model: ``None`` for a rule.
        voxels: per structure.
        findings: what the mask shows, see ``lib.metrics.findings``.
        seconds: time of each step; empty if the mask was there already.
        told: whether it is in the record, and as which version; what else a client is told.
        stages: where they are wanted, the mask of every stage as a NIfTI file.
    """

    path: Path
    author: str
    model: Model | None
    voxels: dict[str, int]
    findings: dict[str, Any]
    seconds: dict[str, float]
    told: dict[str, Any]
    stages: bytes = b""


class MaskTask(InferTask):
    """Makes masks of images by the serving version of a model."""

    def __init__(self, record: Record, models: Models, temporary: Path, what_it_does: str) -> None:
        task = record.task
        super().__init__(
            type=InferType.SEGMENTATION,
            labels=task.positions,
            dimension=2 if task.is_flat else 3,
            description=f"{task.description}: {what_it_does}",
        )
        self._record = record
        self._models = models
        self._temporary = temporary

    def is_valid(self) -> bool:
        """Listed also before it has weights, so that viewers show it."""
        return True

    def config(self) -> dict[str, Any]:
        """What clients are told: whether masks can be made, and what makes them."""
        model = self._models.serving()
        if model is None:
            # Clients choose a widget by the type of each value and know none for null.
            return {"ready": False, "model_version": 0, **self._without_model()}
        return {
            "ready": True,
            "model_version": model.version,
            "validated": model.is_validated,
            "note": model.reason if model.is_validated else "not validated",
        }

    def get_path(self, validate: bool = True) -> str | None:
        """Path of the serving weights."""
        model = self._models.serving()
        return str(self._record.weights.path(model.weights)) if model is not None else None

    def __call__(self, request: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """Makes a mask; returns a temporary file that the caller deletes, and what is known of the mask.

        Raises:
            NoModelYet, UnknownImage, UnreadableImage, ComputationInterrupted: as the words say.
        """
        asked = InferRequest.from_monailabel(request, self._record.task)
        made = self._made(asked)
        with deleted_if_it_fails(made.path):
            # The header of a mask of ours tells; its voxels need not be unpacked for that.
            grid = read_grid(made.path, is_whole=False)
            voxel_ml = grid.voxel_mm3 / 1000
            if made.stages:
                made.path.write_bytes(made.stages)
            # With oblique axes it comes as NRRD, as its name says: no program on ITK would open it as NIfTI.
            suffix = asked.result_suffix if made.stages else sent_suffix(grid, asked.result_suffix)
            path = self._converted(made.path, suffix, compressed=asked.compressed)
        params = {
            "label_names": self._record.task.positions,
            "latencies": _latencies(made.seconds),
            "model_version": made.model.version if made.model is not None else 0,
            "validated": made.model is not None and made.model.is_validated,
            "author": made.author,
            "voxels": made.voxels,
            "volume_ml": {name: round(count * voxel_ml, 3) for name, count in made.voxels.items()},
            **made.findings,
            "centroids": {},
            **made.told,
        }
        return str(path), params

    @abstractmethod
    def _made(self, asked: InferRequest) -> Made:
        """The mask that is asked for."""

    def _without_model(self) -> dict[str, Any]:
        """What clients are told as long as no version serves."""
        return {}

    def _given(self, drafted: Drafted, author: str, model: Model | None, told: dict[str, Any]) -> Made:
        """A mask that is not stored."""
        path = self._temporary_file(".nii.gz")
        with deleted_if_it_fails(path):
            path.write_bytes(drafted.content)
        return Made(
            path, author, model, drafted.voxels, asdict(drafted.findings), drafted.seconds,
            {"stored": False, **told}, drafted.stages,
        )  # fmt: skip

    def _stored(
        self, annotation: Annotation, version: int | None, seconds: dict[str, float], told: dict[str, Any]
    ) -> Made:
        """A mask in the record, made by a version of the model, or by a rule."""
        path = self._temporary_file(".nii.gz")
        # MONAI Label deletes the file that infer returns (endpoints/infer.py, send_response): give it a copy.
        with deleted_if_it_fails(path):
            shutil.copyfile(self._record.mask_file(annotation), path)
        model = self._models.get(version) if version is not None else None
        return Made(
            path, annotation.author, model, annotation.voxels, annotation.info.get("findings", {}), seconds,
            {"stored": True, "annotation_version": annotation.version, **told},
        )  # fmt: skip

    def _temporary_file(self, suffix: str) -> Path:
        handle, name = tempfile.mkstemp(prefix="draft-", suffix=suffix, dir=made_anew(self._temporary))
        Path(name).chmod(0o600)
        open(handle).close()
        return Path(name)

    def _converted(self, path: Path, suffix: str, *, compressed: bool) -> Path:
        """The mask in a format, its structures numbered as MONAI Label's clients number them."""
        task = self._record.task
        if suffix == ".nii.gz":
            if task.positions != task.values:
                path.write_bytes(renumbered(path, task))
            return path
        volume = read_volume(path)
        converted = self._temporary_file(suffix)
        with deleted_if_it_fails(converted):
            voxels = numbered_by_position(volume.voxels, task)
            write_volume(converted, Volume(voxels, volume.affine), compressed=compressed)
        path.unlink()
        return converted


class DraftTask(MaskTask):
    """Drafts an image by the serving segmenter, or by the task's rule until there is one."""

    def __init__(self, drafting: Drafting, temporary: Path) -> None:
        record = drafting.record
        rule = " or, until there is one, by a rule" if record.task.draft_rule else ""
        super().__init__(record, record.models, temporary, f"a draft by the serving model{rule}")
        self._drafting = drafting

    def _without_model(self) -> dict[str, Any]:
        rule = self._record.task.draft_rule
        return {"ready": True, "validated": False, "note": f"a rule drafts ({rule}); no model yet"} if rule else {}

    def _made(self, asked: InferRequest) -> Made:
        if asked.wants_stages:
            raise InvalidRequest(f"A draft has no stages; ask {self._record.refiners.name}, which refines one.")
        if asked.files:
            drafted, source = self._drafting.of_file(kind_of(asked.files), list(asked.files), asked.asker)
            return self._given(drafted, source.author, source.model, {})
        return self._beginning(asked) if asked.is_beginning else self._draft(asked)

    def _draft(self, asked: InferRequest) -> Made:
        draft = self._drafting.of_image(asked.image_id, asked.asker)
        return self._stored(draft.annotation, draft.annotation.model_version, draft.seconds, {})

    def _beginning(self, asked: InferRequest) -> Made:
        """What somebody begins a case with, who has not pressed for a draft: what waits for an expert, else a draft.

        3D Slicer asks by itself at each new case, and shows an error box for whatever is no mask.
        """
        image, grid = self._drafting.library.readable_with_grid(asked.image_id)
        waiting = current(self._record.annotations.history(image.id))
        if waiting is not None and standing(waiting) is Standing.WAITING and self._record.has_mask(waiting):
            told = {
                "note": f"Version {waiting.version} by {waiting.author} waits for an expert. Run again for a draft."
            }
            return self._stored(waiting, waiting.model_version, {}, told)
        try:
            return self._draft(asked)
        except NoModelYet as error:
            path = self._temporary_file(".nii.gz")
            with deleted_if_it_fails(path):
                write_volume(path, Volume(np.zeros(grid.shape, np.uint8), grid.affine))
            nothing = dict.fromkeys(self._record.task.values, 0)
            return Made(path, "", None, nothing, {}, {}, {"stored": False, "note": str(error)})


class RefineTask(MaskTask):
    """Refines the annotation at hand by the serving refiner."""

    def __init__(self, refining: Refining, temporary: Path) -> None:
        record = refining.record
        super().__init__(
            record, record.refiners, temporary, "the annotation at hand, refined by a network once one serves"
        )
        self._refining = refining

    def _made(self, asked: InferRequest) -> Made:
        if asked.files or asked.rough is not None:
            if asked.version is not None:
                raise InvalidRequest(
                    f"version={asked.version} names a mask in the record, but an image or a mask came along: send one "
                    "or name the other."
                )
            return self._of_files(asked)
        refined = self._refining.of_image(asked.image_id, asked.version, asked.asker, wants_stages=asked.wants_stages)
        annotation, drafted = refined.annotation, refined.drafted
        told = {"kept": annotation.info.get("kept", ""), "parent": annotation.parent}
        seconds = drafted.seconds if drafted is not None else {}
        made = self._stored(annotation, annotation.refiner_version, seconds, told)
        return _with_stages(made, drafted) if asked.wants_stages and drafted is not None else made

    def _of_files(self, asked: InferRequest) -> Made:
        """A mask that came with the request, or the draft of an image that did."""
        if asked.files:
            return self._of_paths(asked, asked.files[0].name, kind_of(asked.files), list(asked.files))
        library = self._refining.library
        image = library.readable(asked.image_id)
        with library.reading(image) as paths:
            return self._of_paths(asked, image.id, image.kind, paths)

    def _of_paths(self, asked: InferRequest, name: str, kind: ImageKind, paths: list[Path]) -> Made:
        looked_at = asked.looked_at
        own = self._temporary_file(".nii.gz")
        try:
            if asked.rough is None:
                draft, _ = self._refining.drafting.of_file(kind, paths, asked.asker)
                own.write_bytes(draft.content)
                looked_at = tuple(draft.voxels)
            # The numbers of our own draft are the task's; a client that says nothing of its own may have either.
            label_info = asked.label_info if asked.rough is None else asked.label_info or None
            mask = RoughMask(asked.rough or own, looked_at, label_info, asked.wants_stages)
            drafted, model = self._refining.of_mask(name, kind, paths, mask, asked.asker)
        finally:
            own.unlink()
        told = {"kept": drafted.kept, "remarks": drafted.remarks}
        made = self._given(drafted, self._models.author(model.version), model, told)
        return _with_stages(made, drafted)


def _with_stages(made: Made, drafted: Drafted) -> Made:
    """A mask with what became of it stage by stage; the first one is what was refined."""
    if not drafted.stages:
        return made
    return replace(made, stages=drafted.stages, told={**made.told, "stages": list(drafted.stage_voxels)})


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
