"""A mask becomes contours that say all about themselves, and comes back voxel by voxel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pydicom
import pytest

from lib.dicom.contours import read_contours
from lib.dicom.source import read_source
from lib.dicom.structure_set import outlines, write_structure_set
from lib.errors import GridMismatch, InvalidSetting, UnreadableImage
from lib.task import Structure, Task, numbered
from tests.dicom.drawing import DRAFT, SHAPE, TASK, enhanced, leaning, mammogram, organs, reread, stack, stored
from tests.drawn import drawn

ALL = ("liver", "spleen", "höcker")


@pytest.fixture
def series(tmp_path):
    return read_source(stack(tmp_path))


def back(written, series, task=TASK):
    return read_contours(stored(written), series, task)


# --- what is written comes back --------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", ["LPS", "LPI", "RAS", "PIR"])
@pytest.mark.parametrize("tilt_deg", [(0.0, 0.0, 0.0), (8.0, -5.0, 11.0)])
def test_a_mask_comes_back_voxel_by_voxel(tmp_path, orientation, tilt_deg):
    series = read_source(stack(tmp_path, orientation, tilt_deg))
    mask = organs(series.grid.shape)

    found, looked_at = back(write_structure_set(mask, TASK, series, DRAFT), series)

    np.testing.assert_array_equal(found, mask)
    assert (found.dtype, looked_at) == (np.uint8, ALL)


@pytest.mark.parametrize("seed", range(5))
def test_voxels_at_random_come_back(tmp_path, seed):
    """Holes, islands in them, voxels that touch at a corner, borders: all there is."""
    series = read_source(stack(tmp_path, tilt_deg=(8.0, -5.0, 11.0), shape=(31, 23, 2)))
    mask = np.random.default_rng(seed).choice(np.array([0, 1, 3, 7], np.uint8), series.grid.shape)

    found, _ = back(write_structure_set(mask, TASK, series, DRAFT), series)

    np.testing.assert_array_equal(found, mask)


def test_the_smallest_voxels_come_back(tmp_path):
    """Contours are rounded to a tenth of a micrometre; 0.05 mm is finer than any scanner."""
    series = read_source(stack(tmp_path, PixelSpacing=[0.05, 0.05]))

    found, _ = back(write_structure_set(organs(), TASK, series, DRAFT), series)

    np.testing.assert_array_equal(found, organs())


def test_every_slice_of_a_tilted_gantry_keeps_its_contours(tmp_path):
    series = leaning(tmp_path, [(0, number, 5 * number) for number in range(4)])

    found, _ = back(write_structure_set(organs(), TASK, series, DRAFT), series)

    np.testing.assert_array_equal(found, organs())


def test_a_mask_on_an_enhanced_image_comes_back_and_names_its_frames(tmp_path):
    series = read_source([enhanced(tmp_path)])

    written = reread(write_structure_set(organs(), TASK, series, DRAFT))

    np.testing.assert_array_equal(back(written, series)[0], organs())
    images = written.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert [one.ReferencedSOPInstanceUID for one in images.ContourImageSequence] == [series.slices[0].instance_uid]
    for contour in written.ROIContourSequence[0].ContourSequence:
        named = contour.ContourImageSequence[0]
        k = series.number_of(named.ReferencedSOPInstanceUID, named.ReferencedFrameNumber)
        assert series.nearest(contour.ContourData[:3]) == k


def test_255_structures_come_back(tmp_path):
    series = read_source(stack(tmp_path, shape=(16, 16, 1)))
    task = Task("many", "", numbered(f"s{value}" for value in range(1, 256)))
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)

    found, looked_at = back(write_structure_set(mask, task, series, DRAFT), series, task)

    np.testing.assert_array_equal(found, mask)
    assert len(looked_at) == 255


def test_no_finding_says_what_was_looked_at(series):
    found, looked_at = back(write_structure_set(np.zeros(SHAPE, np.uint8), TASK, series, DRAFT), series)

    assert (found.any(), looked_at) == (False, ALL)


def test_structures_that_nobody_looked_for_have_no_region(series):
    mask = np.where(organs() == 3, organs(), 0).astype(np.uint8)

    found, looked_at = back(write_structure_set(mask, TASK, series, DRAFT, looked_at=["spleen", "höcker"]), series)

    np.testing.assert_array_equal(found, mask)
    assert looked_at == ("spleen", "höcker")


# --- outlines --------------------------------------------------------------------------------------------------------


def area(corners):
    """By Gauss's formula."""
    i, j = corners.T
    return abs(i @ np.roll(j, 1) - j @ np.roll(i, 1)) / 2


