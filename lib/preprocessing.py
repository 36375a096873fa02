"""From an image to what a network sees, and from its probabilities back to a mask on the image's own grid.

The same chain serves inference and training: turn to right-anterior-superior, crop surrounding air, bring the
intensities to a common scale, resize to the network's voxel spacing. Turning and cropping are exact; resizing keeps
the field of view, so the network's voxels are within half a voxel per image edge of the plan's spacing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Protocol, TypeVar

import numpy as np
import torch
from monai.transforms.utils import generate_spatial_bounding_box
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from lib.errors import GridMismatch
from lib.networks.checkpoint import NetworkPlan, Triple, VoxelTriple
from lib.networks.sam_encoder import sha256_of
from lib.pieces import largest_piece
from lib.task import Task
from lib.volume import Array, Grid, Volume, in_numbers

T = TypeVar("T")

AIR_HU = -500.0
"""What lies below it in a CT is air, outside the body or in the lungs."""

AIR_SHARE = 0.1
"""Without a fixed scale, air is below this share of the way from the 1st to the 99th percentile."""

CROP_PAYS_BELOW = 0.8
"""Air is cropped when the rest has at most this share of the image's voxels."""

CROP_MARGIN = 3
"""Voxels kept around the body."""

PERCENTILES = (0.5, 99.5)
"""Intensities beyond them are clipped before an image is standardised."""

LOWEST_SCORE = -5.0
"""No voxel is darker than this many standard deviations below the mean, however dark the air is."""

AVERAGE_FROM = 2
"""An axis that shrinks by this factor or more is averaged, not interpolated."""

THICK = 2
"""An axis is not strided while its voxels are this many times as long as the shortest ones."""

SAMPLED = 2_000_000
"""Voxels that percentiles are taken from at most."""

ROUNDING = 1e-4
"""Shares of a voxel that differ by no more are equal: they were added up in single precision."""

MAX_VOXELS = 4_000_000
"""A task without a spacing of its own works at one that keeps its median image below this many voxels."""

MAX_PIXELS = 1024 * 800
"""The same for images of one slice, unless their network's ``Size`` says otherwise."""

PATCH_VOXELS = 64 * 64 * 48
"""Largest number of voxels of a training patch."""

CHANNELS = (16, 32, 64, 128)
"""Features of the levels of a new network."""

FEATURES = (4, 16)
"""Fewest and most features at full resolution, where they cost most; more structures need more."""


@dataclass(frozen=True)
class Size:
    """How large a new network is.

    Attributes:
        channels: features of its levels, finest first.
        patch_voxels: of a training patch at most.
        features: fewest and most at full resolution.
        pixels: of the median image at most, if it has one slice and the task no spacing of its own.
    """

    channels: tuple[int, ...]
    patch_voxels: int
    features: tuple[int, int]
    pixels: int = MAX_PIXELS


SIZES = {
    "adapter_unet": Size((8, 16, 32, 64, 128), 256 * 256, (8, 16), pixels=320 * 256),
    "sam_vit_b": Size((16, 32, 64, 128, 256), 512 * 512, (8, 16)),
    "sam_vit_l": Size((16, 32, 64, 128, 256), 512 * 512, (8, 16)),
}
"""By network; all others have ``CHANNELS``, ``PATCH_VOXELS`` and ``FEATURES``."""

SMALLEST_FEATURE_MAP = 4
"""No axis is strided below this many voxels."""


class View(Protocol):
    """What a task and a network plan both say about how an image is seen."""

    @property
    def window_hu(self) -> tuple[float, float] | None:
        """Lower and upper bound of the intensities, or ``None``."""

    @property
    def region(self) -> str:
        """``tissue`` or ``largest``, see ``Task.region``."""


