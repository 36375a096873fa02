"""One patient's head in mm: skull, folded brain, ventricles and cisterns, and the bleeds among them."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lib.phantoms.anatomy import Ellipsoid, Inside, Points, deformed, inside_any, random_waves
from lib.phantoms.scanner import Vector

BLEEDS = {"EDH": 1, "IPH": 2, "IVH": 3, "SAH": 4, "SDH": 5}
"""Label values: extradural, intraparenchymal, intraventricular, subarachnoid, subdural."""

# HU before noise; the places 1 to 5 equal the label values, the middle of what fresh blood shows.
TISSUE_HU = {
    "air": -1000.0,
    "EDH": 70.0,
    "IPH": 68.0,
    "IVH": 64.0,
    "SAH": 56.0,
    "SDH": 60.0,
    "fat": -70.0,
    "muscle": 45.0,
    "dense bone": 1400.0,
    "spongy bone": 700.0,
    "cells": -500.0,
    "eye": 20.0,
    "csf": 8.0,
    "ventricle": 7.0,
    "grey": 37.0,
    "white": 28.0,
    "oedema": 19.0,
    "dura": 56.0,
    "sinus": 62.0,
    "calcification": 220.0,
    "holder": -150.0,
}
TISSUE = {name: place for place, name in enumerate(TISSUE_HU)}
PARENCHYMA = ("grey", "white")

PROBE_MM = 3.0
"""Step of the grid on which the extent of a bleed is found."""

Tissues = NDArray[np.uint8]
Field = NDArray[np.float32]


@dataclass(frozen=True)
class Bleed:
    """Blood fills the room that its kind may fill, in the order of a field, up to an extent.

    Attributes:
        kind: a name in ``BLEEDS``.
        centre_mm: where it started, RAS mm.
        flatness_mm: of extradural and subdural blood: square of the radius of its contact with the skull over its
            greatest thickness. Below the diameter of the skull it is biconvex, above it a crescent.
        half_mm: of intraparenchymal blood: proportions of its three half axes.
        extent: the field's value at the border; the field's own unit.
    """

    kind: str
    centre_mm: Vector
    flatness_mm: float = 60.0
    half_mm: Vector = (1.0, 1.0, 1.0)
    extent: float = 0.0


@dataclass(frozen=True)
class Head:
    """One patient in RAS mm around the middle of the brain; the right side has positive x."""

    vault: Ellipsoid
    skull_mm: float
    scalp_mm: float
    csf_mm: float
    fold_level: float
    folds: NDArray[np.float64]
    lateral: tuple[Ellipsoid, ...]
    middle: tuple[Ellipsoid, ...]
    calcifications: tuple[Ellipsoid, ...]
    falx_is_calcified: bool
    has_holder: bool
    waves: NDArray[np.float64]
    bleeds: tuple[Bleed, ...] = ()


def random_head(rng: np.random.Generator, deformation_mm: float, has_holder: bool) -> Head:
    """Draws one patient without a bleed: size, atrophy, folding, ventricles and calcifications differ."""
    atrophy = rng.uniform(0, 1)
    wide = (0.75 + 0.7 * atrophy) * rng.uniform(0.9, 1.1)

    def both(centre_mm: Vector, half_mm: Vector) -> tuple[Ellipsoid, Ellipsoid]:
        x, y, z = centre_mm
        right, left = rng.uniform(0.9, 1.1, 2)
        return (
            Ellipsoid((x, y, z), _times(half_mm, wide * right)),
            Ellipsoid((-x, y, z), _times(half_mm, wide * left)),
        )

    return Head(
        vault=Ellipsoid((0, 0, 0), (66 * rng.uniform(0.95, 1.04), 82 * rng.uniform(0.95, 1.04), 78.0)),
        skull_mm=rng.uniform(5.5, 8.5),
        scalp_mm=rng.uniform(5, 9),
        csf_mm=0.8 + 2.6 * atrophy,
        fold_level=0.12 + 0.3 * atrophy,
        folds=_random_folds(rng),
        lateral=(
            *both((10, 12, 18), (5, 26, 8)),
            *both((14, -18, 18), (6, 20, 8)),
            *both((24, -40, 8), (6, 15, 9)),
            *both((33, -16, -16), (2.5, 17, 4)),
        ),
        middle=(
            Ellipsoid((0, -3, 3), (2.6 * wide, 15, 11)),
            Ellipsoid((0, -42, -40), (8, 5, 9)),
        ),
        calcifications=_random_calcifications(rng),
        falx_is_calcified=bool(rng.random() < 0.3),
        has_holder=has_holder,
        waves=random_waves(rng, deformation_mm),
    )


def _times(half_mm: Vector, factor: float) -> Vector:
    x, y, z = half_mm
    return x * factor, y * factor, z * factor


def _random_folds(rng: np.random.Generator) -> NDArray[np.float64]:
    """Three waves (3, 4): wave vector in 1/mm and phase; the brain is folded where their sum is near zero."""
    directions = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return np.hstack([directions * 2 * np.pi / rng.uniform(24, 32, (3, 1)), rng.uniform(0, 2 * np.pi, (3, 1))])


def _random_calcifications(rng: np.random.Generator) -> tuple[Ellipsoid, ...]:
    """Choroid plexus of both sides and pineal gland in most patients, basal ganglia in some."""
    places = [((24, -40, 8), 0.8), ((-24, -40, 8), 0.8), ((0, -30, 2), 0.8), ((20, 6, 4), 0.15), ((-20, 6, 4), 0.15)]
    found = []
    for centre, chance in places:
        centre_mm, half_mm = np.array(centre) + rng.uniform(-2, 2, 3), rng.uniform(1.5, 3.5, 3)
        if rng.random() < chance:
            found.append(Ellipsoid(tuple(centre_mm.tolist()), tuple(half_mm.tolist())))
    return tuple(found)


def with_bleeds(head: Head, kinds: dict[str, float], rng: np.random.Generator) -> Head:
    """The patient with bleeds of these kinds, each of about this many ml, or as many as its room holds."""
    side = float(rng.choice([-1.0, 1.0]))
    if "SAH" in kinds:
        # Blood widens the folds and the space below the skull that it fills.
        head = replace(head, csf_mm=max(head.csf_mm, 2.0), fold_level=max(head.fold_level, 0.3))
    for kind in ("EDH", "SDH", "IPH", "IVH", "SAH"):
        if kind in kinds:
            start = _random_bleed(kind, head, side, rng)
            head = replace(head, bleeds=(*head.bleeds, _filled(start, head, kinds[kind])))
        # Extradural and subdural blood of one patient lie on opposite sides.
        side = -side
    return head


def _random_bleed(kind: str, head: Head, side: float, rng: np.random.Generator) -> Bleed:
    """Where and how a bleed starts; its extent is not known yet."""
    if kind in ("EDH", "SDH"):
        azimuth, elevation = rng.uniform(-0.9, 0.9), rng.uniform(-0.1, 0.8)
        flatness_mm = rng.uniform(45, 75) if kind == "EDH" else rng.uniform(350, 900)
        return Bleed(kind, _on_vault(head, side, azimuth, elevation), flatness_mm)
    if kind == "IPH":
        deep = [(27, 2, 6), (15, -14, 6), (24, -48, -42)]
        on_vault = 0.62 * np.array(_on_vault(head, 1.0, rng.uniform(-1.2, 1.2), rng.uniform(0, 0.8)))
        x, y, z = deep[rng.integers(3)] if rng.random() < 0.5 else on_vault
        a, b, c = np.exp(rng.uniform(-0.3, 0.3, 3))
        return Bleed(kind, (side * float(x), float(y), float(z)), half_mm=(float(a), float(b), float(c)))
    if kind == "IVH":
        return Bleed(kind, (side * float(rng.choice([0.0, 40.0])), float(rng.uniform(-0.3, 0.3)), 0.0))
    cisterns: list[Vector] = [(0.0, 10.0, -34.0), (side * 42.0, 12.0, -10.0)]
    if rng.random() < 0.5:
        return Bleed(kind, cisterns[rng.integers(2)])
    return Bleed(kind, _on_vault(head, side, rng.uniform(-1.2, 1.2), rng.uniform(0, 0.9)))


def _on_vault(head: Head, side: float, azimuth: float, elevation: float) -> Vector:
    """Point of the inner table seen from the middle under two angles in radians: 0, 0 is straight to the side."""
    a, b, c = head.vault.half_mm
    across = np.cos(elevation) * np.cos(azimuth)
    return side * a * float(across), b * float(np.cos(elevation) * np.sin(azimuth)), c * float(np.sin(elevation))


def _filled(bleed: Bleed, head: Head, volume_ml: float) -> Bleed:
    """The bleed with the extent at which it has a volume; in a room that is too small it fills all of it."""
    axes = [np.arange(-half, half, PROBE_MM, dtype=np.float32) for half in (72, 88, 84)]
    points = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    order = np.sort(_field(bleed, head, points)[_room(bleed, head, points, _healthy(head, points))])
    wanted = round(volume_ml * 1000 / PROBE_MM**3)
    if order.size == 0:
        raise ValueError(f"No room for {bleed.kind} around {bleed.centre_mm} mm in this head. Take another seed.")
    return replace(bleed, extent=float(order[min(max(wanted, 1), order.size) - 1]))


def _field(bleed: Bleed, head: Head, points: Points) -> Field:
    """In which order (N...) the points (3, N...) are reached by a bleed."""
    if bleed.kind in ("EDH", "SDH"):
        depth = _vault_depth(head, points)
        along = np.maximum(_distance2(points, bleed.centre_mm) - depth**2, 0)
        return np.asarray(depth + along / np.float32(bleed.flatness_mm))
    if bleed.kind == "IPH":
        return Ellipsoid(bleed.centre_mm, bleed.half_mm).level(points) * (1 + 0.22 * _fold_sum(head, points / 1.3))
    if bleed.kind == "IVH":
        side, slope = bleed.centre_mm[0], np.float32(bleed.centre_mm[1])
        # Blood sinks to the back of a patient who lies, and may stay on the side where it began.
        return points[1] + slope * points[2] + np.float32(40) * (points[0] * np.float32(side) < 0)
    return _distance2(points, bleed.centre_mm)


def _room(bleed: Bleed, head: Head, points: Points, tissue: Tissues) -> Inside:
    """Which points a kind of bleed may fill: bool (N...)."""
    if bleed.kind in ("EDH", "SDH"):
        # Neither passes to the other side: sutures stop the one, the falx stops the other.
        return (depth_mm(head, points) > 0) & (points[0] * np.float32(np.sign(bleed.centre_mm[0])) > 2.5)
    if bleed.kind == "IPH":
        return _is(tissue, *PARENCHYMA, "oedema")
    return _is(tissue, "ventricle" if bleed.kind == "IVH" else "csf")


def _is(tissue: Tissues, *names: str) -> Inside:
    return np.asarray(np.isin(tissue, [TISSUE[name] for name in names]))


def _distance2(points: Points, centre_mm: Vector) -> Field:
    """Squared distance (N...) in mm²."""
    return np.asarray(Ellipsoid(centre_mm, (1.0, 1.0, 1.0)).level(points))


def tissue_at(head: Head, points: Points) -> Tissues:
    """Place of each point's tissue in ``TISSUE_HU``: uint8 (N...) of points (3, N...)."""
    return _healthy(head, deformed(points, head.waves))


