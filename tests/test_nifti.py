"""NIfTI: only single files, without their extensions, and only so many bytes as the header claims."""

from __future__ import annotations

import gzip
import io
import struct

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.nifti1 import Nifti1Extension

from lib.errors import UnreadableImage
from lib.opened import OpenFile
from lib.volume import has_one_meaning, read_grid, read_volume, sent_suffix, write_sent
from tests import headers
from tests.itk import volume_of_sitk

VOXELS = np.arange(24, dtype=np.int16).reshape(4, 3, 2)


def image(kind=nib.Nifti1Image, voxels=VOXELS, affine=None, **header):
    made = kind(voxels, np.eye(4) if affine is None else affine, dtype=voxels.dtype)
    for field, value in header.items():
        made.header[field] = value
    return made


def named(content, name="a.nii"):
    """The bytes as an open file, packed if its name says so."""
    return OpenFile(io.BytesIO(gzip.compress(content) if name.endswith("gz") else content), name)


def refused(file, message):
    for read in (read_grid, read_volume):
        with pytest.raises(UnreadableImage, match=message):
            read(file)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
def test_both_versions_are_read_in_both_orders_of_bytes(kind, order, name):
    header = kind.header_class(endianness=order)
    content = kind(VOXELS, np.diag([-2, 3, 4, 1]), header).to_bytes()

    volume = read_volume(named(content, name))

    np.testing.assert_array_equal(volume.voxels, VOXELS)
    np.testing.assert_array_equal(volume.affine, np.diag([-2, 3, 4, 1]))
    assert volume.voxels.dtype.isnative and read_grid(named(content, name)).is_same_as(volume.grid)


@pytest.mark.parametrize("stored", [np.uint8, np.int16, np.int32, np.int64, np.uint64, np.float32, np.float64])
@pytest.mark.parametrize("scaling", [(1, 0), (2, 0), (0.37, -1024), (1, 5), (0, 3), (float("nan"), 0), (-1e30, 1e30)])
def test_values_are_scaled_as_nibabel_scales_them(tmp_path, stored, scaling):
    content = bytearray(image(voxels=VOXELS.astype(stored)).to_bytes())
    content[112:120] = struct.pack("<2f", *scaling)
    (tmp_path / "a.nii").write_bytes(content)
    expected = np.asanyarray(nib.load(tmp_path / "a.nii").dataobj)

    found = read_volume(tmp_path / "a.nii").voxels

    np.testing.assert_array_equal(found, expected)
    assert found.dtype == expected.dtype


def test_extensions_are_passed_over_whatever_they_hold(monkeypatch):
    made = image()
    made.header.extensions.append(Nifti1Extension("comment", b"seen by two" * 100))
    content = made.to_bytes().replace(struct.pack("<i", 6), struct.pack("<i", 2), 1)
    monkeypatch.setattr("pydicom.filereader.read_dataset", None)

    np.testing.assert_array_equal(read_volume(named(content)).voxels, VOXELS)


@pytest.mark.parametrize(("begin", "is_read"), [(0, True), (352, True), (100, False), (1 << 30, False), (-16, False)])
def test_voxels_begin_behind_the_header_and_not_far_behind(begin, is_read):
    content = bytearray(image().to_bytes())
    content[108:112] = struct.pack("<f", begin)

    if is_read:
        np.testing.assert_array_equal(read_volume(named(content)).voxels, VOXELS)
    else:
        refused(named(content), r"a\.nii (is no readable image|cannot be read|says that its voxels begin behind)")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.AnalyzeImage, nib.Spm99AnalyzeImage])
def test_a_header_whose_voxels_lie_in_another_file_is_refused(kind, name):
    content = kind(VOXELS, np.eye(4)).header.binaryblock + bytes(52)

    refused(named(content, name), r"is no readable image: it .*NIfTI")


