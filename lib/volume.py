"""Voxels with their place in the patient: reading, writing, and putting a mask onto an image's grid.

Voxels are (I, J, K), affines lead from voxel indices to RAS millimetres. SimpleITK's (K, J, I) arrays and LPS
millimetres stay inside this file. A picture (PNG and its like) is (I, J, 1) and lies where SimpleITK puts it: I leads
to the patient's left, J to the back, which says no more than that columns run to the right and rows downwards.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np
from nibabel.orientations import aff2axcodes

from lib.errors import GridMismatch, UnreadableImage
from lib.geometry import (
    GRID_TOLERANCE_MM,
    HALF_VOXEL,
    LPS_FROM_RAS,
    at_right_angles,
    corners_of,
    farthest_voxels,
)
from lib.nifti import SCANNER, read_nifti_header, read_nifti_voxels, refuse_cut_nifti
from lib.nrrd import read_nrrd_header, read_nrrd_layers, refuse_cut_nrrd, write_nrrd
from lib.opened import OpenFile, Source, opened
from lib.picture import PICTURE_SUFFIXES, UNKNOWN_MM, picture_size, read_picture

Array = np.ndarray[Any, np.dtype[Any]]

NEAR = 0.01
"""How far, in parts of a voxel, a mask's lattice may lie beside the image's: programs round what they write."""

SMALLER = (np.uint8, np.int16, np.uint16, np.int32, np.uint32)
"""Types for whole numbers that come in 64 bits."""

NIFTI_SUFFIXES = (".nii.gz", ".nii")
NRRD_SUFFIXES = (".seg.nrrd", ".nrrd")
VOLUME_SUFFIXES = NIFTI_SUFFIXES + NRRD_SUFFIXES
"""File names of volumes and masks; the longer suffix stands first."""

IMAGE_SUFFIXES = VOLUME_SUFFIXES + PICTURE_SUFFIXES
"""File names of images, which may be pictures too."""


@dataclass(frozen=True)
class Grid:
    """A voxel lattice.

    Attributes:
        shape: voxels along I, J, K.
        affine: float64 (4, 4), from voxel indices to RAS millimetres.
    """

    shape: tuple[int, int, int]
    affine: Array

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel edge lengths along I, J, K."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def voxel_mm3(self) -> float:
        """Volume of one voxel."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def orientation(self) -> str:
        """Where I, J and K point to, for example ``RAS``."""
        return "".join(code or "?" for code in aff2axcodes(self.affine))

    def __str__(self) -> str:
        """``512x512x118 voxels at 0.70x0.70x2.50 mm, LPS``, for messages."""
        edges = "x".join(f"{edge:.2f}" for edge in self.spacing_mm)
        return f"{'x'.join(map(str, self.shape))} voxels at {edges} mm, {self.orientation}"

    @property
    def at_right_angles(self) -> Grid:
        """The nearest lattice with axes at right angles, which ITK makes of one without when it writes NIfTI."""
        return Grid(self.shape, at_right_angles(self.affine))

    @property
    def fits_nifti(self) -> bool:
        """Whether each voxel is the nearest one to the same voxel there, as ITK wants it of NIfTI files."""
        return farthest_voxels(self.affine, self.at_right_angles.affine, self.shape) <= HALF_VOXEL

    @property
    def tolerance_mm(self) -> float:
        """How far the voxels of an equal grid may lie beside these: of microscopes' small voxels, a tenth at most."""
        return min(GRID_TOLERANCE_MM, min(self.spacing_mm) / 10)

    def is_same_as(self, other: Grid) -> bool:
        """Whether all corners of both grids lie within the tolerance."""
        return self.shape == other.shape and bool(
            np.abs(corners_of(self.affine, self.shape) - corners_of(other.affine, other.shape)).max()
            <= self.tolerance_mm
        )

    def has_the_voxels_of(self, other: Grid) -> bool:
        """Whether both begin and end at the same voxels, to the nearest one, in whatever order their axes run."""
        outermost = np.rint(_indices(other.affine, corners_of(self.affine, self.shape)))
        wanted = corners_of(np.eye(4), other.shape)
        return sorted(self.shape) == sorted(other.shape) and set(map(tuple, outermost)) == set(map(tuple, wanted))