def inner_depth_mm(head: Head, points: Points) -> Field:
    """Depth (N...) below the inner table of the skull, negative outside of it."""
    return depth_mm(head, deformed(points, head.waves))


def _healthy(head: Head, points: Points) -> Tissues:
    """``tissue_at`` of points that are already deformed: later layers cover earlier ones."""
    vault, depth = _vault_depth(head, points), depth_mm(head, points)
    tissue = _outside(head, points, vault)
    _paint(tissue, "csf", depth > 0)
    rim, pushed_mm = _extra_axial(head, points, vault)
    _paint_brain(tissue, head, points, depth - pushed_mm - np.float32(head.csf_mm))
    for bleed in head.bleeds:
        room = rim[bleed.kind] if bleed.kind in rim else _room(bleed, head, points, tissue)
        field = _field(bleed, head, points)
        if bleed.kind == "IPH":
            _paint(tissue, "oedema", room & (field <= np.float32(bleed.extent * 1.55)))
        _paint(tissue, bleed.kind, room & (field <= np.float32(bleed.extent)))
    return tissue


def _paint(tissue: Tissues, name: str, inside: Inside) -> None:
    tissue[inside] = TISSUE[name]


def _extra_axial(head: Head, points: Points, vault: Field) -> tuple[dict[str, Inside], Field]:
    """Rooms of extradural and subdural blood, and how far it pushes the brain away from the skull in mm (N...)."""
    rooms, pushed_mm = {}, np.zeros(points.shape[1:], np.float32)
    for bleed in head.bleeds:
        if bleed.kind in ("EDH", "SDH"):
            rooms[bleed.kind] = _room(bleed, head, points, np.empty(0, np.uint8))
            thickness = np.float32(bleed.extent) - _field(bleed, head, points) + vault
            pushed_mm += rooms[bleed.kind] * np.maximum(thickness, 0)
    return rooms, pushed_mm


