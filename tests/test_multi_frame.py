"""Enhanced images: every frame finds its place, its rescale and its order; several stacks are refused."""

from __future__ import annotations

import gdcm
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from lib.errors import UnreadableImage
from lib.multi_frame import FunctionalGroups, single_headers
from lib.phantoms.dicom_series import write_dicom_series, write_enhanced_series
from lib.phantoms.scanner import oriented_grid
from lib.series import read_header, read_headers, read_series, series_grid
from tests.itk import volume_of_sitk
from tests.test_series import compress

SHAPE = (7, 5, 4)


def write(folder, orientation="LPS", tilt_deg=(0.0, 0.0, 0.0), modality="CT"):
    """An enhanced file whose voxels count up from -60, with its voxels and its affine."""
    shape, affine = oriented_grid(orientation, SHAPE, (0.7, 1.3, 5.0), (12.0, -34.0, 567.8), tilt_deg)
    voxels = np.arange(np.prod(shape), dtype=np.int16).reshape(shape) - 60
    write_enhanced_series(folder / "frames.dcm", voxels, affine, modality=modality, patient_id="p1", seed=1)
    return folder / "frames.dcm", voxels, affine


def changed(path, change):
    """Rewrites a file after a change of its dataset."""
    one = pydicom.dcmread(path)
    change(one)
    one.save_as(path)
    return path


def placed(*positions_mm):
    """Gives the frames these places, in LPS mm."""

    def change(dataset):
        for frame, position in zip(dataset.PerFrameFunctionalGroupsSequence, positions_mm, strict=True):
            frame.PlanePositionSequence[0].ImagePositionPatient = list(position)

    return change


def group(**attributes):
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return Sequence([item])


def in_order(dataset, order):
    """Puts the frames into another order."""
    frames = dataset.PerFrameFunctionalGroupsSequence
    dataset.PerFrameFunctionalGroupsSequence = Sequence([frames[index] for index in order])
    dataset.PixelData = dataset.pixel_array[order].tobytes()


# --- frames become a volume ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PIR"])
@pytest.mark.parametrize("tilt_deg", [(0.0, 0.0, 0.0), (8.0, -5.0, 11.0)])
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_an_enhanced_image_is_the_volume_of_its_slices(tmp_path, orientation, tilt_deg, modality):
    path, voxels, affine = write(tmp_path, orientation, tilt_deg, modality)
    write_dicom_series(tmp_path / "single", voxels, affine, modality=modality, patient_id="p1", seed=1)

    volume, single = read_series([path]), read_series(list((tmp_path / "single").iterdir()))

    np.testing.assert_array_equal(volume.voxels, voxels)
    assert volume.voxels.dtype == np.int16 if modality == "MR" else np.issubdtype(volume.voxels.dtype, np.integer)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)
    np.testing.assert_array_equal(volume.voxels, single.voxels)
    np.testing.assert_allclose(volume.affine, single.affine, atol=1e-9)
    assert series_grid(read_headers([path])).is_same_as(volume.grid)


@pytest.mark.parametrize("tilt_deg", [(0.0, 0.0, 0.0), (8.0, -5.0, 11.0)])
def test_frames_in_the_order_of_their_places_are_what_simpleitk_reads(tmp_path, tilt_deg):
    path, _, _ = write(tmp_path, tilt_deg=tilt_deg)

    volume, read = read_series([path]), volume_of_sitk(sitk.ReadImage(str(path)))

    np.testing.assert_array_equal(volume.voxels, read.voxels)
    np.testing.assert_allclose(volume.affine, read.affine, atol=1e-4)


def test_the_order_of_the_frames_does_not_matter(tmp_path):
    path, voxels, affine = write(tmp_path)

    volume = read_series([changed(path, lambda one: in_order(one, [2, 0, 3, 1]))])

    np.testing.assert_array_equal(volume.voxels, voxels)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)


