"""One patient's belly in mm: ellipsoids for the organs, layers of tissue around them, and a smooth deformation."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from lib.phantoms.scanner import Vector

STRUCTURES = {"liver": 1, "spleen": 2, "kidney": 3}
# Native HU and what portal-venous contrast agent adds to it; the first four places equal the label values.
TISSUE_HU = {
    "fat": (-100.0, 0.0),
    "liver": (60.0, 50.0),
    "spleen": (50.0, 65.0),
    "kidney": (35.0, 125.0),
    "air": (-1000.0, 0.0),
    "muscle": (52.0, 10.0),
    "bone": (260.0, 0.0),
    "disc": (85.0, 0.0),
    "vessel": (42.0, 110.0),
    "stomach": (28.0, 8.0),
    "gut": (38.0, 30.0),
    "gas": (-750.0, 0.0),
    "lung": (-830.0, 20.0),
}
TISSUE = {name: place for place, name in enumerate(TISSUE_HU)}
VERTEBRA_MM = 34.0

Points = NDArray[np.float32]
Inside = NDArray[np.bool_]


@dataclass(frozen=True)
class Ellipsoid:
    """A centre and three half axes in RAS mm; an infinite half axis makes it a column."""

    centre_mm: Vector
    half_mm: Vector

    def contains(self, points: Points) -> Inside:
        """Which points (3, ...) lie inside."""
        return np.asarray(self.level(points) <= 1)

    def level(self, points: Points) -> Points:
        """0 in the middle, 1 on the surface, growing outwards; squared, without unit."""
        level = np.zeros(points.shape[1:], np.float32)
        for axis in range(3):
            level += ((points[axis] - np.float32(self.centre_mm[axis])) / np.float32(self.half_mm[axis])) ** 2
        return level

    def grown(self, margin_mm: float) -> "Ellipsoid":
        """The same with every half axis longer by a margin, or shorter by a negative one."""
        x, y, z = self.half_mm
        return Ellipsoid(self.centre_mm, (x + margin_mm, y + margin_mm, z + margin_mm))


@dataclass(frozen=True)
class Anatomy:
    """One patient in RAS mm around the first lumbar vertebra; the right side has positive x."""

    body: Ellipsoid
    fat_mm: float
    right_lobe: Ellipsoid
    left_lobe: Ellipsoid
    spleen: Ellipsoid
    spleen_hollow: Ellipsoid
    kidneys: tuple[Ellipsoid, Ellipsoid]
    kidney_hollows: tuple[Ellipsoid, Ellipsoid]
    stomach: Ellipsoid
    gut: tuple[Ellipsoid, ...]
    domes: tuple[Ellipsoid, Ellipsoid]
    waves: NDArray[np.float64]


def random_anatomy(rng: np.random.Generator, deformation_mm: float) -> Anatomy:
    """Draws one patient: organs wander by some mm and grow or shrink by a tenth or more."""

    def organ(centre_mm: Vector, half_mm: Vector, wander_mm: float = 4.0, growth: float = 0.1) -> Ellipsoid:
        centre = np.array(centre_mm) + rng.uniform(-wander_mm, wander_mm, 3)
        half = np.array(half_mm) * rng.uniform(1 - growth, 1 + growth, 3)
        return Ellipsoid((centre[0], centre[1], centre[2]), (half[0], half[1], half[2]))

    def hollow(outer: Ellipsoid, shift_mm: Vector, share: Vector) -> Ellipsoid:
        (x, y, z), (a, b, c) = outer.centre_mm, outer.half_mm
        return Ellipsoid(
            (x + shift_mm[0], y + shift_mm[1], z + shift_mm[2]), (a * share[0], b * share[1], c * share[2])
        )

    spleen = organ((-64, -24, 18), (32, 43, 42))
    right, left = organ((46, -38, -42), (23, 23, 50)), organ((-46, -38, -34), (23, 23, 50))
    return Anatomy(
        body=Ellipsoid((0, 0, 0), (118 * rng.uniform(0.94, 1.02), 90 * rng.uniform(0.92, 1.05), np.inf)),
        fat_mm=rng.uniform(7, 16),
        right_lobe=organ((61, 2, 28), (50, 64, 58)),
        left_lobe=organ((8, 34, 36), (56, 30, 27), growth=0.15),
        spleen=spleen,
        spleen_hollow=hollow(spleen, (36, 17, -6), (0.85, 0.8, 0.95)),
        kidneys=(right, left),
        kidney_hollows=(hollow(right, (-17, 6, 0), (0.55, 0.5, 0.45)), hollow(left, (17, 6, 0), (0.55, 0.5, 0.45))),
        stomach=organ((-36, 26, 30), (32, 28, 34), wander_mm=6, growth=0.2),
        gut=tuple(organ((x, y, z), (17, 15, 17), wander_mm=9, growth=0.25)
                  for x, y, z in product((-55, -18, 20, 55), (5, 38), (-152, -122, -92, -62, -36))),
        domes=(organ((0, 0, -45), (116, 92, 114), 3, 0.03), organ((46, 0, -45), (66, 76, 120), 3, 0.03)),
        waves=random_waves(rng, deformation_mm),
    )  # fmt: skip


def random_waves(rng: np.random.Generator, deformation_mm: float) -> NDArray[np.float64]:
    """Four waves (4, 7): wave vector in 1/mm, phase, and push in mm; each point moves by about the deformation."""
    directions = rng.normal(size=(4, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    per_mm = 2 * np.pi / rng.uniform(90, 200, (4, 1))
    pushes = rng.normal(size=(4, 3)) * deformation_mm / np.sqrt(6)
    return np.hstack([directions * per_mm, rng.uniform(0, 2 * np.pi, (4, 1)), pushes])


def deformed(points: Points, waves: NDArray[np.float64]) -> Points:
    """The points (3, ...) pushed about by the waves, so that no shape drawn at them keeps its geometry."""
    moved = points.copy()
    for *vector, phase, push_x, push_y, push_z in waves.astype(np.float32):
        swing = np.sin(vector[0] * points[0] + vector[1] * points[1] + vector[2] * points[2] + phase)
        for axis, push in enumerate((push_x, push_y, push_z)):
            moved[axis] += push * swing
    return moved


def inside_any(ellipsoids: Iterable[Ellipsoid], points: Points) -> Inside:
    """Which points (3, ...) lie inside at least one."""
    return np.logical_or.reduce([ellipsoid.contains(points) for ellipsoid in ellipsoids])


def tissue_at(anatomy: Anatomy, points: Points) -> NDArray[np.uint8]:
    """Place of each point's tissue in ``TISSUE_HU``: later layers cover earlier ones."""
    points = deformed(points, anatomy.waves)
    wall = anatomy.body.grown(-anatomy.fat_mm)
    cavity = wall.grown(-9).contains(points)
    below_lung = inside_any(anatomy.domes, points)
    layers: list[tuple[str, Inside]] = [
        ("fat", anatomy.body.contains(points)),
        ("muscle", wall.contains(points) & ~cavity),
        *_gut_layers(anatomy, points, cavity),
        ("kidney", inside_any(anatomy.kidneys, points) & ~inside_any(anatomy.kidney_hollows, points)),
        ("spleen", anatomy.spleen.contains(points) & ~anatomy.spleen_hollow.contains(points) & cavity),
        ("liver", _liver(anatomy, points) & cavity),
        ("lung", cavity & ~below_lung & (points[2] > 0)),
        *_back_layers(points),
    ]
    tissue = np.full(points.shape[1:], TISSUE["air"], np.uint8)
    for name, inside in layers:
        tissue[inside] = TISSUE[name]
    return tissue