def _vault_depth(head: Head, points: Points) -> Field:
    """Depth (N...) in mm below the inner table of the vault, which runs down below the brain as a wide column."""
    a, b, c = (np.float32(half) for half in head.vault.half_mm)
    x, y, z = points[0] / a, points[1] / b, points[2] / c
    z = np.where(z < 0, z * np.float32(0.65), z)
    radius = np.sqrt(x**2 + y**2 + z**2) + np.float32(1e-6)
    # To first order the distance from a surface is its level over the length of its gradient.
    gradient = np.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2) / radius + np.float32(1e-6)
    return np.asarray((1 - radius) / gradient)


def depth_mm(head: Head, points: Points) -> Field:
    """Depth (N...) in mm below the skull, base included; negative outside of the cranial cavity."""
    return np.minimum(_vault_depth(head, points), points[2] - _floor(points))


def _floor(points: Points) -> Field:
    """Height (N...) in mm of the skull base: three steps from the forehead down to the back, the sella between them."""
    x, y = points[0], points[1]
    steps = 10 * np.tanh((y + 30) / 9) + 8 * np.tanh((y - 24) / 9)
    sella = 7 * np.exp(-((x / 13) ** 2) - ((y - 8) / 18) ** 2)
    return np.asarray(steps + sella + np.float32(0.003) * x**2 - 46)


