"""DICOM series: slices find their order and their place, and what is no stack of grey slices is refused."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from lib.errors import UnreadableImage
from lib.phantoms.dicom_series import write_dicom_series
from lib.phantoms.scanner import oriented_grid
from lib.series import NO_IMAGES, looks_like_dicom, ordered, read_header, read_series, series_grid

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


def test_a_projection_without_a_place_is_an_image_of_one_slice(tmp_path):
    path = write(tmp_path, shape=(7, 5, 1))[0][0]
    changed(path, ImagePositionPatient=None, ImageOrientationPatient=None, SliceThickness=None, PixelSpacing=None,
            Modality="MG", ImagerPixelSpacing=[0.1, 0.2])  # fmt: skip

    grid = series_grid([read_header(path)])

    assert grid.shape == (7, 5, 1)
    assert grid.spacing_mm == pytest.approx((0.2, 0.1, 1.0))


def test_empty_attributes_count_as_missing(tmp_path):
    path = empty(write(tmp_path, shape=(7, 5, 1))[0][0], "SliceThickness", "ImagePositionPatient", "PatientID")

    header = read_header(path)

    assert (header.thickness_mm, header.origin_mm, header.patient) == (1.0, (0.0, 0.0, 0.0), header.study_uid)


def test_the_patient_is_told_with_the_issuer(tmp_path):
    path = write(tmp_path)[0][0]

    assert read_header(path).patient == "p1@"
    assert read_header(changed(path, IssuerOfPatientID="clinic")).patient == "p1@clinic"


def test_the_preamble_tells_dicom_from_other_files(tmp_path):
    (tmp_path / "letter").write_bytes(b"a letter" * 40)
    (tmp_path / "short").write_bytes(b"DICM")

    assert looks_like_dicom(write(tmp_path / "series")[0][0])
    assert not looks_like_dicom(tmp_path / "letter") and not looks_like_dicom(tmp_path / "short")


# --- what makes no volume --------------------------------------------------------------------------------------------


def test_a_missing_slice_is_told_with_the_place_of_the_gap(tmp_path):
    paths, _, _ = write(tmp_path, shape=(7, 5, 6))

    with pytest.raises(UnreadableImage, match=r"slices 2 and 3 are 10\.0 mm apart, the others 5\.0 mm\. A slice is"):
        read_series([*paths[:2], *paths[3:]])


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

    with pytest.raises(UnreadableImage, match=r"Series [\d.]+ cannot be read"):
        read_series(paths)


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


def test_a_colour_image_is_refused(tmp_path):
    path = changed(write(tmp_path)[0][0], SamplesPerPixel=3)

    with pytest.raises(UnreadableImage, match=r"is a colour image \(3 samples a pixel\)"):
        read_header(path)


def test_several_frames_in_one_file_are_refused(tmp_path):
    path = changed(write(tmp_path)[0][0], NumberOfFrames=12)

    with pytest.raises(UnreadableImage, match=r"holds 12 frames in one file; wanted is one slice a file"):
        read_header(path)


def test_an_enhanced_object_of_one_frame_keeps_its_place_elsewhere_and_is_refused(tmp_path):
    path = changed(write(tmp_path)[0][0], PerFrameFunctionalGroupsSequence=Sequence([Dataset()]))

    with pytest.raises(UnreadableImage, match=r"holds 1 frames in one file"):
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
