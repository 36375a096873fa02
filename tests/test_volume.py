"""Volumes: what is written is read, what is damaged is refused, and a mask finds its place on the image's grid."""

from __future__ import annotations

import gzip
import itertools
import struct

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from lib.errors import GridMismatch, UnreadableImage
from lib.phantoms.scanner import oriented_grid
from lib.volume import (
    Grid,
    Volume,
    apart_mm,
    onto_grid,
    read_grid,
    read_volume,
    sent_suffix,
    suffix_of,
    view_on,
    write_volume,
)
from tests.drawn import drawn
from tests.itk import volume_of_sitk

TILTED = (8.0, -5.0, 11.0)


def counted(shape=(4, 3, 2), affine=None, kind=np.int16):
    """A volume in which every voxel has its own value."""
    voxels = np.arange(np.prod(shape), dtype=kind).reshape(shape) + 1
    return Volume(voxels, np.eye(4) if affine is None else affine)


def oriented(orientation, tilt_deg=(0.0, 0.0, 0.0)):
    shape, affine = oriented_grid(orientation, (4, 3, 2), (0.7, 1.3, 5.0), (12.0, -34.0, 567.8), tilt_deg)
    return counted(shape, affine)


def moved(affine, **elements):
    """The affine with the millimetres of an axis moved: ``moved(affine, i=0.5)``."""
    result = affine.copy()
    for name, by_mm in elements.items():
        result["ijk".index(name), 3] += by_mm
    return result


ORIENTATIONS = ["".join(letters) for axes in itertools.permutations(("RL", "AP", "SI"))
                for letters in itertools.product(*axes)]  # fmt: skip


# --- writing and reading ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".NII.GZ", ".NRRD"])
@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR", "SAL"])
@pytest.mark.parametrize("tilt_deg", [(0.0, 0.0, 0.0), TILTED])
def test_a_volume_comes_back_with_its_voxels_and_its_place(tmp_path, suffix, orientation, tilt_deg):
    volume = oriented(orientation, tilt_deg)
    path = tmp_path / f"volume{suffix}"

    write_volume(path, volume)

    read = read_volume(path)
    np.testing.assert_array_equal(read.voxels, volume.voxels)
    assert read.voxels.dtype == np.int16
    assert read.grid.is_same_as(volume.grid)
    assert read_grid(path).is_same_as(volume.grid)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd"])
def test_an_image_of_one_slice_stays_one(tmp_path, suffix):
    write_volume(tmp_path / f"slice{suffix}", Volume(drawn(". # 2"), np.diag([0.1, 0.1, 1, 1])))

    read = read_volume(tmp_path / f"slice{suffix}")

    assert read.voxels[:, :, 0].tolist() == [[0, 1, 2]]
    assert read.grid.spacing_mm == pytest.approx((0.1, 0.1, 1.0))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd"])
def test_equal_volumes_give_equal_bytes(tmp_path, suffix):
    for name in ("first", "second"):
        write_volume(tmp_path / f"{name}{suffix}", oriented("PIR", TILTED))

    first, second = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("first", "second"))
    assert first == second


