"""DICOM series: slices find their order and their place, and what is no stack of grey slices is refused."""

from __future__ import annotations

import re
import struct

import gdcm
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import set_pixel_data
from pydicom.sequence import Sequence
from pydicom.uid import HTJ2K, MPEG2MPML, DeflatedExplicitVRLittleEndian, RLELossless

from lib.errors import UnreadableImage
from lib.phantoms.dicom_series import write_dicom_series
from lib.phantoms.scanner import oriented_grid
from lib.series import NO_IMAGES, looks_like_dicom, ordered, read_header, read_headers, read_series, series_grid
from tests.compressing import compress
from tests.itk import volume_of_sitk

SHAPE = (7, 5, 4)


def write(folder, orientation="LPS", tilt_deg=(0.0, 0.0, 0.0), seed=1, shape=SHAPE):
    """A series whose voxels count up from -60; the paths of its slices, its voxels and its affine."""
    shape, affine = oriented_grid(orientation, shape, (0.7, 1.3, 5.0), (12.0, -34.0, 567.8), tilt_deg)
    voxels = np.arange(np.prod(shape), dtype=np.int16).reshape(shape) - 60
    write_dicom_series(folder, voxels, affine, patient_id="p1", seed=seed)
    return sorted(folder.iterdir()), voxels, affine


def changed(path, **attributes):
    """Rewrites a slice with other attributes; ``None`` deletes one."""
    one = pydicom.dcmread(path)
    for name, value in attributes.items():
        if value is None:
            delattr(one, name)
        else:
            setattr(one, name, value)
    one.save_as(path)
    return path


STORED = np.arange(35, dtype=np.uint16).reshape(7, 5) * 100
"""Pixels (I, J) of a radiograph, 0 to 3400 of 12 bits."""


def radiograph(folder, modality="MG", photometric="MONOCHROME2", number=1, pixels=STORED, **attributes):
    """One radiograph without a place in the patient."""
    path = write(folder, shape=(7, 5, 1))[0][0]
    one = pydicom.dcmread(path)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness",
                 "RescaleSlope", "RescaleIntercept", "RescaleType"):  # fmt: skip
        delattr(one, name)
    one.Modality, one.ImagerPixelSpacing, one.SOPInstanceUID = modality, [0.1, 0.2], f"1.2.{number}"
    set_pixel_data(one, pixels.T, photometric, bits_stored=12, generate_instance_uid=False)
    for name, value in attributes.items():
        setattr(one, name, value)
    one.save_as(path)
    return path.rename(path.with_name(f"view_{number}.dcm"))


def table(attribute, entries):
    """A look-up table for the values from 0 on."""
    item = Dataset()
    item.LUTDescriptor = [len(entries), 0, 16]
    item.LUTData = np.asarray(entries, np.uint16).tobytes()
    if attribute == "ModalityLUTSequence":
        item.ModalityLUTType = "US"
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
    return {attribute: Sequence([item])}


def empty(path, *names):
    one = pydicom.dcmread(path)
    for name in names:
        one[name].clear()
    one.save_as(path)
    return path


# --- a stack of slices -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PIR"])
@pytest.mark.parametrize("tilt_deg", [(0.0, 0.0, 0.0), (8.0, -5.0, 11.0)])
def test_a_series_has_the_voxels_and_the_place_that_were_written(tmp_path, orientation, tilt_deg):
    paths, voxels, affine = write(tmp_path, orientation, tilt_deg)

    volume = read_series(paths)

    np.testing.assert_array_equal(volume.voxels, voxels)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)


def test_headers_alone_tell_the_same_grid_as_the_voxels(tmp_path):
    paths, _, _ = write(tmp_path, tilt_deg=(8.0, -5.0, 11.0))

    assert series_grid([read_header(path) for path in paths]).is_same_as(read_series(paths).grid)


def test_the_order_of_the_files_does_not_matter(tmp_path):
    paths, voxels, affine = write(tmp_path)

    volume = read_series([paths[2], paths[0], paths[3], paths[1]])

    np.testing.assert_array_equal(volume.voxels, voxels)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)


