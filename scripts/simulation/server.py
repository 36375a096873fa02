"""The server as the robot sees it, through the client that 3D Slicer uses."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote_plus

import numpy as np

from lib.volume import Volume, onto_grid, read_volume

ENDED = ("DONE", "ERROR", "STOPPED")
POLL_S = 1.0


class Server(Protocol):
    """What the robot asks of a server."""

    values: dict[str, int]

    def next_image(self) -> str | None:
        """Id of the image to label next, or ``None`` when nothing is left."""

    def draft(self, image_id: str, truth: Volume) -> Volume:
        """The model's mask on the truth's grid; empty while there is no model."""

    def submit(self, image_id: str, mask: Path) -> str:
        """Saves a correction; returns the split of the image."""

    def is_training(self) -> bool:
        """Whether a training runs at this moment."""

    def train(self, limit_s: float) -> str:
        """Starts a training, or joins the one under way, and waits; returns how it ended."""

    def images(self) -> dict[str, bool]:
        """All image ids, and whether each has a final annotation."""

    def source(self, image_id: str) -> str | None:
        """Path of the image in the study folder, where the server tells."""


class MonaiLabelServer:
    """A running server; ``values`` are the label values of its draft model by structure name."""

    def __init__(self, address: str, folder: Path) -> None:
        """Asks the server for its models; infer replies are kept in ``folder``."""
        # MONAI Label is imported late: the command's --help and its tests do without it.
        from monailabel.client.client import MONAILabelClient, MONAILabelClientException, MONAILabelUtils

        self._client = MONAILabelClient(address, tmpdir=str(folder), client_id="robot")
        self._refusal: type[Exception] = MONAILabelClientException
        self._get = MONAILabelUtils.http_method
        self._address = address.rstrip("/")
        self._model, self.values = draft_model(self._client.info())

    def next_image(self) -> str | None:
        """Id of an image drawn by the server's strategy ``random``, or ``None``."""
        image_id = self._client.next_sample("random", {}).get("id")
        return str(image_id) if image_id else None

    def draft(self, image_id: str, truth: Volume) -> Volume:
        """The model's mask on the truth's grid; empty while the server answers that there is no model (409)."""
        empty = Volume(np.zeros(truth.grid.shape, np.uint8), truth.affine)
        try:
            result, _ = self._client.infer(self._model, image_id, {"result_extension": ".nii.gz"})
        except self._refusal as refusal:
            if status_of(refusal) == 409:
                return empty
            raise
        if not result:
            return empty
        mask = read_volume(Path(result))
        return Volume(np.rint(onto_grid(mask, truth.grid, image_id)).astype(np.uint8), truth.affine)

    def submit(self, image_id: str, mask: Path) -> str:
        """Saves a correction as Slicer does, without a tag; returns ``training`` or ``validation``."""
        numbers = [{"name": name, "idx": value} for name, value in self.values.items()]
        saved = self._client.save_label(image_id, str(mask), params={"label_info": numbers})
        return str(saved.get("split", "training"))

    def is_training(self) -> bool:
        """Whether a training runs at this moment."""
        return bool(self._client.train_status(check_if_running=True))

    def train(self, limit_s: float) -> str:
        """Starts or joins a training and waits for its end; stops it when the limit is over.

        Returns:
            ``DONE``, ``ERROR`` or ``STOPPED``; ``REFUSED`` if the server did not take it, such as for lack of
            training cases.
        """
        end = time.monotonic() + limit_s
        try:
            job = self._client.train_start(self._model, {})
        except self._refusal as refusal:
            print(f"The server started no training: {refusal_text(refusal)}", flush=True)
            return "REFUSED"
        while not has_ended(status := self._client.train_status(), job, self.is_training()):
            if time.monotonic() > end:
                self._client.train_stop()
                return "STOPPED"
            time.sleep(POLL_S)
        if status["status"] == "ERROR":
            print("The training failed:", *[str(line).rstrip() for line in status.get("details", [])][-5:], sep="\n  ")
        return str(status["status"])

    def images(self) -> dict[str, bool]:
        """All image ids, and whether each has a final annotation."""
        objects = self._client.datastore()["objects"]
        return {image_id: "final" in (entry.get("labels") or {}) for image_id, entry in objects.items()}

    def source(self, image_id: str) -> str | None:
        """Path of the image in the study folder, or ``None`` if the server does not tell."""
        status, body, *_ = self._get("GET", self._address, f"/datastore/image/info?image={quote_plus(image_id)}")
        if status != 200:
            return None
        source = json.loads(body).get("source")
        return source if isinstance(source, str) else None


def draft_model(info: dict[str, Any]) -> tuple[str, dict[str, int]]:
    """Name of the model that drafts, and its label values by structure name, from the reply of ``/info/``.

    Raises:
        ValueError: if the server offers no model of type segmentation with named labels.
    """
    for name, model in info.get("models", {}).items():
        labels = model.get("labels")
        if model.get("type") == "segmentation" and isinstance(labels, dict):
            return name, {label: int(value) for label, value in labels.items() if int(value) > 0}
    raise ValueError(
        f"The server offers the models {sorted(info.get('models', {}))}, none of type segmentation with named labels; "
        "start it with the segmentation app."
    )


def has_ended(status: dict[str, Any], job: dict[str, Any], is_training: bool) -> bool:
    """Whether the training that was started or joined is over.

    While ours waits in the queue the server may still show the one before; a later one of its own may replace ours.
    """
    is_ours = not job.get("id") or status.get("id") == job["id"]
    return status.get("status") in ENDED and (is_ours or not is_training)


def refusal_text(refusal: Exception) -> str:
    """What the client's exception says, which it keeps in ``msg``."""
    return str(getattr(refusal, "msg", refusal))


def status_of(refusal: Exception) -> int | None:
    """HTTP status of a refused request; ``infer`` and ``save_label`` only write it into the message."""
    known = getattr(refusal, "status_code", None)
    if known:
        return int(known)
    first, _, rest = refusal_text(refusal).partition("Status: ")
    digits = rest.split(";")[0].strip()
    return int(digits) if not first and digits.isdecimal() else None
