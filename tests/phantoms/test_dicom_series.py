"""The DICOM writer: what a reader stacks is what was written, wherever the patient lies."""

import random
import shutil

import numpy as np
import pydicom
import pytest
import SimpleITK

from lib.phantoms.dicom_series import write_dicom_series
from lib.phantoms.scanner import oriented_grid

TO_RAS = np.diag([-1.0, -1.0, 1.0])


def drawn_volume(shape=(7, 5, 4)):
    """Every voxel its own value."""
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape) - 60


def grid(orientation="LPS", tilt_deg=(0.0, 0.0, 0.0), shape=(7, 5, 4)):
    return oriented_grid(orientation, shape, (0.7, 1.3, 5.0), (12.0, -34.0, 567.8), tilt_deg)


def read_back(folder):
    """Voxels (I, J, K) and affine to RAS mm as SimpleITK stacks them."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = TO_RAS @ np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = TO_RAS @ np.array(image.GetOrigin())
    return SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0), affine


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PIR"])
@pytest.mark.parametrize("tilt_deg", [(0.0, 0.0, 0.0), (8.0, -5.0, 11.0)])
def test_a_reader_gets_back_voxels_and_affine(tmp_path, modality, orientation, tilt_deg):
    shape, affine = grid(orientation, tilt_deg)
    volume = drawn_volume(shape)

    write_dicom_series(tmp_path, volume, affine, modality=modality, patient_id="p1", seed=1)

    voxels, found = read_back(tmp_path)
    np.testing.assert_array_equal(voxels, volume)
    np.testing.assert_allclose(found, affine, atol=1e-6)


def test_the_order_of_the_files_does_not_matter(tmp_path):
    _, affine = grid(tilt_deg=(8.0, -5.0, 11.0))
    write_dicom_series(tmp_path / "sorted", drawn_volume(), affine, patient_id="p1", seed=1)
    files = sorted((tmp_path / "sorted").iterdir())
    names = [f"{number}.dcm" for number in range(len(files))]
    random.Random(0).shuffle(names)
    (tmp_path / "mixed").mkdir()
    for file, name in zip(files, names, strict=True):
        shutil.copy(file, tmp_path / "mixed" / name)

    voxels, found = read_back(tmp_path / "mixed")

    assert names != sorted(names)
    np.testing.assert_array_equal(voxels, drawn_volume())
    np.testing.assert_allclose(found, affine, atol=1e-6)


def test_a_left_handed_volume_comes_back_reversed_at_the_same_place(tmp_path):
    _, affine = grid("LAS")

    write_dicom_series(tmp_path, drawn_volume(), affine, patient_id="p1", seed=1)

    voxels, found = read_back(tmp_path)
    np.testing.assert_array_equal(voxels, drawn_volume()[:, :, ::-1])
    np.testing.assert_allclose(found @ [2, 3, 0, 1], affine @ [2, 3, 3, 1], atol=1e-6)


def test_the_header_says_spacing_position_and_rescale(tmp_path):
    _, affine = grid("LPS")

    series_uid = write_dicom_series(tmp_path, drawn_volume(), affine, patient_id="p1", seed=1)

    second = pydicom.dcmread(tmp_path / "slice_002.dcm")
    assert second.SeriesInstanceUID == series_uid
    assert (second.Rows, second.Columns) == (5, 7)
    assert second.PixelSpacing == [1.3, 0.7] and second.SliceThickness == 5
    assert second.ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
    # RAS (12, -34, 567.8) is the middle of 7 x 5 x 4 voxels; the first voxel of slice 2 lies half a slice below it.
    assert second.ImagePositionPatient == pytest.approx([-12 - 3 * 0.7, 34 - 2 * 1.3, 567.8 - 2.5])
    assert (second.RescaleSlope, second.RescaleIntercept, second.PixelRepresentation) == (1, -1024, 1)
    assert second.pixel_array[3, 4] == drawn_volume()[4, 3, 1] + 1024
    assert second.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert second.SOPClassUID == second.file_meta.MediaStorageSOPClassUID == pydicom.uid.CTImageStorage


def test_slices_share_study_series_and_frame_of_reference_but_not_their_own_uid(tmp_path):
    write_dicom_series(tmp_path, drawn_volume(), grid()[1], patient_id="p1", seed=1)

    slices = [pydicom.dcmread(path) for path in sorted(tmp_path.iterdir())]
    for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({one[name].value for one in slices}) == 1
    assert len({one.SOPInstanceUID for one in slices}) == len(slices) == 4
    assert [one.InstanceNumber for one in slices] == [1, 2, 3, 4]
    assert all(pydicom.uid.UID(one.SOPInstanceUID).is_valid for one in slices)


def test_equal_input_gives_equal_bytes_and_another_seed_another_study(tmp_path):
    uids = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        uids[name] = write_dicom_series(tmp_path / name, drawn_volume(), grid()[1], patient_id="p1", seed=seed)

    first, again, other = (
        [path.read_bytes() for path in sorted((tmp_path / name).iterdir())] for name in ("a", "b", "c")
    )
    assert first == again
    assert first != other and uids["a"] != uids["c"]


def test_ct_and_mr_of_one_patient_and_seed_share_the_study(tmp_path):
    for modality in ("CT", "MR"):
        write_dicom_series(tmp_path / modality, drawn_volume(), grid()[1], modality=modality, patient_id="p1", seed=1)

    ct, mr = (pydicom.dcmread(tmp_path / modality / "slice_001.dcm") for modality in ("CT", "MR"))
    assert ct.StudyInstanceUID == mr.StudyInstanceUID and ct.SeriesInstanceUID != mr.SeriesInstanceUID
    assert mr.SOPClassUID == pydicom.uid.MRImageStorage and "RescaleIntercept" not in mr


def test_a_sheared_affine_is_refused(tmp_path):
    _, affine = grid()
    affine[0, 2] += 1.0

    with pytest.raises(ValueError, match=r"not at right angles .* Resample the volume"):
        write_dicom_series(tmp_path, drawn_volume(), affine, patient_id="p1", seed=1)


@pytest.mark.parametrize(("value", "stored"), [(0.5, "1024.5"), (32000.0, "33024")])
def test_values_that_do_not_fit_are_refused(tmp_path, value, stored):
    with pytest.raises(ValueError, match=rf"to {stored}; DICOM stores whole numbers from -32768 to 32767"):
        write_dicom_series(tmp_path / "s", np.full((2, 2, 2), value), np.eye(4), patient_id="p1", seed=1)

    assert not (tmp_path / "s").exists()