def test_the_header_scales_the_voxels(tmp_path):
    image = nib.Nifti1Image(np.array([[[100, 200]]], np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, -1000)
    image.to_filename(tmp_path / "scaled.nii")
    content = (tmp_path / "scaled.nii").read_bytes()
    stored = np.frombuffer(content[352:], "<i2")

    read = read_volume(tmp_path / "scaled.nii")

    assert struct.unpack_from("<ff", content, 112) == (0.5, -1000.0)
    np.testing.assert_allclose(read.voxels.ravel(), stored * 0.5 - 1000)


def test_a_big_endian_file_gives_numbers_in_the_order_of_this_machine(tmp_path):
    volume = counted()
    image = nib.Nifti1Image(volume.voxels, volume.affine, nib.Nifti1Header(endianness=">"))
    image.to_filename(tmp_path / "big.nii")

    read = read_volume(tmp_path / "big.nii")

    assert (tmp_path / "big.nii").read_bytes()[:4] == struct.pack(">i", 348)
    np.testing.assert_array_equal(read.voxels, volume.voxels)
    assert read.voxels.dtype.isnative


@pytest.mark.parametrize("axes", [(1,), (1, 1), ()])
def test_axes_of_one_voxel_behind_the_third_are_dropped(tmp_path, axes):
    voxels = counted().voxels.reshape(4, 3, 2, *axes)
    nib.Nifti1Image(voxels, np.eye(4)).to_filename(tmp_path / "more.nii")

    assert read_volume(tmp_path / "more.nii").voxels.shape == read_grid(tmp_path / "more.nii").shape == (4, 3, 2)


def test_a_nrrd_file_with_a_fourth_axis_of_one_voxel_is_a_volume(tmp_path):
    header = nrrd_header("raw").replace(b"dimension: 3", b"dimension: 4").replace(b"4 3 2", b"4 3 2 1")
    header = header.replace(b"(0,0,5)", b"(0,0,5) none").replace(b"domain domain", b"domain domain domain")
    header = header.replace(b"space directions: (-0.7,0,0) (0,-1.3,0) (0,0,5) none", b"spacings: 0.7 1.3 5 1")
    header = header.replace(b"space: left-posterior-superior\n", b"").replace(b"space origin: (0,0,0)\n", b"")
    (tmp_path / "four.nrrd").write_bytes(header + b"\n" + counted().voxels.T.tobytes())

    read = read_volume(tmp_path / "four.nrrd")

    np.testing.assert_array_equal(read.voxels, counted().voxels)
    assert read.grid.spacing_mm == pytest.approx((0.7, 1.3, 5.0))


def test_a_gzip_file_of_several_members_is_whole(tmp_path):
    write_volume(tmp_path / "plain.nii", counted())
    content = (tmp_path / "plain.nii").read_bytes()
    (tmp_path / "members.nii.gz").write_bytes(gzip.compress(content[:360]) + gzip.compress(content[360:]))

    assert read_grid(tmp_path / "members.nii.gz").shape == (4, 3, 2)
    np.testing.assert_array_equal(read_volume(tmp_path / "members.nii.gz").voxels, counted().voxels)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a.nii.gz", ".nii.gz"), ("a.NII", ".nii"), ("b.seg.nrrd", ".seg.nrrd"), ("c.nrrd", ".nrrd"), ("d.dcm", "")],
)
def test_the_longest_suffix_counts(name, suffix):
    assert suffix_of(name) == suffix


# --- what is refused -------------------------------------------------------------------------------------------------


def nrrd_header(encoding):
    return (
        "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 4 3 2\n"
        "space directions: (-0.7,0,0) (0,-1.3,0) (0,0,5)\nkinds: domain domain domain\nendian: little\n"
        f"encoding: {encoding}\nspace origin: (0,0,0)\n"
    ).encode()


def noise_file(path):
    """A file that hardly compresses, so that its half holds half of the voxels."""
    voxels = np.random.default_rng(0).integers(-1000, 1000, (20, 20, 20), np.int16)
    write_volume(path, Volume(voxels, np.eye(4)))
    return path.read_bytes()


def assert_refused(path, message):
    """Neither the quick look nor the full reading takes the file, and both say why."""
    with pytest.raises(UnreadableImage, match=message):
        read_grid(path)
    with pytest.raises(UnreadableImage, match=rf"{path.name.split('.')[0]}"):
        read_volume(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_nifti_file_cut_in_half_is_refused_with_both_sizes(tmp_path, suffix):
    content = noise_file(tmp_path / f"cut{suffix}")
    (tmp_path / f"cut{suffix}").write_bytes(content[: len(content) // 2])

    assert_refused(tmp_path / f"cut{suffix}", r"cut\S* is cut off: its header promises 16352 bytes, \d+ are there")


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_nrrd_file_cut_off_is_refused(tmp_path, share):
    voxels = noise_file(tmp_path / "zip.nrrd")
    (tmp_path / "zip.nrrd").write_bytes(voxels[: int(len(voxels) * share)])
    raw = nrrd_header("raw") + b"\n" + counted().voxels.T.tobytes()
    (tmp_path / "raw.nrrd").write_bytes(raw[: -int(48 * (1 - share)) - 1])

    assert_refused(tmp_path / "zip.nrrd", r"zip\.nrrd is no readable image")
    assert_refused(tmp_path / "raw.nrrd", r"raw\.nrrd is cut off: its header promises \d+ bytes, \d+ are there")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".seg.nrrd"])
def test_an_empty_file_is_refused(tmp_path, suffix):
    (tmp_path / f"empty{suffix}").touch()

    assert_refused(tmp_path / f"empty{suffix}", r"is empty \(0 bytes\)")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd"])
@pytest.mark.parametrize("content", [b"Not an image, but a letter.\n" * 40, b"\x1f\x8bgzip in name only", b"x"])
def test_a_file_that_is_no_image_is_refused_whatever_its_name(tmp_path, suffix, content):
    (tmp_path / f"letter{suffix}").write_bytes(content)

    assert_refused(tmp_path / f"letter{suffix}", r"letter\S* is no readable image")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_header_without_voxels_is_refused(tmp_path, suffix):
    write_volume(tmp_path / "plain.nii", counted())
    header = (tmp_path / "plain.nii").read_bytes()[:352]
    (tmp_path / f"header{suffix}").write_bytes(gzip.compress(header) if suffix.endswith("gz") else header)

    assert_refused(tmp_path / f"header{suffix}", r"header promises 400 bytes, 352 are there")


def test_several_volumes_in_one_file_are_refused(tmp_path):
    nib.Nifti1Image(np.zeros((4, 3, 2, 5), np.int16), np.eye(4)).to_filename(tmp_path / "series.nii")

    assert_refused(tmp_path / "series.nii", r"series\.nii has 4 axes \(4x3x2x5\).* Split the series")


@pytest.mark.parametrize("kind", [np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]), np.dtype(np.complex64)])
def test_colour_and_complex_voxels_are_refused(tmp_path, kind):
    nib.Nifti1Image(np.zeros((4, 3, 2), kind), np.eye(4)).to_filename(tmp_path / "odd.nii")

    assert_refused(tmp_path / "odd.nii", r"odd\.nii holds colour or complex voxels; wanted is one grey volume")