@dataclass(frozen=True)
class Frame:
    """Where a network grid lies in its image.

    Attributes:
        grid: the image's own lattice.
        box: first and last + 1 voxel along right, anterior, superior that the network sees; the rest is air.
        shape: voxels of the network grid along right, anterior, superior.
    """

    grid: Grid
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    shape: VoxelTriple

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box for indexing."""
        i, j, k = (slice(*span) for span in self.box)
        return i, j, k

    @property
    def box_shape(self) -> VoxelTriple:
        """Voxels of the box along right, anterior, superior."""
        i, j, k = (stop - start for start, stop in self.box)
        return i, j, k


@dataclass(frozen=True)
class Prepared:
    """An image as a network sees it: float32 (1, I, J, K) along right, anterior, superior, and where it lies."""

    voxels: Tensor
    frame: Frame


def prepared(volume: Volume, plan: NetworkPlan) -> Prepared:
    """The image on the network grid, on the network's intensity scale."""
    oriented = in_numbers(_turned(volume.voxels, volume.grid))
    box = _body_box(oriented, plan)
    spacing_mm = _in_ras_order(volume.grid.spacing_mm, volume.grid)
    frame = Frame(volume.grid, box, _network_shape(box, spacing_mm, plan.spacing_mm))
    # The one copy of the whole box that there is; it is scaled in its place.
    seen = torch.from_numpy(np.array(oriented[frame.slices], np.float32, order="C"))
    _scale(seen, plan)
    return Prepared(_resized(seen, frame.shape)[None], frame)


def prepared_mask(mask: Array, frame: Frame, plan: NetworkPlan) -> Array:
    """A mask on the network grid.

    Args:
        mask: uint8 (I, J, K) of label values on the image's own grid.
        frame: of the image.
        plan: says which label value is which channel; other values count as background.

    Returns:
        uint8 (I, J, K) of channel numbers along right, anterior, superior. Background is only what structures fill to
        less than half; among these the one with the largest share has the voxel, the larger label value of equal ones.
        Were half-filled voxels background, structures would come out too small wherever edges halve.

    Raises:
        GridMismatch: if the mask's shape is not the image's.
    """
    if mask.shape != frame.grid.shape:
        raise GridMismatch(
            f"The mask is {'x'.join(map(str, mask.shape))} voxels, the image is {frame.grid}. "
            "Put the mask on the image's grid."
        )
    cropped = torch.from_numpy(_turned(mask, frame.grid)[frame.slices].copy())
    resizing = _Resizing.of(frame.box_shape, frame.shape)
    boxes = ndimage.find_objects(cropped.numpy(), max_label=255)
    structures, largest = torch.zeros(frame.shape), torch.zeros(frame.shape)
    channels = torch.zeros(frame.shape, dtype=torch.uint8)
    for channel, value in _by_value(plan):
        if boxes[value - 1] is not None:
            target, source = resizing.around(boxes[value - 1])
            share = resizing.applied((cropped[source] == value).float(), target, source)
            structures[target] += share
            _take_over(channels[target], largest[target], channel, share)
    channels[structures < 0.5 - ROUNDING] = 0
    return channels.numpy()


def mask_on_image(probabilities: Tensor, frame: Frame, plan: NetworkPlan) -> Array:
    """The mask that probabilities stand for, on the image's own grid.

    The probabilities are brought to the image's voxels, not the labels, which keeps edges smooth.

    Args:
        probabilities: float (C, I, J, K) on the network grid, background first.
        frame: of the image.
        plan: says which channel is which label value.

    Returns:
        uint8 (I, J, K) of label values; 0 in the air that was cropped. Where probabilities are equal, a structure takes
        the place of the background, and the larger label value that of the smaller.
    """
    largest = _resized(probabilities[0].float(), frame.box_shape).clone()
    channels = torch.zeros(frame.box_shape, dtype=torch.uint8)
    resizing = _Resizing.of(frame.shape, frame.box_shape)
    for channel, _ in _by_value(plan):
        # Resizing never exceeds the largest probability, so what is below an equal share is nowhere the largest.
        box = _box_of(probabilities[channel] >= 1 / len(probabilities) - ROUNDING)
        if box is not None:
            target, source = resizing.around(box)
            share = resizing.applied(probabilities[channel][source].float(), target, source)
            _take_over(channels[target], largest[target], channel, share)
    values = np.array([0, *plan.structures.values()], np.uint8)
    whole = np.zeros(_in_ras_order(frame.grid.shape, frame.grid), np.uint8)
    whole[frame.slices] = values[channels.numpy()]
    return np.ascontiguousarray(_turned_back(whole, frame.grid))


