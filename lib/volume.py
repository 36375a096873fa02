"""Voxels with their place in the patient: reading, writing, and putting a mask onto an image's grid.

Voxels are (I, J, K), affines lead from voxel indices to RAS millimetres. SimpleITK's (K, J, I) arrays and LPS
millimetres stay inside this file. A picture (PNG and its like) is (I, J, 1) and lies where SimpleITK puts it: I leads
to the patient's left, J to the back, which says no more than that columns run to the right and rows downwards.
"""

from __future__ import annotations

import io
import itertools
import logging
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from nibabel.openers import ImageOpener
from nibabel.orientations import aff2axcodes

from lib.errors import GridMismatch, UnreadableImage
from lib.picture import PICTURE_SUFFIXES, UNKNOWN_MM, picture_size, read_picture

# It tells of each header that it mends, not in which file, and also where that changes nothing; what does is refused.
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)

Array = np.ndarray[Any, np.dtype[Any]]

GRID_TOLERANCE_MM = 1e-3
"""How far the corners of two grids may lie apart and still be the same lattice."""

NIFTI_SUFFIXES = (".nii.gz", ".nii")
NRRD_SUFFIXES = (".seg.nrrd", ".nrrd")
VOLUME_SUFFIXES = NIFTI_SUFFIXES + NRRD_SUFFIXES
"""File names of volumes and masks; the longer suffix stands first."""

IMAGE_SUFFIXES = VOLUME_SUFFIXES + PICTURE_SUFFIXES
"""File names of images, which may be pictures too."""

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


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

    def is_same_as(self, other: Grid) -> bool:
        """Whether all corners of both grids lie within the tolerance."""
        return self.shape == other.shape and bool(
            np.abs(_corners(self.affine, self.shape) - _corners(other.affine, other.shape)).max() <= GRID_TOLERANCE_MM
        )

    def has_the_voxels_of(self, other: Grid) -> bool:
        """Whether both begin and end at the same voxels, to the nearest one, in whatever order their axes run."""
        corners = np.rint(_indices(other.affine, _corners(self.affine, self.shape)))
        wanted = _corners(np.eye(4), other.shape)
        return sorted(self.shape) == sorted(other.shape) and set(map(tuple, corners)) == set(map(tuple, wanted))


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


def read_volume(path: Path) -> Volume:
    """Reads a NIfTI or NRRD file, or a picture.

    Returns:
        Voxels in the file's own type, scaled as its header says; a 2D image becomes (I, J, 1). Where a picture does
        not tell its pixel size, the edges are 1 mm.

    Raises:
        UnreadableImage: if the file is damaged, holds no voxels or only such that are no numbers, or is not one grey
            volume.
    """
    try:
        volume = _reader_of(path)(path)
    # Too little memory is no fault of the file.
    except (UnreadableImage, MemoryError):
        raise
    # The readers raise whatever a damaged header makes them stumble over.
    except Exception as error:
        raise UnreadableImage(f"{path.name} cannot be read: {_reason(error, path)}. Export the image again.") from error
    if volume.voxels.size == 0:
        raise UnreadableImage(f"{path.name} holds no voxels (shape {volume.voxels.shape}).")
    # Slice by slice: as a rule the first one has a number.
    if not any(np.isfinite(pixels).any() for pixels in volume.voxels.T):
        raise UnreadableImage(f"{path.name} holds no number: all its voxels are NaN or infinite. Export it again.")
    return volume


def read_grid(path: Path) -> Grid:
    """The lattice of an image file from its header, and whether all voxels of a NIfTI or NRRD file are there.

    Raises:
        UnreadableImage: as ``read_volume``, and if the file is shorter than its header says.
    """
    if path.stat().st_size == 0:
        raise UnreadableImage(f"{path.name} is empty (0 bytes).")
    try:
        if suffix_of(path.name) in PICTURE_SUFFIXES:
            return _picture_grid(*picture_size(path))
        if suffix_of(path.name) in NIFTI_SUFFIXES:
            return _nifti_grid(path)
        return _nrrd_grid(path)
    except UnreadableImage:
        raise
    except Exception as error:
        raise UnreadableImage(f"{path.name} is no readable image: {_reason(error, path)}.") from error