def test_the_outline_runs_half_way_between_inside_and_outside():
    square = drawn("""
        . . . .
        . # # .
        . # # .
        . . . .
    """)[:, :, 0]

    (corners,) = outlines(square > 0)

    assert {tuple(corner) for corner in corners.tolist()} == {
        (0.5, 1), (0.5, 2), (1, 0.5), (2, 0.5), (2.5, 1), (2.5, 2), (1, 2.5), (2, 2.5),
    }  # fmt: skip


def test_each_corner_costs_an_eighth_of_a_voxel_so_that_one_voxel_becomes_half():
    blocks = [np.ones((size, size), bool) for size in (1, 2, 10)]

    assert [area(next(outlines(block))) for block in blocks] == [0.5, 3.5, 99.5]


def test_holes_have_outlines_too():
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False

    assert sorted(area(corners) for corners in outlines(ring)) == [0.5, 8.5]


# --- what the object says --------------------------------------------------------------------------------------------


def test_the_object_says_what_it_is_how_it_is_called_and_who_made_it(series):
    written = reread(write_structure_set(organs(), TASK, series, DRAFT))

    assert written.SOPClassUID == written.file_meta.MediaStorageSOPClassUID == pydicom.uid.RTStructureSetStorage
    assert (written.Modality, written.StudyInstanceUID, written.PatientID) == (
        "RTSTRUCT", series.slices[0].study_uid, "p1",
    )  # fmt: skip
    assert (written.SeriesDescription, written.StructureSetLabel) == ("DRAFT model segmentation v3", "DRAFT model segm")
    assert str(written.OperatorsName) == "model:segmentation@v3^"
    assert (written.StructureSetDate, written.StructureSetTime) == ("20260102", "030405")


def test_regions_carry_name_number_colour_and_how_they_were_drawn(series):
    written = reread(write_structure_set(organs(), TASK, series, DRAFT))

    told = [(one.ROINumber, one.ROIName, one.ROIGenerationAlgorithm) for one in written.StructureSetROISequence]
    assert told == [(1, "liver", "AUTOMATIC"), (3, "spleen", "AUTOMATIC"), (7, "höcker", "AUTOMATIC")]
    assert [one.ROIDisplayColor for one in written.ROIContourSequence] == [
        [221, 130, 101],
        [128, 174, 128],
        [255, 0, 0],
    ]
    assert {one.ReferencedFrameOfReferenceUID for one in written.StructureSetROISequence} == {
        series.frame_of_reference_uid
    }


def test_each_contour_names_its_slice_and_the_object_all_of_them(series):
    written = reread(write_structure_set(organs(), TASK, series, DRAFT))

    (study,) = written.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence
    (images,) = study.RTReferencedSeriesSequence
    assert images.SeriesInstanceUID == series.name
    assert {one.ReferencedSOPInstanceUID for one in images.ContourImageSequence} == series.instance_uids
    for contour in written.ROIContourSequence[0].ContourSequence:
        (named,) = contour.ContourImageSequence
        assert series.number_of(named.ReferencedSOPInstanceUID) == series.nearest(contour.ContourData[:3])
        assert len(contour.ContourData) == 3 * contour.NumberOfContourPoints


def test_equal_annotations_are_equal_bytes_and_another_version_is_another_object(series):
    first, second, other = (
        write_structure_set(organs(), TASK, series, replace(DRAFT, seed=seed)) for seed in ("v1", "v1", "v2")
    )

    assert stored(first) == stored(second)
    assert (first.SOPInstanceUID, first.SeriesInstanceUID) != (other.SOPInstanceUID, other.SeriesInstanceUID)


def test_a_series_without_frame_of_reference_gets_one(tmp_path):
    series = read_source(stack(tmp_path, FrameOfReferenceUID=None))

    written = write_structure_set(organs(), TASK, series, DRAFT)

    assert written.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID != ""
    np.testing.assert_array_equal(back(written, series)[0], organs())


# --- what is refused -------------------------------------------------------------------------------------------------


def test_a_mask_of_another_shape_is_refused(series):
    with pytest.raises(GridMismatch, match=r"\(7, 5, 3\) voxels, the image .* is 7x5x4 voxels"):
        write_structure_set(organs((7, 5, 3)), TASK, series, DRAFT)


def test_a_radiograph_is_refused_since_it_has_no_place(tmp_path):
    with pytest.raises(UnreadableImage, match=r"is a radiograph \(MG\): it has no place .* Ask for a segmentation"):
        write_structure_set(organs((7, 5, 1)), TASK, mammogram(tmp_path), DRAFT)


def test_a_name_that_dicom_cannot_store_is_refused(series):
    task = Task("t", "", (Structure("x" * 65, 1, (1, 2, 3)),))

    with pytest.raises(InvalidSetting, match=r"structure's name .* up to 64 letters and no backslash"):
        write_structure_set(np.ones_like(organs()), task, series, DRAFT)