def region_on_image(region: Tensor, frame: Frame) -> Array:
    """Bool (I, J, K): the voxels of the image that lie within one voxel of a region of the network grid.

    Args:
        region: bool (I, J, K) on the network grid.
        frame: of the image.
    """
    whole = np.zeros(_in_ras_order(frame.grid.shape, frame.grid), bool)
    whole[frame.slices] = _resized(region.float(), frame.box_shape).numpy() > 0
    return np.ascontiguousarray(_turned_back(whole, frame.grid))


def plan_for(
    task: Task, grids: Sequence[Grid], patch_voxels: int | None = None, image_voxels: int = MAX_VOXELS
) -> NetworkPlan:
    """The plan of a task's first network, from the lattices of the images it will learn from.

    Args:
        task: its spacing counts along right, anterior, superior. If it has none, it is the median of the images',
            made coarser where the median image would have more voxels than ``image_voxels``. Images of one slice have
            a limit of their own, ``Size.pixels``.
        grids: at least one.
        patch_voxels: of a training patch at most; ``None``: as the task or its network says.
        image_voxels: of the median image at most, if the task has no spacing of its own.

    Raises:
        UnacceptableFile: if the task names encoder weights that cannot be read.
    """
    spacings = [_in_ras_order(grid.spacing_mm, grid) for grid in grids]
    shapes = [_in_ras_order(grid.shape, grid) for grid in grids]
    extents_mm = [np.multiply(shape, edges) for shape, edges in zip(shapes, spacings, strict=True)]
    extent_mm = np.median(extents_mm, axis=0)
    is_flat = np.median(shapes, axis=0) == 1
    new = SIZES.get(task.network, Size(CHANNELS, PATCH_VOXELS, FEATURES))
    largest = task.patch_voxels or new.patch_voxels
    at_most = new.pixels if is_flat.any() else image_voxels
    spacing_mm = task.spacing_mm or _affordable(_median_of(spacings), extent_mm, is_flat, at_most)
    size = np.where(is_flat, 1, np.maximum(np.rint(extent_mm / spacing_mm), 1)).astype(int)
    strides = _strides(size, spacing_mm, len(new.channels) - 1)
    multiple = np.prod(strides, axis=0)
    i, j, k = (1 if flat else 3 for flat in is_flat)
    return NetworkPlan(
        network=task.network,
        structures=task.values,
        spacing_mm=spacing_mm,
        window_hu=task.window_hu,
        patch=_patch(size, np.asarray(spacing_mm), multiple, min(largest, patch_voxels or largest)),
        channels=new.channels,
        strides=strides,
        kernel=(i, j, k),
        features=min(max(len(task.structures) + 2, new.features[0]), new.features[1]),
        region=task.region,
        encoder=task.encoder_weights,
        encoder_sha256=sha256_of(Path(task.encoder_weights)) if task.encoder_weights else "",
    )


def body_grid(volume: Volume, view: View) -> Grid:
    """The part of an image that is left when air is cropped, as ``plan_for`` should see it; axes become RAS."""
    oriented = in_numbers(_turned(volume.voxels, volume.grid))
    i, j, k = (stop - start for start, stop in _body_box(oriented, view))
    return Grid((i, j, k), np.diag([*_in_ras_order(volume.grid.spacing_mm, volume.grid), 1.0]))


def _ras_axes(grid: Grid) -> tuple[list[int], list[int]]:
    """Which voxel axis runs most along R, A and S, and which of the three run the other way."""
    codes = grid.orientation
    axes = [next(axis for axis, code in enumerate(codes) if code in pair) for pair in ("RL", "AP", "SI")]
    return axes, [ras for ras, axis in enumerate(axes) if codes[axis] in "LPI"]


def _in_ras_order(triple: tuple[T, T, T], grid: Grid) -> tuple[T, T, T]:
    """Entries along I, J, K put along right, anterior, superior."""
    i, j, k = (triple[axis] for axis in _ras_axes(grid)[0])
    return i, j, k


def _turned(voxels: Array, grid: Grid) -> Array:
    """A view of (I, J, K) voxels along right, anterior, superior."""
    axes, flipped = _ras_axes(grid)
    return np.flip(np.transpose(voxels, axes), flipped)


def _turned_back(voxels: Array, grid: Grid) -> Array:
    """A view of voxels along right, anterior, superior along the grid's own axes."""
    axes, flipped = _ras_axes(grid)
    return np.transpose(np.flip(voxels, flipped), np.argsort(axes))


