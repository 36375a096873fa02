"""``/model``: weights and versions."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse

from lib.errors import UnknownModel
from lib.serving.importing import import_weights
from lib.serving.loop import LabelingLoop
from lib.serving.routes.common import App, Name, OneFile, Version, Who, received, sent
from lib.store.models import Model

router = APIRouter(prefix="/model", tags=["Model"])


def _serving(app: LabelingLoop, model: str) -> Model:
    serving = app.models_of(model).serving()
    if serving is None:
        raise UnknownModel(f"No version of {model} serves yet: train first, or upload weights.")
    return serving


@router.get("/info/{model}")
def model_info(model: Name, app: App) -> dict[str, Any]:
    """Checksum and age of the serving weights."""
    return {**_weights_info(_serving(app, model)), "train_stats": app.info()["train_stats"].get(model, {})}


def _weights_info(model: Model) -> dict[str, Any]:
    return {
        "checksum": f"SHA256:{model.weights}",
        "modified_time": int(model.created.timestamp()),
        "version": model.version,
        "state": model.state,
        "reason": model.reason,
        "mean_dice": model.metrics.get("mean_dice"),
        "validated": model.is_validated,
    }


@router.get("/versions/{model}")
def versions(model: Name, app: App) -> list[dict[str, Any]]:
    """All versions, oldest first, with what they learned from and how they did."""
    return [
        {
            **_weights_info(version),
            "parent": version.parent,
            "training_cases": len(version.training),
            "validation_cases": len(version.validation),
            "metrics": version.metrics,
            "created": version.created.isoformat(),
        }
        for version in app.models_of(model).every()
    ]


@router.post("/serve/{model}")
def serve(model: Name, version: Version, app: App, who: Who) -> dict[str, Any]:
    """Makes a version the serving one, for example to go back to an earlier one."""
    return _weights_info(app.models_of(model).serve(version, who(None).name))


@router.get("/{model}")
def download(model: Name, app: App) -> FileResponse:
    """The serving weights."""
    return sent(app.record.weights.sound(_serving(app, model).weights), f"{model}.pt")


@router.put("/{model}")
def upload(model: Name, app: App, file: OneFile) -> dict[str, Any]:
    """Takes in weights as a new version that serves; the one before is kept."""
    models = app.models_of(model)
    path = received(app, file)
    try:
        return _weights_info(import_weights(app.record, models, path.read_bytes()))
    finally:
        path.unlink(missing_ok=True)


@router.delete("/{model}")
def retire(model: Name, app: App, who: Who) -> dict[str, Any]:
    """Takes the serving version out of service; it is kept."""
    _serving(app, model)
    app.models_of(model).retire(who(None).name)
    return {}