def test_a_colour_nrrd_file_is_refused(tmp_path):
    header = nrrd_header("raw").replace(b"sizes: 4 3 2", b"sizes: 3 4 3 2").replace(b"dimension: 3", b"dimension: 4")
    header = header.replace(b"kinds: domain", b"kinds: RGB-color domain").replace(b"(-0.7", b"none (-0.7")
    (tmp_path / "colour.nrrd").write_bytes(header + b"\n" + bytes(4 * 3 * 2 * 3 * 2))

    assert_refused(tmp_path / "colour.nrrd", r"colour\.nrrd has 3 values per voxel")


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_an_image_without_a_single_number_is_refused(tmp_path, suffix):
    write_volume(tmp_path / f"void{suffix}", Volume(np.full((4, 3, 2), np.nan, np.float32), np.eye(4)))

    with pytest.raises(UnreadableImage, match=r"void\S+ holds no number: all its voxels are NaN or infinite"):
        read_volume(tmp_path / f"void{suffix}")


def test_an_image_with_one_number_is_read(tmp_path):
    voxels = np.full((4, 3, 2), np.nan, np.float32)
    voxels[3, 2, 1] = 5
    write_volume(tmp_path / "dot.nii", Volume(voxels, np.eye(4)))

    assert np.nansum(read_volume(tmp_path / "dot.nii").voxels) == 5


def with_edges_mm(path, edges_mm, *, is_placed, shape=(4, 3, 2)):
    """A NIfTI file with these edges in its header, placed by an affine of its own or by nothing else."""
    image = nib.Nifti1Image(counted(shape).voxels, np.eye(4))
    image.set_sform(np.eye(4), code=int(is_placed))
    image.set_qform(None, code=0)
    content = bytearray(image.to_bytes())
    content[80:92] = struct.pack("<3f", *edges_mm)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["flat.nii", "flat.nii.gz"])
def test_voxels_that_are_zero_mm_long_are_refused(tmp_path, name):
    path = with_edges_mm(tmp_path / name, (1.0, 0.0, 0.0), is_placed=False)

    assert_refused(path, rf"{name} says that its voxels are 0 mm long along J, K \(pixdim\)")


def test_an_edge_of_zero_that_places_nothing_is_read_without_a_word(tmp_path, caplog):
    placed = with_edges_mm(tmp_path / "placed.nii", (0.0, 0.0, 0.0), is_placed=True)
    slice_ = with_edges_mm(tmp_path / "slice.nii", (2.0, 2.0, 0.0), is_placed=False, shape=(4, 3, 1))

    assert read_volume(placed).grid.spacing_mm == (1.0, 1.0, 1.0)
    assert read_grid(slice_).spacing_mm == (2.0, 2.0, 1.0)
    assert caplog.text == ""