def write_volume(path: Path, volume: Volume, *, compressed: bool = True) -> None:
    """Writes ``.nii``, ``.nii.gz`` or ``.nrrd``, by the suffix of the path; equal volumes give equal bytes.

    Only for ``.nrrd`` there is a choice whether its voxels are compressed.
    """
    if suffix_of(path.name) in NIFTI_SUFFIXES:
        path.write_bytes(nifti_bytes(volume, compressed=path.name.lower().endswith(".gz")))
        return
    sitk.WriteImage(sitk_of_volume(volume), str(path), useCompression=compressed)


def sitk_of_volume(volume: Volume) -> Any:
    """The volume as a SimpleITK image."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.voxels.T))
    lps = LPS_FROM_RAS @ volume.affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).flatten().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def nifti_bytes(volume: Volume, *, compressed: bool = True) -> bytes:
    """The volume as a NIfTI-1 file; gzip without a time stamp, so that equal volumes give equal bytes."""
    image = nib.Nifti1Image(volume.voxels, volume.affine)
    image.header.set_xyzt_units("mm")
    data = image.to_bytes()
    return gzipped(data) if compressed else data


def gzipped(data: bytes, level: int = 4) -> bytes:
    """Gzip with an empty time stamp and no file name."""
    packer = zlib.compressobj(level, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()


def onto_grid(mask: Volume, grid: Grid, name: str, *, may_be_part: bool = False) -> Array:
    """Puts a mask that lies on a grid's lattice onto that grid.

    The mask may have its axes in another order or direction. It must share the lattice: nothing is interpolated.

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
    if mask.grid.is_same_as(grid):
        return mask.voxels
    whole = Volume(np.zeros(grid.shape, mask.voxels.dtype), grid.affine)
    view = view_on(whole, mask.grid, name)
    if view.size < whole.voxels.size and not may_be_part:
        raise GridMismatch(
            f"The mask of {name} is {mask.grid}, the image is {grid}: the mask may be that of another image, or was "
            "cropped. Only 3D Slicer's segmentations (.seg.nrrd) and DICOM may cover a part of the image. Export the "
            "mask with the image as reference volume."
        )
    view[...] = mask.voxels
    return whole.voxels