@pytest.mark.parametrize("inner", [b"\x89HDF\r\n\x1a\n", b"NRRD0004\n", b"\x1f\x8b\x08", b"\x89PNG\r\n\x1a\n"])
def test_what_is_packed_must_be_nifti_too(inner):
    refused(named(inner + bytes(600), "a.nii.gz"), r"a\.nii\.gz is no readable image: it holds a \w+ file")


# --- sizes -----------------------------------------------------------------------------------------------------------


class Counting(io.BytesIO):
    """Counts the bytes that are read of it."""

    count = 0

    def read(self, size=-1, /):
        found = super().read(size)
        self.count += len(found)
        return found

    def readinto(self, buffer, /):
        count = super().readinto(buffer)
        self.count += count
        return count


def claiming(shape, kind=np.uint8, scaling=(1, 0)):
    """A header that claims so many voxels."""
    header = nib.Nifti2Header()
    header.set_data_shape(shape)
    header.set_data_dtype(kind)
    header["vox_offset"], header["magic"] = 544, b"n+2\0\r\n\x1a\n"
    header["scl_slope"], header["scl_inter"] = scaling
    header.set_sform(np.eye(4), 1)
    return header.binaryblock + bytes(4)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("header", [
    claiming((16384, 16384, 16)),
    claiming((1300, 1300, 1300)),
    claiming((400, 400, 400), np.float64),
    claiming((400, 400, 400), np.uint8, (0.5, 0)),
    claiming((2**40, 2**40, 2**40)),
    claiming((2**62, 4, 1)),
], ids=["4 GiB", "2 GiB", "doubles", "doubles after scaling", "2^120", "2^64"])  # fmt: skip
def test_more_than_the_machine_takes_is_refused_by_its_header_alone(monkeypatch, header, name):
    monkeypatch.setattr("lib.room.MOST_VOXEL_BYTES", 256 << 20)
    content = named(header + bytes(4 << 20), name).file.getvalue()
    file = OpenFile(Counting(content), name)

    refused(file, r"a\.nii\S* has [\dx]+ voxels, which take [\d.e+]+ GiB in memory; this machine takes 0\.25 GiB an")
    assert file.file.count < 1 << 20


def test_a_packed_file_is_unpacked_no_further_than_its_header_claims(monkeypatch):
    """Behind the voxels come zeros without end, which nobody asked for."""
    content = gzip.compress(image().to_bytes() + bytes(64 << 20))
    file = OpenFile(Counting(content), "a.nii.gz")

    np.testing.assert_array_equal(read_volume(file).voxels, VOXELS)
    assert file.file.count < len(content) / 2


@pytest.mark.parametrize("cut", [1, 100, 30_000])
def test_the_length_that_a_packed_file_tells_is_not_believed_when_its_voxels_are_read(cut):
    voxels = np.random.default_rng(0).integers(0, 1000, (30, 30, 30), np.int16)
    content = gzip.compress(image(voxels=voxels).to_bytes())
    file = OpenFile(io.BytesIO(content[: -cut - 8] + content[-8:]), "a.nii.gz")

    with pytest.raises(UnreadableImage, match=r"a\.nii\.gz (is cut off|cannot be read)"):
        read_volume(file)


@pytest.mark.parametrize("length", [20, 352, 400])
def test_a_packed_file_that_could_not_hold_what_its_trailer_tells_is_unpacked(length):
    """Its last four bytes say what its header does, modulo 2^32."""
    whole = claiming((1024, 1024, 64))
    content = gzip.compress(whole + bytes(length))
    lying = content[:-4] + struct.pack("<I", 544 + (64 << 20))

    with pytest.raises(UnreadableImage, match=r"is cut off: its header promises 67109408 bytes, \d+ are there"):
        read_grid(OpenFile(io.BytesIO(lying), "a.nii.gz"))


