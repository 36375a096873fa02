"""Segmentations of other programs land on the image's own grid, or are refused in one sentence."""

from __future__ import annotations

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid

from lib.dicom.segmentation import read_segmentation, write_segmentation
from lib.dicom.source import read_source
from lib.errors import GridMismatch, UnacceptableFile, UnknownStructure, UnreadableImage
from lib.volume import Grid
from tests.dicom.drawing import DRAFT, SHAPE, TASK, change, leaning, mammogram, ohif, organs, reread, stack, stored


@pytest.fixture
def series(tmp_path):
    return read_source(stack(tmp_path))


def foreign(series, pixels, labels=("liver",), kind="BINARY", **place):
    """A segmentation as highdicom writes it; its pixels are (K, J, I) or (K, J, I, segments)."""
    written = hd.seg.Segmentation(
        source_images=[pydicom.dcmread(one.path) for one in series.slices],
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=[
            hd.seg.SegmentDescription(number, label, codes.SCT.Tissue, codes.SCT.Tissue, "MANUAL")
            for number, label in enumerate(labels, start=1)
        ],
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Somebody",
        manufacturer_model_name="else",
        software_versions="1",
        device_serial_number="1",
        specific_character_set="ISO_IR 192",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **place,
    )
    return reread(written)


def placed(grid: Grid, spacing_between_mm=5.0):
    """How highdicom wants to be told where frames lie: (I, J) of a grid are its columns and rows, K its frames."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine
    lengths = np.linalg.norm(lps[:3, :3], axis=0)
    directions = lps[:3, :3] / lengths
    return {
        "plane_orientation": hd.PlaneOrientationSequence("PATIENT", [*directions[:, 0], *directions[:, 1]]),
        "pixel_measures": hd.PixelMeasuresSequence([lengths[1], lengths[0]], spacing_between_mm),
        "plane_positions": [
            hd.PlanePositionSequence("PATIENT", (lps @ [0, 0, k, 1])[:3].tolist()) for k in range(grid.shape[2])
        ],
    }


def read(dataset, series, task=TASK):
    return read_segmentation(dataset, series, task)[0]


def shuffled(dataset):
    """The same object with its frames in another order."""
    dataset = reread(dataset)
    frames = dataset.pixel_array
    order = np.random.default_rng(3).permutation(len(frames))
    dataset.PerFrameFunctionalGroupsSequence = Sequence(
        [dataset.PerFrameFunctionalGroupsSequence[index] for index in order]
    )
    dataset.PixelData = np.packbits(frames[order].ravel(), bitorder="little").tobytes()
    return dataset


# --- OHIF ------------------------------------------------------------------------------------------------------------


def test_what_ohif_stores_is_read_although_it_says_no_pixel_size(tmp_path):
    series = read_source(stack(tmp_path, tilt_deg=(8.0, -5.0, 11.0)))

    mask, looked_at = read_segmentation(ohif(write_segmentation(organs(), TASK, series, DRAFT)), series, TASK)

    np.testing.assert_array_equal(mask, organs())
    assert looked_at == ("liver", "spleen", "höcker")


def test_ohifs_segmentation_of_a_mammogram_is_read(tmp_path):
    series = mammogram(tmp_path)
    dataset = ohif(write_segmentation(organs((7, 5, 1)), TASK, series, DRAFT))

    np.testing.assert_array_equal(read(dataset, series), organs((7, 5, 1)))


def test_a_frame_without_a_position_lies_on_the_slice_that_it_names(series):
    dataset = reread(write_segmentation(organs(), TASK, series, DRAFT))
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        del frame.PlanePositionSequence

    np.testing.assert_array_equal(read(dataset, series), organs())


# --- frames ----------------------------------------------------------------------------------------------------------


def test_the_order_of_the_frames_does_not_matter(series):
    dataset = shuffled(write_segmentation(organs(), TASK, series, DRAFT))

    np.testing.assert_array_equal(read(dataset, series), organs())


def test_where_segments_overlap_the_larger_label_value_wins_whatever_the_order_of_the_frames(series):
    pixels = np.zeros((4, 5, 7, 2), np.uint8)
    pixels[1, 1:4, 1:4, 0] = 1
    pixels[1, 2:5, 2:5, 1] = 1
    dataset = foreign(series, pixels, ("spleen", "liver"))

    expected = np.zeros(SHAPE, np.uint8)
    expected[2:5, 2:5, 1] = 1
    expected[1:4, 1:4, 1] = 3
    np.testing.assert_array_equal(read(dataset, series), expected)
    np.testing.assert_array_equal(read(shuffled(dataset), series), expected)
    swapped = foreign(series, pixels[..., ::-1].copy(), ("liver", "spleen"))
    np.testing.assert_array_equal(read(swapped, series), expected)


def test_what_a_segment_loses_is_told_and_one_of_which_nothing_is_left_is_refused(series):
    pixels = np.zeros((4, 5, 7, 2), np.uint8)
    pixels[1, 1:4, 1:4, 0] = 1
    pixels[1, 2:5, 2:5, 1] = 1
    remarks = []

    read_segmentation(foreign(series, pixels, ("spleen", "liver")), series, TASK, remark=remarks.append)
    assert remarks == ["4 voxels of liver are spleen too, and became that."]

    pixels[1, 1:5, 1:5, 0] = 1
    with pytest.raises(UnacceptableFile, match="'liver' lies wholly within 'spleen', whose label value is larger"):
        read(foreign(series, pixels, ("spleen", "liver")), series)


def test_two_segments_of_one_structure_become_one(series):
    pixels = np.zeros((4, 5, 7), np.uint8)
    pixels[0, 0, 0], pixels[3, 4, 6] = 1, 2

    mask, looked_at = read_segmentation(foreign(series, pixels, ("Liver", "LIVER ")), series, TASK)

    assert (np.argwhere(mask == 1).tolist(), looked_at) == ([[0, 0, 0], [6, 4, 3]], ("liver",))


def test_fractions_count_from_one_half_on(series):
    pixels = np.zeros((4, 5, 7), np.float32)
    pixels[0, 0, :4] = (1, 0.5, 0.49, 0.01)

    found = read(foreign(series, pixels, kind="FRACTIONAL", max_fractional_value=100), series)

    assert np.argwhere(found).tolist() == [[0, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize("kind", ["FRACTIONAL", "LABELMAP"])
def test_compressed_frames_are_read(series, kind):
    pixels = (organs() == 1).astype(np.uint8).T

    dataset = foreign(series, pixels, kind=kind)
    dataset.compress(RLELossless, encoding_plugin="pydicom")

    found = read(dataset, series)

    np.testing.assert_array_equal(found, organs() == 1)


def test_frames_may_show_a_part_of_the_slice(series):
    corner = series.grid.affine @ [2, 1, 1, 1]
    affine = np.column_stack([series.grid.affine[:, :3], corner])
    pixels = np.ones((2, 3, 4), np.uint8)

    found = read(foreign(series, pixels, **placed(Grid((4, 3, 2), affine))), series)

    expected = np.zeros(SHAPE, np.uint8)
    expected[2:6, 1:4, 1:3] = 1
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("axes", [(0, 2, 1), (1, 2, 0), (2, 1, 0)])
def test_frames_may_cut_the_lattice_in_another_direction(series, axes):
    mask = (organs() == 1).astype(np.uint8)
    turned = Grid(tuple(SHAPE[axis] for axis in axes), series.grid.affine[:, [*axes, 3]])

    found = read(foreign(series, mask.transpose(axes).T, **placed(turned)), series)

    np.testing.assert_array_equal(found, mask)


def test_mirrored_frames_are_turned_back(series):
    mask = (organs() == 1).astype(np.uint8)
    affine = series.grid.affine @ np.array([[-1, 0, 0, 6], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])

    found = read(foreign(series, mask[::-1].T, **placed(Grid(SHAPE, affine))), series)

    np.testing.assert_array_equal(found, mask)


def test_a_label_map_may_pad_with_any_value_and_describe_its_background(series):
    dataset = reread(write_segmentation(organs(), TASK, series, DRAFT, kind="LABELMAP"))
    pixels = np.frombuffer(dataset.PixelData, np.uint8).copy()
    pixels[: pixels.size // 2][pixels[: pixels.size // 2] == 0] = 99
    dataset.PixelData, dataset.PixelPaddingValue = pixels.tobytes(), 99

    np.testing.assert_array_equal(read(dataset, series), organs())


def test_numbers_of_segments_mean_nothing(series):
    """The liver has the task's value 1 and here the number 200."""
    dataset = reread(write_segmentation(organs(), TASK, series, DRAFT, kind="LABELMAP"))
    pixels = np.frombuffer(dataset.PixelData, np.uint8).copy()
    pixels[pixels == 1] = 200
    dataset.PixelData = pixels.tobytes()
    next(one for one in dataset.SegmentSequence if one.SegmentLabel == "liver").SegmentNumber = 200

    np.testing.assert_array_equal(read(dataset, series), organs())


