"""NIfTI files: their header as nibabel understands it, and their voxels read only as far as it claims.

Only single files of NIfTI-1 and NIfTI-2 are read. What extensions hold is not understood here: it may be anything.
"""

from __future__ import annotations

import gzip
import logging
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray

from lib.errors import UnreadableImage
from lib.geometry import (
    GRID_TOLERANCE_MM,
    HALF_VOXEL,
    at_right_angles,
    farthest_mm,
    farthest_voxels,
    plausible_affine,
    three_axes,
)
from lib.metered import PIECE_BYTES, Reader, cut_off, gzip_tells, pieces, voxels_of
from lib.opened import OpenFile
from lib.room import refuse_too_large, room_for
from lib.signature import NEEDED_BYTES, kind_of, refuse_other_kind

# It tells of each header that it mends, not in which file, and also where that changes nothing; what does is refused.
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)

HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
"""Kinds of headers by their length, with which they begin."""

QUATERNION_TOLERANCE = 0.01
"""How much longer than 1 a quaternion may be for rounding."""

MM_PER_UNIT = {1: 1000.0, 3: 0.001}
"""Millimetres of the codes of xyzt_units for metres and micrometres; every other code is read as millimetres."""

SCANNER = 1
"""The form's code with which ITK takes the sform before the qform (NIFTI_XFORM_SCANNER_ANAT)."""

LARGEST_COSINE = 1e-4
"""Between two axes of an sform that ITK takes for right angles."""

MOST_BYTES_BEFORE = 64 << 20
"""Room for header and extensions: what lies before the voxels must be unpacked to reach them."""


MOST_EXTENSION_BYTES = 1 << 20
"""Of extensions that are read: a table of a hundred names takes less than 20 KiB."""


@dataclass(frozen=True)
class NiftiHeader:
    """What a NIfTI file says of its voxels.

    Attributes:
        shape: voxels along I, J, K.
        affine: float64 (4, 4), from voxel indices to RAS millimetres.
        stored: type of the voxels in the file.
        scaling: slope and intercept, from stored values to those that are meant.
        begin: how many bytes lie before the voxels, once unpacked.
        otherwise: the affine as others read it, by their name; ``None`` if they do not open the file.
        has_same_values: whether ITK opens this version, and scales the voxels as nibabel does.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    stored: np.dtype[Any]
    scaling: tuple[float, float]
    begin: int
    otherwise: Mapping[str, NDArray[np.float64] | None]
    has_same_values: bool

    @property
    def has_one_meaning(self) -> bool:
        """Whether all programs put the same values at the same places."""
        return self.has_same_values and all(
            found is not None and farthest_mm(self.affine, found, self.shape) <= GRID_TOLERANCE_MM
            for found in self.otherwise.values()
        )

    def doubt(self, name: str) -> str:
        """What each reader makes of a lattice on which they disagree by more than half a voxel; else an empty text."""
        for reader, found in self.otherwise.items():
            straight = at_right_angles(self.affine) if found is None else found
            apart = farthest_voxels(self.affine, straight, self.shape)
            if apart > HALF_VOXEL:
                what = f"reads {_words(found)}" if found is not None else "does not open it: its axes are oblique"
                return (
                    f"{name} is read in several ways: this server reads {_words(self.affine)}, {reader} "
                    f"{what}; that is up to {apart:.3g} voxels apart. GET /datastore/image sends it so that all read "
                    "what this server reads: draw on that and not on the file, or export the file again."
                )
        return ""

    @property
    def voxels(self) -> int:
        """How many there are."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def end(self) -> int:
        """How many bytes there are up to the last voxel, once unpacked."""
        return self.begin + self.voxels * self.stored.itemsize

    @property
    def kind(self) -> np.dtype[Any]:
        """Type of the voxels after scaling."""
        return self.scaled(np.empty(0, self.stored.newbyteorder("="))).dtype

    def scaled(self, voxels: NDArray[Any]) -> NDArray[Any]:
        """Stored values as those that are meant, in the type that nibabel gives them."""
        slope, intercept = (np.float64(number) for number in self.scaling)
        return np.asarray(apply_read_scaling(voxels, slope, intercept))


def read_nifti_header(file: OpenFile, suffix: str) -> NiftiHeader:
    """Reads the header of ``.nii`` or ``.nii.gz``.

    Raises:
        UnreadableImage: if it is another kind of file, holds no single grey volume, says impossible things of it, or
            more than this machine can take. What nibabel raises about a damaged header passes through.
    """
    with _content(file, suffix) as reader:
        return _header(reader, file.name)


def read_nifti_extensions(file: OpenFile, suffix: str) -> bytes:
    """The bytes between the header and the voxels, ``MOST_EXTENSION_BYTES`` at most.

    Raises:
        UnreadableImage: as ``read_nifti_header``.
    """
    with _content(file, suffix) as reader:
        header = _header(reader, file.name)
    with _content(file, suffix) as reader:
        return reader.read(min(header.begin, MOST_EXTENSION_BYTES))[min(HEADERS) :]


