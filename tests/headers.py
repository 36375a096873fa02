"""NIfTI files whose headers say the same thing in an odd way, or two things, with what this server reads of them."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from lib.phantoms.scanner import oriented_grid
from lib.volume import Grid

ORIENTATIONS = ["".join(letters) for axes in itertools.permutations(("RL", "AP", "SI"))
                for letters in itertools.product(*axes)]  # fmt: skip

SIZE, EDGES_MM, CENTRE_MM = (9, 7, 5), (0.7, 1.3, 2.5), (12.0, -34.0, 56.0)


@dataclass
class Header:
    """What is written; ``reads`` is the affine in millimetres that this server reads of it."""

    form: np.ndarray
    qform: np.ndarray
    reads: np.ndarray
    codes: tuple[int, int] = (1, 2)
    edges: tuple[float, float, float] = (1, 1, 1)
    unit: str = "mm"
    scaling: tuple[float, float] = (1, 0)


def plain(affine: np.ndarray) -> Header:
    return Header(affine, affine, affine)


def mirrored(affine: np.ndarray) -> Header:
    """The qform has left and right exchanged about the middle of the image."""
    around = np.eye(4)
    around[0, 0], around[0, 3] = -1, 2 * CENTRE_MM[0]
    return Header(affine, around @ affine, affine)


def tilted(affine: np.ndarray) -> Header:
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]
    return Header(affine, turn @ affine, affine)


def without_form(affine: np.ndarray) -> Header:
    """Only the edges are told: nibabel's reading, which is this server's, is to the left and about the middle."""
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    reads = np.diag([-edges[0], edges[1], edges[2], 1])
    return Header(affine, affine, reads, (0, 0))


def other_edges(affine: np.ndarray) -> Header:
    return Header(affine, affine, affine, (0, 2), (1, 2, 0.5))


def negative_edges(affine: np.ndarray) -> Header:
    return Header(affine, affine, affine, (0, 2), (-1, 1, 1))


def qform_alone(affine: np.ndarray) -> Header:
    return Header(affine, affine, affine, (1, 0))


def micrometres(affine: np.ndarray) -> Header:
    large = np.diag([1e3, 1e3, 1e3, 1]) @ affine
    return Header(large, large, affine, unit="micron")


def metres(affine: np.ndarray) -> Header:
    small = np.diag([1e-3, 1e-3, 1e-3, 1]) @ affine
    return Header(small, small, affine, (0, 1), unit="meter")


def rounded_cosines(affine: np.ndarray) -> Header:
    """Directions to three digits, of a tilted stack."""
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    turned = np.array([[0.99, 0.13, 0.055], [-0.13, 0.99, 0.02], [-0.052, -0.027, 0.998]])
    rounded = affine.copy()
    rounded[:3, :3] = np.round(turned @ (affine[:3, :3] / edges), 3) * edges
    return Header(rounded, rounded, rounded, (0, 1))


def gantry(affine: np.ndarray) -> Header:
    """Slices drift by the tangent of 18 degrees."""
    sheared = affine.copy()
    sheared[:3, 2] += np.tan(np.radians(18)) * affine[:3, 1] / EDGES_MM[1] * EDGES_MM[2]
    return Header(sheared, sheared, sheared, (0, 1))


def intercept_without_slope(affine: np.ndarray) -> Header:
    return Header(affine, affine, affine, scaling=(0, 30))


HEADERS: dict[str, Callable[[np.ndarray], Header]] = {
    made.__name__: made
    for made in (
        plain, mirrored, tilted, without_form, other_edges, negative_edges, qform_alone, micrometres, metres,
        rounded_cosines, gantry, intercept_without_slope,
    )
}  # fmt: skip


def grid_of(orientation: str) -> Grid:
    return Grid(*oriented_grid(orientation, SIZE, EDGES_MM, CENTRE_MM, (0.0, 0.0, 0.0)))


def phantom(shape: tuple[int, ...]) -> np.ndarray:
    """Int16 (I, J, K): every voxel has another value, so that no turn of it looks the same."""
    return np.arange(1, np.prod(shape) + 1, dtype=np.int16).reshape(shape)


def write(path: Path, voxels: np.ndarray, told: Header) -> Path:
    """Writes ``.nii`` as the header is told, past all that nibabel would mend."""
    header = nib.Nifti1Header()
    header.set_data_shape(voxels.shape)
    header.set_data_dtype(voxels.dtype)
    header.set_qform(told.qform, 1)
    header.set_sform(told.form, 1)
    header["qform_code"], header["sform_code"] = told.codes
    header["pixdim"][1:4] *= told.edges
    header.set_xyzt_units(told.unit)
    content = bytearray(header.binaryblock)
    content[108:120] = struct.pack("<3f", 352, *told.scaling)
    content[344:348] = b"n+1\0"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(content) + bytes(4) + voxels.astype(voxels.dtype.newbyteorder("<")).tobytes(order="F"))
    return path