def _outside(head: Head, points: Points, vault: Field) -> Tissues:
    """Everything but the cranial cavity: scalp, skull, face, ridges and cells of the base, and the head holder."""
    _, y, z = points
    skull, scalp = np.float32(head.skull_mm), np.float32(head.scalp_mm)
    tissue = np.zeros(points.shape[1:], np.uint8)
    _paint(tissue, "fat", vault > -skull - scalp)
    _paint(tissue, "muscle", vault > -skull - scalp / 2)
    _paint(tissue, "dense bone", vault > -skull)
    _paint(tissue, "spongy bone", (vault > -skull * 0.7) & (vault < -skull * 0.3))
    below = (vault > 0) & (z < _floor(points))
    _paint(tissue, "muscle", below)
    _paint(tissue, "cells", below & inside_any([Ellipsoid((0, 32, -48), (15, 20, 16))], points))
    _paint(tissue, "dense bone", below & (z > _floor(points) - 5))
    orbits = [Ellipsoid((side * 30, 62, -44), (17, 24, 15)) for side in (-1, 1)]
    _paint(tissue, "fat", below & inside_any(orbits, points))
    _paint(tissue, "eye", below & inside_any([orbit.grown(-5) for orbit in orbits], points) & (y > 55))
    if head.has_holder:
        gap = -vault - skull - scalp
        _paint(tissue, "holder", (gap > 4) & (gap < 9) & (y < -45))
    return tissue


