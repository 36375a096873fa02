"""Head on CT: a skull with a folded brain and up to five kinds of bleed, no two patients alike."""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from lib.phantoms.brain import BLEEDS, TISSUE_HU, Head, inner_depth_mm, random_head, tissue_at, with_bleeds
from lib.phantoms.scanner import Phantom, Shape, Vector, grainy_noise, oriented_grid, slow_field, world_points

LABELLED_BELOW_HU = 130.0
"""A voxel brighter than this shows bone, whatever else is in it; nobody would label it."""

SLAB_POINTS = 4_000_000
"""Points that are looked at together; bounds the memory that a fine grid takes."""


@dataclass(frozen=True)
class HeadParameters:
    """All that decides one phantom: equal parameters give equal voxels.

    The grid is given along the patient's right-left, front-back and head-foot axis, whatever the orientation.

    Attributes:
        seed: of the patient, the places of the bleeds and the noise.
        bleeds: kinds of bleed, from ``lib.phantoms.brain.BLEEDS``; none for a healthy head.
        bleed_ml: least and greatest volume that a bleed may be given; ventricles and fissures may hold less.
        bleed_contrast: 1 for fresh blood; less brings its HU nearer to those of the brain, until 0 equals it.
        cupping_hu: how much brighter the brain is beside the bone.
        streaks_hu: strength of streaks and of the dark bar between the petrous bones.
        samples_per_edge: points along each voxel edge that are averaged, which makes the partial volume.
    """

    seed: int
    bleeds: tuple[str, ...] = ()
    orientation: str = "RAS"
    tilt_deg: Vector = (0.0, 0.0, 0.0)
    shape: Shape = (96, 112, 24)
    spacing_mm: Vector = (2.0, 2.0, 6.0)
    bleed_ml: tuple[float, float] = (3.0, 60.0)
    bleed_contrast: float = 1.0
    noise_hu: float = 4.0
    streaks_hu: float = 14.0
    cupping_hu: float = 8.0
    shading_hu: float = 2.0
    blur_mm: float = 0.9
    deformation_mm: float = 3.0
    has_holder: bool = False
    samples_per_edge: int = 2

    def __post_init__(self) -> None:
        """Refuses bleeds that are not known or named twice, and volumes in the wrong order."""
        if not set(self.bleeds) <= set(BLEEDS) or len(set(self.bleeds)) < len(self.bleeds):
            raise ValueError(f"Bleeds were given as {self.bleeds}; name each of {', '.join(BLEEDS)} at most once.")
        if not 0 < self.bleed_ml[0] <= self.bleed_ml[1]:
            raise ValueError(f"Bleeds of {self.bleed_ml} ml were asked for; give the least volume, then the greatest.")


def random_parameters(seed: int, bleeds: tuple[str, ...] | None = None, orientation: str = "LPS") -> HeadParameters:
    """Draws grid, gantry tilt, image quality and, unless given, bleeds of one case: a third has none, others 1 to 3."""
    rng = np.random.default_rng([seed, 1])
    drawn = rng.permutation(sorted(BLEEDS))[: 0 if rng.random() < 1 / 3 else rng.integers(1, 4)]
    edge_mm, slice_mm = round(float(rng.uniform(1.9, 2.1)), 2), round(float(rng.uniform(5.0, 6.5)), 2)
    gantry_deg = rng.uniform(-15, 15) if rng.random() < 0.5 else 0.0
    turn_deg = rng.uniform(-6, 6, 2) if rng.random() < 0.5 else np.zeros(2)
    return HeadParameters(
        seed=seed,
        bleeds=tuple(sorted(drawn.tolist())) if bleeds is None else bleeds,
        orientation=orientation,
        tilt_deg=(round(float(gantry_deg), 1), round(float(turn_deg[0]), 1), round(float(turn_deg[1]), 1)),
        shape=(round(192 / edge_mm), round(224 / edge_mm), round(146 / slice_mm)),
        spacing_mm=(edge_mm, edge_mm, slice_mm),
        noise_hu=round(float(rng.uniform(3, 6)), 1),
        streaks_hu=round(float(rng.uniform(8, 20)), 1),
        has_holder=bool(rng.random() < 0.5),
    )


