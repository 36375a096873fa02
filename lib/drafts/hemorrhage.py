"""A first guess at bleeds on head CT: dense pieces inside the skull, typed by their shape and place."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from scipy import ndimage

from lib.drafts.skull import IN_PLANE, cranial_cavity, in_plane_distance_mm
from lib.task import Task
from lib.volume import Array, Volume, in_numbers

Triple: TypeAlias = tuple[float, float, float]
Box: TypeAlias = tuple[slice, slice, slice]

WORKING_MM = (0.9, 0.9, 3.0)
"""Finer voxels are averaged to about these edges along right, anterior, superior."""

AIR_HU = -1000.0
"""What voxels that are no number count as."""

SMOOTHING_MM = 1.6
"""Standard deviation of the Gaussian that takes the noise away, within a slice."""

CALCIFIED_HU = 110.0
"""Denser than any clot."""

BLOOD_HU, BLOOD_EXCESS_HU = 45.0, 9.0
"""Blood is at least this dense once the noise is gone, and that much denser than the brain at its depth."""

SEED_HU, SEED_EXCESS_HU = 49.0, 13.0
"""What a piece must reach over ``SEED_ML``, so that it is not noise."""

SEED_ML, PIECE_ML = 0.1, 0.5
"""Volumes that the densest part and the whole of a piece must have."""

FLUID_HU = 19.0
"""Cerebrospinal fluid is thinner than this, brain is not."""

SHELLS_MM = (0.0, 2.5, 5.0, 8.0, 12.0, 20.0, np.inf)
"""Depths between which the brain counts as equally bright: beam hardening brightens it beside the bone."""

SHALLOW_MM = 9.0
"""Blood between brain and skull is no deeper where it is thin; there parts this side of a gap belong together."""
GAP_MM = 4.0

RIM_PIXELS = 1.2
"""So near to bone, in pixels, partial volume looks like blood: no piece starts there."""

CONTACT_MM = 6.4
"""What lies within this distance of bone lies at it."""

MIN_SOFT = 0.05
"""Weight of soft tissue around a voxel below which its HU is unknown."""

WIDE_ROW = 0.6
"""A row across the head of at least this share of the widest one has its middle at the midline."""

MOSTLY = 0.3
"""Blood outside the brain has more than this share of its voxels at the bone."""

THREADS = 0.8
"""Blood in folds reaches deeper than it is thick and has less than this share at the bone."""

CRESCENT = 3.5
"""Radius of contact over greatest depth from which blood on the bone is a crescent, not a lens."""

SYMMETRIC = 0.7
"""What is dense on both sides to this share is anatomy, or a blurred skull."""

MIRROR_MM = 2.5
"""How far the two halves of a head may differ."""

MARGIN = 5
"""Voxels around a piece within which its surroundings lie."""

SINUS_MM, SINUS_ML = 8.0, 9.0
"""A transverse sinus is no thicker and no larger."""

VENTRICLE_MM = (10.5, 13.5)
"""Blood in a ventricle is seldom thicker than the first and hardly ever thicker than the second."""

OEDEMA_HU = 29.0
"""The surroundings of blood within the brain are thinner than this, swollen as they are."""

CENTRAL = 0.36
"""``Scene.centrality`` of ventricles."""

THICK_MM, SHARE_OF_REST = 9.0, 0.4
"""A part of this thickness is told apart from thinner parts that join it, if these are that share of the piece."""

ALONG_K = np.zeros((3, 3, 3), bool)
ALONG_K[1, 1] = True


@dataclass(frozen=True)
class Scene:
    """What pieces are judged by; all arrays are (I, J, K) along right, anterior, superior.

    Attributes:
        spacing_mm: voxel edges.
        hu: float, without noise and without what is no soft tissue; 0 where nothing is known.
        cavity: bool, the inside of the skull.
        dense: bool, as dense as blood.
        seeds: bool, so dense that it is no noise.
        mirrored: bool, where the same place on the other side of the head is dense too.
        depth_mm: float, distance to the nearest bone.
        centrality: float, 0 at the skull to 1 at the innermost voxel of the slice.
        right_mm: float, distance to the right of the midline plane.
        front_mm: float, distance in front of the middle of the cavity.
        above_mm: float, distance above the middle of the cavity.
    """

    spacing_mm: Triple
    hu: Array
    cavity: Array
    dense: Array
    seeds: Array
    mirrored: Array
    depth_mm: Array
    centrality: Array
    right_mm: Array
    front_mm: Array
    above_mm: Array

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel."""
        return float(np.prod(self.spacing_mm)) / 1000

    @property
    def pixel_mm(self) -> float:
        """Longer edge of a voxel within its slice."""
        return max(self.spacing_mm[:2])

    def part(self, box: Box) -> Scene:
        """The scene within a box."""
        arrays = {field.name: getattr(self, field.name)[box] for field in fields(self) if field.name != "spacing_mm"}
        return replace(self, **arrays)