@dataclass(frozen=True)
class Volume:
    """Voxels (I, J, K) of an image or a mask and the affine that places them in RAS millimetres.

    Attributes:
        voxels: of any numeric type.
        affine: float64 (4, 4).
        is_measured: whether the file told the size of the voxels; else an edge is 1 for want of a better number.
    """

    voxels: Array
    affine: Array
    is_measured: bool = True

    @property
    def grid(self) -> Grid:
        """The lattice of the voxels."""
        i, j, k = self.voxels.shape
        return Grid((i, j, k), self.affine)


def suffix_of(name: str) -> str:
    """The suffix of a file name that is read here, or an empty string."""
    return next((suffix for suffix in IMAGE_SUFFIXES if name.lower().endswith(suffix)), "")


def read_volume(source: Source) -> Volume:
    """Reads a NIfTI or NRRD file, or a picture, as its name says; a file of another kind is refused.

    Returns:
        Voxels in the file's own type, scaled as its header says; a 2D image becomes (I, J, 1). Where a picture does
        not tell its pixel size, the edges are 1 mm.

    Raises:
        UnreadableImage: if the file is damaged, holds no voxels or only such that are no numbers, is not one grey
            volume, or takes more memory than this machine has for one image.
    """
    try:
        with opened(source) as file:
            volume = _volume(file)
    # Too little memory is no fault of the file.
    except (UnreadableImage, MemoryError):
        raise
    # The readers raise whatever a damaged header makes them stumble over.
    except Exception as error:
        raise UnreadableImage(f"{source.name} cannot be read: {_reason(error)}. Export the image again.") from error
    # Slice by slice: as a rule the first one has a number.
    if not any(np.isfinite(pixels).any() for pixels in volume.voxels.T):
        raise UnreadableImage(f"{source.name} holds no number: all its voxels are NaN or infinite. Export it again.")
    return volume


def read_grid(source: Source, *, is_whole: bool = True) -> Grid:
    """The lattice of an image file from its header.

    Args:
        source: a NIfTI or NRRD file, or a picture.
        is_whole: whether to look if all voxels of a NIfTI or NRRD file are there, too.

    Raises:
        UnreadableImage: as ``read_volume``, and if the file is shorter than its header says.
        OSError: if it cannot be opened.
    """
    with opened(source) as file:
        if file.size == 0:
            raise UnreadableImage(f"{file.name} is empty (0 bytes).")
        try:
            return _grid(file, is_whole)
        except (UnreadableImage, MemoryError):
            raise
        # The readers raise whatever a damaged header makes them stumble over.
        except Exception as error:
            raise UnreadableImage(f"{file.name} is no readable image: {_reason(error)}.") from error


def read_doubt(source: Source) -> str:
    """What other programs read otherwise than this server of the lattice of a file; empty if nothing.

    Raises:
        UnreadableImage: as ``read_grid``.
        OSError: if it cannot be opened.
    """
    with opened(source) as file:
        suffix = suffix_of(file.name)
        if suffix in NIFTI_SUFFIXES:
            return read_nifti_header(file, suffix).doubt(file.name)
        if suffix in NRRD_SUFFIXES and not read_nrrd_header(file, suffix).is_in_mm:
            return (
                f"{file.name} is not in millimetres: this server goes by its units, ITK (3D Slicer, ITK-SNAP) takes "
                "its numbers for millimetres. GET /datastore/image sends it in millimetres: draw on that and not on "
                "the file, or export the file again."
            )
    return ""


def has_one_meaning(source: Source) -> bool:
    """Whether all programs read the same of an image file, so that it may be sent as it is.

    Raises:
        UnreadableImage: as ``read_grid``.
        OSError: if it cannot be opened.
    """
    with opened(source) as file:
        suffix = suffix_of(file.name)
        if suffix in NIFTI_SUFFIXES:
            return read_nifti_header(file, suffix).has_one_meaning
        return suffix not in NRRD_SUFFIXES or read_nrrd_header(file, suffix).is_in_mm


