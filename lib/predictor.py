"""A trained network at work: an image in, a mask on the image's own grid out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from monai.inferers.utils import sliding_window_inference
from torch import Tensor
from torch.nn import functional

from lib.networks.checkpoint import Checkpoint, VoxelTriple
from lib.networks.precision import Precision, computing_in
from lib.networks.segmenter import fitted, network_of
from lib.preprocessing import Frame, mask_on_image, prepared
from lib.volume import Array, Volume

FITS = 1.35
"""An image up to this many patches long on every axis is predicted in one pass."""

OVERLAP = 0.25
"""Share of a patch that neighbouring windows have in common."""


@dataclass(frozen=True)
class Prediction:
    """A mask and how long each step took.

    Attributes:
        mask: uint8 (I, J, K) of label values on the image's grid.
        seconds: by step: ``prepare``, ``network``, ``restore``.
    """

    mask: Array
    seconds: dict[str, float]


class Predictor:
    """A network that stays in memory and answers for one image after the other; not for several threads at once."""

    def __init__(self, checkpoint: Checkpoint, device: str = "cpu", precision: Precision = Precision.AUTO) -> None:
        """Builds the network and puts the weights in.

        Args:
            checkpoint: plan and weights.
            device: of PyTorch.
            precision: by default bfloat16 where the machine has units for it.

        Raises:
            UnacceptableFile: if the weights do not fit the plan.
        """
        self.plan = checkpoint.plan
        self.device = torch.device(device)
        self.precision = precision
        self.seconds: dict[str, float] = {}
        self._network = fitted(network_of(checkpoint.plan), checkpoint.weights).to(self.device).eval()

    def mask(self, volume: Volume) -> Array:
        """Mask uint8 (I, J, K) of label values on the image's grid; ``seconds`` tells how long the steps took."""
        return self.predict(volume).mask

    def predict(self, volume: Volume) -> Prediction:
        """The mask of an image and how long each step took."""
        probabilities, frame = self.probabilities(volume)
        with self._timed("restore"):
            mask = mask_on_image(probabilities, frame, self.plan)
        return Prediction(mask, dict(self.seconds))

    def probabilities(self, volume: Volume) -> tuple[Tensor, Frame]:
        """Probabilities float32 (C, I, J, K) on the network grid, background first, and where that grid lies."""
        self.seconds = {}
        with self._timed("prepare"):
            image = prepared(volume, self.plan)
        with self._timed("network"), torch.inference_mode(), computing_in(self.precision, self.device):
            probabilities = self._forward(image.voxels[None].to(self.device))[0].float().cpu()
        return probabilities, image.frame

    def _forward(self, image: Tensor) -> Tensor:
        """Probabilities (1, C, I, J, K) of an image (1, 1, I, J, K)."""
        i, j, k = image.shape[2:]
        if all(size <= FITS * patch for size, patch in zip((i, j, k), self.plan.patch, strict=True)):
            return self._whole(image)
        # Probabilities, not logits, are blended: a window that is sure then does not outvote its neighbour.
        blended = sliding_window_inference(
            padded(image, self.plan.patch),
            roi_size=self.plan.patch,
            sw_batch_size=1,
            predictor=lambda window: self._network(window).float().softmax(dim=1),
            overlap=OVERLAP,
            mode="gaussian",
        )
        return torch.as_tensor(blended)[:, :, :i, :j, :k]

    def _whole(self, image: Tensor) -> Tensor:
        """One pass over an image, padded at its far ends to what the strides and norms need."""
        i, j, k = image.shape[2:]
        least = (
            # Two voxels on the coarsest level: the norms there need more than one.
            max(-(-size // step) * step, min(2 * step, patch))
            for size, step, patch in zip((i, j, k), self.plan.multiple, self.plan.patch, strict=True)
        )
        first, second, third = least
        return self._network(padded(image, (first, second, third))).float().softmax(dim=1)[:, :, :i, :j, :k]

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        """Notes how long a step takes."""
        started = time.perf_counter()
        yield
        self.seconds[step] = round(time.perf_counter() - started, 4)


def padded(image: Tensor, least: VoxelTriple) -> Tensor:
    """An image (B, C, I, J, K) whose axes are at least so long, its last voxels repeated at the far ends."""
    missing = [max(wanted - size, 0) for size, wanted in zip(image.shape[2:], least, strict=True)]
    return functional.pad(image, (0, missing[2], 0, missing[1], 0, missing[0]), mode="replicate")
