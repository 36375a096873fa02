"""A refiner at work: an image and a rough mask in, the mask of every stage out, and whether to trust the last one."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lib.errors import UnacceptableFile
from lib.networks.checkpoint import Checkpoint
from lib.networks.precision import Precision
from lib.networks.refiner import as_channels
from lib.predictor import Predictor
from lib.preprocessing import Frame, mask_on_image, prepared, prepared_mask, region_on_image
from lib.refinement.keep import estimated_dice, reasons_to_keep, with_draft
from lib.volume import Array, Volume

STAGES = 1
"""How often a mask is refined if nobody says otherwise: as often as in training, see ``RefineOptions``."""

SETTLED = 0.002
"""A stage that changes fewer voxels than this share of the structures is the last one: the next would change less."""


@dataclass(frozen=True)
class Refinement:
    """What became of a draft.

    Attributes:
        draft: uint8 (I, J, K) of label values.
        stages: the mask of every stage on the image's grid, the first one first; fewer than asked for if the mask
            settled, empty for zero stages.
        reasons: why structures stay as in the draft, by label value; the last stage takes the place of all others.
        seconds: that the network took, and all together.
    """

    draft: Array
    stages: tuple[Array, ...] = ()
    reasons: Mapping[int, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def kept(self) -> str:
        """Which structures stay as the draft has them, and why; empty: none."""
        return "; ".join(self.reasons.values())

    @property
    def mask(self) -> Array:
        """The mask to go on with: that of the last stage, but for the structures that stay."""
        last = self.stages[-1] if self.stages else self.draft
        if not self.reasons:
            return last
        staying = list(self.reasons)
        return np.where(np.isin(self.draft, staying) | np.isin(last, staying), self.draft, last)


class Refiner:
    """A refiner that stays in memory and answers for one image after the other; not for several threads at once."""

    def __init__(self, checkpoint: Checkpoint, device: str = "cpu", precision: Precision = Precision.AUTO) -> None:
        """Builds the network and puts the weights in; arguments as for ``Predictor``.

        Raises:
            UnacceptableFile: if the checkpoint is not that of a refiner, or its weights do not fit its plan.
        """
        if checkpoint.plan.network != "refiner":
            raise UnacceptableFile(
                f"The model is a {checkpoint.plan.network}, which sees no mask beside the image; wanted is a refiner. "
                "Train one from pairs of drafts and expert masks."
            )
        self.plan = checkpoint.plan
        self._predictor = Predictor(checkpoint, device, precision)

    def refine(
        self,
        volume: Volume,
        draft: Array,
        stages: int = STAGES,
        votes: float | None = None,
        looked_at: Collection[int] | None = None,
    ) -> Refinement:
        """Refines a mask stage by stage, each with the same weights.

        Each stage goes on from what the refiner found by itself; in the masks that come back the draft has a vote.
        Marks of structures that the refiner does not know, or that are too small for it to see, stay where it finds
        nothing.

        Args:
            volume: the image.
            draft: uint8 (I, J, K) of label values on its grid.
            stages: at most so many; for 0 the draft comes back.
            votes: of the draft beside the one of the refiner; 0: the masks are the refiner's own, ``None``: as learned.
            looked_at: label values that the draft's author covered: others do not appear. ``None``: all.

        Raises:
            GridMismatch: if the draft's shape is not the image's.
        """
        started = time.perf_counter()
        votes = self.plan.draft_votes if votes is None else votes
        image = prepared(volume, self.plan)
        current = torch.from_numpy(prepared_mask(draft, image.frame, self.plan))
        probabilities: list[Tensor] = []
        seen, network_s = [current], 0.0
        while len(probabilities) < stages and not (len(seen) > 1 and _is_settled(seen[-2], seen[-1])):
            begin = time.perf_counter()
            probabilities.append(self._probabilities(image.voxels, seen[-1]))
            network_s += time.perf_counter() - begin
            # The same as argmax, which takes six times as long on a CPU.
            seen.append(probabilities[-1].max(dim=0).indices.to(torch.uint8))
        voted = [with_draft(each, current, votes) for each in probabilities]
        masks = tuple(self._on_image(each, current, image.frame, draft) for each in voted)
        reasons = self._reasons_to_keep(seen, probabilities[-1], voted[-1]) if probabilities else {}
        if looked_at is not None:
            masks = tuple(np.where(np.isin(mask, [0, *looked_at]), mask, draft) for mask in masks)
            reasons = {value: reason for value, reason in reasons.items() if value in looked_at}
        seconds = {"network": round(network_s, 4), "all": round(time.perf_counter() - started, 4)}
        return Refinement(draft, masks, reasons, seconds)

    def _reasons_to_keep(self, seen: Sequence[Tensor], own: Tensor, voted: Tensor) -> dict[int, str]:
        """For the draft and the mask of each stage, the last stage's probabilities, and those with the draft's vote."""
        plan, masks = self.plan, [mask.numpy() for mask in seen]
        estimates = estimated_dice(own, voted.max(dim=0).indices)
        reasons = reasons_to_keep(
            masks, list(plan.structures), plan.draft_votes, estimates, plan.least_quality, plan.cleared
        )
        return {plan.structures[name]: f"{name}: {reason}" for name, reason in reasons.items()}

    def _probabilities(self, image: Tensor, mask: Tensor) -> Tensor:
        """Of one stage, float32 (C, I, J, K).

        Args:
            image: float32 (1, I, J, K).
            mask: uint8 (I, J, K) of channel numbers, what the stage starts from.
        """
        seen = torch.cat([image, as_channels(mask[None, None], len(self.plan.structures))[0]])
        if 1 not in self.plan.kernel:
            return self._predictor.answer(seen[None])[0]
        slice_axis = self.plan.kernel.index(1)
        slabs = range(0, mask.shape[slice_axis], self.plan.patch[slice_axis])
        return torch.cat([self._slab(seen, 1 + slice_axis, start) for start in slabs], dim=1 + slice_axis)

    def _slab(self, seen: Tensor, axis: int, start: int) -> Tensor:
        """Probabilities of the slices from ``start`` on that are answered for at once."""
        size, beside = seen.shape[axis], self.plan.neighbours
        stop = min(start + self.plan.patch[axis - 1], size)
        first, last = max(start - beside, 0), min(stop + beside, size)
        answer = self._predictor.answer(seen.narrow(axis, first, last - first)[None])[0]
        return answer.narrow(axis, start - first, stop - start)

    def _values_in(self, mask: Tensor) -> list[int]:
        """The label values, background included, of what a mask (I, J, K) of channel numbers holds."""
        values = [0, *self.plan.structures.values()]
        return [0, *(values[channel] for channel in mask.unique().tolist())]

    def _on_image(self, probabilities: Tensor, current: Tensor, frame: Frame, draft: Array) -> Array:
        """The mask of a stage, uint8 (I, J, K) of label values on the image's grid.

        A draft may be finer than the network's grid. Its own voxels stay but for where the refiner changed it.

        Args:
            probabilities: of the stage.
            current: uint8 (I, J, K) of channel numbers: the draft as the network sees it.
            frame: of the image.
            draft: uint8 (I, J, K) of label values.
        """
        changed = probabilities.max(dim=0).indices != current
        if not changed.any():
            return draft
        mask = mask_on_image(probabilities, frame, self.plan)
        unseen = ~np.isin(draft, self._values_in(current))
        mask = np.where((mask == 0) & unseen, draft, mask)
        return np.where(region_on_image(changed, frame), mask, draft)


def _is_settled(earlier: Tensor, later: Tensor) -> bool:
    """Whether a stage changed next to nothing; masks are (I, J, K) of channel numbers."""
    return int((earlier != later).sum()) <= SETTLED * int((later > 0).sum())