def view_on(image: Volume, part: Grid, name: str) -> Array:
    """The voxels of an image that lie on another grid of the same lattice, with that grid's order of the axes.

    Args:
        image: any voxels.
        part: covers the image or a part of it, its axes may have another order or direction.
        name: what to call the image in the message.

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
    outermost = _corners(to_image, part.shape)
    first, last = outermost.min(axis=0).astype(int), outermost.max(axis=0).astype(int)
    apart_mm = np.abs(_corners(image.affine @ to_image, part.shape) - _corners(part.affine, part.shape)).max()
    if apart_mm > GRID_TOLERANCE_MM or (first < 0).any() or (last >= image.voxels.shape).any():
        raise mismatch
    covered = image.voxels[tuple(slice(begin, end + 1) for begin, end in zip(first, last, strict=True))]
    turned = np.flip(covered, np.flatnonzero((to_image[:3, :3] < 0).any(axis=1)))
    return turned.transpose(np.argmax(steps, axis=0))


def _apart(mask: Grid, grid: Grid) -> str:
    """What else to tell of two grids that look alike: how far their corners lie apart."""
    if mask.shape != grid.shape:
        return ""
    apart_mm = np.abs(_corners(mask.affine, mask.shape) - _corners(grid.affine, grid.shape)).max()
    return f"; their corners lie up to {apart_mm:.3g} mm apart"


def _corners(affine: Array, shape: tuple[int, ...]) -> Array:
    """Float (8, 3): the outermost voxel centres in millimetres."""
    indices = np.array(list(itertools.product(*((0, size - 1) for size in shape))))
    return np.asarray(indices @ affine[:3, :3].T + affine[:3, 3])


def _indices(affine: Array, places_mm: Array) -> Array:
    """Float (N, 3): where places in millimetres, (N, 3), lie among the voxels."""
    return np.asarray(np.linalg.solve(affine[:3, :3], (places_mm - affine[:3, 3]).T).T)


def _three_axes(shape: tuple[int, ...], name: str) -> tuple[int, int, int]:
    """The shape with axes of one voxel added or dropped at the end."""
    trimmed = list(shape)
    while len(trimmed) > 3 and trimmed[-1] == 1:
        trimmed.pop()
    trimmed += [1] * (3 - len(trimmed))
    if len(trimmed) > 3:
        raise UnreadableImage(
            f"{name} has {len(shape)} axes ({'x'.join(map(str, shape))}); wanted is one grey volume of 3 axes. "
            "Split the series into single volumes."
        )
    if min(trimmed) < 1:
        raise UnreadableImage(f"{name} holds no voxels (shape {'x'.join(map(str, shape))}).")
    return trimmed[0], trimmed[1], trimmed[2]


def _checked_affine(affine: Array, name: str) -> Array:
    matrix = np.asarray(affine, np.float64)
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
        raise UnreadableImage(f"{name} has no usable voxel size or orientation in its header. Export it again.")
    return matrix


def _reader_of(path: Path) -> Callable[[Path], Volume]:
    if suffix_of(path.name) in PICTURE_SUFFIXES:
        return _read_picture
    return _read_nifti if suffix_of(path.name) in NIFTI_SUFFIXES else _read_nrrd


def _read_picture(path: Path) -> Volume:
    pixels, spacing_mm = read_picture(path)
    affine = _picture_grid(pixels.shape, spacing_mm).affine
    return Volume(pixels[:, :, None], affine, is_measured=spacing_mm != UNKNOWN_MM)


def _picture_grid(shape: tuple[int, ...], spacing_mm: tuple[float, float]) -> Grid:
    lps = np.diag([*spacing_mm, 1.0, 1.0])
    return Grid((shape[0], shape[1], 1), LPS_FROM_RAS @ lps)


def _load_nifti(path: Path) -> Any:
    image: Any = nib.load(path)
    _refuse_edges_of_zero(path, image)
    if image.get_data_dtype().fields is not None or np.issubdtype(image.get_data_dtype(), np.complexfloating):
        raise UnreadableImage(f"{path.name} holds colour or complex voxels; wanted is one grey volume.")
    return image


def _refuse_edges_of_zero(path: Path, image: Any) -> None:
    """Refuses voxels that are 0 mm long where nothing else places them; nibabel would take them for 1 mm."""
    if not isinstance(image, nib.Nifti1Pair) or image.header["sform_code"] > 0:
        return
    with ImageOpener(str(path)) as file:
        edges_mm = type(image.header).from_fileobj(file, check=False)["pixdim"][1:4]
    zero = ["IJK"[axis] for axis, voxels in enumerate(image.shape[:3]) if voxels > 1 and edges_mm[axis] == 0]
    if zero:
        raise UnreadableImage(
            f"{path.name} says that its voxels are 0 mm long along {', '.join(zero)} (pixdim). Export it again with "
            "its voxel size."
        )


def _read_nifti(path: Path) -> Volume:
    image = _load_nifti(path)
    voxels = np.asanyarray(image.dataobj)
    # Other libraries take no numbers in the byte order of another machine.
    native = voxels.astype(voxels.dtype.newbyteorder("="), copy=False)
    return Volume(native.reshape(_three_axes(image.shape, path.name)), _checked_affine(image.affine, path.name))


def _nifti_grid(path: Path) -> Grid:
    image = _load_nifti(path)
    voxels = int(np.prod(image.shape, dtype=np.int64))
    expected = int(image.dataobj.offset) + voxels * image.get_data_dtype().itemsize
    _refuse_short_file(path, expected, path.name.lower().endswith(".gz"))
    return Grid(_three_axes(image.shape, path.name), _checked_affine(image.affine, path.name))


def _refuse_short_file(path: Path, expected: int, is_gzip: bool) -> None:
    """Raises if fewer than the expected bytes are there, once unpacked."""
    found = path.stat().st_size
    if is_gzip:
        with path.open("rb") as file:
            file.seek(-4, io.SEEK_END)
            # Gzip ends with the length of its content (RFC 1952), which a cut file does not.
            if int.from_bytes(file.read(4), "little") == expected % 2**32:
                return
        found = _unpacked_length(path)
    if found < expected:
        raise UnreadableImage(
            f"{path.name} is cut off: its header promises {expected} bytes, {found} are there. Copy the file again."
        )


def _unpacked_length(path: Path) -> int:
    """Bytes that can be unpacked, over all members of a gzip file, up to the first damaged place."""
    length, unpacker = 0, zlib.decompressobj(31)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            while chunk:
                try:
                    length += len(unpacker.decompress(chunk))
                except zlib.error:
                    return length
                chunk = unpacker.unused_data
                if unpacker.eof:
                    unpacker = zlib.decompressobj(31)
    return length


def _grid_of_sitk(image: Any, name: str) -> Grid:
    size = tuple(image.GetSize())
    shape = _three_axes(size, name)
    axes = image.GetDimension()
    inside = min(axes, 3)
    steps = np.array(image.GetDirection()).reshape(axes, axes) * np.array(image.GetSpacing())
    lps = np.eye(4)
    lps[:inside, :inside] = steps[:inside, :inside]
    lps[:inside, 3] = image.GetOrigin()[:inside]
    return Grid(shape, _checked_affine(LPS_FROM_RAS @ lps, name))


def volume_of_sitk(image: Any, name: str) -> Volume:
    """A SimpleITK image as a volume; vector and colour images are refused."""
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise UnreadableImage(
            f"{name} has {image.GetNumberOfComponentsPerPixel()} values per voxel; wanted is one grey volume."
        )
    grid = _grid_of_sitk(image, name)
    return Volume(sitk.GetArrayFromImage(image).T.reshape(grid.shape), grid.affine)


def _read_nrrd(path: Path) -> Volume:
    refuse_detached(nrrd_fields(path)[0], path.name)
    return volume_of_sitk(sitk.ReadImage(str(path)), path.name)


def _nrrd_grid(path: Path) -> Grid:
    fields, offset = nrrd_fields(path)
    refuse_detached(fields, path.name)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    if reader.GetNumberOfComponents() != 1:
        raise UnreadableImage(f"{path.name} has {reader.GetNumberOfComponents()} values per voxel, wanted is one.")
    grid = _grid_of_sitk(reader, path.name)
    _refuse_short_nrrd(path, fields, offset)
    return grid


NRRD_BYTES = {
    "signed char": 1, "int8": 1, "int8_t": 1, "uchar": 1, "unsigned char": 1, "uint8": 1, "uint8_t": 1,
    "short": 2, "short int": 2, "signed short": 2, "int16": 2, "int16_t": 2,
    "ushort": 2, "unsigned short": 2, "uint16": 2, "uint16_t": 2,
    "int": 4, "signed int": 4, "int32": 4, "int32_t": 4, "uint": 4, "unsigned int": 4, "uint32": 4, "uint32_t": 4,
    "float": 4, "longlong": 8, "long long": 8, "int64": 8, "int64_t": 8,
    "ulonglong": 8, "unsigned long long": 8, "uint64": 8, "uint64_t": 8, "double": 8,
}  # fmt: skip
"""Bytes of one voxel by the names of teem's NRRD definition, field ``type``."""