@dataclass(frozen=True)
class Piece:
    """Shape and place of one connected piece.

    Attributes:
        ml: volume.
        contact: share of it that lies at the bone.
        reach_mm: depth of its deepest parts.
        thickness_mm: of its thickest parts, within a slice.
        wideness: radius of its contact with bone over its reach.
        seeded: share of it that is no noise.
        mirrored: share of it that has a dense place on the other side of the head.
        ring_hu: median of its surroundings within the slice; 0 where there are none.
        centrality: median of ``Scene.centrality``.
        front_mm: median of ``Scene.front_mm``.
        above_mm: median of ``Scene.above_mm``.
    """

    ml: float
    contact: float
    reach_mm: float
    thickness_mm: float
    wideness: float
    seeded: float
    mirrored: float
    ring_hu: float
    centrality: float
    front_mm: float
    above_mm: float


def hemorrhage(volume: Volume, task: Task) -> Array:
    """A mask of what looks like fresh blood, typed as EDH, SDH, IPH, IVH or SAH.

    Blood is denser than brain and less dense than bone and calcium. Extradural blood is a lens against the skull,
    subdural blood a crescent; subarachnoid blood is thin and follows folds and cisterns; intraventricular blood lies
    in the middle of the head in pieces no thicker than a ventricle; what is left is intraparenchymal. Falx and
    venous sinuses are as dense as blood and are left out by their place, so blood there is missed, as is blood that
    is as dense as brain, thinner than a voxel, or in a skull with a large opening.

    Args:
        volume: a CT of any orientation and spacing in HU, one slice or many. Voxels that are no number count as air.
        task: types are looked up among its structures by name; blood of a type that it lacks is left out.

    Returns:
        uint8 (I, J, K) of label values on the image's grid; all 0 if there is no head.

    Reference:
        Types: Wu et al., "BHSD: a 3D multi-class brain hemorrhage segmentation dataset", MLMI 2023,
        arXiv:2308.11298. Shapes and densities: textbook appearance on CT.
    """
    to_ras = io_orientation(volume.affine)
    turned = apply_orientation(volume.voxels, to_ras)
    edges = np.array(volume.grid.spacing_mm)[np.argsort(to_ras[:, 0])]
    steps = [max(1, int(wanted / edge + 0.3)) for wanted, edge in zip(WORKING_MM, edges, strict=True)]
    hu = _averaged(in_numbers(turned).astype(np.float32, copy=False), steps)
    i, j, k = (float(edge * step) for edge, step in zip(edges, steps, strict=True))
    coarse = _typed(scene_of(hu, (i, j, k)), task.values)
    for axis, step in enumerate(steps):
        coarse = np.repeat(coarse, step, axis)
    whole = coarse[tuple(slice(size) for size in turned.shape)]
    from_ras = ornt_transform(axcodes2ornt("RAS"), to_ras)
    return np.ascontiguousarray(apply_orientation(whole, from_ras))