def _is_tissue(voxels: Array, window_hu: tuple[float, float] | None) -> Array:
    """Bool (I, J, K): no air; everything where nothing stands out."""
    if window_hu is not None:
        return voxels > AIR_HU
    low, high = np.percentile(_sample(voxels), (1, 99))
    return voxels > low + AIR_SHARE * (high - low)


def _sample(voxels: Array) -> Array:
    """Float32 (N,): voxels for percentiles, each as likely as any other, the same ones of equal shapes.

    Every n-th voxel would come from a few slices or columns only, wherever n and their number have a common factor, and
    from every second slice of a scan whose slices alternate.
    """
    if voxels.size <= SAMPLED:
        return voxels.ravel().astype(np.float32, copy=False)
    drawn = np.random.default_rng(0).integers(voxels.size, size=SAMPLED)
    return np.asarray(voxels[np.unravel_index(drawn, voxels.shape)], np.float32)


def _body_box(voxels: Array, view: View) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """First and last + 1 voxel of what is left without surrounding air; the whole image where that hardly differs."""
    whole = tuple((0, size) for size in voxels.shape)
    seen = _is_tissue(voxels, view.window_hu)
    if view.region == "largest":
        seen = largest_piece(seen)
    starts, stops = generate_spatial_bounding_box(seen[None], margin=[CROP_MARGIN] * 3, allow_smaller=True)
    kept = int(np.prod(np.subtract(stops, starts)))
    spans = whole if not 0 < kept <= CROP_PAYS_BELOW * voxels.size else zip(starts, stops, strict=True)
    i, j, k = ((int(start), int(stop)) for start, stop in spans)
    return i, j, k


def _scale(voxels: Tensor, plan: NetworkPlan) -> None:
    """Scales float32 (I, J, K) in its place, since images may be as large as memory allows.

    The window becomes -1 to 1 or as planned; without one, what is not air has zero mean and unit variance.
    """
    if plan.window_hu is not None:
        low, high = plan.window_hu
        lowest, highest = plan.window_out
        voxels.sub_(low).mul_((highest - lowest) / (high - low)).add_(lowest).clamp_(lowest, highest)
        return
    sample = _sample(voxels.numpy())
    tissue = sample[_is_tissue(sample, None)]
    if tissue.size == 0:
        voxels.zero_()
        return
    low, high = (float(bound) for bound in np.percentile(tissue, PERCENTILES))
    within = tissue.clip(low, high).astype(np.float64)
    spread = float(within.std())
    if not spread > 0:
        voxels.zero_()
        return
    air = min(low, float(sample.min()))
    voxels.clamp_(air, high).sub_(float(within.mean())).div_(spread).clamp_(min=LOWEST_SCORE)


def _network_shape(box: Sequence[tuple[int, int]], spacing_mm: Triple, wanted_mm: Triple) -> VoxelTriple:
    """Voxels of the network grid; an axis of a single voxel stays one."""
    i, j, k = (
        max(round((stop - start) * edge / wanted), 1) if stop - start > 1 else 1
        for (start, stop), edge, wanted in zip(box, spacing_mm, wanted_mm, strict=True)
    )
    return i, j, k