def nrrd_fields(path: Path) -> tuple[dict[str, str], int]:
    """Fields (in lower case) and key/value pairs of an NRRD header, and the offset of the byte behind it."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for raw in file:
            if not raw.rstrip(b"\r\n"):
                return fields, file.tell()
            key, found, value = raw.decode("utf-8", "replace").strip().partition(":")
            if found and not raw.startswith(b"#"):
                is_pair = value.startswith("=")
                fields[key.strip() if is_pair else key.strip().lower()] = value.removeprefix("=").strip()
    return fields, path.stat().st_size


def refuse_detached(fields: dict[str, str], name: str) -> None:
    """Refuses an NRRD header whose voxels lie elsewhere: it could name any file of this machine.

    Raises:
        UnreadableImage: if the header names another file.
    """
    if "data file" in fields or "datafile" in fields:
        raise UnreadableImage(f"{name} keeps its voxels in another file. Save it as one .nrrd file.")


def _refuse_short_nrrd(path: Path, fields: dict[str, str], offset: int) -> None:
    encoding = fields.get("encoding", "").lower()
    voxel_bytes = NRRD_BYTES.get(fields.get("type", "").lower())
    if voxel_bytes is None or encoding not in ("raw", "gzip", "gz"):
        sitk.ReadImage(str(path))
        return
    expected = voxel_bytes * int(np.prod([int(size) for size in fields["sizes"].split()], dtype=np.int64))
    if encoding == "raw":
        _refuse_short_file(path, offset + expected, is_gzip=False)
        return
    with path.open("rb") as file:
        file.seek(-4, io.SEEK_END)
        if int.from_bytes(file.read(4), "little") != expected % 2**32:
            sitk.ReadImage(str(path))


def _reason(error: Exception, path: Path) -> str:
    """The last line of a reader's message, where ITK puts the reason, without the folders of this machine."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".").replace(str(path), path.name) if lines else type(error).__name__