def test_a_single_slice_is_as_thick_as_its_header_says(tmp_path):
    paths, voxels, affine = write(tmp_path)

    volume = read_series(paths[1:2])

    np.testing.assert_array_equal(volume.voxels, voxels[:, :, 1:2])
    assert volume.grid.spacing_mm == pytest.approx((0.7, 1.3, 5.0))
    np.testing.assert_allclose(volume.affine[:, 3], affine @ [0, 0, 1, 1], atol=1e-6)


def test_the_slices_of_a_tilted_gantry_keep_their_drift(tmp_path):
    """Each slice lies 5 mm above and 1 mm behind the one before."""
    paths, voxels, _ = write(tmp_path)
    for number, path in enumerate(paths):
        changed(path, ImagePositionPatient=[0, number, 5 * number])

    volume = read_series(paths)

    np.testing.assert_array_equal(volume.voxels, voxels)
    np.testing.assert_allclose(volume.affine[:3, 2], [0, -1, 5], atol=1e-6)
    assert volume.grid.is_same_as(series_grid([read_header(path) for path in paths]))


def test_an_empty_thickness_is_one_millimetre_and_an_unnamed_patient_is_the_study(tmp_path):
    path = empty(write(tmp_path, shape=(7, 5, 1))[0][0], "SliceThickness", "PatientID")

    header = read_header(path)

    assert (header.thickness_mm, header.patient) == (1.0, header.study_uid)


def test_each_slice_has_its_own_rescale_also_where_the_first_one_has_whole_numbers(tmp_path):
    """As PET stores them: each slice uses all its bits."""
    paths, voxels, _ = write(tmp_path)
    for path, slope in zip(paths, (1, 0.5, 0.25, 2), strict=True):
        changed(path, RescaleSlope=slope, RescaleIntercept=0)

    volume = read_series(paths)

    np.testing.assert_array_equal(volume.voxels, (voxels + 1024.0) * (1, 0.5, 0.25, 2))


@pytest.mark.parametrize("orientation", ["LPS", "LPI", "RAS", "PIR"])
@pytest.mark.parametrize("tilt_deg", [(0.0, 0.0, 0.0), (8.0, -5.0, 11.0)])
def test_voxels_and_place_are_those_that_simpleitk_finds_by_itself(tmp_path, orientation, tilt_deg):
    paths, _, _ = write(tmp_path, orientation, tilt_deg)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path)))

    volume, read = read_series(paths), volume_of_sitk(reader.Execute())

    np.testing.assert_array_equal(volume.voxels, read.voxels)
    np.testing.assert_allclose(volume.affine, read.affine, atol=1e-4)


def test_the_patient_is_told_with_the_issuer(tmp_path):
    path = write(tmp_path)[0][0]

    assert read_header(path).patient == "p1@"
    assert read_header(changed(path, IssuerOfPatientID="clinic")).patient == "p1@clinic"


def test_the_preamble_tells_dicom_from_other_files(tmp_path):
    (tmp_path / "letter").write_bytes(b"a letter" * 40)
    (tmp_path / "short").write_bytes(b"DICM")

    assert looks_like_dicom(write(tmp_path / "series")[0][0])
    assert not looks_like_dicom(tmp_path / "letter") and not looks_like_dicom(tmp_path / "short")


# --- radiographs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("modality", ["CR", "DX", "MG", "RG"])
def test_a_radiograph_needs_no_place_and_its_columns_run_to_the_left_and_its_rows_to_the_back(tmp_path, modality):
    path = radiograph(tmp_path, modality)

    volume = read_series([path])

    assert volume.voxels.dtype == np.uint16
    np.testing.assert_array_equal(volume.voxels[:, :, 0], STORED)
    np.testing.assert_array_equal(volume.affine, np.diag([-0.2, -0.1, 1, 1]))
    assert series_grid([read_header(path)]).is_same_as(volume.grid)