def draw_head(parameters: HeadParameters) -> Phantom:
    """Draws one scan and its mask.

    A voxel belongs to the bleed that fills half of it or more, unless bone hides it; what is thinner is in the image
    only.

    Raises:
        ValueError: if the head has no room for one of the bleeds.
    """
    rng = np.random.default_rng([parameters.seed, 2])
    head = random_head(rng, parameters.deformation_mm, parameters.has_holder)
    low, high = np.log(parameters.bleed_ml)
    volumes_ml = {kind: float(np.exp(rng.uniform(low, high))) for kind in sorted(parameters.bleeds)}
    head = with_bleeds(head, volumes_ml, rng)
    x, y, z = rng.uniform(-4, 4, 3)
    shape, affine = oriented_grid(
        parameters.orientation, parameters.shape, parameters.spacing_mm, (x, y, z + 14), parameters.tilt_deg
    )
    clean, mask = _averaged(parameters, head, shape, affine, _table_hu(parameters, rng))
    image = _scanned(parameters, clean, affine, head, rng)
    return Phantom(np.clip(np.rint(image), -1024, 3071).astype(np.int16), mask, affine)


def _table_hu(parameters: HeadParameters, rng: np.random.Generator) -> NDArray[np.float32]:
    """HU by place of the tissue; each bleed is up to 8 HU denser or thinner than most."""
    table = np.array(list(TISSUE_HU.values()), np.float32)
    for value in BLEEDS.values():
        blood = table[value] + rng.uniform(-8, 8)
        table[value] = TISSUE_HU["grey"] + parameters.bleed_contrast * (blood - TISSUE_HU["grey"])
    return table


def _averaged(
    parameters: HeadParameters, head: Head, shape: Shape, affine: NDArray[np.float64], table_hu: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Noiseless image float32 (I, J, K) in HU, and the mask: the bleed that at least half of a voxel's samples hit."""
    edge = (np.arange(parameters.samples_per_edge) + 0.5) / parameters.samples_per_edge - 0.5
    image, mask = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    step = max(SLAB_POINTS // (shape[1] * shape[2]), 1)
    for start in range(0, shape[0], step):
        stop = min(start + step, shape[0])
        votes = np.zeros((len(BLEEDS) + 1, stop - start, *shape[1:]), np.uint8)
        for offset in product(edge, repeat=3):
            points = world_points((stop - start, *shape[1:]), affine, (start + offset[0], offset[1], offset[2]))
            tissue = tissue_at(head, points)
            image[start:stop] += table_hu[tissue]
            for value in BLEEDS.values():
                votes[value] += tissue == value
        votes[0] = -(-(len(edge) ** 3) // 2) - 1
        mask[start:stop] = votes.argmax(axis=0)
    image /= np.float32(len(edge) ** 3)
    mask[image > LABELLED_BELOW_HU] = 0
    return image, mask


def _scanned(
    parameters: HeadParameters, clean: NDArray[np.float32], affine: NDArray[np.float64], head: Head,
    rng: np.random.Generator,
) -> NDArray[np.float64]:  # fmt: skip
    """Adds what a scanner adds: blur, brightness beside bone, streaks through the base, slow shading and noise."""
    shape = (clean.shape[0], clean.shape[1], clean.shape[2])
    image = gaussian_filter(clean, parameters.blur_mm / np.linalg.norm(affine[:3, :3], axis=0), mode="nearest")
    points = world_points(shape, affine)
    depth = inner_depth_mm(head, points)
    inside = depth > 0
    image += inside * parameters.cupping_hu * np.exp(-np.maximum(depth, 0) / 7)
    image += inside * parameters.streaks_hu * _streaks(points, rng)
    image += parameters.shading_hu * slow_field(rng, shape) * inside
    image += parameters.noise_hu * grainy_noise(rng, shape, grain_voxels=0.6)
    return np.asarray(image)


def _streaks(points: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Lines (I, J, K) through the petrous bones, bright and dark, and the dark bar between them; within about 1."""
    x, y, z = points
    total = -np.exp(-(((y + 18) / 6) ** 2) - (x / 30) ** 2 - ((z + 45) / 8) ** 2)
    for strength in rng.uniform(-0.8, 0.8, 10):
        angle, place, height = rng.uniform(0, np.pi), rng.choice([-38.0, 38.0]), rng.normal(-45, 6)
        across = (x - place) * np.sin(angle) - (y + 18) * np.cos(angle)
        total += strength * np.exp(-((across / 2.5) ** 2) - ((z - height) / 5) ** 2)
    return np.asarray(total, np.float32)