# --- names -----------------------------------------------------------------------------------------------------------


def relabelled(series, label, value, scheme):
    pixels = np.zeros((4, 5, 7), np.uint8)
    pixels[0, 0, 0] = 1
    dataset = foreign(series, pixels, (label,))
    code = dataset.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0]
    code.CodeValue, code.CodingSchemeDesignator = value, scheme
    return dataset


@pytest.mark.parametrize(
    ("label", "value", "scheme", "structure"),
    [("Leber", "10200004", "SCT", "liver"), ("Leber", "T-62000", "SRT", "liver"),
     ("Buckel", "höcker", "99LABELREF", "höcker"), ("spleen", "10200004", "SCT", "spleen"),
     (" SPLEEN", "T-D0050", "SRT", "spleen")],
)  # fmt: skip
def test_the_label_decides_and_otherwise_the_code(series, label, value, scheme, structure):
    dataset = relabelled(series, label, value, scheme)

    mask, looked_at = read_segmentation(dataset, series, TASK)

    assert (mask[0, 0, 0], looked_at) == (TASK.values[structure], (structure,))


def test_segments_that_are_no_structure_are_refused_and_listed(series):
    pixels = np.zeros((4, 5, 7), np.uint8)
    pixels[0, 0, :3] = (1, 2, 3)
    dataset = foreign(series, pixels, ("liver", "Segment 1", "kidney"))

    with pytest.raises(
        UnknownStructure, match=r"segments 'Segment 1' \(Tissue\), 'kidney' \(Tissue\), the task has liver=1, spleen=3"
    ):
        read(dataset, series)