def test_a_flipped_byte_in_a_packed_file_is_noticed():
    voxels = np.random.default_rng(0).integers(0, 1000, (30, 30, 30), np.int16)
    content = bytearray(gzip.compress(image(voxels=voxels).to_bytes(), 0))
    content[5000] ^= 1

    with pytest.raises(UnreadableImage, match=r"a\.nii\.gz cannot be read: CRC check failed"):
        read_volume(OpenFile(io.BytesIO(content), "a.nii.gz"))


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("longer", [0, 1e-7, 1e-6, 1e-5, 1e-3])
@pytest.mark.parametrize("form", ["qform alone", "both forms"])
def test_a_quaternion_that_is_a_little_longer_than_one_is_mended(tmp_path, kind, longer, form):
    """Half a turn: the fourth part is 0, and rounding makes the others longer than 1."""
    turned = np.array([0.6, 0.8, 0.0])
    code = 0 if form == "qform alone" else 1
    content = turned_by(kind, turned * (1 + longer), sform_code=code)
    (tmp_path / "a.nii").write_bytes(content)

    found = read_volume(tmp_path / "a.nii").affine

    expected = np.eye(3) if code else 2 * np.outer(turned, turned) - np.eye(3)
    np.testing.assert_allclose(found[:3, :3], expected, atol=1e-5)
    if not code and kind is nib.Nifti1Image:
        np.testing.assert_allclose(found, volume_of_sitk(sitk.ReadImage(tmp_path / "a.nii")).affine, atol=1e-4)


def turned_by(kind, quaternion, sform_code):
    """An image whose qform has this quaternion; its sform is the unit matrix."""
    content = image(kind).to_bytes()
    header = kind.header_class(content[: kind.header_class.sizeof_hdr])
    header["qform_code"], header["sform_code"] = 1, sform_code
    for part, value in zip("bcd", quaternion, strict=True):
        header[f"quatern_{part}"] = value
    return header.binaryblock + content[kind.header_class.sizeof_hdr :]


def test_a_quaternion_that_is_far_too_long_is_refused_unless_nobody_needs_it(tmp_path):
    refused(named(turned_by(nib.Nifti1Image, (0.8, 0.8, 0), 0)), r"quaternion of the length 1\.13")

    unneeded = read_volume(named(turned_by(nib.Nifti1Image, (0.8, 0.8, 0), 1)))

    np.testing.assert_array_equal(unneeded.affine, np.eye(4))


# --- what readers understand differently -----------------------------------------------------------------------------


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("micron", 1e-3), ("meter", 1e3), ("unknown", 1)])
@pytest.mark.parametrize("codes", [(1, 0), (0, 2), (1, 1)])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_lengths_are_millimetres_whatever_unit_the_header_has(tmp_path, kind, codes, unit, factor):
    made = image(kind, affine=np.diag([-2, 3, 4, 1]))
    made.set_qform(made.affine, codes[0])
    made.set_sform(made.affine, codes[1])
    made.header.set_xyzt_units(unit, "sec")
    made.to_filename(tmp_path / "a.nii")

    found = read_volume(tmp_path / "a.nii")

    np.testing.assert_allclose(found.affine, np.diag([-2 * factor, 3 * factor, 4 * factor, 1]), rtol=1e-6)
    if kind is nib.Nifti1Image:
        by_itk = volume_of_sitk(sitk.ReadImage(str(tmp_path / "a.nii")))
        np.testing.assert_allclose(by_itk.affine, found.affine, rtol=1e-6, atol=1e-6)
    assert has_one_meaning(tmp_path / "a.nii") == (factor == 1 and kind is nib.Nifti1Image)


@pytest.mark.parametrize(("dim", "shape"), [
    ((3, 4, 3, 0, 1, 1, 1, 1), (4, 3, 1)),
    ((3, 4, 0, 2, 1, 1, 1, 1), (4, 1, 2)),
    ((4, 4, 3, 2, 0, 1, 1, 1), (4, 3, 2)),
    ((5, 4, 3, 2, 0, 0, 0, 0), (4, 3, 2)),
    ((2, 4, 3, 0, 0, 0, 0, 0), (4, 3, 1)),
    ((3, 4, 3, 2, 0, 0, 0, 0), (4, 3, 2)),
])  # fmt: skip
def test_an_axis_of_0_voxels_has_one_as_in_itk(tmp_path, dim, shape):
    content = bytearray(image().to_bytes())
    content[40:56] = struct.pack("<8h", *dim)
    (tmp_path / "a.nii").write_bytes(content)

    found = read_volume(tmp_path / "a.nii")

    assert found.voxels.shape == read_grid(tmp_path / "a.nii").shape == shape
    by_itk = volume_of_sitk(sitk.ReadImage(str(tmp_path / "a.nii"))).voxels
    np.testing.assert_array_equal(found.voxels, by_itk.reshape(shape, order="F"))