def test_an_affine_of_zeros_is_refused(tmp_path):
    image = nib.Nifti1Image(counted().voxels, np.eye(4))
    image.header.set_sform(np.zeros((4, 4)), 1)
    content = bytearray(image.to_bytes())
    content[280:328] = bytes(48)
    (tmp_path / "flat.nii").write_bytes(content)

    assert_refused(tmp_path / "flat.nii", r"flat\.nii has no usable voxel size or orientation")


@pytest.mark.parametrize("field", ["data file", "Data File", "datafile", "DATAFILE"])
def test_a_nrrd_header_may_not_name_another_file_of_this_machine(tmp_path, field):
    (tmp_path / "secret.raw").write_bytes(bytes(range(48)))
    named = f"{field}: {tmp_path / 'secret.raw'}\n\n".encode()
    (tmp_path / "header.nrrd").write_bytes(nrrd_header("raw") + named)

    assert_refused(tmp_path / "header.nrrd", r"header\.nrrd keeps its voxels in another file")
    with pytest.raises(UnreadableImage, match=r"keeps its voxels in another file. Save it as one \.nrrd file"):
        read_volume(tmp_path / "header.nrrd")


# --- grids -----------------------------------------------------------------------------------------------------------


def test_a_grid_tells_its_edges_its_voxel_and_its_directions():
    grid = Grid((512, 512, 118), np.diag([-0.7, -0.7, 2.5, 1.0]))

    assert grid.spacing_mm == (0.7, 0.7, 2.5)
    assert grid.voxel_mm3 == pytest.approx(1.225)
    assert grid.orientation == "LPS"
    assert str(grid) == "512x512x118 voxels at 0.70x0.70x2.50 mm, LPS"


@pytest.mark.parametrize(("shift_mm", "is_same"), [(0.0, True), (0.0009, True), (0.0011, False), (1.0, False)])
def test_grids_are_the_same_up_to_a_thousandth_of_a_millimetre(shift_mm, is_same):
    grid = oriented("PIR", TILTED).grid

    assert grid.is_same_as(Grid(grid.shape, moved(grid.affine, i=shift_mm))) is is_same


def test_a_grid_of_voxels_smaller_than_the_tolerance_is_another_one_a_voxel_further():
    grid = Grid((5, 4, 3), np.diag([0.001, 0.0005, 0.001, 1.0]))

    assert not grid.is_same_as(Grid(grid.shape, moved(grid.affine, j=0.0005)))
    with pytest.raises(GridMismatch, match="mask of ct_017"):
        onto_grid(Volume(np.zeros(grid.shape, np.uint8), moved(grid.affine, j=0.0005)), grid, "ct_017")


def test_a_small_error_of_the_edge_adds_up_over_the_grid():
    edges = np.diag([1.00001, 1.0, 1.0, 1.0])

    assert Grid((91, 2, 2), np.eye(4)).is_same_as(Grid((91, 2, 2), edges))
    assert not Grid((121, 2, 2), np.eye(4)).is_same_as(Grid((121, 2, 2), edges))


# --- a mask on the image's grid --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tilt_deg", [(0.0, 0.0, 0.0), TILTED])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_mask_in_any_order_and_direction_of_axes_comes_back_exactly(orientation, tilt_deg):
    """All 48 ways to store one lattice: six orders of the axes, two directions each."""
    image = oriented("LPS", tilt_deg)
    stored = oriented(orientation, tilt_deg)
    as_image = np.linalg.solve(image.affine, stored.affine)
    places = np.rint(np.tensordot(as_image[:3, :3], np.indices(stored.voxels.shape), 1).T + as_image[:3, 3]).T
    mask = image.voxels[tuple(places.astype(int))]

    placed = onto_grid(Volume(mask, stored.affine), image.grid, "ct_017")

    np.testing.assert_array_equal(placed, image.voxels)


def test_the_forty_eight_ways_are_all_there():
    assert len(set(ORIENTATIONS)) == 48
    assert {oriented(letters).grid.orientation for letters in ORIENTATIONS} == set(ORIENTATIONS)


def test_a_part_is_placed_and_the_rest_is_background():
    grid = Grid((4, 5, 1), np.diag([2.0, 3.0, 4.0, 1.0]))
    corner = grid.affine.copy()
    corner[:3, 3] = [1 * 2.0, 2 * 3.0, 0.0]
    mask = drawn("""
        # 2
        . #
    """)

    placed = onto_grid(Volume(mask, corner), grid, "ct_017", may_be_part=True)

    expected = drawn("""
        . . . . .
        . . # 2 .
        . . . # .
        . . . . .
    """)
    np.testing.assert_array_equal(placed, expected)