# --- another image ---------------------------------------------------------------------------------------------------


def test_another_frame_of_reference_is_refused_with_both(series):
    dataset = reread(write_segmentation(organs(), TASK, series, DRAFT))
    dataset.FrameOfReferenceUID = "1.2.3"

    with pytest.raises(GridMismatch, match=rf"reference 1\.2\.3, the image .* in {series.frame_of_reference_uid}"):
        read(dataset, series)


def test_frames_between_the_slices_are_refused_with_both_places(series):
    affine = series.grid.affine.copy()
    affine[2, 3] += 2.5
    dataset = foreign(series, np.ones((4, 5, 7), np.uint8), **placed(Grid(SHAPE, affine)))

    with pytest.raises(GridMismatch, match=r"Frame \d of the segmentation is 7x5x1 voxels .* the image .* is 7x5x4"):
        read(dataset, series)


def test_frames_of_a_larger_image_are_refused_with_both_sizes(series):
    grid = Grid((9, 5, 4), series.grid.affine)
    dataset = foreign(series, np.ones((4, 5, 9), np.uint8), **placed(grid))

    with pytest.raises(GridMismatch, match=r"have 9x5 pixels; the image .* is 7x5x4 voxels"):
        read(dataset, series)


def test_a_series_that_lost_a_slice_is_not_filled_by_guessing(tmp_path):
    paths = stack(tmp_path)
    dataset = reread(write_segmentation(organs(), TASK, read_source(paths), DRAFT))

    with pytest.raises(GridMismatch, match="does not lie on its voxels"):
        read(dataset, read_source(paths[:3]))


def test_a_place_within_a_micrometre_is_the_same(tmp_path):
    series = leaning(tmp_path, [(0, 0, 0), (0, 0, 5), (0, 0, 10), (0, 0, 15)])
    dataset = reread(write_segmentation(organs(), TASK, series, DRAFT))
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        x, y, z = frame.PlanePositionSequence[0].ImagePositionPatient
        frame.PlanePositionSequence[0].ImagePositionPatient = [float(x) + 0.0009, y, z]

    np.testing.assert_array_equal(read(dataset, series), organs())


def test_another_view_of_a_mammogram_is_refused_with_both_names(tmp_path):
    first, second = mammogram(tmp_path / "a", 1), mammogram(tmp_path / "b", 2)
    dataset = reread(write_segmentation(organs((7, 5, 1)), TASK, first, DRAFT))

    with pytest.raises(GridMismatch, match=r"belongs to the image 1\.2\.1, not to .*1\.2\.2"):
        read(dataset, second)


