"""NIfTI files: their header as nibabel understands it, and their voxels read only as far as it claims.

Only single files of NIfTI-1 and NIfTI-2 are read. Extensions are passed over: they may hold anything, DICOM too.
"""

from __future__ import annotations

import gzip
import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray

from lib.errors import UnreadableImage
from lib.geometry import plausible_affine, three_axes
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

MOST_BYTES_BEFORE = 64 << 20
"""Room for header and extensions: what lies before the voxels must be unpacked to reach them."""


@dataclass(frozen=True)
class NiftiHeader:
    """What a NIfTI file says of its voxels.

    Attributes:
        shape: voxels along I, J, K.
        affine: float64 (4, 4), from voxel indices to RAS millimetres.
        stored: type of the voxels in the file.
        scaling: slope and intercept, from stored values to those that are meant.
        begin: how many bytes lie before the voxels, once unpacked.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    stored: np.dtype[Any]
    scaling: tuple[float, float]
    begin: int

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
    header: Any = HEADERS[length](first[:length])
    _mend_quaternion(header, name)
    stored = header.get_data_dtype()
    if stored.kind not in "iuf" or stored.itemsize > 8:
        raise UnreadableImage(f"{name} holds colour or complex voxels; wanted is one grey volume.")
    shape = three_axes(tuple(int(size) for size in header.get_data_shape()), name)
    _refuse_edges_of_zero(HEADERS[length](first[:length], check=False), shape, name)
    slope, intercept = header.get_slope_inter()
    found = NiftiHeader(
        shape=shape,
        affine=plausible_affine(header.get_best_affine(), name),
        stored=stored,
        scaling=(1.0 if slope is None else slope, 0.0 if intercept is None else intercept),
        # Some programs leave it 0: the first byte that a single file has for voxels is meant.
        begin=int(header.get_data_offset()) or HEADERS[length].single_vox_offset,
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
