"""How a drawn patient becomes a scan: the voxel grid in the room, noise, and slow shading."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

PATIENT_AXES = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}

Vector = tuple[float, float, float]
Shape = tuple[int, int, int]
Grid = tuple[Shape, NDArray[np.float64]]


class Phantom(NamedTuple):
    """A scan and its truth.

    Attributes:
        image: int16 HU (I, J, K) of a CT, or uint16 grey values (I, J, 1) of a radiograph.
        mask: uint8 (I, J, K), label values on the same grid.
        affine: (4, 4), from voxel index to RAS mm.
    """

    image: NDArray[np.integer[Any]]
    mask: NDArray[np.uint8]
    affine: NDArray[np.float64]


def oriented_grid(
    orientation: str, patient_shape: Shape, patient_spacing_mm: Vector, centre_mm: Vector, tilt_deg: Vector
) -> Grid:
    """Voxel grid that covers one box of the patient, stored in any axis order.

    Args:
        orientation: where I, J and K point to, such as ``"RAS"`` or ``"PIR"``.
        patient_shape: voxels along the patient's right-left, front-back and head-foot axis.
        patient_spacing_mm: voxel edge lengths along the same three axes.
        centre_mm: middle of the box in RAS mm.
        tilt_deg: turns of the box about the right, front and head axis, one after the other.

    Returns:
        Shape along I, J, K, and the affine (4, 4) from voxel index to RAS mm.

    Raises:
        ValueError: if the orientation does not name each of the three patient axes once.
    """
    axes = [PATIENT_AXES.get(letter, (-1, 0))[0] for letter in orientation]
    if sorted(axes) != [0, 1, 2]:
        raise ValueError(
            f"Orientation {orientation!r} does not name each patient axis once; use one letter of RL, AP and SI each."
        )
    turn = Rotation.from_euler("xyz", tilt_deg, degrees=True).as_matrix()
    shape = (patient_shape[axes[0]], patient_shape[axes[1]], patient_shape[axes[2]])
    affine = np.eye(4)
    for column, letter in enumerate(orientation):
        axis, sign = PATIENT_AXES[letter]
        affine[:3, column] = turn[:, axis] * sign * patient_spacing_mm[axis]
    middle = (np.array(shape) - 1) / 2
    affine[:3, 3] = np.array(centre_mm) - affine[:3, :3] @ middle
    return shape, affine


def world_points(shape: Shape, affine: NDArray[np.float64], offset: Vector = (0.0, 0.0, 0.0)) -> NDArray[np.float32]:
    """RAS mm of every voxel centre, moved by ``offset`` voxels: (3, I, J, K)."""
    index = np.indices(shape, dtype=np.float64) + np.array(offset).reshape(3, 1, 1, 1)
    points = np.tensordot(affine[:3, :3], index, axes=1) + affine[:3, 3].reshape(3, 1, 1, 1)
    return points.astype(np.float32)


def grainy_noise(rng: np.random.Generator, shape: Shape, grain_voxels: float) -> NDArray[np.float64]:
    """Gaussian noise (I, J, K) of mean 0 and deviation 1 whose neighbours are alike, as reconstruction leaves it."""
    noise = gaussian_filter(rng.standard_normal(shape), grain_voxels, mode="wrap")
    noise -= noise.mean()
    return np.asarray(noise / noise.std())


def slow_field(rng: np.random.Generator, shape: Shape) -> NDArray[np.float64]:
    """Shading (I, J, K) within [-1, 1] that takes about the whole field of view to come and go."""
    place = [np.linspace(-1, 1, length) for length in shape]
    i, j, k = np.meshgrid(*place, indexing="ij")
    field = np.zeros(shape)
    for direction, phase in zip(rng.normal(size=(3, 3)), rng.uniform(0, 2 * np.pi, 3), strict=True):
        field += np.cos(direction[0] * i + direction[1] * j + direction[2] * k + phase)
    field -= field.mean()
    return np.asarray(field / np.abs(field).max())