def _volume(file: OpenFile) -> Volume:
    suffix = suffix_of(file.name)
    if suffix in PICTURE_SUFFIXES:
        pixels, spacing_mm = read_picture(file)
        grid = _picture_grid(pixels.shape, spacing_mm)
        return Volume(pixels[:, :, None], grid.affine, is_measured=spacing_mm != UNKNOWN_MM)
    if suffix in NRRD_SUFFIXES:
        _refuse_layers(read_nrrd_header(file, suffix).layers, file.name)
        header, (voxels,) = read_nrrd_layers(file, suffix)
        return Volume(voxels, header.affine)
    found, voxels = read_nifti_voxels(file, _nifti_suffix(file.name))
    return Volume(voxels, found.affine)


def _grid(file: OpenFile, is_whole: bool) -> Grid:
    suffix = suffix_of(file.name)
    if suffix in PICTURE_SUFFIXES:
        return _picture_grid(*picture_size(file))
    if suffix in NRRD_SUFFIXES:
        header = read_nrrd_header(file, suffix)
        _refuse_layers(header.layers, file.name)
        if is_whole:
            refuse_cut_nrrd(file, header)
        return Grid(header.shape, header.affine)
    found = read_nifti_header(file, _nifti_suffix(file.name))
    if is_whole:
        refuse_cut_nifti(file, suffix, found)
    return Grid(found.shape, found.affine)


def _nifti_suffix(name: str) -> str:
    suffix = suffix_of(name)
    if suffix not in NIFTI_SUFFIXES:
        raise UnreadableImage(f"{name} is no readable image: it is called none of {', '.join(IMAGE_SUFFIXES)}.")
    return suffix


def _refuse_layers(layers: int, name: str) -> None:
    if layers != 1:
        raise UnreadableImage(f"{name} has {layers} values per voxel; wanted is one grey volume.")


def _picture_grid(shape: tuple[int, ...], spacing_mm: tuple[float, float]) -> Grid:
    lps = np.diag([*spacing_mm, 1.0, 1.0])
    return Grid((shape[0], shape[1], 1), LPS_FROM_RAS @ lps)


def write_volume(path: Path, volume: Volume, *, compressed: bool = True) -> None:
    """Writes ``.nii``, ``.nii.gz`` or ``.nrrd``, by the suffix of the path; equal volumes give equal bytes.

    Only for ``.nrrd`` there is a choice whether its voxels are compressed.
    """
    suffix = suffix_of(path.name)
    with path.open("wb") as file:
        _write(file, volume, suffix, compressed=compressed if suffix in NRRD_SUFFIXES else suffix == ".nii.gz")


def write_sent(file: IO[bytes], volume: Volume, suffix: str) -> None:
    """Writes a volume so that programs on ITK and on nibabel open it, and put it in the same place.

    Args:
        file: what is written to.
        volume: any.
        suffix: as ``sent_suffix`` tells for its grid; in NIfTI, axes that are nearly at right angles are mended.
    """
    is_nifti = suffix in NIFTI_SUFFIXES
    placed = replace(volume, affine=at_right_angles(volume.affine)) if is_nifti else volume
    _write(file, placed, suffix, compressed=suffix != ".nii")


def _write(file: IO[bytes], volume: Volume, suffix: str, *, compressed: bool) -> None:
    if suffix not in NIFTI_SUFFIXES:
        write_nrrd(file, writable(volume.voxels), volume.affine, compressed=compressed)
    elif compressed:
        with gzip.GzipFile("", "wb", 4, file, mtime=0) as packed:
            nifti_image(volume).to_stream(packed)
    else:
        nifti_image(volume).to_stream(file)


def sent_suffix(grid: Grid, suffix: str) -> str:
    """The suffix under which a volume on a grid is sent: NIfTI with oblique axes is opened by no program on ITK."""
    return ".nrrd" if suffix in NIFTI_SUFFIXES and not grid.fits_nifti else suffix


