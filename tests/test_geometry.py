"""A lattice that there cannot be is told at listing, in every format by the same rule."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from lib.errors import UnreadableImage
from lib.geometry import plausible_affine
from lib.series import read_header
from lib.volume import read_grid, read_volume
from tests.test_nrrd import BASIC, CONTENT, header
from tests.test_series import changed, write

FLAT = [[1, 0, 0], [0, 1, 0], [1, 1, 1e-9]]
"""Three axes of which the third one lies in the plane of the others."""


def with_rows(vectors, origin=(0, 0, 0)):
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = np.transpose(vectors), origin
    return affine


IMPOSSIBLE = {
    "nearly singular": with_rows(FLAT),
    "two axes alike": with_rows([[1, 0, 0], [1, 0, 0], [0, 0, 1]]),
    "strongly sheared": with_rows([[1, 0, 0], [0, 1, 0], [30, 0, 1]]),
    "an edge of nothing": np.diag([1, 1, 1e-30, 1]),
    "an edge of zero": np.diag([1, 0, 1, 1.0]),
    "an edge of light years": np.diag([1, 1e30, 1, 1]),
    "no number": np.diag([1, np.nan, 1, 1]),
    "infinite": with_rows(np.eye(3), (np.inf, 0, 0)),
    "far away": with_rows(np.eye(3), (0, 1e12, 0)),
    "all zero": np.zeros((4, 4)),
}


@pytest.mark.parametrize("affine", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_voxels_cannot_lie_like_that(affine):
    with pytest.raises(UnreadableImage, match=r"a\.nii (has no usable voxel size or orientation|lies 1e\+12 mm from)"):
        plausible_affine(affine, "a.nii")


@pytest.mark.parametrize("affine", [
    np.diag([-800, 900, 2500, 1]), np.diag([0.0008, 0.0009, 0.0025, 1]), np.diag([0.25, 0.25, 0.004, 1]),
    with_rows([[1, 0, 0], [0, 1, 0], [0, 0.7, 0.7]], (1e4, -1e4, 0)),
], ids=["micrometres", "metres", "a microscope", "a tilted gantry"])  # fmt: skip
def test_voxels_of_unusual_programs_can_lie_as_they_do(affine):
    np.testing.assert_array_equal(plausible_affine(affine, "a.nii"), affine)


@pytest.mark.parametrize("affine", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
@pytest.mark.parametrize("read", [read_grid, read_volume])
def test_a_nifti_file_says_so_when_it_is_listed(tmp_path, affine, read):
    made = nib.Nifti1Image(np.ones((4, 3, 2), np.uint8), np.eye(4))
    with np.errstate(over="ignore"):
        for row, name in zip(affine, ("srow_x", "srow_y", "srow_z"), strict=False):
            made.header[name] = row
    made.header["sform_code"] = 1
    (tmp_path / "a.nii").write_bytes(made.header.binaryblock + bytes(4) + bytes(24))

    with pytest.raises(UnreadableImage, match=r"a\.nii (has no usable voxel size or orientation|lies 1e\+12 mm from)"):
        read(tmp_path / "a.nii")


@pytest.mark.parametrize("quaternion", [(1, 1, 1), (0.9, 0.9, 0), (np.nan, 0, 0), (1e20, 0, 0)])
def test_a_nifti_file_with_a_quaternion_that_is_none_is_refused(tmp_path, quaternion):
    made = nib.Nifti1Image(np.ones((4, 3, 2), np.uint8), np.eye(4))
    made.header["sform_code"], made.header["qform_code"] = 0, 1
    made.header["quatern_b"], made.header["quatern_c"], made.header["quatern_d"] = quaternion
    (tmp_path / "a.nii").write_bytes(made.header.binaryblock + bytes(4) + bytes(24))

    with pytest.raises(
        UnreadableImage, match=r"a\.nii (is turned by a quaternion of the length|has no usable voxel size)"
    ):
        read_grid(tmp_path / "a.nii")


@pytest.mark.parametrize("affine", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_an_nrrd_file_says_so_when_it_is_listed(tmp_path, affine):
    vectors = " ".join(f"({','.join(map(str, vector))})" for vector in affine[:3, :3].T)
    origin = f"({','.join(map(str, affine[:3, 3]))})"
    lines = (*BASIC, "space: LPS", f"space directions: {vectors}", f"space origin: {origin}")
    (tmp_path / "a.nrrd").write_bytes(header(*lines) + CONTENT)

    with pytest.raises(UnreadableImage, match=r"a\.nrrd (has no usable voxel size or orientation|lies 1e\+12 mm from)"):
        read_grid(tmp_path / "a.nrrd")


@pytest.mark.parametrize("attributes", [
    {"ImageOrientationPatient": [1, 0, 0, 1, 1e-9, 0]},
    {"ImageOrientationPatient": [1, 0, 0, 0.5, 0.9, 0]},
    {"ImageOrientationPatient": [2, 0, 0, 0, 2, 0]},
    {"ImageOrientationPatient": [0, 0, 0, 0, 1, 0]},
    {"PixelSpacing": [1e-30, 1]},
    {"PixelSpacing": [1, 1e30]},
    {"ImagePositionPatient": [0, 1e12, 0]},
])  # fmt: skip
def test_a_slice_says_so_when_it_is_listed(tmp_path, attributes):
    path = changed(write(tmp_path)[0][0], **attributes)

    with pytest.raises(UnreadableImage, match=r"slice_001\.dcm (has no usable (pixel|voxel) size or|lies 1e\+12 mm)"):
        read_header(path)


def test_directions_that_a_program_rounded_are_taken(tmp_path):
    path = changed(write(tmp_path)[0][0], ImageOrientationPatient=[0.99, 0.1, 0, -0.1, 0.99, 0])

    assert read_header(path).shape == (7, 5)