def read_nifti_voxels(file: OpenFile, suffix: str) -> tuple[NiftiHeader, NDArray[Any]]:
    """Reads header and voxels; (I, J, K), scaled as the header says.

    Raises:
        UnreadableImage: as ``read_nifti_header``, and if the file is shorter than its header says.
    """
    header = read_nifti_header(file, suffix)
    room = room_for(header.voxels, header.kind)
    with _content(file, suffix) as reader:
        for _ in pieces(reader, header.begin, file.name):
            pass
        for where, stored in voxels_of(reader, header.voxels, header.stored, file.name, header.begin):
            room.put(where.start, header.scaled(stored))
        # The end of a packed file says whether what it held is what was packed.
        reader.read(PIECE_BYTES)
    return header, room.whole().reshape(header.shape, order="F")


def refuse_cut_nifti(file: OpenFile, suffix: str, header: NiftiHeader) -> None:
    """Refuses a file that is shorter than its header says.

    Raises:
        UnreadableImage: with both lengths.
    """
    if not suffix.endswith(".gz"):
        if file.size < header.end:
            raise cut_off(file.name, header.end, file.size)
    elif not gzip_tells(file, header.end):
        with _content(file, suffix) as reader:
            _refuse_end(reader, header.end, file.name)


def _refuse_end(reader: Reader, wanted: int, name: str) -> None:
    found = 0
    try:
        for piece in pieces(reader, wanted, name):
            found += len(piece)
    except (EOFError, OSError, zlib.error) as error:
        raise cut_off(name, wanted, found) from error


@contextmanager
def _content(file: OpenFile, suffix: str) -> Iterator[Reader]:
    """The unpacked file from its begin."""
    if not suffix.endswith(".gz"):
        refuse_other_kind(file, suffix, "NIfTI")
        yield file.file
        return
    refuse_other_kind(file, suffix, "gzip")
    with gzip.GzipFile(fileobj=file.file, mode="rb") as reader:
        yield reader


def _header(reader: Reader, name: str) -> NiftiHeader:
    first = reader.read(max(NEEDED_BYTES, *HEADERS))
    length = next((length for order in ("little", "big") if (length := int.from_bytes(first[:4], order)) in HEADERS), 0)
    if kind_of(first[:NEEDED_BYTES]) != "NIfTI" or not length or len(first) < length:
        kind = kind_of(first[:NEEDED_BYTES])
        raise UnreadableImage(
            f"{name} is no readable image: {f'it holds a {kind} file' if kind else 'it begins like no NIfTI file'}; "
            "wanted is a single file of NIfTI-1 or NIfTI-2. Export it again."
        )
    raw: Any = HEADERS[length](first[:length], check=False)
    header: Any = HEADERS[length](first[:length])
    _mend_quaternion(header, name)
    stored = header.get_data_dtype()
    if stored.kind not in "iuf" or stored.itemsize > 8:
        raise UnreadableImage(f"{name} holds colour or complex voxels; wanted is one grey volume.")
    shape = three_axes(_sizes(header, name), name)
    _refuse_edges_of_zero(raw, shape, name)
    scaling, is_scaled_alike = _scaling(header, name)
    found = NiftiHeader(
        shape=shape,
        affine=plausible_affine(_in_mm(_affine(header, shape), header), name),
        stored=stored,
        scaling=scaling,
        # Some programs leave it 0: the first byte that a single file has for voxels is meant.
        begin=int(header.get_data_offset()) or HEADERS[length].single_vox_offset,
        otherwise=_otherwise(raw, header, shape),
        # ITK knows no NIfTI-2.
        has_same_values=is_scaled_alike and length == nib.Nifti1Header.sizeof_hdr,
    )
    if not length <= found.begin <= MOST_BYTES_BEFORE:
        raise UnreadableImage(
            f"{name} says that its voxels begin behind {found.begin} bytes (vox_offset); wanted are {length} to "
            f"{MOST_BYTES_BEFORE}. Export it again."
        )
    refuse_too_large(shape, found.kind.itemsize, name)
    return found


def _mend_quaternion(header: Any, name: str) -> None:
    """Shortens a quaternion that is a little longer than 1 to 1, as all readers of C do; nibabel refuses it.

    Raises:
        UnreadableImage: if it is so long that it is no rounding.
    """
    parts = ("quatern_b", "quatern_c", "quatern_d")
    length = float(np.linalg.norm([float(header[part]) for part in parts]))
    if header["qform_code"] <= 0 or not length > 1:
        return
    if length > 1 + QUATERNION_TOLERANCE and header["sform_code"] > 0:
        return
    if length > 1 + QUATERNION_TOLERANCE:
        raise UnreadableImage(
            f"{name} is turned by a quaternion of the length {length:.3g} (quatern_b, c, d); wanted is at most 1. "
            "Export it again."
        )
    for part in parts:
        header[part] = float(header[part]) / length