def sitk_of_volume(volume: Volume) -> Any:
    """The volume as a SimpleITK image."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.voxels.T))
    lps = LPS_FROM_RAS @ volume.affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).flatten().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def nifti_bytes(volume: Volume, *, compressed: bool = True) -> bytes:
    """The volume as a NIfTI-1 file; gzip without a time stamp, so that equal volumes give equal bytes."""
    data = nifti_image(volume).to_bytes()
    return gzipped(data) if compressed else data


def nifti_image(volume: Volume) -> Any:
    """The volume as a NIfTI-1 image of nibabel; both forms say where it lies, unless the qform cannot."""
    voxels = writable(volume.voxels)
    image = nib.Nifti1Image(voxels, volume.affine, dtype=voxels.dtype)
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.affine, SCANNER)
    straight = at_right_angles(volume.affine)
    i, j, k = volume.voxels.shape[:3]
    image.set_qform(straight, SCANNER if Grid((i, j, k), volume.affine).fits_nifti else 0)
    return image


def writable(voxels: Array) -> Array:
    """The same values in a type that files have: bool, float16 and 64 bits are rare there or unknown.

    Whole numbers of 64 bits get the first smaller type that holds them all.
    """
    kind = voxels.dtype
    if kind == np.bool_:
        return voxels.astype(np.uint8)
    if kind == np.float16:
        return voxels.astype(np.float32)
    if kind.kind not in "iu" or kind.itemsize < 8 or not voxels.size:
        return voxels
    low, high = int(voxels.min()), int(voxels.max())
    small = next(
        (small for small in SMALLER if np.iinfo(small).min <= low and high <= np.iinfo(small).max), voxels.dtype
    )
    return voxels.astype(small)


def gzipped(data: bytes, level: int = 4) -> bytes:
    """Gzip with an empty time stamp and no file name."""
    packer = zlib.compressobj(level, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()


def in_numbers(voxels: Array) -> Array:
    """What is no finite number, such as corners that a scanner leaves out, is as dark as the darkest voxel.

    Voxels that are no integers become float32; a copy is made only of such as need it.
    """
    if voxels.dtype.kind != "f":
        return voxels
    voxels = voxels.astype(np.float32, copy=False)
    finite = np.isfinite(voxels)
    if finite.all():
        return voxels
    return np.where(finite, voxels, voxels[finite].min() if finite.any() else np.float32(0))


def onto_grid(mask: Volume, grid: Grid, name: str, *, may_be_part: bool = False) -> Array:
    """Puts a mask that lies on a grid's lattice onto that grid.

    The mask may have its axes in another order or direction. It must share the lattice, up to ``NEAR``: nothing is
    interpolated.

    Args:
        mask: the mask as it came.
        grid: the lattice of the image.
        name: what to call the image in the message.
        may_be_part: the mask may cover only a part of the grid; the rest becomes 0. Only for formats that are cropped
            by their nature: else the mask of a smaller image with the same first voxel would pass for this one's.

    Returns:
        The mask's voxels as (I, J, K) of ``grid``.

    Raises:
        GridMismatch: if the lattices differ by more than the tolerance, or the mask leaves the grid, or does not
            cover it.
    """
    grid = _as_drawn_on(mask.grid, grid)
    refuse_off_grid(mask.grid, grid, name, may_be_part=may_be_part)
    if mask.grid.is_same_as(grid):
        return mask.voxels
    whole = Volume(np.zeros(grid.shape, mask.voxels.dtype), grid.affine)
    view_on(whole, mask.grid, name, within_mm=_near_mm(grid))[...] = mask.voxels
    return whole.voxels


def refuse_off_grid(mask: Grid, grid: Grid, name: str, *, may_be_part: bool = False) -> None:
    """Refuses a mask by its lattice alone, before room is made for its voxels; as ``onto_grid``.

    Raises:
        GridMismatch: as ``onto_grid``.
    """
    grid = _as_drawn_on(mask, grid)
    if mask.is_same_as(grid):
        return
    nothing = Volume(np.broadcast_to(np.uint8(0), grid.shape), grid.affine)
    if view_on(nothing, mask, name, within_mm=_near_mm(grid)).size < nothing.voxels.size and not may_be_part:
        raise GridMismatch(
            f"The mask of {name} is {mask}, the image is {grid}: the mask may be that of another image, or was "
            "cropped. Only 3D Slicer's segmentations (.seg.nrrd) and DICOM may cover a part of the image. Export the "
            "mask with the image as reference volume."
        )


def _as_drawn_on(mask: Grid, grid: Grid) -> Grid:
    """The lattice of an image on which a mask lies: its own, or the one at right angles that ITK makes of it."""
    straight = grid.at_right_angles
    if straight.is_same_as(grid) or not grid.fits_nifti:
        return grid
    return min((grid, straight), key=lambda one: apart_mm(mask, one))


def apart_mm(mask: Grid, grid: Grid) -> float:
    """How far the voxels of a mask lie at most from those of the image for which they are taken."""
    to_image = np.rint(np.linalg.solve(grid.affine, mask.affine))
    return float(np.abs(corners_of(grid.affine @ to_image, mask.shape) - corners_of(mask.affine, mask.shape)).max())


def _near_mm(grid: Grid) -> float:
    """How far a mask's voxels may lie beside an image's: ``NEAR``, and never less than a grid's own tolerance."""
    return max(grid.tolerance_mm, NEAR * min(grid.spacing_mm))