def test_a_flipped_part_is_placed():
    grid = Grid((4, 5, 1), np.eye(4))
    flipped = np.diag([-1.0, 1.0, 1.0, 1.0])
    flipped[:3, 3] = [2.0, 2.0, 0.0]
    mask = drawn("""
        . #
        # 2
    """)

    placed = onto_grid(Volume(mask, flipped), grid, "ct_017", may_be_part=True)

    expected = drawn("""
        . . . . .
        . . # 2 .
        . . . # .
        . . . . .
    """)
    np.testing.assert_array_equal(placed, expected)


IMAGE = Grid((5, 4, 2), np.diag([0.5, 1.0, 2.0, 1.0]))


@pytest.mark.parametrize(
    "affine",
    [
        moved(IMAGE.affine, i=0.5),
        moved(IMAGE.affine, k=-2.0),
        moved(IMAGE.affine, j=0.25),
        np.diag([0.5, 1.0, 1.0, 1.0]),
        np.diag([0.5, 1.004, 2.0, 1.0]),
        np.array([[0.5, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1.0]]),
    ],
    ids=["one voxel out", "one slice out", "between the voxels", "other spacing", "nearly the spacing", "sheared"],
)
def test_a_mask_off_the_lattice_is_refused_with_both_grids(affine):
    mask = Volume(np.ones(IMAGE.shape, np.uint8), affine)

    with pytest.raises(GridMismatch, match=r"mask of ct_017 is 5x4x2 voxels at 0\.5\S* mm.* image is 5x4x2 voxels at"):
        onto_grid(mask, IMAGE, "ct_017")


@pytest.mark.parametrize(
    ("affine", "beside_mm"),
    [
        (moved(IMAGE.affine, i=0.0049), 0.0049),
        (moved(IMAGE.affine, k=-0.0049), 0.0049),
        (np.diag([0.5, 1.0016, 2.0, 1.0]), 0.0048),
        (np.diag([0.5, 1.0, 2.0048, 1.0]), 0.0048),
        (np.array([[0.5, 0.0016, 0, 0], [0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1.0]]), 0.0048),
    ],
    ids=["beside in I", "beside in K", "edge of J", "edge of K", "sheared"],
)
def test_a_mask_within_a_hundredth_of_a_voxel_is_on_the_lattice(affine, beside_mm):
    mask = Volume(np.arange(40, dtype=np.uint8).reshape(IMAGE.shape), affine)

    np.testing.assert_array_equal(onto_grid(mask, IMAGE, "ct_017"), mask.voxels)
    assert apart_mm(mask.grid, IMAGE) == pytest.approx(beside_mm)
    with pytest.raises(GridMismatch, match="mask of ct_017"):
        onto_grid(Volume(mask.voxels, moved(affine, i=0.0051)), IMAGE, "ct_017")


def test_a_mask_within_a_hundredth_of_a_voxel_may_have_its_axes_in_another_order():
    affine = moved(IMAGE.affine, i=0.004)[:, [2, 0, 1, 3]]
    voxels = np.arange(40, dtype=np.uint8).reshape(IMAGE.shape)

    np.testing.assert_array_equal(onto_grid(Volume(voxels.transpose(2, 0, 1), affine), IMAGE, "ct_017"), voxels)


@pytest.mark.parametrize("shape", [(5, 3, 2), (3, 4, 2), (5, 4, 1), (1, 1, 1)])
def test_a_mask_of_a_smaller_image_is_refused_although_it_begins_at_the_same_voxel(shape):
    mask = Volume(np.zeros(shape, np.uint8), IMAGE.affine)
    size = "x".join(map(str, shape))

    with pytest.raises(GridMismatch, match=rf"is {size} voxels .* is 5x4x2 voxels .* another image, or was cropped"):
        onto_grid(mask, IMAGE, "ct_017")


def test_what_is_written_to_the_view_of_a_part_is_written_to_the_image():
    image = Volume(np.zeros((4, 3, 2), np.uint8), np.eye(4))
    # Two columns from I = 3 downwards, over all J, at K = 1.
    affine = np.array([[-1.0, 0, 0, 3], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]])

    view_on(image, Grid((2, 3, 1), affine), "ct_017")[:, :, 0] = [[1, 2, 3], [4, 5, 6]]

    np.testing.assert_array_equal(image.voxels[:, :, 1], [[0, 0, 0], [0, 0, 0], [4, 5, 6], [1, 2, 3]])
    assert not image.voxels[:, :, 0].any()