@pytest.mark.parametrize("dim", [(0, 4, 3, 2), (8, 4, 3, 2), (-1, 4, 3, 2)])
def test_a_file_without_axes_is_refused(dim):
    content = bytearray(image().to_bytes())
    content[40:48] = struct.pack("<4h", *dim)

    refused(named(content), r"a\.nii (says that it has -?\d axes|is no readable image|cannot be read)")


def test_a_file_without_voxels_along_its_first_axis_is_refused():
    content = bytearray(image().to_bytes())
    content[42:44] = struct.pack("<h", 0)

    refused(named(content), r"a\.nii holds no voxels")


@pytest.mark.parametrize("intercept", [float("nan"), float("inf")])
def test_a_slope_without_a_number_to_add_is_refused(intercept):
    content = bytearray(image().to_bytes())
    content[112:120] = struct.pack("<2f", 2, intercept)

    refused(named(content), r"a\.nii scales its voxels by 2 and adds (nan|inf) \(scl_inter\); wanted is a number")


@pytest.mark.parametrize("scaling", [(1, 0), (2, -5), (0, 0), (0, 3), (float("nan"), 0), (float("inf"), 0)])
def test_a_file_whose_values_itk_reads_otherwise_is_not_sent_as_it_is(tmp_path, scaling):
    content = bytearray(image().to_bytes())
    content[112:120] = struct.pack("<2f", *scaling)
    (tmp_path / "a.nii").write_bytes(content)

    by_itk = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.nii"))).T
    is_same = np.array_equal(by_itk, read_volume(tmp_path / "a.nii").voxels)

    assert has_one_meaning(tmp_path / "a.nii") == is_same == (scaling != (0, 3))


def test_nifti_2_is_sent_as_nifti_1_since_itk_does_not_open_it(tmp_path):
    image(nib.Nifti2Image, affine=np.diag([-2, 3, 4, 1])).to_filename(tmp_path / "a.nii")
    assert not has_one_meaning(tmp_path / "a.nii")

    with (tmp_path / "sent.nii").open("wb") as file:
        write_sent(file, read_volume(tmp_path / "a.nii"), ".nii")

    found = volume_of_sitk(sitk.ReadImage(str(tmp_path / "sent.nii")))
    np.testing.assert_array_equal(found.voxels, VOXELS)
    np.testing.assert_allclose(found.affine, np.diag([-2, 3, 4, 1]))


@pytest.mark.parametrize("kind", headers.HEADERS)
@pytest.mark.parametrize("orientation", headers.ORIENTATIONS)
def test_what_is_sent_as_it_is_lies_at_the_same_place_for_itk(tmp_path, orientation, kind):
    """Of all 48 orientations: either itk reads what is read here, or the file is written anew, which it reads so."""
    grid = headers.grid_of(orientation)
    path = headers.write(tmp_path / "a.nii", headers.phantom(grid.shape), headers.HEADERS[kind](grid.affine))
    found = read_volume(path)
    if not has_one_meaning(path):
        path = tmp_path / f"sent{sent_suffix(found.grid, '.nii')}"
        with path.open("wb") as file:
            write_sent(file, found, path.suffix)

    by_itk = volume_of_sitk(sitk.ReadImage(str(path)))

    np.testing.assert_array_equal(by_itk.voxels, found.voxels)
    np.testing.assert_allclose(by_itk.affine, found.affine, atol=0.02)
    assert has_one_meaning(path)