def _averaged(hu: Array, steps: list[int]) -> Array:
    """Float32 (I, J, K): means over blocks of so many voxels; the outermost are repeated to fill the last block."""
    padded = np.pad(hu, [(0, -size % step) for size, step in zip(hu.shape, steps, strict=True)], mode="edge")
    for axis, step in enumerate(steps):
        if step > 1:
            shape = (*padded.shape[:axis], padded.shape[axis] // step, step, *padded.shape[axis + 1 :])
            padded = padded.reshape(shape).mean(axis=axis + 1)
    return padded


def _typed(scene: Scene, values: dict[str, int]) -> Array:
    """Uint8 (I, J, K): the label value of each piece's type."""
    mask = np.zeros(scene.cavity.shape, np.uint8)
    for box, piece in pieces_of(scene):
        part = scene.part(box)
        # Beside bone nothing was looked for; a piece that reaches so far goes on to the bone.
        grown = ndimage.binary_dilation(piece, IN_PLANE, iterations=2) & part.dense
        value = values.get(type_of(measured(piece, grown, part)), 0)
        mask[box][grown & (mask[box] == 0)] = value
    return mask


def scene_of(hu: Array, spacing_mm: Triple) -> Scene:
    """Looks at a head: float32 HU (I, J, K) along right, anterior, superior, with these voxel edges."""
    cavity = cranial_cavity(hu, spacing_mm)
    depth_mm = ndimage.distance_transform_edt(cavity, sampling=spacing_mm)
    smooth = _smooth(hu, cavity & (hu < CALCIFIED_HU), spacing_mm)
    smooth[~cavity] = 0
    excess = np.zeros(hu.shape, np.float32)
    for shallow, deep in pairwise(SHELLS_MM):
        shell = (depth_mm > shallow) & (depth_mm <= deep)
        brain = smooth[shell & (smooth > FLUID_HU)]
        excess[shell] = smooth[shell] - (np.median(brain) if brain.size else 0)
    dense = cavity & (smooth > BLOOD_HU) & (excess > BLOOD_EXCESS_HU)
    across_mm = in_plane_distance_mm(cavity, spacing_mm)
    right_mm, front_mm, above_mm = _places_mm(cavity, spacing_mm)
    return Scene(
        spacing_mm=spacing_mm,
        hu=smooth,
        cavity=cavity,
        dense=dense,
        seeds=dense & (smooth > SEED_HU) & (excess > SEED_EXCESS_HU),
        mirrored=_mirrored(dense, right_mm, spacing_mm),
        depth_mm=depth_mm,
        centrality=across_mm / np.maximum(across_mm.max(axis=(0, 1)), 1),
        right_mm=right_mm,
        front_mm=front_mm,
        above_mm=above_mm,
    )


def _smooth(hu: Array, soft: Array, spacing_mm: Triple) -> Array:
    """Gaussian mean (I, J, K) within slices over soft tissue alone; 0 where there is none around."""
    width = (SMOOTHING_MM / spacing_mm[0], SMOOTHING_MM / spacing_mm[1], 0.0)
    weight = ndimage.gaussian_filter(soft.astype(np.float32), width)
    total = ndimage.gaussian_filter(np.where(soft, hu, 0).astype(np.float32), width)
    return np.where(weight > MIN_SOFT, total / np.maximum(weight, MIN_SOFT), 0)


def _places_mm(cavity: Array, spacing_mm: Triple) -> tuple[Array, Array, Array]:
    """Place of every voxel; the midline plane is fitted to the middles of all rows across the head."""
    steps = [np.arange(size, dtype=np.float32) * edge for size, edge in zip(cavity.shape, spacing_mm, strict=True)]
    x, y, z = np.meshgrid(*steps, indexing="ij")
    if not cavity.any():
        return x, y, z
    first, last = cavity.argmax(axis=0), cavity.shape[0] - 1 - cavity[::-1].argmax(axis=0)
    width = np.where(cavity.any(axis=0), last - first, 0)
    # Short rows lie where the head is cut or rounded; their middles say little.
    wide = width >= WIDE_ROW * width.max()
    terms = np.stack([np.ones(wide.sum()), y[0][wide], z[0][wide]], axis=1)
    middles_mm = (first + last)[wide] / 2 * spacing_mm[0]
    plane = np.linalg.lstsq(terms, middles_mm, rcond=None)[0].astype(np.float32)
    return x - plane[0] - plane[1] * y - plane[2] * z, y - y[cavity].mean(), z - z[cavity].mean()


def _mirrored(dense: Array, right_mm: Array, spacing_mm: Triple) -> Array:
    """Where the place on the other side of the midline is dense or within ``MIRROR_MM`` of what is."""
    near = in_plane_distance_mm(~dense, spacing_mm) <= MIRROR_MM
    here = np.arange(dense.shape[0])[:, None, None]
    other = np.rint(here - 2 * right_mm / spacing_mm[0]).astype(int).clip(0, dense.shape[0] - 1)
    return np.take_along_axis(near, other, axis=0)


def pieces_of(scene: Scene) -> list[tuple[Box, Array]]:
    """Pieces of dense voxels but for those beside bone and along falx and sagittal sinus: a box and bool within it."""
    aside_mm, depth_mm = np.abs(scene.right_mm), scene.depth_mm
    falx = (aside_mm < 5) & (depth_mm < 35) & ((scene.centrality < 0.75) | (scene.above_mm > 30))
    sinus = (aside_mm < 10) & (depth_mm < 10)
    core = scene.dense & (depth_mm > RIM_PIXELS * scene.pixel_mm) & ~falx & ~sinus
    shallow = depth_mm < SHALLOW_MM
    links = in_plane_distance_mm(~(core & shallow), scene.spacing_mm) <= GAP_MM
    links = ndimage.binary_dilation(links, ALONG_K) & shallow & scene.cavity
    numbers, count = ndimage.label(core | links, ndimage.generate_binary_structure(3, 2))
    numbers[~core] = 0
    seeds = np.bincount(numbers[scene.seeds], minlength=count + 1) * scene.voxel_ml
    sizes = np.bincount(numbers.ravel(), minlength=count + 1) * scene.voxel_ml
    found = []
    for number, box in enumerate(ndimage.find_objects(numbers), start=1):
        if box is not None and seeds[number] > SEED_ML and sizes[number] > PIECE_ML:
            wider = _with_margin(box)
            parts = _parts(numbers[wider] == number, scene.spacing_mm)
            found += [(wider, part) for part in parts if part.sum() * scene.voxel_ml > PIECE_ML]
    return found


def _with_margin(box: Box) -> Box:
    """The box with room around it in each slice, for what is measured around a piece."""
    i, j, k = box
    return slice(max(i.start - MARGIN, 0), i.stop + MARGIN), slice(max(j.start - MARGIN, 0), j.stop + MARGIN), k


def _parts(piece: Array, spacing_mm: Triple) -> list[Array]:
    """A piece, or its thick and its thin parts where both are large: bleeds of two types may touch."""
    inner = in_plane_distance_mm(piece, spacing_mm) >= THICK_MM / 2
    thick = piece & (in_plane_distance_mm(~inner, spacing_mm) <= THICK_MM / 2)
    thin = piece & ~thick
    return [thick, thin] if thick.any() and thin.sum() > SHARE_OF_REST * piece.sum() else [piece]


def measured(piece: Array, grown: Array, scene: Scene) -> Piece:
    """Shape and place of a piece, bool (I, J, K), that goes on to the bone as ``grown``."""
    depth_mm = scene.depth_mm[piece]
    reach_mm = float(np.percentile(depth_mm, 95))
    # About one layer of voxels lies so near to bone.
    layer = grown & (scene.depth_mm <= RIM_PIXELS * scene.pixel_mm)
    contact_mm2 = layer.sum() * scene.voxel_ml * 1000 / scene.pixel_mm
    near, far = (ndimage.binary_dilation(grown, IN_PLANE, iterations=count) for count in (1, 3))
    ring = scene.hu[far & ~near & scene.cavity]
    return Piece(
        ml=float(piece.sum() * scene.voxel_ml),
        contact=float((depth_mm <= CONTACT_MM).mean()),
        reach_mm=reach_mm,
        thickness_mm=2 * float(np.percentile(in_plane_distance_mm(piece, scene.spacing_mm)[piece], 90)),
        wideness=float(np.sqrt(contact_mm2 / np.pi) / reach_mm),
        seeded=float(scene.seeds[piece].mean()),
        mirrored=float(scene.mirrored[piece].mean()),
        ring_hu=float(np.median(ring)) if ring.size else 0.0,
        centrality=float(np.median(scene.centrality[piece])),
        front_mm=float(np.median(scene.front_mm[piece])),
        above_mm=float(np.median(scene.above_mm[piece])),
    )


def type_of(piece: Piece) -> str:
    """EDH, IPH, IVH, SAH or SDH, or empty for what is no blood."""
    if piece.contact > MOSTLY:
        return _type_at_bone(piece)
    if piece.thickness_mm > VENTRICLE_MM[1]:
        return "IPH"
    if piece.thickness_mm > VENTRICLE_MM[0] and piece.ring_hu < OEDEMA_HU:
        return "IPH"
    return "IVH" if piece.centrality > CENTRAL else "SAH"


def _type_at_bone(piece: Piece) -> str:
    if _is_sinus(piece) or piece.mirrored > SYMMETRIC:
        return ""
    if piece.contact < THREADS and piece.reach_mm > 1.45 * piece.thickness_mm:
        return "SAH"
    if piece.wideness > CRESCENT:
        return "SDH"
    # A thin lens is wide, so what is thin and narrow is brightness beside bone.
    return "" if piece.reach_mm < 6.5 and piece.wideness < 3 and piece.seeded < 0.6 else "EDH"


def _is_sinus(piece: Piece) -> bool:
    """Whether it may be a transverse sinus with its tentorium: thin, at the bone, at the back below the middle."""
    return piece.front_mm < -25 and piece.above_mm < 5 and piece.thickness_mm < SINUS_MM and piece.ml < SINUS_ML