def test_each_frame_has_its_own_rescale(tmp_path):
    """The stored numbers 964 and so on, halved in the second frame."""
    path, voxels, _ = write(tmp_path)

    def change(one):
        own = group(RescaleSlope=0.5, RescaleIntercept=-10, RescaleType="HU")
        one.PerFrameFunctionalGroupsSequence[1].PixelValueTransformationSequence = own

    volume = read_series([changed(path, change)])

    expected = voxels.astype(float)
    expected[:, :, 1] = (voxels[:, :, 1] + 1024) * 0.5 - 10
    np.testing.assert_array_equal(volume.voxels, expected)


def test_pixel_size_and_direction_may_be_told_frame_by_frame(tmp_path):
    path, voxels, affine = write(tmp_path)

    def change(one):
        shared = one.SharedFunctionalGroupsSequence[0]
        for frame in one.PerFrameFunctionalGroupsSequence:
            frame.PixelMeasuresSequence = shared.PixelMeasuresSequence
            frame.PlaneOrientationSequence = shared.PlaneOrientationSequence
        del shared.PixelMeasuresSequence, shared.PlaneOrientationSequence

    volume = read_series([changed(path, change)])

    np.testing.assert_array_equal(volume.voxels, voxels)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)


def test_the_frames_of_a_tilted_gantry_keep_their_drift(tmp_path):
    path, voxels, _ = write(tmp_path)

    volume = read_series([changed(path, placed(*((0, number, 5 * number) for number in range(4))))])

    np.testing.assert_array_equal(volume.voxels, voxels)
    np.testing.assert_allclose(volume.affine[:3, 2], [0, -1, 5], atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "syntax"),
    [
        (gdcm.TransferSyntax.RLELossless, "1.2.840.10008.1.2.5"),
        (gdcm.TransferSyntax.JPEGLosslessProcess14_1, "1.2.840.10008.1.2.4.70"),
        (gdcm.TransferSyntax.JPEGLSLossless, "1.2.840.10008.1.2.4.80"),
    ],
)
def test_compressed_frames_are_unpacked(tmp_path, kind, syntax):
    path, voxels, affine = write(tmp_path)
    compress(path, kind)

    volume = read_series([path])

    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(volume.voxels, voxels)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)


def test_a_stack_in_two_files_is_one_volume(tmp_path):
    path, voxels, affine = write(tmp_path)
    second = tmp_path / "second.dcm"
    second.write_bytes(path.read_bytes())

    def keep(frames):
        def change(one):
            pixels = one.pixel_array[frames]
            kept = [one.PerFrameFunctionalGroupsSequence[index] for index in frames]
            one.PerFrameFunctionalGroupsSequence = Sequence(kept)
            one.PixelData, one.NumberOfFrames = pixels.tobytes(), len(frames)
            one.SOPInstanceUID = f"1.2.{len(frames)}"

        return change

    volume = read_series([changed(path, keep([3])), changed(second, keep([0, 1, 2]))])

    np.testing.assert_array_equal(volume.voxels, voxels)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)


def test_a_file_belongs_to_its_series_whatever_its_frames(tmp_path):
    path, _, _ = write(tmp_path)

    headers = read_headers([path])

    assert read_header(path) == headers[0]
    assert [header.frame for header in headers] == [1, 2, 3, 4]
    assert {header.image_id for header in headers} == {headers[0].series_uid}


# --- functional groups -----------------------------------------------------------------------------------------------


def test_what_a_frame_says_itself_comes_before_what_all_share():
    one = Dataset()
    shared, own, silent = Dataset(), Dataset(), Dataset()
    shared.PixelMeasuresSequence = group(PixelSpacing=[1, 1], SliceThickness=5)
    own.PixelMeasuresSequence = group(PixelSpacing=[2, 2])
    one.SharedFunctionalGroupsSequence = Sequence([shared])
    one.PerFrameFunctionalGroupsSequence = Sequence([own, silent])

    first, second = FunctionalGroups(one, 0), FunctionalGroups(one, 1)

    assert first.value("PixelMeasuresSequence", "PixelSpacing") == [2, 2]
    assert second.value("PixelMeasuresSequence", "PixelSpacing") == [1, 1]
    assert first.value("PixelMeasuresSequence", "SliceThickness") == 5
    assert first.value("PlanePositionSequence", "ImagePositionPatient") is None


