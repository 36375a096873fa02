"""A first guess at a breast mass: bright, round and alone, found at several sizes and outlined."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.ndimage import (
    binary_dilation,
    binary_fill_holes,
    distance_transform_edt,
    gaussian_filter,
    gaussian_gradient_magnitude,
    label,
    map_coordinates,
    maximum_filter,
)
from scipy.signal import fftconvolve

from lib.drafts.breast import breast_region
from lib.task import Task
from lib.volume import Array, Volume

WORKING_MM = 0.5
"""Edge of the pixels that candidates are looked for in."""

RADII_MM = (3.5, 5.0, 7.0, 10.0, 14.0, 20.0)
"""Sizes of the discs that are compared with every place."""

MOST_CANDIDATES = 10

PEAK_MM = 5.0
"""Two peaks closer than this are one."""

EXTENT_MM = (80.0, 600.0)
"""Longer side of a mammogram; where the header says otherwise, its pixel size is taken as unknown."""

USUAL_EXTENT_MM = 240.0
"""Longer side of a mammogram of unknown pixel size."""


@dataclass(frozen=True)
class Candidate:
    """A place that may be a mass.

    Attributes:
        centre: along I and J, in pixels.
        radius_mm: of the disc that fits best.
        score: greater is more likely: contrast, in deviations of the surroundings, times the root of the convergence.
    """

    centre: tuple[float, float]
    radius_mm: float
    score: float


def mass(volume: Volume, task: Task) -> Array:
    """The draft of a mammogram: its most likely candidate, outlined.

    It is drawn on every mammogram, normal ones too: it asks a reader to look there, and says nothing about how
    likely a mass is.

    Args:
        volume: (I, J, 1), bright is dense, whichever way the breast lies.
        task: its first structure is the mass.

    Returns:
        uint8 (I, J, 1); empty if nothing in the breast is brighter than its surroundings.

    Raises:
        ValueError: if the volume has more than one slice.
    """
    film = Film.of(volume)
    mask = np.zeros(volume.voxels.shape, np.uint8)
    for candidate in film.candidates()[:1]:
        mask[film.in_full(film.outline(candidate)), 0] = task.structures[0].value
    return mask


def candidates(volume: Volume) -> list[Candidate]:
    """Up to ten places that may be masses, the most likely first, with centres in pixels of the volume.

    Raises:
        ValueError: if the volume has more than one slice.
    """
    film = Film.of(volume)
    return [
        replace(found, centre=(found.centre[0] * film.step, found.centre[1] * film.step)) for found in film.candidates()
    ]


class Film:
    """A mammogram in working pixels, which centres and masks here are in.

    Attributes:
        plane: float32 (I, J).
        step: pixels of the image along a working pixel.
        shape: of the image along I and J.
        inside: bool (I, J), the breast without the pectoral muscle.
    """

    def __init__(self, plane: Array, step: float, shape: tuple[int, int]) -> None:
        self.plane, self.step, self.shape = plane, step, shape
        self.inside = breast_region(plane, WORKING_MM)
        # The border of the image is no skin line.
        self.depth_mm = distance_transform_edt(np.pad(self.inside, 1, mode="edge"))[1:-1, 1:-1] * WORKING_MM
        self.spread = float(plane[self.inside].std()) if self.inside.any() else 0.0

    @classmethod
    def of(cls, volume: Volume) -> Film:
        """The film of an image; pixels that are not square are taken as squares of the first edge."""
        shape, spacing_mm = volume.grid.shape, volume.grid.spacing_mm
        if shape[2] != 1:
            raise ValueError(f"A mammogram has one slice, found {shape[2]}.")
        extent_mm = max(shape[0] * spacing_mm[0], shape[1] * spacing_mm[1])
        is_known = EXTENT_MM[0] <= extent_mm <= EXTENT_MM[1]
        step = WORKING_MM / (spacing_mm[0] if is_known else USUAL_EXTENT_MM / max(shape[:2]))
        plane = volume.voxels[:, :, 0].astype(np.float32)
        smooth = gaussian_filter(plane, 0.4 * step) if step > 1 else plane
        size = [max(round(length / step), 1) for length in shape[:2]]
        places = np.meshgrid(*(np.arange(length) * step for length in size), indexing="ij")
        return cls(map_coordinates(smooth, places, order=1, mode="nearest"), step, (shape[0], shape[1]))

    def in_full(self, mask: Array) -> Array:
        """A mask in the pixels of the image, with a smooth rim."""
        places = np.meshgrid(*(np.arange(length) / self.step for length in self.shape), indexing="ij")
        return np.asarray(map_coordinates(mask.astype(np.float32), places, order=1, mode="nearest") > 0.5)

    def candidates(self) -> list[Candidate]:
        """The peaks over all places and sizes, without those that lie within the disc of a better one."""
        if not self.inside.any():
            return []
        scores = np.array([self.scores(radius_mm) for radius_mm in RADII_MM])
        best, size = scores.max(axis=0), scores.argmax(axis=0)
        places = np.argwhere((best == maximum_filter(best, round(PEAK_MM / WORKING_MM))) & (best > 0))
        found: list[Candidate] = []
        for i, j in sorted(places.tolist(), key=lambda place: -best[tuple(place)]):
            radius_mm = RADII_MM[size[i, j]]
            if all(
                np.hypot(other.centre[0] - i, other.centre[1] - j) * WORKING_MM > max(radius_mm, other.radius_mm)
                for other in found
            ):
                found.append(Candidate((float(i), float(j)), radius_mm, float(best[i, j])))
        return found[:MOST_CANDIDATES]

    def scores(self, radius_mm: float) -> Array:
        """How much every place looks like the middle of a disc of this size; 0 outside the breast and at its rim."""
        score = np.sqrt(np.clip(self.convergence(radius_mm), 0, None)) * np.clip(self.contrast(radius_mm), 0, None)
        return np.where(self.depth_mm > 0.5 * radius_mm, score, 0)

    def convergence(self, radius_mm: float) -> Array:
        """Share of the gradients around each place that point to it, -1 to 1, whatever their strength.

        Reference:
            Kobatake and Hashimoto, "Convergence index filter for vector fields", IEEE Transactions on Image
            Processing 8(8), 1999.
        """
        i, j, distance = _offsets(1.3 * radius_mm)
        ring = distance > 0.5 * radius_mm
        ring &= distance < 1.3 * radius_mm
        along = ring / np.maximum(distance, WORKING_MM)
        # A convolution turns the kernel round, so that offsets lead from the gradient to the place.
        towards = fftconvolve(self.directions[0], i * along, "same") + fftconvolve(
            self.directions[1], j * along, "same"
        )
        return np.asarray(towards / ring.sum())

    @cached_property
    def directions(self) -> tuple[Array, Array]:
        """Direction of the gradient along I and J, shorter than 1 where it is weak, 0 outside the breast."""
        along_i, along_j = np.gradient(gaussian_filter(self.plane, 1.0 / WORKING_MM))
        length = np.hypot(along_i, along_j)
        scale = np.where(self.inside, 1 / (length + 0.5 * np.median(length[self.inside]) + 1e-12), 0)
        return along_i * scale, along_j * scale

    def contrast(self, radius_mm: float) -> Array:
        """How much brighter a disc is than the ring around it, in deviations within the ring."""
        _, _, distance = _offsets(2 * radius_mm)
        disc = (distance < 0.7 * radius_mm).astype(np.float32)
        ring = (distance > 1.4 * radius_mm).astype(np.float32) * (distance < 2 * radius_mm)
        inside, filled = self.inside.astype(np.float32), np.where(self.inside, self.plane, 0)
        # Where less than a fifth of the ring lies in the breast, the mean is pulled to 0 on purpose: contrast is lost.
        pixels = np.maximum(fftconvolve(inside, ring, "same"), 0.2 * ring.sum())
        around = fftconvolve(filled, ring, "same") / pixels
        variance = fftconvolve(filled**2, ring, "same") / pixels - around**2
        here = fftconvolve(filled, disc, "same") / np.maximum(fftconvolve(inside, disc, "same"), 1)
        return np.asarray((here - around) / (np.sqrt(np.clip(variance, 0, None)) + 0.25 * self.spread + 1e-12))

    def outline(self, candidate: Candidate) -> Array:
        """The mask of a candidate, bool (I, J), within two of its radii."""
        reach = int(np.ceil(2 * candidate.radius_mm / WORKING_MM)) + 2
        i, j = int(candidate.centre[0]), int(candidate.centre[1])
        window = np.s_[max(i - reach, 0) : i + reach + 1, max(j - reach, 0) : j + reach + 1]
        across, down = np.ogrid[: self.plane.shape[0], : self.plane.shape[1]]
        distance_mm = np.hypot(across - i, down - j)[window] * WORKING_MM
        mask = np.zeros(self.plane.shape, bool)
        mask[window] = _grown(self.plane[window], self.inside[window], distance_mm, candidate.radius_mm)
        return mask


def _grown(plane: Array, inside: Array, distance_mm: Array, radius_mm: float) -> Array:
    """Of all regions that grow from the brightest place near the centre the one with a steep and long border.

    Args:
        plane: (I, J), the surroundings of a candidate.
        inside: bool (I, J), the breast.
        distance_mm: from the centre of the candidate.
        radius_mm: of the candidate.

    Returns:
        bool (I, J); the disc where nothing grows.
    """
    room, disc = inside & (distance_mm < 2 * radius_mm), inside & (distance_mm < radius_mm)
    smooth = gaussian_filter(plane, 0.8 / WORKING_MM)
    slope = gaussian_gradient_magnitude(plane, 1.0 / WORKING_MM)
    middle = np.where(disc & (distance_mm < 0.5 * radius_mm), smooth, -np.inf)
    seed = np.unravel_index(int(middle.argmax()), middle.shape)
    best, highest = disc, 0.0
    for threshold in np.linspace(smooth[room].min(), smooth[seed], 40)[1:-1]:
        pieces, _ = label((smooth > threshold) & room)
        region = binary_fill_holes(pieces == pieces[seed])
        rim = binary_dilation(region) & ~region
        # Where the region ends with the room, the image shows no rim: it counts as one without a slope.
        steepness = slope[rim & room].sum() / max(rim.sum(), 1) * np.sqrt(region.sum())
        if region.sum() > 0.4 * disc.sum() and steepness > highest:
            best, highest = region, float(steepness)
    return np.asarray(best)


def _offsets(reach_mm: float) -> tuple[Array, Array, Array]:
    """Offsets along I and J and their length, in mm, on a square lattice that reaches so far."""
    reach = int(np.ceil(reach_mm / WORKING_MM))
    i, j = np.mgrid[-reach : reach + 1, -reach : reach + 1] * WORKING_MM
    return i, j, np.hypot(i, j)
