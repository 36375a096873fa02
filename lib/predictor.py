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

from lib.networks.checkpoint import Checkpoint, NetworkPlan, VoxelTriple
from lib.networks.precision import Precision, computing_in
from lib.networks.segmenter import fitted, network_of
from lib.preprocessing import Frame, mask_on_image, prepared
from lib.volume import Array, Volume

FITS = 1.35
"""An image up to this many patches long on every axis is predicted in one pass, if the plan tells the strides."""

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
        return self.answer(image.voxels[None])[0], image.frame

    def answer(self, seen: Tensor) -> Tensor:
        """Probabilities float32 (B, C, I, J, K) of what the network sees, float32 (B, N, I, J, K) on its own grid."""
        with self._timed("network"), torch.inference_mode(), computing_in(self.precision, self.device):
            return self._forward(seen.to(self.device)).float().cpu()

    def _forward(self, image: Tensor) -> Tensor:
        """Probabilities (B, C, I, J, K) of images (B, N, I, J, K)."""
        i, j, k = image.shape[2:]
        padding = _padding((i, j, k), self.plan)
        wide = functional.pad(image, padding, mode="replicate")
        longest = FITS if self.plan.strides else 1.0
        fits = all(size <= longest * patch for size, patch in zip((i, j, k), self.plan.patch, strict=True))
        probabilities = self._window(wide) if fits else self._windows(wide)
        k0, _, j0, _, i0, _ = padding
        return probabilities[:, :, i0 : i0 + i, j0 : j0 + j, k0 : k0 + k]

    def _window(self, image: Tensor) -> Tensor:
        """Probabilities of what is seen at once."""
        probabilities = self._network(image).float().softmax(dim=1)
        if not self.plan.ignored:
            return probabilities
        heeded = probabilities[:, self.plan.heeded]
        heeded[:, 0] += probabilities[:, list(self.plan.ignored)].sum(dim=1)
        return heeded

    def _windows(self, image: Tensor) -> Tensor:
        """Probabilities of a large image, blended from overlapping patches.

        Probabilities are blended, not logits: a window that is very sure then does not outvote its neighbours.
        """
        blended = sliding_window_inference(
            image, self.plan.patch, sw_batch_size=1, predictor=self._window, overlap=OVERLAP, mode="gaussian"
        )
        return torch.as_tensor(blended)

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        """Notes how long a step takes."""
        started = time.perf_counter()
        yield
        self.seconds[step] = round(time.perf_counter() - started, 4)


def _padding(shape: VoxelTriple, plan: NetworkPlan) -> list[int]:
    """Voxels to repeat before and behind K, J and I, in the order that PyTorch pads in.

    To the size of a patch and to what the strides need, evenly on both sides: the network learned on patches of that
    size, and its norms and its sense of place depend on it.
    """
    padding: list[int] = []
    for size, step, patch in zip(shape, plan.multiple, plan.patch, strict=True):
        missing = max(-(-size // step) * step, patch) - size
        padding = [missing // 2, missing - missing // 2, *padding]
    return padding