def test_a_mammogram_of_another_size_is_refused_with_both_sizes(tmp_path):
    series = mammogram(tmp_path)
    dataset = reread(write_segmentation(organs((7, 5, 1)), TASK, series, DRAFT))
    change(series.slices[0].path, Columns=5, Rows=7)

    with pytest.raises(GridMismatch, match=r"has \(7, 5\) pixels, the image .* \(5, 7\)"):
        read(dataset, read_source([series.slices[0].path]))


# --- damage ----------------------------------------------------------------------------------------------------------


def without(name):
    def damage(dataset):
        del dataset[name]

    return damage


def fewer_groups(dataset):
    del dataset.PerFrameFunctionalGroupsSequence[0]


def fewer_pixels(dataset):
    dataset.PixelData = dataset.PixelData[:10]


def unknown_number(dataset):
    dataset.PerFrameFunctionalGroupsSequence[2].SegmentIdentificationSequence[0].ReferencedSegmentNumber = 9


def no_place(dataset):
    frame = dataset.PerFrameFunctionalGroupsSequence[1]
    del frame.PlanePositionSequence
    del frame.DerivationImageSequence


def other_class(dataset):
    dataset.SOPClassUID = pydicom.uid.CTImageStorage


def no_number(dataset):
    del dataset.SegmentSequence[0].SegmentNumber


def no_frames(dataset):
    dataset.NumberOfFrames = 0


def no_groups(dataset):
    del dataset.PerFrameFunctionalGroupsSequence


def no_named_segment(dataset):
    del dataset.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence


def unknown_slice(dataset):
    frame = dataset.PerFrameFunctionalGroupsSequence[0]
    del frame.PlanePositionSequence
    frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def other_bits(bits):
    def damage(dataset):
        dataset.BitsAllocated = dataset.BitsStored = bits

    return damage


def other_rows(dataset):
    dataset.Rows, dataset.Columns = dataset.Columns, dataset.Rows


def other_kind(kind):
    def damage(dataset):
        dataset.SegmentationType = kind

    return damage


def twice_numbered(dataset):
    dataset.SegmentSequence[1].SegmentNumber = 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [(without("SegmentSequence"), "lacks SegmentSequence"), (without("PixelData"), "lacks PixelData"),
     (without("Rows"), "lacks Rows"), (no_frames, "lacks NumberOfFrames"),
     (no_groups, "lacks PerFrameFunctionalGroupsSequence"), (other_kind("FRACTIONAL"), "lacks MaximumFractionalValue"),
     (other_kind("CONTOUR"), "is of the type CONTOUR with 1 bits a pixel; wanted is BINARY, FRACTIONAL, LABELMAP with"),
     (other_bits(2), "is of the type BINARY with 2 bits a pixel; .* with 1, 8, 16 bits"),
     (other_bits(8), "has 18 bytes of pixels, too few for 4 frames of 7x5 with 8 bits"),
     (fewer_groups, "has 4 frames and describes 3"),
     (fewer_pixels, "has 10 bytes of pixels, too few for 4 frames of 7x5 with 1 bits"),
     (unknown_number, r"Frame 3 .* shows segment 9, described are \[1, 2, 3\]"),
     (no_named_segment, r"Frame 1 .* shows segment None, described are \[1, 2, 3\]"),
     (twice_numbered, r"numbers its segments \[1, 1, 3\], one twice"),
     (no_place, "Frame 2 .* says neither where it lies nor which slice it shows"),
     (unknown_slice, "Frame 1 .* says neither where it lies nor which slice it shows"),
     (other_class, "A DICOM segmentation is wanted, found CT Image Storage"),
     (no_number, "cannot be read: .*SegmentNumber")],
)  # fmt: skip
def test_a_damaged_object_is_refused_with_what_it_lacks(series, damage, message):
    dataset = reread(write_segmentation(organs(), TASK, series, DRAFT))
    damage(dataset)

    with pytest.raises(UnreadableImage, match=message):
        read(dataset, series)


def orientation(*numbers):
    def damage(dataset):
        dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient = list(numbers)

    return damage


def spacing(*numbers):
    def damage(dataset):
        dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = list(numbers)

    return damage


def position(*numbers):
    def damage(dataset):
        dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient = list(numbers)

    return damage