def _liver(anatomy: Anatomy, points: Points) -> Inside:
    """Both lobes without what lies behind the visceral face, which looks down, left and back."""
    x, y, z = points
    face = 0.55 * x + 0.35 * y + 0.75 * z > 10
    lobes = anatomy.right_lobe.contains(points) & face | anatomy.left_lobe.contains(points)
    return np.asarray(lobes & ~inside_any((kidney.grown(3) for kidney in anatomy.kidneys), points))


def _gut_layers(anatomy: Anatomy, points: Points, cavity: Inside) -> list[tuple[str, Inside]]:
    stomach = anatomy.stomach
    in_stomach, gut = stomach.contains(points) & cavity, inside_any(anatomy.gut, points) & cavity
    gassy = inside_any((loop.grown(-7) for loop in anatomy.gut[::5]), points)
    bubble = points[1] > stomach.centre_mm[1] + 0.45 * stomach.half_mm[1]
    return [
        ("gut", gut),
        ("gas", gut & gassy),
        ("stomach", in_stomach),
        ("gas", in_stomach & bubble & stomach.grown(-4).contains(points)),
    ]


def _back_layers(points: Points) -> list[tuple[str, Inside]]:
    def columns(*places: tuple[float, float, float, float]) -> Inside:
        return inside_any((Ellipsoid((x, y, 0), (half_x, half_y, np.inf)) for x, y, half_x, half_y in places), points)

    vertebra = columns((0, -44, 21, 16))
    in_disc = np.mod(points[2], VERTEBRA_MM) < 8
    return [
        ("muscle", columns((30, -46, 12, 14), (-30, -46, 12, 14), (22, -70, 20, 9), (-22, -70, 20, 9))),
        ("vessel", columns((-9, -20, 9, 9), (15, -21, 10, 8))),
        ("bone", vertebra | columns((0, -64, 15, 8), (0, -72, 4, 8))),
        ("disc", vertebra & in_disc),
        ("muscle", columns((0, -63, 7, 5))),
    ]