def _resized(voxels: Tensor, shape: VoxelTriple) -> Tensor:
    """Voxels (I, J, K) with the same field of view in another number of voxels.

    Linear; along axes that lose half of their voxels or more, the mean over what falls into each voxel.
    """
    coarse = tuple(
        wanted if wanted * AVERAGE_FROM <= size else size for size, wanted in zip(voxels.shape, shape, strict=True)
    )
    image = voxels[None, None]
    if coarse != tuple(voxels.shape):
        image = functional.interpolate(image, size=coarse, mode="area")
    if coarse != shape:
        image = functional.interpolate(image, size=shape, mode="trilinear", align_corners=False)
    return image[0, 0]


Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class _Resizing:
    """``_resized`` for a part of the voxels at a time: many structures at full size would not fit into memory.

    Attributes:
        weights: for each axis float32 (voxels after, voxels before), what each voxel takes of each.
    """

    weights: tuple[Tensor, Tensor, Tensor]

    @classmethod
    def of(cls, before: VoxelTriple, after: VoxelTriple) -> _Resizing:
        """Learned from how lines of a single set voxel are resized, one line for each place it may have."""
        i, j, k = (
            _resized(torch.eye(size)[:, :, None], (wanted, size, 1))[:, :, 0]
            for size, wanted in zip(before, after, strict=True)
        )
        return cls((i, j, k))

    def around(self, box: Box) -> tuple[Box, Box]:
        """Where the voxels of a box have a part in after the resizing, and all voxels that have a part in that."""
        spans = []
        for weights, span in zip(self.weights, box, strict=True):
            target = _span_of((weights[:, span] > 0).any(dim=1))
            spans.append((target, _span_of((weights[target] > 0).any(dim=0))))
        (i, from_i), (j, from_j), (k, from_k) = spans
        return (i, j, k), (from_i, from_j, from_k)

    def applied(self, voxels: Tensor, target: Box, source: Box) -> Tensor:
        """Float32 voxels at ``source``, resized at ``target``."""
        for axis, weights in enumerate(self.weights):
            part = weights[target[axis], source[axis]]
            voxels = torch.tensordot(part, voxels, dims=([1], [axis])).movedim(0, axis)
        return voxels


def _take_over(channels: Tensor, largest: Tensor, channel: int, share: Tensor) -> None:
    """Gives a channel the voxels where its share is the largest so far, or as large as that."""
    wins = share >= largest - ROUNDING
    channels[wins] = channel
    torch.maximum(largest, share, out=largest)


def _by_value(plan: NetworkPlan) -> list[tuple[int, int]]:
    """Channel and label value of each structure, by label value: the larger one comes last and wins where both tie."""
    return sorted(enumerate(plan.structures.values(), start=1), key=lambda pair: pair[1])


def _box_of(voxels: Tensor) -> Box | None:
    """The smallest box that holds all set voxels of bool (I, J, K); ``None`` if there is none."""
    if not voxels.any():
        return None
    i, j, k = (_span_of(voxels.movedim(axis, 0).flatten(1).any(dim=1)) for axis in range(3))
    return i, j, k


def _span_of(line: Tensor) -> slice:
    """From the first to the last set voxel of a line that has one."""
    places = line.nonzero()
    return slice(int(places[0]), int(places[-1]) + 1)


def _median_of(spacings: Sequence[Triple]) -> Triple:
    i, j, k = (float(median(edges)) for edges in zip(*spacings, strict=True))
    return i, j, k


def _affordable(spacing_mm: Triple, extent_mm: Array, is_flat: Array, at_most: int) -> Triple:
    """The spacing, with the finest edges made longer until the extent has at most so many voxels."""
    finest = min(edge for edge, flat in zip(spacing_mm, is_flat, strict=True) if not flat or is_flat.all())
    while True:
        edges = np.where(is_flat, spacing_mm, np.maximum(spacing_mm, finest))
        if np.prod(np.where(is_flat, 1, extent_mm / edges)) <= at_most:
            i, j, k = (round(float(edge), 4) for edge in edges)
            return i, j, k
        finest *= 1.02


def _strides(size: Array, spacing_mm: Triple, steps: int) -> tuple[VoxelTriple, ...]:
    """Halves, step by step, the axes that are finest by then and still long enough."""
    size, edges = size.astype(float), np.array(spacing_mm)
    strides = []
    for _ in range(steps):
        long_enough = size >= 2 * SMALLEST_FEATURE_MAP
        finest = edges[long_enough].min() if long_enough.any() else np.inf
        i, j, k = (2 if halved else 1 for halved in long_enough & (edges < THICK * finest))
        strides.append((i, j, k))
        size, edges = size / strides[-1], edges * strides[-1]
    return tuple(strides)


def _patch(size: Array, spacing_mm: Array, multiple: Array, at_most: int) -> VoxelTriple:
    """The median image, cut along its longest axes in millimetres to what a training step can take."""
    patch = np.ceil(size / multiple).astype(int) * multiple
    while np.prod(patch) > at_most and (patch > multiple).any():
        longest = int(np.argmax(np.where(patch > multiple, patch * spacing_mm, -1)))
        patch[longest] -= multiple[longest]
    i, j, k = (int(voxels) for voxels in patch)
    return i, j, k
