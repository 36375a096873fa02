"""The mammogram writer: what a reader shows is what was drawn, and views of a patient belong together."""

import numpy as np
import pydicom
import pytest

from lib.phantoms.breast import BreastParameters, draw_mammogram
from lib.phantoms.dicom_mammogram import write_mammogram
from lib.series import read_header, read_series


@pytest.fixture(scope="module")
def phantom():
    return draw_mammogram(BreastParameters(seed=2, shape=(128, 160)))


def write(folder, phantom, laterality="L", view="CC", **options):
    return write_mammogram(
        folder, phantom, laterality=laterality, view=view, **{"patient_id": "p1", "seed": 1, **options}
    )


def test_a_reader_gets_back_pixels_and_pixel_size(tmp_path, phantom):
    image_id = write(tmp_path, phantom)

    volume = read_series([tmp_path / "L_CC.dcm"])
    np.testing.assert_array_equal(volume.voxels, phantom.image)
    np.testing.assert_allclose(volume.affine, phantom.affine)
    assert read_header(tmp_path / "L_CC.dcm").image_id == image_id


def test_monochrome1_is_stored_turned_round_and_read_bright_where_it_is_dense(tmp_path, phantom):
    write(tmp_path, phantom, photometric="MONOCHROME1")

    stored = pydicom.dcmread(tmp_path / "L_CC.dcm")
    np.testing.assert_array_equal(stored.pixel_array.T, 4095 - phantom.image[:, :, 0])
    turned = read_series([tmp_path / "L_CC.dcm"]).voxels.astype(int) - phantom.image
    assert np.unique(turned).size == 1  # a shift by what lies between the brightest value and 4095


def test_the_header_says_side_view_and_pixel_size_at_the_detector(tmp_path, phantom):
    write(tmp_path, phantom, "R", "MLO")

    one = pydicom.dcmread(tmp_path / "R_MLO.dcm")
    assert (one.ImageLaterality, one.ViewPosition, one.Modality) == ("R", "MLO", "MG")
    assert one.ImagerPixelSpacing == pytest.approx([1.4, 1.4]) and "PixelSpacing" not in one
    assert one.PatientOrientation == ["P", "F"]
    assert one.ViewCodeSequence[0].CodeValue == "399368009"
    assert (one.Columns, one.Rows, one.BitsStored) == (128, 160, 12)
    assert one.SOPClassUID == one.file_meta.MediaStorageSOPClassUID == "1.2.840.10008.5.1.4.1.1.1.2"


def test_views_of_a_patient_share_study_and_series_but_not_their_own_uid(tmp_path, phantom):
    ids = [write(tmp_path, phantom, side, view) for side in "LR" for view in ("CC", "MLO")]

    views = [pydicom.dcmread(path) for path in sorted(tmp_path.iterdir())]
    for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID"):
        assert len({one[name].value for one in views}) == 1
    assert len({one.SOPInstanceUID for one in views}) == len(set(ids)) == 4
    assert sorted(one.InstanceNumber for one in views) == [1, 2, 3, 4]


def test_equal_input_gives_equal_bytes_and_another_seed_another_study(tmp_path, phantom):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write(tmp_path / name, phantom, seed=seed)

    first, again, other = ((tmp_path / name / "L_CC.dcm").read_bytes() for name in "abc")
    assert first == again != other


def test_values_beyond_twelve_bits_are_refused(tmp_path, phantom):
    bright = phantom._replace(image=phantom.image + np.uint16(4000))

    with pytest.raises(ValueError, match=r"values from 4000 to \d+; it is stored in 12 bits, from 0 to 4095"):
        write(tmp_path / "m", bright)

    assert not (tmp_path / "m").exists()