def _paint_brain(tissue: Tissues, head: Head, points: Points, depth: Field) -> None:
    """Paints the brain and what lies in it; ``depth`` (N...) is that below the brain's own surface."""
    x, y, z = points
    folds = np.abs(_fold_sum(head, points))
    is_fold = (folds < np.float32(head.fold_level)) & (depth < 15)
    brain = (depth > 0) & ~is_fold & ~_clefts(points)
    ribbon = (depth < 4) | ((folds < np.float32(head.fold_level + 0.8)) & (depth < 18))
    nuclei = [
        Ellipsoid((side * centre_mm[0], *centre_mm[1:]), half_mm)
        for side in (-1, 1)
        for centre_mm, half_mm in (((13.0, -14.0, 5.0), (10.0, 15.0, 10.0)), ((26.0, 4.0, 4.0), (7.0, 17.0, 12.0)))
    ]
    _paint(tissue, "white", brain)
    _paint(tissue, "grey", brain & (ribbon | inside_any(nuclei, points)))
    _paint(tissue, "ventricle", inside_any((*head.lateral, *head.middle), points) & brain)
    _paint_dura(tissue, head, points)
    petrous = np.stack([np.abs(x) - 38, y + np.float32(0.5) * np.abs(x), z + 47])
    _paint(tissue, "dense bone", inside_any([Ellipsoid((0, 0, 0), (27, 7, 9))], petrous) & (depth > -12))
    _paint(tissue, "cells", inside_any([Ellipsoid((20, 0, -6), (8, 7, 8))], petrous) & (depth > -12))
    _paint(tissue, "calcification", inside_any(head.calcifications, points))


def _clefts(points: Points) -> Inside:
    """Fluid between the halves, beside the temples and around the brain stem: fissures and cisterns."""
    x, y, z = points
    side = np.abs(x)
    between = (side < 1.6) & ~inside_any([Ellipsoid((0, -8, 6), (9, 50, 34))], points) & (z > -30)
    temple = (np.abs(z + 8 - np.float32(0.25) * y) < 2.2) & (side > 32) & (y > -12) & (y < 32)
    stem = Ellipsoid((0, -14, -34), (15, 14, 26))
    around = inside_any([stem.grown(3.5)], points) & ~inside_any([stem], points)
    star = inside_any([Ellipsoid((0, 8, -34), (15, 10, 6)), Ellipsoid((0, 10, -32), (34, 4, 4))], points)
    return np.asarray(between | temple | around | star)


def _paint_dura(tissue: Tissues, head: Head, points: Points) -> None:
    """Falx, tentorium and the venous sinuses along them, as dense as fresh blood."""
    x, y, z = points
    side, depth = np.abs(x), depth_mm(head, points)
    tent = z + np.float32(4) + np.float32(0.42) * side
    falx = (side < 0.9) & (depth > 0) & ~inside_any([Ellipsoid((0, -2, -2), (9, 62, 50))], points) & (z > -20)
    _paint(tissue, "dura", falx)
    if head.falx_is_calcified:
        _paint(tissue, "calcification", falx & (y > 20) & (np.sin(z / 4) > 0.6))
    _paint(tissue, "dura", (np.abs(tent) < 1) & (depth > 0) & (y < -28 - side * np.float32(0.1)))
    sagittal = (side < 4.5 - depth / 2) & (depth > 0) & (z > -12) & ((y < 20) | (z > 55)) & (depth < 9)
    transverse = (np.abs(tent) < 3.5) & (depth > 0) & (depth < 6) & (y < -30)
    basilar = inside_any([Ellipsoid((0, 2, -36), (2, 2, 14))], points)
    _paint(tissue, "sinus", sagittal | transverse | basilar)


def _fold_sum(head: Head, points: Points) -> Field:
    """Sum (N...) of three waves, within about [-3, 3]."""
    total = np.zeros(points.shape[1:], np.float32)
    for *vector, phase in head.folds.astype(np.float32):
        total += np.sin(vector[0] * points[0] + vector[1] * points[1] + vector[2] * points[2] + phase)
    return total