@pytest.mark.filterwarnings("ignore:Invalid value for VR DS")
@pytest.mark.parametrize(
    ("damage", "message"),
    [(orientation("nan", 0, 0, 0, 1, 0), r"has the ImageOrientationPatient \[nan, .*, wanted are 6 numbers"),
     (orientation(1, 0, 0, 0, 1), r"has the ImageOrientationPatient \[1.0, 0.0, 0.0, 0.0, 1.0\], wanted are 6 numbers"),
     (orientation(0, 0, 0, 0, 1, 0), r"has pixels of \[0.7 1.3\] mm along \[\[0.0, 0.0, 0.0\], "),
     (spacing(0, 1.3), r"has pixels of \[1.3 0. \] mm along"),
     (spacing("inf", 1), r"has the PixelSpacing \[inf, .*\], wanted are 2 numbers"),
     (position(0, "inf", 0), r"has the ImagePositionPatient \[.*, inf, .*\], wanted are 3 numbers"),
     (position(0, 0), r"has the ImagePositionPatient \[0.0, 0.0\], wanted are 3 numbers")],
)  # fmt: skip
def test_a_frame_that_lies_nowhere_is_refused_with_what_it_says(series, damage, message):
    dataset = reread(write_segmentation(organs(), TASK, series, DRAFT))
    damage(dataset)

    with pytest.raises(UnreadableImage, match=f"Frame [1-4] of the segmentation {message}"):
        read(dataset, series)


def test_frames_larger_than_the_image_are_refused_before_room_is_made_for_them(series, monkeypatch):
    dataset = reread(foreign(series, organs().T == 1, kind="FRACTIONAL", max_fractional_value=100))
    dataset.file_meta.TransferSyntaxUID, dataset.PixelData = RLELossless, encapsulate([bytes(64)])
    dataset.Rows = dataset.Columns = 65535
    monkeypatch.setattr("lib.dicom.frames.decoded_frames", lambda *_, **__: pytest.fail("The pixels were asked for."))

    with pytest.raises(GridMismatch, match=r"have 65535x65535 pixels; the image .* is 7x5x4 voxels .* do not lie on"):
        read(dataset, series)


def test_more_frames_than_the_image_has_voxels_are_refused_before_any_is_decoded(series, monkeypatch):
    """A frame that takes a few bytes when packed still takes its time."""
    dataset = reread(foreign(series, organs().T == 1, kind="FRACTIONAL", max_fractional_value=100))
    dataset.file_meta.TransferSyntaxUID, dataset.PixelData = RLELossless, encapsulate([bytes(64)] * 5)
    groups = dataset.PerFrameFunctionalGroupsSequence
    groups.extend([groups[0]] * (5 - len(groups)))
    dataset.NumberOfFrames = 5
    monkeypatch.setattr("lib.dicom.frames.decoded_frames", lambda *_, **__: pytest.fail("The pixels were asked for."))

    with pytest.raises(GridMismatch, match=r"has 5 frames of 7x5 pixels for 1 segments, .* voxels \(7x5x4 voxels"):
        read(dataset, series)


def test_frames_with_rows_and_columns_exchanged_are_refused_with_both_sizes(series):
    dataset = reread(write_segmentation(organs(), TASK, series, DRAFT))
    other_rows(dataset)

    with pytest.raises(GridMismatch, match=r"is 5x7x1 voxels .* is 7x5x4 voxels"):
        read(dataset, series)


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_a_file_that_ends_anywhere_is_refused(series, kind):
    whole = stored(write_segmentation(organs(), TASK, series, DRAFT, kind=kind))

    for length in range(0, len(whole) - 1, 131):
        with pytest.raises(UnreadableImage, match=r"(?i)segmentation"):
            read(whole[:length], series)


def test_a_value_that_no_segment_has_is_refused(series):
    dataset = reread(write_segmentation(organs(), TASK, series, DRAFT, kind="LABELMAP"))
    dataset.PixelData = dataset.PixelData[:-2] + b"\x09\x09"

    with pytest.raises(UnreadableImage, match=r"holds the values \[9\], its segments are numbered \[0, 1, 2, 3\]"):
        read(dataset, series)


@pytest.mark.parametrize("content", [b"", b"no DICOM at all", "half"])
def test_what_is_no_dicom_is_refused(series, content):
    whole = stored(write_segmentation(organs(), TASK, series, DRAFT))

    with pytest.raises(UnreadableImage, match="segmentation"):
        read_segmentation(whole[: len(whole) // 2] if content == "half" else content, series, TASK)