def view_on(image: Volume, part: Grid, name: str, *, within_mm: float | None = None) -> Array:
    """The voxels of an image that lie on another grid of the same lattice, with that grid's order of the axes.

    Args:
        image: any voxels.
        part: covers the image or a part of it, its axes may have another order or direction.
        name: what to call the image in the message.
        within_mm: how far the voxels of both may lie apart; ``None``: the tolerance of the image's grid.

    Returns:
        A view of the shape of ``part``: what is written to it is written to the image.

    Raises:
        GridMismatch: if the lattices differ by more than the tolerance, or ``part`` leaves the image.
    """
    mismatch = GridMismatch(
        f"The mask of {name} is {part}, the image is {image.grid}{_apart(part, image.grid)}. "
        "Export the mask with the image as reference volume."
    )
    to_image = np.rint(np.linalg.solve(image.affine, part.affine))
    steps = np.abs(to_image[:3, :3])
    if not ((steps.sum(axis=0) == 1).all() and (steps.sum(axis=1) == 1).all()):
        raise mismatch
    outermost = corners_of(to_image, part.shape)
    first, last = outermost.min(axis=0).astype(int), outermost.max(axis=0).astype(int)
    farthest_mm = image.grid.tolerance_mm if within_mm is None else within_mm
    if apart_mm(part, image.grid) > farthest_mm or (first < 0).any() or (last >= image.voxels.shape).any():
        raise mismatch
    covered = image.voxels[tuple(slice(begin, end + 1) for begin, end in zip(first, last, strict=True))]
    turned = np.flip(covered, np.flatnonzero((to_image[:3, :3] < 0).any(axis=1)))
    return turned.transpose(np.argmax(steps, axis=0))


def _apart(mask: Grid, grid: Grid) -> str:
    """What else to tell of two grids that look alike: how far their corners lie apart."""
    if mask.shape != grid.shape:
        return ""
    apart = np.abs(corners_of(mask.affine, mask.shape) - corners_of(grid.affine, grid.shape)).max()
    return f"; their corners lie up to {apart:.3g} mm apart"


def _indices(affine: Array, places_mm: Array) -> Array:
    """Float (N, 3): where places in millimetres, (N, 3), lie among the voxels."""
    return np.asarray(np.linalg.solve(affine[:3, :3], (places_mm - affine[:3, 3]).T).T)


def _reason(error: Exception) -> str:
    """The last line of what a reader says, without a full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__
