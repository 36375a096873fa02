"""A mask becomes a DICOM segmentation that says all about itself, and comes back voxel by voxel."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import highdicom as hd
import numpy as np
import pydicom
import pytest

from lib.dicom.drawn import referenced_images
from lib.dicom.provenance import Algorithm
from lib.dicom.segmentation import read_segmentation, write_segmentation
from lib.dicom.source import read_source
from lib.errors import GridMismatch, InvalidSetting, UnreadableImage
from lib.task import Structure, Task, numbered
from tests.dicom.drawing import DRAFT, TASK, change, enhanced, leaning, mammogram, organs, reread, stack, stored

ALL = ("liver", "spleen", "höcker")
KINDS = pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])


@pytest.fixture
def series(tmp_path):
    return read_source(stack(tmp_path))


def back(dataset, series, task=TASK):
    return read_segmentation(stored(dataset), series, task)


# --- what is written comes back --------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("orientation", ["LPS", "LPI", "RAS", "PIR"])
@pytest.mark.parametrize("tilt_deg", [(0.0, 0.0, 0.0), (8.0, -5.0, 11.0)])
def test_a_mask_comes_back_voxel_by_voxel(tmp_path, orientation, tilt_deg, kind):
    series = read_source(stack(tmp_path, orientation, tilt_deg))
    mask = organs(series.grid.shape)

    found, looked_at = back(write_segmentation(mask, TASK, series, DRAFT, kind=kind), series)

    np.testing.assert_array_equal(found, mask)
    assert (found.dtype, looked_at) == (np.uint8, ALL)


def test_the_order_of_the_files_does_not_matter(tmp_path):
    paths = stack(tmp_path)

    shuffled = read_source([paths[2], paths[0], paths[3], paths[1]])

    found, _ = back(write_segmentation(organs(), TASK, shuffled, DRAFT), read_source(paths))
    np.testing.assert_array_equal(found, organs())


def test_the_slices_of_a_tilted_gantry_keep_their_frames(tmp_path):
    series = leaning(tmp_path, [(0, number, 5 * number) for number in range(4)])

    found, _ = back(write_segmentation(organs(), TASK, series, DRAFT), series)

    np.testing.assert_array_equal(found, organs())


def test_frames_lie_on_their_slices_although_those_are_not_quite_evenly_spaced(tmp_path):
    series = leaning(tmp_path, [(0, 0, 0), (0, 0, 5.04), (0.05, 0, 10), (0, 0, 15)])

    written = reread(write_segmentation(organs(), TASK, series, DRAFT))

    heights = {float(frame.PlanePositionSequence[0].ImagePositionPatient[2])
               for frame in written.PerFrameFunctionalGroupsSequence}  # fmt: skip
    assert heights == {0, 5.04, 15}
    np.testing.assert_array_equal(back(written, series)[0], organs())


@KINDS
def test_a_single_slice_is_a_series_too(tmp_path, kind):
    series = read_source(stack(tmp_path, shape=(7, 5, 1)))

    found, _ = back(write_segmentation(organs((7, 5, 1)), TASK, series, DRAFT, kind=kind), series)

    np.testing.assert_array_equal(found, organs((7, 5, 1)))


@KINDS
def test_a_mask_on_a_mammogram_comes_back(tmp_path, kind):
    series = mammogram(tmp_path)

    found, _ = back(write_segmentation(organs((7, 5, 1)), TASK, series, DRAFT, kind=kind), series)

    np.testing.assert_array_equal(found, organs((7, 5, 1)))


@KINDS
@pytest.mark.parametrize("value", [1, 3, 7])
def test_one_voxel_of_any_structure_comes_back_as_that_structure(series, value, kind):
    mask = np.zeros(series.grid.shape, np.uint8)
    mask[6, 4, 2] = value

    found, looked_at = back(write_segmentation(mask, TASK, series, DRAFT, kind=kind), series)

    np.testing.assert_array_equal(found, mask)
    assert looked_at == ALL


@KINDS
def test_255_structures_come_back(tmp_path, kind):
    series = read_source(stack(tmp_path, shape=(16, 16, 1)))
    task = Task("many", "", numbered(f"s{value}" for value in range(1, 256)))
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)

    found, looked_at = back(write_segmentation(mask, task, series, DRAFT, kind=kind), series, task)

    np.testing.assert_array_equal(found, mask)
    assert len(looked_at) == 255


# --- enhanced images -------------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("orientation", ["LPS", "PIR"])
@pytest.mark.parametrize("tilt_deg", [(0.0, 0.0, 0.0), (8.0, -5.0, 11.0)])
def test_a_mask_on_an_enhanced_image_comes_back(tmp_path, orientation, tilt_deg, kind):
    series = read_source([enhanced(tmp_path, orientation, tilt_deg)])
    mask = organs(series.grid.shape)

    found, looked_at = back(write_segmentation(mask, TASK, series, DRAFT, kind=kind), series)

    np.testing.assert_array_equal(found, mask)
    assert looked_at == ALL


@KINDS
def test_no_finding_on_an_enhanced_image_comes_back(tmp_path, kind):
    series = read_source([enhanced(tmp_path)])
    written = write_segmentation(np.zeros(series.grid.shape, np.uint8), TASK, series, DRAFT, kind=kind)

    found, looked_at = back(written, series)

    assert (found.any(), looked_at) == (False, ALL)


def test_frames_name_the_frame_of_the_enhanced_file_that_they_lie_on(tmp_path):
    path = enhanced(tmp_path)
    series = read_source([path])
    file = pydicom.dcmread(path)

    written = reread(write_segmentation(organs(), TASK, series, DRAFT))

    assert referenced_images(written) == {file.SeriesInstanceUID: {file.SOPInstanceUID}}
    for frame in written.PerFrameFunctionalGroupsSequence:
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        shown = file.PerFrameFunctionalGroupsSequence[source.ReferencedFrameNumber - 1]
        assert (source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID) == (
            file.SOPClassUID,
            file.SOPInstanceUID,
        )
        assert (
            frame.PlanePositionSequence[0].ImagePositionPatient == shown.PlanePositionSequence[0].ImagePositionPatient
        )


def test_a_frame_without_a_position_lies_on_the_frame_that_it_names(tmp_path):
    series = read_source([enhanced(tmp_path)])
    dataset = reread(write_segmentation(organs(), TASK, series, DRAFT))
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        del frame.PlanePositionSequence

    np.testing.assert_array_equal(back(dataset, series)[0], organs())


# --- what was looked at ----------------------------------------------------------------------------------------------


@KINDS
def test_no_finding_says_what_was_looked_at_in_which_series(series, kind):
    mask = np.zeros(series.grid.shape, np.uint8)

    written = write_segmentation(mask, TASK, series, DRAFT, kind=kind)

    found, looked_at = back(written, series)
    assert (found.any(), looked_at) == (False, ALL)
    assert int(written.NumberOfFrames) == (3 if kind == "BINARY" else 1)
    assert referenced_images(written) == {series.name: {one.instance_uid for one in series.slices}}


@KINDS
def test_structures_that_nobody_looked_for_have_no_segment(series, kind):
    mask = np.where(organs() == 3, organs(), 0).astype(np.uint8)

    written = write_segmentation(mask, TASK, series, DRAFT, kind=kind, looked_at=["höcker", "spleen"])

    found, looked_at = back(written, series)
    np.testing.assert_array_equal(found, mask)
    assert looked_at == ("spleen", "höcker")


def test_frames_are_written_only_where_a_structure_is(series):
    written = write_segmentation(organs(), TASK, series, DRAFT)

    per_segment = [int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
                   for frame in written.PerFrameFunctionalGroupsSequence]  # fmt: skip
    assert per_segment == [1, 1, 2, 3]


# --- what the object says --------------------------------------------------------------------------------------------


def test_segments_carry_name_code_colour_algorithm_and_tracking(series):
    read = hd.seg.segread(BytesIO(stored(write_segmentation(organs(), TASK, series, DRAFT))))

    liver, _, hump = (read.get_segment_description(number) for number in (1, 2, 3))
    assert (liver.segment_label, liver.segmented_property_type.value) == ("liver", "10200004")
    assert liver.segmented_property_type.scheme_designator == "SCT"
    assert (hump.segmented_property_type.value, hump.segmented_property_type.scheme_designator) == (
        "höcker",
        "99LABELREF",
    )
    assert liver.algorithm_type.value == "AUTOMATIC"
    assert liver.algorithm_identification.name == "segmentation"
    assert liver.algorithm_identification.version == "v3"
    assert liver.tracking_id == "abdomen/liver"
    # Pure red is 53.24, 80.09, 67.20 in CIELab (D65).
    lab = np.array(hump.RecommendedDisplayCIELabValue) / 65535 * (100, 255, 255) - (0, 128, 128)
    np.testing.assert_allclose(lab, (53.24, 80.09, 67.20), atol=0.6)


def test_the_object_says_how_it_is_called_who_made_it_and_when(series):
    written = reread(write_segmentation(organs(), TASK, series, DRAFT))

    assert written.SeriesDescription == "DRAFT model segmentation v3"
    assert str(written.ContentCreatorName) == "model:segmentation@v3^"
    for date, time in (("Series", "Series"), ("Content", "Content"), ("InstanceCreation", "InstanceCreation")):
        assert (written[f"{date}Date"].value, written[f"{time}Time"].value) == ("20260102", "030405")


@pytest.mark.parametrize(
    ("algorithm", "is_corrected", "kind"),
    [
        (None, False, "MANUAL"),
        (Algorithm("a", "v1"), True, "SEMIAUTOMATIC"),
        (Algorithm("a", "v1"), False, "AUTOMATIC"),
    ],
)
def test_the_algorithm_type_tells_who_drew(series, algorithm, is_corrected, kind):
    provenance = replace(DRAFT, algorithm=algorithm, is_corrected=is_corrected)

    written = write_segmentation(organs(), TASK, series, provenance)

    assert {segment.SegmentAlgorithmType for segment in written.SegmentSequence} == {kind}


@pytest.mark.parametrize(("is_learned", "family"), [(True, "123110"), (False, "123104")])
def test_rules_are_not_called_artificial_intelligence(series, is_learned, family):
    provenance = replace(DRAFT, algorithm=Algorithm("hemorrhage", "1", is_learned))

    segment = write_segmentation(organs(), TASK, series, provenance).SegmentSequence[0]

    named = segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmFamilyCodeSequence[0]
    assert named.CodeValue == family


def test_each_frame_names_its_slice_and_the_object_its_series(series):
    written = write_segmentation(organs(), TASK, series, DRAFT)

    named = {
        (
            int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber),
            series.number_of(frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID),
        )
        for frame in written.PerFrameFunctionalGroupsSequence
    }
    assert named == {(1, 0), (1, 1), (2, 3), (3, 0)}
    assert referenced_images(written) == {series.name: set(series.instance_uids)}


def test_a_mammogram_gets_the_made_up_place_without_which_viewers_open_nothing(tmp_path):
    series = mammogram(tmp_path)

    written = reread(write_segmentation(organs((7, 5, 1)), TASK, series, DRAFT))

    shared, frame = written.SharedFunctionalGroupsSequence[0], written.PerFrameFunctionalGroupsSequence[0]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [0.1, 0.2]
    assert frame.PlanePositionSequence[0].ImagePositionPatient == [0, 0, 0]
    assert referenced_images(written) == {series.slices[0].series_uid: {"1.2.1"}}


def test_other_software_reads_the_same_voxels(series):
    read = hd.seg.segread(BytesIO(stored(write_segmentation(organs(), TASK, series, DRAFT))))

    voxels = read.get_pixels_by_source_instance(
        [one.instance_uid for one in series.slices], assert_missing_frames_are_empty=True
    )

    for number, value in enumerate((1, 3, 7)):
        np.testing.assert_array_equal(voxels[..., number].T, organs() == value)


@KINDS
def test_equal_annotations_are_equal_bytes(series, kind):
    first, second = (stored(write_segmentation(organs(), TASK, series, DRAFT, kind=kind)) for _ in range(2))

    assert first == second


def test_another_version_is_another_object_of_the_same_tracked_structures(series):
    first, second = (write_segmentation(organs(), TASK, series, replace(DRAFT, seed=seed)) for seed in ("v1", "v2"))

    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    assert [one.TrackingUID for one in first.SegmentSequence] == [one.TrackingUID for one in second.SegmentSequence]


def test_names_survive_another_character_set(tmp_path):
    paths = stack(tmp_path, SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jürgen")

    written = reread(write_segmentation(organs(), TASK, read_source(paths), replace(DRAFT, creator="金 민")))

    assert str(written.PatientName) == "Müller^Jürgen"
    assert str(written.ContentCreatorName) == "金 민^"
    assert written.SegmentSequence[2].SegmentLabel == "höcker"


def test_files_without_names_and_dates_are_written_for_as_well(tmp_path):
    paths = stack(tmp_path, PatientName=None, PatientBirthDate=None, PatientSex="UNKNOWN", StudyID=None, StudyDate=None,
                  StudyTime=None, AccessionNumber=None, PositionReferenceIndicator=None)  # fmt: skip
    series = read_source(paths)

    found, _ = back(write_segmentation(organs(), TASK, series, DRAFT), series)

    np.testing.assert_array_equal(found, organs())


def test_a_series_without_frame_of_reference_gets_one_that_is_always_the_same(tmp_path):
    series = read_source(stack(tmp_path, FrameOfReferenceUID=None))

    first, second = (write_segmentation(organs(), TASK, series, replace(DRAFT, seed=seed)) for seed in ("v1", "v2"))

    assert first.FrameOfReferenceUID == second.FrameOfReferenceUID != ""
    np.testing.assert_array_equal(back(first, series)[0], organs())


# --- what is refused -------------------------------------------------------------------------------------------------


def test_a_mask_of_another_shape_is_refused(series):
    with pytest.raises(GridMismatch, match=r"\(7, 5, 3\) voxels, the image .* is 7x5x4 voxels"):
        write_segmentation(organs((7, 5, 3)), TASK, series, DRAFT)


def test_voxels_of_what_nobody_looked_for_are_refused(series):
    with pytest.raises(ValueError, match=r"holds the values \[1, 7\], looked at were spleen=3"):
        write_segmentation(organs(), TASK, series, DRAFT, looked_at=["spleen"])


def test_a_segmentation_of_nothing_at_all_is_refused(series):
    with pytest.raises(ValueError, match="at least one structure"):
        write_segmentation(np.zeros_like(organs()), TASK, series, DRAFT, looked_at=[])


@pytest.mark.parametrize("name", ["x" * 65, "left\\right"])
def test_a_name_that_dicom_cannot_store_is_refused(series, name):
    task = Task("t", "", (Structure(name, 1, (1, 2, 3)),))

    with pytest.raises(InvalidSetting, match=r"structure's name .* up to 64 letters and no backslash"):
        write_segmentation(np.ones_like(organs()), task, series, DRAFT)


def test_a_description_that_is_too_long_is_refused(series):
    with pytest.raises(InvalidSetting, match=r"description .* up to 64 letters"):
        write_segmentation(organs(), TASK, series, replace(DRAFT, description="x" * 65))


def test_headers_that_cannot_be_repeated_are_refused_with_the_reason(tmp_path):
    paths = stack(tmp_path)
    with pydicom.config.disable_value_validation():
        change(paths[0], StudyDate="yesterday")

    with pytest.raises(UnreadableImage, match=r"No segmentation of series .* can be written: .*yesterday"):
        write_segmentation(organs(), TASK, read_source(paths), DRAFT)