def _sizes(header: Any, name: str) -> tuple[int, ...]:
    """Voxels along each axis; 0 behind the first axis counts as 1, as for all readers in C.

    Raises:
        UnreadableImage: if there are no axes.
    """
    sizes = [int(size) for size in header["dim"]]
    if not 1 <= sizes[0] <= 7:
        raise UnreadableImage(f"{name} says that it has {sizes[0]} axes (dim[0]); wanted are 1 to 7. Export it again.")
    return (sizes[1], *(size or 1 for size in sizes[2 : sizes[0] + 1]))


def _scaling(header: Any, name: str) -> tuple[tuple[float, float], bool]:
    """Slope and intercept, and whether ITK takes the same; a slope of 0 or no number says that there is none.

    Raises:
        UnreadableImage: if there is a slope and the intercept is no number.
    """
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not np.isfinite(slope):
        # ITK adds the intercept all the same.
        return (1.0, 0.0), intercept == 0 or not np.isfinite(intercept)
    if not np.isfinite(intercept):
        raise UnreadableImage(
            f"{name} scales its voxels by {slope:g} and adds {intercept} (scl_inter); wanted is a number. "
            "Export it again."
        )
    return (slope, intercept), True


def _in_mm(affine: NDArray[np.float64], header: Any) -> NDArray[np.float64]:
    """An affine in millimetres that is in the file's unit of length."""
    factor = MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
    return affine * np.array([[factor], [factor], [factor], [1.0]])


def _affine(header: Any, shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """In the file's unit, as nibabel reads it; without any form the first axis leads to the left, around the middle."""
    if header["sform_code"] > 0:
        return np.asarray(header.get_sform(), np.float64)
    if header["qform_code"] > 0:
        return np.asarray(header.get_qform(), np.float64)
    affine = np.diag([*(header["pixdim"][1:4] * (-1, 1, 1)), 1.0]).astype(np.float64)
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) - 1) / 2
    return affine


def _otherwise(raw: Any, header: Any, shape: tuple[int, int, int]) -> dict[str, NDArray[np.float64] | None]:
    """The affine in millimetres as ITK reads it, as the qform alone gives it, and as nibabel does."""
    found = {"ITK (3D Slicer, ITK-SNAP)": _by_itk(raw, header)}
    if (qform := _form(header, "qform")) is not None:
        found["what goes by the qform"] = qform
    others = {reader: None if form is None else _in_mm(form, header) for reader, form in found.items()}
    return others | {"what knows no units": _affine(header, shape)}


def _by_itk(raw: Any, header: Any) -> NDArray[np.float64] | None:
    """The affine as ITK 5.4 reads it, in the file's unit; ``None`` where it finds no axes at right angles.

    It takes directions and origin from one form, edges from pixdim. A negative edge turns the axis round.
    """
    edges = np.array(raw["pixdim"][1:4], np.float64)
    if not np.isfinite(edges).all():
        return None
    sform, qform = (_form(header, kind) for kind in ("sform", "qform"))
    if sform is None and qform is None:
        return np.diag([-edges[0], -edges[1], edges[2], 1.0])
    is_sform = sform is not None and _has_right_angles(sform) and (qform is None or header["sform_code"] == SCANNER)
    form = sform if is_sform else qform
    if form is None:
        return None
    found = form.copy()
    found[:3, :3] *= edges / np.linalg.norm(form[:3, :3], axis=0)
    return found


def _form(header: Any, kind: str) -> NDArray[np.float64] | None:
    """One of both forms, if the header has it and its axes have a length."""
    if header[f"{kind}_code"] <= 0:
        return None
    with np.errstate(all="ignore"):
        try:
            form = np.asarray(getattr(header, f"get_{kind}")(), np.float64)
        # A quaternion that is none, where the sform counts.
        except ValueError:
            return None
        lengths = np.linalg.norm(form[:3, :3], axis=0)
    return form if np.isfinite(form).all() and (lengths > 0).all() else None


def _has_right_angles(form: NDArray[np.float64]) -> bool:
    axes = form[:3, :3] / np.linalg.norm(form[:3, :3], axis=0)
    return bool(np.abs(axes @ axes.T - np.eye(3)).max() <= LARGEST_COSINE)


def _words(affine: NDArray[np.float64]) -> str:
    """Orientation, edges and the place of the first voxel."""
    edges = "x".join(f"{edge:.3g}" for edge in np.linalg.norm(affine[:3, :3], axis=0))
    place = ", ".join(f"{number:.1f}" for number in affine[:3, 3])
    return f"{''.join(code or '?' for code in nib.orientations.aff2axcodes(affine))} at {edges} mm from ({place}) on"


def _refuse_edges_of_zero(unchecked: Any, shape: tuple[int, ...], name: str) -> None:
    """Refuses voxels that are 0 mm long where nothing else places them; nibabel would take them for 1 mm."""
    if unchecked["sform_code"] > 0:
        return
    edges_mm = unchecked["pixdim"][1:4]
    zero = ["IJK"[axis] for axis, voxels in enumerate(shape) if voxels > 1 and edges_mm[axis] == 0]
    if zero:
        raise UnreadableImage(
            f"{name} says that its voxels are 0 mm long along {', '.join(zero)} (pixdim). Export it again with "
            "its voxel size."
        )