def test_the_calibrated_pixel_size_comes_before_the_detectors_and_without_either_it_is_one_millimetre(tmp_path):
    calibrated = radiograph(tmp_path / "a", PixelSpacing=[0.07, 0.08])
    unknown = changed(radiograph(tmp_path / "b"), ImagerPixelSpacing=None)

    assert series_grid([read_header(calibrated)]).spacing_mm == pytest.approx((0.08, 0.07, 1.0))
    assert series_grid([read_header(unknown)]).spacing_mm == (1.0, 1.0, 1.0)
    assert read_series([calibrated]).is_measured and not read_series([unknown]).is_measured


def test_every_radiograph_of_a_series_is_an_image_of_its_own(tmp_path):
    paths = [radiograph(tmp_path, number=number) for number in (1, 2)]

    series = read_header(paths[0]).series_uid
    assert [read_header(path).image_id for path in paths] == [f"{series}/1.2.1", f"{series}/1.2.2"]
    with pytest.raises(UnreadableImage, match=r"holds 2 radiographs \(MG\), each an image of its own"):
        read_series(paths)


def test_a_slice_belongs_to_its_series(tmp_path):
    header = read_header(write(tmp_path)[0][0])

    assert header.image_id == header.series_uid


def test_where_the_lowest_value_is_white_the_values_are_turned_round(tmp_path):
    volume = read_series([radiograph(tmp_path, photometric="MONOCHROME1")])

    np.testing.assert_array_equal(volume.voxels[:, :, 0], 3400.0 - STORED)


def test_a_window_is_applied_as_a_viewer_does(tmp_path):
    """Values up to 1000 become black, those from 2000 on white: 0 and 4095 in 12 bits."""
    path = radiograph(tmp_path, WindowCenter=1500, WindowWidth=1000, VOILUTFunction="LINEAR_EXACT")

    shown = read_series([path]).voxels[:, :, 0]

    np.testing.assert_allclose(shown, np.clip((STORED - 1000.0) / 1000, 0, 1) * 4095, atol=1e-3)


def test_a_window_comes_before_the_inversion(tmp_path):
    path = radiograph(tmp_path, photometric="MONOCHROME1", WindowCenter=1500, WindowWidth=1000,
                      VOILUTFunction="LINEAR_EXACT")  # fmt: skip

    shown = read_series([path]).voxels[:, :, 0]

    np.testing.assert_allclose(shown, 4095 - np.clip((STORED - 1000.0) / 1000, 0, 1) * 4095, atol=1e-3)


@pytest.mark.parametrize("attribute", ["VOILUTSequence", "ModalityLUTSequence"])
def test_a_table_of_grey_values_is_looked_up(tmp_path, attribute):
    entries = 4095 - np.arange(4096)

    shown = read_series([radiograph(tmp_path, **table(attribute, entries))]).voxels[:, :, 0]

    np.testing.assert_array_equal(shown, 4095.0 - STORED)