def test_grids_that_look_alike_are_told_with_their_distance():
    mask = Volume(np.ones(IMAGE.shape, np.uint8), moved(IMAGE.affine, j=0.25))

    with pytest.raises(GridMismatch, match=r"; their corners lie up to 0\.25 mm apart\. Export"):
        onto_grid(mask, IMAGE, "ct_017")


@pytest.mark.parametrize("shape", [(6, 4, 2), (5, 4, 3), (50, 40, 20)])
def test_a_mask_larger_than_the_image_is_refused_with_both_sizes(shape):
    mask = Volume(np.ones(shape, np.uint8), IMAGE.affine)
    size = "x".join(map(str, shape))

    with pytest.raises(GridMismatch, match=rf"{size} voxels .* 5x4x2 voxels .* Export the mask with the image"):
        onto_grid(mask, IMAGE, "ct_017")


# --- what programs read alike ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd"])
@pytest.mark.parametrize(("values", "kind", "written"), [
    ((0, 1), np.bool_, np.uint8), ((0.5, 2), np.float16, np.float32), ((0, 255), np.int64, np.uint8),
    ((-5, 300), np.int64, np.int16), ((0, 60000), np.uint64, np.uint16), ((-1, 2**20), np.int64, np.int32),
    ((0, 2**32 - 1), np.uint64, np.uint32), ((0, 2**40), np.int64, np.int64), ((0, 2**63), np.uint64, np.uint64),
])  # fmt: skip
def test_every_type_is_written_in_one_that_files_have(tmp_path, suffix, values, kind, written):
    voxels = np.resize(np.array(values, kind), (4, 3, 2))

    write_volume(tmp_path / f"a{suffix}", Volume(voxels, np.eye(4)))

    found = read_volume(tmp_path / f"a{suffix}").voxels
    np.testing.assert_array_equal(found, voxels.astype(written))
    assert found.dtype == written
    np.testing.assert_array_equal(volume_of_sitk(sitk.ReadImage(str(tmp_path / f"a{suffix}"))).voxels, found)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_both_forms_of_what_is_written_say_the_same(tmp_path, orientation):
    volume = oriented(orientation, TILTED)
    write_volume(tmp_path / "a.nii", volume)

    header = nib.load(tmp_path / "a.nii").header
    for found in (
        header.get_sform(),
        header.get_qform(),
        volume_of_sitk(sitk.ReadImage(str(tmp_path / "a.nii"))).affine,
    ):
        np.testing.assert_allclose(found, volume.affine, atol=1e-3)


@pytest.mark.parametrize(("tangent", "suffix"), [(0, ".nii.gz"), (0.001, ".nii.gz"), (0.01, ".nii.gz"), (0.3, ".nrrd")])
def test_oblique_axes_are_mended_up_to_half_a_voxel_and_else_sent_as_nrrd(tangent, suffix):
    affine = np.diag([-0.8, -0.8, 2.5, 1.0])
    affine[0, 1] = 0.8 * tangent

    assert sent_suffix(Grid((60, 60, 10), affine), ".nii.gz") == suffix
    assert sent_suffix(Grid((60, 60, 10), affine), ".nrrd") == ".nrrd"


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("is_flipped", [False, True])
def test_a_mask_on_the_mended_lattice_lies_on_the_image(axis, is_flipped):
    affine = np.diag([-0.8, -0.9, 2.5, 1.0])
    affine[(axis + 1) % 3, axis] = 0.02
    grid = Grid((30, 20, 10), affine)
    mended = grid.at_right_angles
    assert not mended.is_same_as(grid)
    mask = np.random.default_rng(0).integers(0, 2, grid.shape, np.uint8)
    drawn_on = Volume(mask, mended.affine)
    if is_flipped:
        flip = np.diag([-1.0, 1, 1, 1])
        flip[0, 3] = 29
        drawn_on = Volume(mask[::-1], mended.affine @ flip)

    np.testing.assert_array_equal(onto_grid(drawn_on, grid, "case"), mask)


def test_a_mask_at_right_angles_is_not_taken_for_one_of_a_tilted_gantry():
    affine = np.diag([-0.8, -0.9, 2.5, 1.0])
    affine[1, 2] = 0.8
    grid = Grid((30, 20, 10), affine)

    with pytest.raises(GridMismatch, match="their corners lie up to"):
        onto_grid(Volume(np.zeros(grid.shape, np.uint8), grid.at_right_angles.affine), grid, "case")
