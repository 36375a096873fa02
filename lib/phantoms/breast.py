"""Mammogram: fat, glandular tissue, fibres and vessels under the skin, muscle in the oblique view, and masses."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, rfft2
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

from lib.phantoms.scanner import Phantom

Plane = NDArray[np.float64]
View = Literal["CC", "MLO"]
Kind = Literal["round", "spiculated"]

HEIGHT_MM = 224.0
"""Of the whole image; a larger matrix has smaller pixels."""

GREYS = 3600
"""Stored for full brightness, of 4095 in 12 bits; grey values below are shares of it."""

FAT, GLAND, MUSCLE, SKIN, MARKER = 0.34, 0.22, 0.3, 0.10, 1.05
"""Grey of compressed fat, and what the other tissues add to it; the marker lies on the bare detector."""

COMPRESSED_MM = 22.0
"""From the skin line inwards the breast grows thicker over this way."""


@dataclass(frozen=True)
class BreastParameters:
    """All that decides one phantom: equal parameters give equal pixels.

    Attributes:
        seed: of the anatomy and of the noise.
        laterality: ``L``: chest wall at the left edge; ``R``: at the right edge.
        view: from above (CC), or oblique with the pectoral muscle in the upper corner of the chest wall (MLO).
        shape: pixels along I and J.
        masses: a kind for each mass; none: the image is normal.
        contrast: brightness of a mass, as a share of full brightness.
        radius_mm: smallest and largest mean radius of a mass.
        density: share of glandular tissue, 0 (fatty) to 1 (dense, masses are hidden).
        texture: strength of fibres and vessels.
        noise: strength of the grain; 1 is that of a usual exposure.
    """

    seed: int
    laterality: Literal["L", "R"] = "L"
    view: View = "CC"
    shape: tuple[int, int] = (512, 640)
    masses: tuple[Kind, ...] = ("round",)
    contrast: float = 0.16
    radius_mm: tuple[float, float] = (5.0, 12.0)
    density: float = 0.4
    texture: float = 1.0
    noise: float = 1.0

    @property
    def pixel_mm(self) -> float:
        """Edge of a pixel."""
        return HEIGHT_MM / self.shape[1]


def random_parameters(seed: int, view: View | None = None) -> BreastParameters:
    """Draws side, view, density and masses of one case; every fourth or so is normal, a few have two masses."""
    rng = np.random.default_rng([seed, 1])
    kinds: tuple[Kind, ...] = tuple("round" if draw < 0.5 else "spiculated" for draw in rng.random(2))
    drawn_view: View = "MLO" if rng.random() < 0.5 else "CC"
    return BreastParameters(
        seed=seed,
        laterality="L" if rng.random() < 0.5 else "R",
        view=view or drawn_view,
        masses=kinds[: int(rng.choice(3, p=(0.25, 0.65, 0.10)))],
        contrast=round(float(rng.uniform(0.09, 0.24)), 3),
        density=round(float(rng.uniform(0.1, 0.8)), 2),
        texture=round(float(rng.uniform(0.7, 1.3)), 2),
        noise=round(float(rng.uniform(0.6, 1.4)), 2),
    )


def draw_mammogram(parameters: BreastParameters) -> Phantom:
    """Draws one mammogram and the mask of its masses.

    Returns:
        Image uint16 (I, J, 1) of 12 bits, bright is dense; mask uint8 (I, J, 1), 1 is mass, without the spicules; the
        affine says that I runs to the patient's left and J to the back, as readers say of a picture.

    Raises:
        ValueError: if a mass finds no room in the breast.
    """
    anatomy = np.random.default_rng([parameters.seed, 2])
    breast = _Breast(parameters, anatomy)
    grey = breast.fat() + breast.glands() + breast.fibres() + breast.vessels()
    # The masses come last: without them the rest stays as it is.
    marker = breast.marker()
    added, mask = breast.masses()
    grey = np.where(breast.inside, (grey + added + breast.muscle()) * breast.thickness() + breast.skin(), 0)
    grey = gaussian_filter(grey, 0.2 / parameters.pixel_mm)
    grey = np.maximum(grey, marker)
    # Another stream: the same patient can be drawn with another dose.
    grain = np.random.default_rng([parameters.seed, 3]).standard_normal(parameters.shape)
    grey += 0.012 * parameters.noise * np.sqrt(grey + 0.02) * grain
    image = np.clip(np.rint(GREYS * grey), 0, 4095).astype(np.uint16)
    if parameters.laterality == "R":
        image, mask = image[::-1], mask[::-1]
    edge = parameters.pixel_mm
    return Phantom(
        np.ascontiguousarray(image[:, :, None]),
        np.ascontiguousarray(mask[:, :, None]),
        np.diag([-edge, -edge, 1.0, 1.0]),
    )


class _Breast:
    """One breast with its chest wall at I = 0 and its planes (I, J), drawn part by part from one stream of chance."""

    def __init__(self, parameters: BreastParameters, rng: np.random.Generator) -> None:
        self.parameters, self.rng, self.edge_mm = parameters, rng, parameters.pixel_mm
        self.x, self.y = np.meshgrid(*(np.arange(n) * self.edge_mm for n in parameters.shape), indexing="ij")
        self.width_mm = parameters.shape[0] * self.edge_mm
        self.reach_mm = min(rng.uniform(75, 125), 0.8 * self.width_mm)
        self.nipple_mm = HEIGHT_MM * (rng.uniform(0.45, 0.55) if parameters.view == "CC" else rng.uniform(0.55, 0.66))
        self.inside = self._outline()
        self.depth_mm = distance_transform_edt(np.pad(self.inside, ((1, 0), (0, 0)), "edge"))[1:] * self.edge_mm
        self.muscle_mm = self._muscle_depth()

    def _outline(self) -> NDArray[np.bool_]:
        """A half ellipse with a nipple; in the oblique view the upper half runs out towards the arm."""
        half_mm = self.rng.uniform(0.36, 0.45) * HEIGHT_MM
        above = self.nipple_mm - self.y
        level = np.abs(above) / half_mm
        if self.parameters.view == "MLO":
            level = np.where(above > 0, above / (1.15 * self.nipple_mm), level)
        half_width = self.reach_mm * np.sqrt(np.clip(1 - level**2.2, 0, None))
        nipple = (self.x - self.reach_mm) ** 2 + above**2 < 4.5**2
        return np.asarray((self.x <= half_width) | nipple)

    def _muscle_depth(self) -> Plane:
        """How far a point lies inside the pectoral muscle, in mm; negative outside, everywhere in a CC view."""
        across, down = self.rng.uniform(35, 60), self.rng.uniform(90, 135)
        if self.parameters.view == "CC":
            return np.full(self.parameters.shape, -np.inf)
        bulge = 4 * np.sin(np.pi * np.clip(self.y / down, 0, 1))
        return np.asarray((1 - self.x / across - self.y / down) / np.hypot(1 / across, 1 / down) + bulge)

    def thickness(self) -> Plane:
        """0 at the skin line, 1 where the breast is compressed to its full thickness."""
        way = np.clip(self.depth_mm / COMPRESSED_MM, 0, 1)
        return np.asarray(np.sqrt(1 - (1 - way) ** 2))

    def fat(self) -> Plane:
        """Fat with its slow clouds."""
        return FAT + 0.05 * self.clouds(slope=3.2)

    def glands(self) -> Plane:
        """Glandular tissue: clouds around a cone behind the nipple, as much of it as the density says."""
        back = (self.reach_mm - self.x) / self.reach_mm
        aside = (self.y - self.nipple_mm) / (0.45 * self.reach_mm)
        cone = 1.6 * np.exp(-((back - 0.45) ** 2) / 0.12 - aside**2) - 1.0
        level = self.clouds(slope=3.0) + cone + 3.0 * (self.parameters.density - 0.5)
        return np.asarray(GLAND * (0.55 + 0.45 * self.parameters.density) / (1 + np.exp(-2.2 * level)))

    def fibres(self) -> Plane:
        """Thin strands where a field of clouds crosses zero."""
        strands = [np.exp(-((self.clouds(slope=2.6) / 0.06) ** 2)) for _ in range(2)]
        return np.asarray(0.05 * self.parameters.texture * gaussian_filter(sum(strands), 0.4 / self.edge_mm))

    def vessels(self) -> Plane:
        """A few bent lines from the chest wall towards the nipple."""
        lines = []
        for _ in range(self.rng.integers(4, 9)):
            way = np.linspace(0, 1, 3000)
            start, end = self.rng.uniform(0.1, 0.9) * HEIGHT_MM, self.nipple_mm + self.rng.uniform(-25, 25)
            swing = self.rng.uniform(2, 7) * np.sin(2 * np.pi * (self.rng.uniform(1, 3) * way + self.rng.random()))
            lines.append((self.rng.uniform(0.5, 0.95) * self.reach_mm * way, start + (end - start) * way + swing))
        return 0.07 * self.parameters.texture * np.clip(self._soft_lines(lines, 0.8), 0, 1.5)

    def _soft_lines(self, lines: list[tuple[Plane, Plane]], radius_mm: float) -> Plane:
        """Lines of strength 1 along points (x, y) in mm that lie densely."""
        x_mm, y_mm = (np.concatenate(places) for places in zip(*lines, strict=True))
        i, j = np.rint(x_mm / self.edge_mm).astype(int), np.rint(y_mm / self.edge_mm).astype(int)
        kept = (i >= 0) & (j >= 0) & (i < self.x.shape[0]) & (j < self.x.shape[1])
        points = np.zeros(self.x.shape)
        points[i[kept], j[kept]] = 1
        radius = radius_mm / self.edge_mm
        return np.asarray(gaussian_filter(points, radius) * np.sqrt(2 * np.pi) * radius)

    def muscle(self) -> Plane:
        """The pectoral muscle, brighter towards the corner."""
        depth = self.muscle_mm
        return np.asarray(MUSCLE / (1 + np.exp(-np.clip(depth, -60, 60) / 0.8)) * (1 + np.clip(depth, 0, 60) / 200))

    def skin(self) -> Plane:
        """A bright band of 1.5 mm along the outline, and the nipple."""
        return SKIN * np.exp(-((self.depth_mm / 1.5) ** 2))

    def marker(self) -> Plane:
        """The film marker with its letters, in the upper corner away from the chest wall."""
        plane = np.zeros(self.parameters.shape)
        letters = self.rng.random((6, 4)) < 0.45
        top, right = self.rng.uniform(4, 14), self.width_mm - self.rng.uniform(3, 8)
        row = np.clip(((self.y - top) / 2.5).astype(int), 0, 3)
        column = np.clip(((self.x - right + 18) / 3).astype(int), 0, 5)
        inside = (self.x > right - 18) & (self.x < right) & (self.y > top) & (self.y < top + 10) & ~self.inside
        plane[inside] = MARKER * np.where(letters[column, row], 0.25, 1.0)[inside]
        return plane

    def masses(self) -> tuple[Plane, NDArray[np.uint8]]:
        """What the masses add, and their mask; no two of them touch."""
        added, mask = np.zeros(self.parameters.shape), np.zeros(self.parameters.shape, np.uint8)
        room_mm = np.minimum(self.depth_mm, -self.muscle_mm)
        for kind in self.parameters.masses:
            radius_mm = float(self.rng.uniform(*self.parameters.radius_mm))
            x_mm, y_mm = self._place(np.minimum(room_mm, self.x), radius_mm)
            rim = _rim(self.rng, radius_mm, roughness=0.05 if kind == "round" else 0.1)
            distance_mm = np.hypot(self.x - x_mm, self.y - y_mm)
            level = distance_mm / rim(np.arctan2(self.y - y_mm, self.x - x_mm))
            mask[level <= 1] = 1
            added += self.parameters.contrast * np.sqrt(np.clip(1 - level**2, 0, 1)) ** 0.7
            if kind == "spiculated":
                added += 0.4 * self.parameters.contrast * self._spicules(x_mm, y_mm, radius_mm)
            room_mm = np.minimum(room_mm, distance_mm - 1.3 * radius_mm)
        return gaussian_filter(added, 0.5 / self.edge_mm), mask

    def _place(self, room_mm: Plane, radius_mm: float) -> tuple[float, float]:
        """A point with room for a mass around it."""
        i, j = np.nonzero(room_mm > 1.3 * radius_mm + 3)
        if not len(i):
            raise ValueError(f"A mass of {radius_mm:.1f} mm radius finds no room; draw a smaller radius_mm or fewer.")
        # By share, so that the place is much the same in a larger matrix.
        chosen = int(self.rng.random() * len(i))
        return float(i[chosen] * self.edge_mm), float(j[chosen] * self.edge_mm)

    def _spicules(self, x_mm: float, y_mm: float, radius_mm: float) -> Plane:
        """Fine lines that run outwards from the rim and fade."""
        lines = []
        for angle in self.rng.uniform(0, 2 * np.pi, self.rng.integers(12, 22)):
            way = np.linspace(0.7, self.rng.uniform(1.5, 2.3), 1000) * radius_mm
            lines.append((x_mm + way * np.cos(angle), y_mm + way * np.sin(angle)))
        distance_mm = np.hypot(self.x - x_mm, self.y - y_mm)
        fading = np.clip(1.5 - distance_mm / (1.8 * radius_mm), 0, 1)
        return np.asarray(np.clip(self._soft_lines(lines, 0.4), 0, 1) * fading)

    def clouds(self, slope: float) -> Plane:
        """A field of mean 0 and deviation 1 whose power falls with the frequency to the power of the slope.

        It is drawn on a fixed lattice and interpolated: a larger matrix shows the same patient.

        Reference:
            Burgess et al., "Human observer detection experiments with mammograms and power-law noise", Medical
            Physics 28, 2001: the spectrum of mammograms falls with a slope of about 3.
        """
        side = 640
        frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
        frequency[0, 0] = np.inf
        spectrum = rfft2(self.rng.standard_normal((side, side))) * np.maximum(frequency, 1.5 / side) ** (-slope / 2)
        field = irfft2(spectrum, (side, side))
        field = (field - field.mean()) / field.std()
        return np.asarray(_sampled(field, self.parameters.shape, self.edge_mm / (HEIGHT_MM / side)))


def _sampled(field: Plane, shape: tuple[int, int], step: float) -> Plane:
    """The field at every ``step``-th of its points along both axes, wrapped around."""
    if step == 1:
        return field[: shape[0], : shape[1]]
    points = np.meshgrid(*(np.arange(n) * step for n in shape), indexing="ij")
    return np.asarray(map_coordinates(field, points, order=1, mode="grid-wrap"))


def _rim(rng: np.random.Generator, radius_mm: float, roughness: float) -> Callable[[Plane], Plane]:
    """Distance of a mass's rim from its centre, by the angle."""
    waves = np.arange(2, 7)
    heights = rng.normal(0, roughness, len(waves)) / np.sqrt(waves / 2)
    phases = rng.uniform(0, 2 * np.pi, len(waves))

    def at(angle: Plane) -> Plane:
        swing = sum(h * np.cos(n * angle + p) for h, n, p in zip(heights, waves, phases, strict=True))
        return np.asarray(radius_mm * np.clip(1 + swing, 0.6, 1.4))

    return at