def test_a_frame_becomes_the_header_of_a_single_slice(tmp_path):
    path, _, affine = write(tmp_path)

    (one,) = single_headers(pydicom.dcmread(path), [3])

    np.testing.assert_allclose(one.ImagePositionPatient, (affine @ [0, 0, 2, 1])[:3] * [-1, -1, 1], atol=1e-6)
    assert (one.PixelSpacing, one.RescaleIntercept, one.StackID, one.PatientID) == ([1.3, 0.7], -1024, "1", "p1")
    assert "NumberOfFrames" not in one and "PerFrameFunctionalGroupsSequence" not in one


# --- what makes no volume --------------------------------------------------------------------------------------------


def test_several_stacks_in_one_file_are_refused_and_named(tmp_path):
    def change(one):
        for index in (2, 3):
            one.PerFrameFunctionalGroupsSequence[index].FrameContentSequence[0].StackID = "2"

    with pytest.raises(UnreadableImage, match=r"holds 2 stacks of frames \(StackID 1, 2\)\. Send each stack"):
        read_series([changed(write(tmp_path)[0], change)])


def test_two_echoes_at_one_place_are_refused(tmp_path):
    path = changed(write(tmp_path)[0], placed((0, 0, 0), (0, 0, 5), (0, 0, 5), (0, 0, 10)))

    with pytest.raises(UnreadableImage, match=r"slices 2 and 3 lie at the same place\. Send one stack: one echo"):
        read_series([path])


def test_a_missing_frame_is_told_with_the_place_of_the_gap(tmp_path):
    path = changed(write(tmp_path)[0], placed((0, 0, 0), (0, 0, 5), (0, 0, 10), (0, 0, 20)))

    with pytest.raises(UnreadableImage, match=r"slices 3 and 4 are 10\.0 mm apart, the others 5\.0 mm"):
        read_series([path])


@pytest.mark.parametrize(
    ("sequence", "attribute"),
    [("PlaneOrientationSequence", "ImageOrientationPatient"), ("PixelMeasuresSequence", "PixelSpacing")],
)
def test_a_frame_that_does_not_say_where_it_lies_is_refused(tmp_path, sequence, attribute):
    path = changed(write(tmp_path)[0], lambda one: delattr(one.SharedFunctionalGroupsSequence[0], sequence))

    with pytest.raises(UnreadableImage, match=rf"Frame 1 of frames\.dcm does not say where .*: {attribute} missing"):
        read_headers([path])


def test_frames_without_a_description_are_refused(tmp_path):
    def change(one):
        del one.PerFrameFunctionalGroupsSequence[3]

    with pytest.raises(UnreadableImage, match=r"says that it has 4 frames and describes 3\. Send it again"):
        read_header(changed(write(tmp_path)[0], change))


def test_pixels_that_are_not_all_there_are_refused(tmp_path):
    path = changed(write(tmp_path)[0], lambda one: setattr(one, "PixelData", one.PixelData[:-20]))

    with pytest.raises(UnreadableImage, match=r"frames\.dcm is cut off: its header promises 280 bytes of pixels, 260 "):
        read_series([path])


def test_an_enhanced_colour_image_is_refused(tmp_path):
    def change(one):
        one.SamplesPerPixel, one.PhotometricInterpretation = 3, "RGB"

    with pytest.raises(UnreadableImage, match=r"is a colour image \(3 samples a pixel, RGB\)"):
        read_header(changed(write(tmp_path)[0], change))