def test_of_a_table_and_a_window_the_table_is_used(tmp_path):
    both = table("VOILUTSequence", np.arange(4096) // 2)

    shown = read_series([radiograph(tmp_path, WindowCenter=1500, WindowWidth=1000, **both)]).voxels[:, :, 0]

    np.testing.assert_array_equal(shown, STORED // 2)


def test_a_window_does_not_change_the_hounsfield_units_of_a_slice(tmp_path):
    paths, voxels, _ = write(tmp_path, shape=(7, 5, 1))

    volume = read_series([changed(paths[0], WindowCenter=40, WindowWidth=80)])

    np.testing.assert_array_equal(volume.voxels, voxels)


def test_a_window_without_a_width_is_refused(tmp_path):
    path = radiograph(tmp_path, WindowCenter=1500, WindowWidth=0)

    with pytest.raises(UnreadableImage, match=r"Series [\d.]+ cannot be read: .*Window Width must be greater"):
        read_series([path])


def test_run_lengths_are_unpacked(tmp_path):
    path = radiograph(tmp_path)
    one = pydicom.dcmread(path)
    one.compress(RLELossless, generate_instance_uid=False)
    one.save_as(path)

    np.testing.assert_array_equal(read_series([path]).voxels[:, :, 0], STORED)


@pytest.mark.parametrize(
    ("kind", "syntax"),
    [
        (gdcm.TransferSyntax.JPEGLosslessProcess14_1, "1.2.840.10008.1.2.4.70"),
        (gdcm.TransferSyntax.JPEGLSLossless, "1.2.840.10008.1.2.4.80"),
        (gdcm.TransferSyntax.JPEG2000Lossless, "1.2.840.10008.1.2.4.90"),
    ],
)
def test_losslessly_compressed_pixels_are_unpacked(tmp_path, kind, syntax):
    pixels = np.random.default_rng(0).integers(0, 4096, (67, 45), np.uint16)
    path = radiograph(tmp_path, pixels=pixels)
    compress(path, kind)

    volume = read_series([path])

    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(volume.voxels[:, :, 0], pixels)


@pytest.mark.parametrize(
    ("kind", "syntax"),
    [
        (gdcm.TransferSyntax.RLELossless, "1.2.840.10008.1.2.5"),
        (gdcm.TransferSyntax.JPEGLosslessProcess14_1, "1.2.840.10008.1.2.4.70"),
        (gdcm.TransferSyntax.JPEGLSLossless, "1.2.840.10008.1.2.4.80"),
        (gdcm.TransferSyntax.JPEG2000Lossless, "1.2.840.10008.1.2.4.90"),
        (gdcm.TransferSyntax.DeflatedExplicitVRLittleEndian, "1.2.840.10008.1.2.1.99"),
        (gdcm.TransferSyntax.ExplicitVRBigEndian, "1.2.840.10008.1.2.2"),
    ],
)
def test_a_stack_in_any_lossless_syntax_is_the_same_volume(tmp_path, kind, syntax):
    paths, voxels, affine = write(tmp_path, shape=(67, 45, 3))
    for path in paths:
        compress(path, kind)

    volume = read_series(paths)

    assert pydicom.dcmread(paths[0]).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(volume.voxels, voxels)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)


# --- what makes no volume --------------------------------------------------------------------------------------------


def test_a_missing_slice_is_told_with_the_place_of_the_gap(tmp_path):
    paths, _, _ = write(tmp_path, shape=(7, 5, 6))

    with pytest.raises(UnreadableImage, match=r"slices 2 and 3 are 10\.0 mm apart, the others 5\.0 mm\. A slice is"):
        read_series([*paths[:2], *paths[3:]])


def test_slices_whose_distance_grows_are_refused(tmp_path):
    paths, _, _ = write(tmp_path)
    for path, height in zip(paths, (0, 5, 10.5, 17), strict=True):
        changed(path, ImagePositionPatient=[0, 0, height])

    with pytest.raises(UnreadableImage, match=r"slices 3 and 4 are 6\.5 mm apart, the others 5\.5 mm"):
        read_series(paths)


def test_a_distance_that_is_rounded_is_even(tmp_path):
    paths, _, _ = write(tmp_path)
    for path, height in zip(paths, (0, 3.33, 6.67, 10), strict=True):
        changed(path, ImagePositionPatient=[0, 0, height])

    assert read_series(paths).grid.spacing_mm[2] == pytest.approx(10 / 3)


def test_two_slices_at_one_place_are_refused(tmp_path):
    paths, _, _ = write(tmp_path)
    changed(paths[2], ImagePositionPatient=list(pydicom.dcmread(paths[1]).ImagePositionPatient))

    with pytest.raises(UnreadableImage, match=r"slices 2 and 3 lie at the same place"):
        read_series(paths)


def test_slices_of_two_sizes_are_refused(tmp_path):
    paths, _, _ = write(tmp_path / "a")
    others, _, _ = write(tmp_path / "b", shape=(9, 5, 4))

    with pytest.raises(UnreadableImage, match=r"mixes slices of \[\(7, 5\), \(9, 5\)\] pixels"):
        ordered([read_header(path) for path in (*paths, others[0])])


@pytest.mark.parametrize("attributes", [{"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, {"PixelSpacing": [1.3, 0.8]}])
def test_slices_of_two_directions_or_pixel_sizes_are_refused(tmp_path, attributes):
    paths, _, _ = write(tmp_path)
    changed(paths[3], **attributes)

    with pytest.raises(UnreadableImage, match=r"mixes slices of several directions or pixel sizes"):
        read_series(paths)


def test_a_slice_beside_the_stack_is_refused(tmp_path):
    paths, _, _ = write(tmp_path)
    x, y, z = pydicom.dcmread(paths[1]).ImagePositionPatient
    changed(paths[1], ImagePositionPatient=[x + 3, y + 4, z])

    with pytest.raises(UnreadableImage, match=r"slice 2 lies 5\.0 mm off the line of the others"):
        read_series(paths)


def test_pixels_that_are_not_all_there_are_refused(tmp_path):
    paths, _, _ = write(tmp_path)
    paths[1].write_bytes(paths[1].read_bytes()[:-20])

    with pytest.raises(UnreadableImage, match=r"002\.dcm is cut off: its header promises 70 bytes of pixels, 50 are"):
        read_series(paths)


def test_a_slice_whose_pixels_lack_a_part_is_refused_although_its_file_is_whole(tmp_path):
    paths, _, _ = write(tmp_path)
    changed(paths[1], PixelData=pydicom.dcmread(paths[1]).PixelData[:-20])

    with pytest.raises(UnreadableImage, match=r"its header promises 70 bytes of pixels, 50 are there. Send it again"):
        read_headers(paths)


def test_a_slice_without_pixels_is_refused_and_still_belongs_to_its_series(tmp_path):
    paths, _, _ = write(tmp_path)
    changed(paths[3], PixelData=None)

    assert read_header(paths[3]).image_id == read_header(paths[0]).image_id
    with pytest.raises(UnreadableImage, match=r"slice_004\.dcm has no pixels \(PixelData\)"):
        read_headers(paths)


def test_bits_that_no_pixel_can_have_are_refused(tmp_path):
    paths, _, _ = write(tmp_path)
    changed(paths[2], BitsAllocated=13)

    with pytest.raises(UnreadableImage, match=r"slice_003\.dcm says that it has 13 bits a pixel \(BitsAllocated\)"):
        read_headers(paths)


@pytest.mark.parametrize("syntax", [HTJ2K, MPEG2MPML], ids=["HTJ2K", "MPEG2"])
def test_a_transfer_syntax_that_nothing_here_decodes_is_refused_by_name(tmp_path, syntax):
    paths, _, _ = write(tmp_path)
    one = pydicom.dcmread(paths[0])
    one.PixelData = encapsulate([bytes(8)])
    one.file_meta.TransferSyntaxUID = syntax
    one.save_as(paths[0])

    with pytest.raises(UnreadableImage, match=rf"{re.escape(syntax.name)} \(transfer syntax {syntax}\)"):
        read_headers(paths)


def test_others_odd_values_are_read_without_a_word(tmp_path):
    """A StudyID has at most 16 letters; under pytest a warning is an error."""
    paths, _, _ = write(tmp_path, shape=(7, 5, 1))
    changed(paths[0], StudyID="123456789012345678", AccessionNumber="123456789012345678")

    assert read_series(paths).voxels.shape == (7, 5, 1)
    assert pydicom.dcmread(paths[0]).StudyID == "123456789012345678"


# --- what is no image ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("modality", sorted(NO_IMAGES))
def test_dicom_objects_that_are_no_images_are_refused_by_name(tmp_path, modality):
    path = changed(write(tmp_path)[0][0], Modality=modality)

    with pytest.raises(UnreadableImage, match=rf"slice_001\.dcm is no image but .* \(DICOM {modality}\)"):
        read_header(path)


def test_the_objects_that_lie_beside_images_most_often_are_known():
    assert {"SEG", "RTSTRUCT", "RTDOSE", "RTPLAN", "SR", "PR", "KO", "REG"} <= set(NO_IMAGES)


@pytest.mark.parametrize("attribute", ["Rows", "Columns", "SeriesInstanceUID", "StudyInstanceUID"])
def test_an_object_without_pixels_or_series_is_refused(tmp_path, attribute):
    path = changed(write(tmp_path)[0][0], **{attribute: None})

    with pytest.raises(UnreadableImage, match=rf"is no DICOM image: {attribute} missing"):
        read_header(path)


@pytest.mark.parametrize(("samples", "photometric"), [(3, "RGB"), (3, "YBR_FULL_422"), (1, "PALETTE COLOR")])
def test_a_colour_image_is_refused(tmp_path, samples, photometric):
    path = changed(write(tmp_path)[0][0], SamplesPerPixel=samples, PhotometricInterpretation=photometric)

    with pytest.raises(UnreadableImage, match=rf"is a colour image \({samples} samples a pixel, {photometric}\)"):
        read_header(path)


@pytest.mark.parametrize("attribute", ["PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"])
@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_a_slice_that_does_not_say_where_it_lies_is_refused(tmp_path, modality, attribute):
    paths, _, _ = write(tmp_path)
    changed(paths[0], Modality=modality, **{attribute: None})
    empty(changed(paths[1], Modality=modality), attribute)

    for path in paths[:2]:
        with pytest.raises(UnreadableImage, match=rf"where its slice lies: {attribute} missing \(modality {modality}"):
            read_header(path)


def test_the_pixel_size_at_the_detector_does_not_place_a_slice(tmp_path):
    path = changed(write(tmp_path)[0][0], PixelSpacing=None, ImagerPixelSpacing=[0.1, 0.1])

    with pytest.raises(UnreadableImage, match=r"PixelSpacing missing \(modality CT\)"):
        read_header(path)


def test_a_radiograph_needs_an_instance_uid(tmp_path):
    path = radiograph(tmp_path, SOPInstanceUID="")

    with pytest.raises(UnreadableImage, match=r"view_1\.dcm has no usable SOPInstanceUID, found ''"):
        read_header(path)


@pytest.mark.parametrize("modality", ["CT", "MG"])
def test_several_frames_in_one_file_are_refused(tmp_path, modality):
    path = changed(write(tmp_path)[0][0], NumberOfFrames=12, Modality=modality)

    with pytest.raises(
        UnreadableImage, match=r"holds 12 frames in one file; wanted is one slice a file or an enhanced image that"
    ):
        read_header(path)


def test_tomosynthesis_is_refused_although_each_frame_says_where_it_lies(tmp_path):
    groups = Sequence([Dataset()])
    path = changed(write(tmp_path)[0][0], PerFrameFunctionalGroupsSequence=groups, Modality="MG")

    with pytest.raises(UnreadableImage, match=r"holds 1 frames in one file; .* no tomosynthesis"):
        read_header(path)


@pytest.mark.parametrize("size", [{"Rows": 0}, {"Columns": 0}, {"Rows": 0, "Columns": 0}], ids=str)
def test_an_image_of_no_pixels_is_refused(tmp_path, size):
    path = changed(write(tmp_path)[0][0], **size)

    with pytest.raises(UnreadableImage, match=r"has \d+x\d+ pixels, which is none"):
        read_header(path)


@pytest.mark.parametrize("spacing", [[0, 1], [-1, 1]])
def test_pixels_without_an_area_are_refused(tmp_path, spacing):
    path = changed(write(tmp_path)[0][0], PixelSpacing=spacing)

    with pytest.raises(UnreadableImage, match=r"has no usable pixel size or orientation"):
        read_header(path)


@pytest.mark.parametrize(
    ("attribute", "value", "shown"),
    [("ImagePositionPatient", [1, 2], r"\[1\.0, 2\.0\], wanted are 3"), ("PixelSpacing", [1, 1, 1], r"wanted are 2"),
     ("ImageOrientationPatient", [1, 0, 0], r"wanted are 6")],
)  # fmt: skip
def test_a_place_with_a_wrong_count_of_numbers_is_refused(tmp_path, attribute, value, shown):
    path = changed(write(tmp_path)[0][0], **{attribute: value})

    with pytest.raises(UnreadableImage, match=rf"slice_001\.dcm: {attribute} is .*{shown}"):
        read_header(path)


@pytest.mark.parametrize("length", [0, 140, 200])
def test_a_file_that_ends_in_its_header_is_refused(tmp_path, length):
    path = write(tmp_path)[0][0]
    path.write_bytes(path.read_bytes()[:length])

    with pytest.raises(UnreadableImage, match=r"slice_001\.dcm is no (readable DICOM file|DICOM image)"):
        read_header(path)


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_header_is_refused_or_read_but_never_breaks_the_reader(tmp_path, seed):
    path = write(tmp_path)[0][0]
    content = bytearray(path.read_bytes())
    random = np.random.default_rng(seed)
    for place in random.integers(132, 900, 8):
        content[place] = random.integers(0, 256)
    path.write_bytes(content)

    try:
        assert read_header(path).shape
    except UnreadableImage as error:
        assert "slice_001.dcm" in str(error)


# --- what a file holds beside its values -----------------------------------------------------------------------------


def by_itk(paths):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in paths])
    return volume_of_sitk(reader.Execute())


@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize(("used", "high"), [(12, 11), (12, 13), (16, 15), (10, 9)])
@pytest.mark.parametrize("rescale", [(1, 0), (1, -1024), (2, 0), (1, 300), (0.5, 0.25)])
def test_bits_beside_the_value_are_left_out_and_types_are_those_that_itk_takes(tmp_path, sign, used, high, rescale):
    """Older scanners kept overlays in the bits above; the values fill all bits that are used."""
    paths, _, _ = write(tmp_path)
    for path in paths:
        noise = np.random.default_rng(3).integers(0, 1 << 16, (5, 7), np.uint16)
        changed(path, BitsStored=used, HighBit=high, PixelRepresentation=sign, PixelData=noise.tobytes(),
                RescaleSlope=rescale[0], RescaleIntercept=rescale[1])  # fmt: skip

    voxels, expected = read_series(paths).voxels, by_itk(paths).voxels

    np.testing.assert_array_equal(voxels, expected)
    assert voxels.dtype == expected.dtype


@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize("rescale", [(1, 0), (1, -128), (1, 1), (3, 0)])
def test_pixels_of_one_byte_are_read(tmp_path, sign, rescale):
    paths, _, _ = write(tmp_path)
    for path in paths:
        changed(path, BitsAllocated=8, BitsStored=8, HighBit=7, PixelRepresentation=sign, PixelData=bytes(range(36)),
                RescaleSlope=rescale[0], RescaleIntercept=rescale[1])  # fmt: skip

    voxels, expected = read_series(paths).voxels, by_itk(paths).voxels

    np.testing.assert_array_equal(voxels, expected)
    assert voxels.dtype == expected.dtype


@pytest.mark.parametrize("used", [17, 65535])
def test_bits_that_there_cannot_be_are_refused(tmp_path, used):
    paths, _, _ = write(tmp_path)

    with pytest.raises(UnreadableImage, match=rf"says that {used} of 16 bits are used, which cannot be"):
        read_series([changed(path, BitsStored=used) for path in paths])


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
@pytest.mark.parametrize("kind", [None, gdcm.TransferSyntax.JPEGLosslessProcess14_1, gdcm.TransferSyntax.RLELossless])
def test_slices_whose_lowest_value_is_shown_white_keep_their_values(tmp_path, modality, kind):
    paths, voxels, _ = write(tmp_path)
    for path in paths:
        changed(path, PhotometricInterpretation="MONOCHROME1", Modality=modality)
        if kind is not None:
            compress(path, kind)

    np.testing.assert_array_equal(read_series(paths).voxels, voxels)


# --- nothing is believed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("uid", ["..", ".", "../evil", ".hidden", "a/b", "1.2\\3", "a b", "-rf", "1" * 65, "1.2\n3"])
@pytest.mark.parametrize("attribute", ["SeriesInstanceUID", "StudyInstanceUID", "SOPInstanceUID"])
@pytest.mark.parametrize("modality", ["CT", "MG"])
def test_a_uid_that_could_name_no_file_is_refused(tmp_path, modality, attribute, uid):
    path = write(tmp_path)[0][0]
    one = pydicom.dcmread(path)
    one.Modality = modality
    one[attribute] = pydicom.DataElement(attribute, "LO" if "\\" not in uid else "LT", uid, already_converted=True)
    one.save_as(path)

    with pytest.raises(UnreadableImage, match=rf"has no usable {attribute}, found '.*'"):
        read_header(path)


@pytest.mark.parametrize("uid", ["1.2.840.10008", "anonymous_7-b", "A"])
def test_a_uid_that_an_anonymiser_made_up_is_taken(tmp_path, uid):
    assert read_header(changed(write(tmp_path)[0][0], SeriesInstanceUID=uid)).image_id == uid


@pytest.mark.parametrize("edges", [{"Rows": 65535, "Columns": 65535}, {"BitsAllocated": 64, "Rows": 60000}])
def test_slices_that_claim_more_than_the_machine_takes_are_refused_at_listing(tmp_path, monkeypatch, edges):
    monkeypatch.setattr("lib.room.MOST_VOXEL_BYTES", 1 << 20)
    headers = [read_header(changed(path, **edges)) for path in write(tmp_path)[0]]

    with pytest.raises(UnreadableImage, match=r"Series \S+ has \d+x\d+x4 voxels, which take .* this machine takes"):
        series_grid(headers)


@pytest.mark.parametrize("read", [read_header, lambda path: read_series([path])])
def test_a_file_that_is_compressed_as_a_whole_is_inflated_within_bounds(tmp_path, monkeypatch, read):
    path = changed(write(tmp_path)[0][0], Rows=1024, Columns=1024, PixelData=bytes(2 << 20))
    compress_whole(path)
    assert path.stat().st_size < 10_000 and read(path)

    monkeypatch.setattr("lib.room.MOST_VOXEL_BYTES", 2 << 20)
    with pytest.raises(UnreadableImage, match=r"has more than 2 MiB when it is decompressed, which is more than this"):
        read(path)


def compress_whole(path):
    one = pydicom.dcmread(path)
    one.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    one.save_as(path)


def test_sequences_in_sequences_without_end_are_refused(tmp_path):
    path = write(tmp_path)[0][0]
    content = path.read_bytes()
    at = content.index(b"\xe0\x7f\x10\x00")
    # ReferencedImageSequence of undefined length, each with an item of undefined length.
    deep = (b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff") * 20_000
    path.write_bytes(content[:at] + deep + content[at:])

    with pytest.raises(UnreadableImage, match=r"slice_001\.dcm is no readable DICOM file"):
        read_header(path)


@pytest.mark.parametrize("rescale", [("nan", "0"), ("1", "inf")])
def test_a_rescale_that_is_no_number_is_refused(tmp_path, rescale):
    path = changed(write(tmp_path)[0][0], RescaleSlope=float(rescale[0]), RescaleIntercept=float(rescale[1]))

    with pytest.raises(UnreadableImage, match=r"has the rescale \S+ and \S+; wanted are numbers"):
        read_header(path)


@pytest.mark.parametrize("begin", [b"\xff\xd8\xff\xd9", b"nothing known", b"\xff\x0a\0\0", b"\xff\x4f\xff\x51\0"])
def test_a_compressed_slice_that_does_not_tell_its_size_is_decoded_by_nobody(tmp_path, begin):
    path = write(tmp_path, shape=(67, 45, 1))[0][0]
    compress(path, gdcm.TransferSyntax.JPEG2000Lossless)
    changed(path, PixelData=encapsulate([begin]))

    with pytest.raises(UnreadableImage, match=r"frame 1 begins with b'.*' and does not tell its size"):
        read_series([path])


@pytest.mark.parametrize("at", [(8, ">4I", 40000, 40000, 0, 0), (40, ">H", 16384)])
def test_a_slice_of_jpeg_2000_that_claims_more_is_decoded_by_nobody(tmp_path, at):
    path = write(tmp_path, shape=(67, 45, 1))[0][0]
    compress(path, gdcm.TransferSyntax.JPEG2000Lossless)
    frame = bytearray(next(generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1)))
    place, form, *numbers = at
    struct.pack_into(form, frame, place, *numbers)
    changed(path, PixelData=encapsulate([bytes(frame)]))

    with pytest.raises(UnreadableImage, match=r"frame 1 has (\d+ bytes for 40000x40000 pixels|16384 values a pixel)"):
        read_series([path])
