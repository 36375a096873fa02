"""Abdomen on CT: a body with fat, spine, gut and lungs, and three organs to find, no two patients alike."""

from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from lib.phantoms.anatomy import STRUCTURES, TISSUE_HU, Anatomy, random_anatomy, tissue_at
from lib.phantoms.scanner import Phantom, Shape, Vector, grainy_noise, oriented_grid, slow_field, world_points

ORIENTATIONS = ("RAS", "LPS", "LAS", "PIR")


@dataclass(frozen=True)
class AbdomenParameters:
    """All that decides one phantom: equal parameters give equal voxels.

    The grid is given along the patient's right-left, front-back and head-foot axis, whatever the orientation.
    ``view`` is ``"whole"`` or ``"lower"``; the lower one ends below liver and spleen, so that it shows kidney only.
    ``contrast_agent`` runs from 0 (native) to 1 (portal venous). ``samples_per_edge`` points along each voxel edge
    are averaged, which makes the partial volume at boundaries.
    """

    seed: int
    orientation: str = "RAS"
    tilt_deg: Vector = (0.0, 0.0, 0.0)
    shape: Shape = (64, 64, 25)
    spacing_mm: Vector = (4.0, 4.0, 6.0)
    view: Literal["whole", "lower"] = "whole"
    contrast_agent: float = 0.0
    noise_hu: float = 14.0
    shading_hu: float = 6.0
    cupping_hu: float = 8.0
    blur_mm: float = 1.5
    deformation_mm: float = 4.0
    samples_per_edge: int = 2

    def __post_init__(self) -> None:
        """Refuses what cannot show kidney only: the upper edge of a tilted field reaches the liver."""
        if self.view == "lower" and any(self.tilt_deg):
            raise ValueError(f"The lower view was given a tilt of {self.tilt_deg} degrees; it must lie straight.")

    def mean_hu(self, tissue: str) -> float:
        """HU of a tissue before shading and noise."""
        native, added = TISSUE_HU[tissue]
        return native + self.contrast_agent * added


def random_parameters(seed: int, orientation: str, view: Literal["whole", "lower"] = "whole") -> AbdomenParameters:
    """Draws grid, contrast agent and image quality of one case; about every second case is native."""
    rng = np.random.default_rng([seed, 1])
    edge_mm = round(float(rng.uniform(3.5, 4.4)), 2)
    slice_mm = round(float(rng.uniform(5.2, 7.4) if view == "whole" else rng.uniform(4.0, 4.8)), 2)
    height_mm = 152.0 if view == "whole" else 100.0
    tilt = rng.uniform(-9, 9, 3) if rng.random() < 0.4 and view == "whole" else np.zeros(3)
    return AbdomenParameters(
        seed=seed,
        orientation=orientation,
        tilt_deg=(round(float(tilt[0]), 1), round(float(tilt[1]), 1), round(float(tilt[2]), 1)),
        shape=(
            round(252 / edge_mm),
            round(rng.uniform(0.94, 1.0) * 252 / edge_mm),
            max(20, round(height_mm / slice_mm)),
        ),
        spacing_mm=(edge_mm, edge_mm, slice_mm),
        view=view,
        contrast_agent=round(float(rng.choice([0.0, rng.uniform(0.2, 0.9)])), 2),
        noise_hu=round(float(rng.uniform(10, 18)), 1),
    )


def draw_abdomen(parameters: AbdomenParameters) -> Phantom:
    """Draws one scan and its mask.

    A voxel belongs to the structure that fills most of it; a structure outside the field of view is absent
    from the mask.
    """
    rng = np.random.default_rng([parameters.seed, 2])
    anatomy = random_anatomy(rng, parameters.deformation_mm)
    shape, affine = oriented_grid(
        parameters.orientation, parameters.shape, parameters.spacing_mm, _field_centre(parameters, anatomy, rng),
        parameters.tilt_deg,
    )  # fmt: skip
    clean, mask = _averaged(parameters, anatomy, shape, affine)
    image = _scanned(parameters, clean, affine, anatomy, rng)
    return Phantom(np.clip(np.rint(image), -1024, 3071).astype(np.int16), mask, affine)


def _field_centre(parameters: AbdomenParameters, anatomy: Anatomy, rng: np.random.Generator) -> Vector:
    """Middle of the field of view in RAS mm; patients never lie exactly in the middle."""
    x, y, z = rng.uniform(-5, 5, 3)
    if parameters.view == "lower":
        organs = (anatomy.right_lobe, anatomy.left_lobe, anatomy.spleen)
        lowest = min(organ.centre_mm[2] - organ.half_mm[2] for organ in organs)
        top = lowest - 2 * parameters.deformation_mm
        z = top - parameters.shape[2] * parameters.spacing_mm[2] / 2
    return float(x), float(y), float(z)


def _averaged(
    parameters: AbdomenParameters, anatomy: Anatomy, shape: Shape, affine: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Noiseless image float64 (I, J, K) in HU, and the mask: the structure most of a voxel's samples lie in."""
    table_hu = np.array([parameters.mean_hu(name) for name in TISSUE_HU])
    edge = (np.arange(parameters.samples_per_edge) + 0.5) / parameters.samples_per_edge - 0.5
    image = np.zeros(shape)
    votes = np.zeros((len(STRUCTURES) + 1, *shape), np.uint16)
    for offset in product(edge, repeat=3):
        tissue = tissue_at(anatomy, world_points(shape, affine, offset))
        image += table_hu[tissue]
        for value in STRUCTURES.values():
            votes[value] += tissue == value
    votes[0] = len(edge) ** 3 - votes.sum(axis=0)
    return image / len(edge) ** 3, votes.argmax(axis=0).astype(np.uint8)


def _scanned(
    parameters: AbdomenParameters, clean: NDArray[np.float64], affine: NDArray[np.float64], anatomy: Anatomy,
    rng: np.random.Generator,
) -> NDArray[np.float64]:  # fmt: skip
    """Adds what a scanner adds: blur, cupping by beam hardening, slow shading and grainy noise."""
    shape = (clean.shape[0], clean.shape[1], clean.shape[2])
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    image = gaussian_filter(clean, parameters.blur_mm / spacing_mm, mode="nearest")
    depth = np.clip(1 - anatomy.body.level(world_points(shape, affine)), 0, 1)
    image -= parameters.cupping_hu * depth
    image += parameters.shading_hu * slow_field(rng, shape) * (depth > 0)
    image += parameters.noise_hu * grainy_noise(rng, shape, grain_voxels=0.6)
    return np.asarray(image)
