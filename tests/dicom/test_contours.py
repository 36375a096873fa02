"""Closed contours become the voxels whose centres they enclose or touch."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import RTStructureSetStorage

from lib.dicom import contours as module
from lib.dicom.contours import read_contours
from lib.dicom.source import read_source
from lib.errors import GridMismatch, UnacceptableFile, UnknownStructure, UnreadableImage
from tests.dicom.drawing import TASK, leaning, stack
from tests.drawn import drawn

K = 2
"""The slice that is drawn on."""

SQUARE = [(0.6, 0.6), (4.4, 0.6), (4.4, 3.4), (0.6, 3.4)]


@pytest.fixture
def series(tmp_path):
    return read_source(stack(tmp_path, tilt_deg=(8.0, -5.0, 11.0)))


def contour(series, corners, k=K, kind="CLOSED_PLANAR"):
    """A contour through these places, told as indices along I and J."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ series.slice_grid(round(k)).affine
    affine[:3, 3] += affine[:3, 2] * (k - round(k))
    item = Dataset()
    item.ContourGeometricType, item.NumberOfContourPoints = kind, len(corners)
    item.ContourData = [f"{value:.4f}" for i, j in corners for value in (affine @ [i, j, 0, 1])[:3]]
    return item


def structure_set(series, **regions):
    """Regions by name, each a list of contours."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.Modality = RTStructureSetStorage, "RTSTRUCT"
    dataset.StructureSetROISequence, dataset.ROIContourSequence = Sequence(), Sequence()
    for number, (name, contours) in enumerate(regions.items(), start=1):
        named, drawn_ = Dataset(), Dataset()
        named.ROINumber, named.ROIName = number, name
        named.ReferencedFrameOfReferenceUID = series.frame_of_reference_uid
        drawn_.ReferencedROINumber = number
        if contours:
            drawn_.ContourSequence = Sequence(contours)
        dataset.StructureSetROISequence.append(named)
        dataset.ROIContourSequence.append(drawn_)
    return dataset


def slice_of(series, *contours):
    """The slice that is drawn on, when these are the contours of the liver; the others must be empty."""
    mask, _ = read_contours(structure_set(series, Liver=list(contours)), series, TASK)
    assert not np.delete(mask, K, axis=2).any()
    return mask[:, :, K : K + 1]


@pytest.mark.parametrize("corners", [SQUARE, SQUARE[::-1], [*SQUARE, SQUARE[0]]])
def test_a_voxel_belongs_to_a_contour_that_encloses_its_centre(series, corners):
    np.testing.assert_array_equal(
        slice_of(series, contour(series, corners)),
        drawn("""
            . . . . .
            . # # # .
            . # # # .
            . # # # .
            . # # # .
            . . . . .
            . . . . .
        """),
    )


@pytest.mark.parametrize("turn", [1, -1])
def test_a_voxel_belongs_to_a_contour_that_runs_through_its_centre(series, turn):
    corners = [(1, 1), (4, 1), (4, 3), (1, 3)][::turn]

    np.testing.assert_array_equal(
        slice_of(series, contour(series, corners)),
        drawn("""
            . . . . .
            . # # # .
            . # # # .
            . # # # .
            . # # # .
            . . . . .
            . . . . .
        """),
    )


@pytest.mark.parametrize("kind", ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"])
def test_a_contour_in_a_contour_is_a_hole_and_one_in_that_an_island(series, kind):
    rings = [contour(series, [(a, a), (6 - a, a), (6 - a, b), (a, b)], kind=kind)
             for a, b in ((-0.4, 4.4), (0.6, 3.4), (1.6, 2.4))]  # fmt: skip

    np.testing.assert_array_equal(
        slice_of(series, *rings),
        drawn("""
            # # # # #
            # . . . #
            # . # . #
            # . # . #
            # . # . #
            # . . . #
            # # # # #
        """),
    )


def test_the_outline_of_a_hole_belongs_to_the_structure(series):
    outer, hole = [(0, 0), (6, 0), (6, 4), (0, 4)], [(1, 1), (5, 1), (5, 3), (1, 3)]

    found = slice_of(series, contour(series, outer), contour(series, hole))

    assert np.argwhere(found == 0)[:, :2].tolist() == [[2, 2], [3, 2], [4, 2]]


def test_what_lies_beside_the_image_is_cut_off(series):
    found = slice_of(series, contour(series, [(4.5, -9), (30, -9), (30, 1.5), (4.5, 1.5)]))

    assert np.argwhere(found)[:, :2].tolist() == [[5, 0], [5, 1], [6, 0], [6, 1]]


def test_a_region_wholly_beside_the_image_is_absent_and_said_to_be(series):
    dataset = structure_set(series, liver=[contour(series, [(9, 9), (9, 12), (12, 9)])])
    remarks = []

    mask, looked_at = read_contours(dataset, series, TASK, (), remarks.append)

    assert (mask.any(), looked_at) == (False, ("liver",))
    assert remarks == ["The region 'liver' lies wholly beside the image, and counts as looked for and absent."]


@pytest.mark.parametrize(
    "corners", [[(2.3, 2.3)], [(2.2, 2.2), (2.8, 2.2), (2.5, 2.8)], [(0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)]]
)
def test_a_region_within_the_image_that_would_get_lost_between_voxels_is_refused(series, corners):
    dataset = structure_set(series, liver=[contour(series, corners)])

    with pytest.raises(UnacceptableFile, match="'liver' has 1 contours, but none encloses the centre of a voxel"):
        read_contours(dataset, series, TASK)


def test_a_contour_between_voxels_beside_others_of_its_region_changes_nothing(series):
    alone = slice_of(series, contour(series, SQUARE))

    np.testing.assert_array_equal(slice_of(series, contour(series, SQUARE), contour(series, [(0.3, 0.3)])), alone)


@pytest.mark.parametrize(
    ("corners", "voxels"),
    [([(2, 2)], [[2, 2]]), ([(2, 2), (3, 2)], [[2, 2], [3, 2]]),
     ([(2, 1), (2, 2), (2, 3), (2, 2)], [[2, 1], [2, 2], [2, 3]])],
)  # fmt: skip
def test_a_contour_without_area_is_the_voxels_on_it(series, corners, voxels):
    assert np.argwhere(slice_of(series, contour(series, corners)))[:, :2].tolist() == voxels


def test_each_slice_of_a_tilted_gantry_has_its_contours(tmp_path):
    series = leaning(tmp_path, [(0, number, 5 * number) for number in range(4)])
    contours = [contour(series, SQUARE, k) for k in range(4)]

    mask, _ = read_contours(structure_set(series, liver=contours), series, TASK)

    assert [np.argwhere(mask[:, :, k]).min(axis=0).tolist() for k in range(4)] == [[1, 1]] * 4
    assert mask.sum(axis=(0, 1)).tolist() == [12] * 4


@pytest.mark.parametrize("names", [("spleen", "liver"), ("liver", "spleen")])
def test_where_regions_overlap_the_larger_label_value_wins_and_it_is_told(series, names):
    shifted = [(i + 1, j) for i, j in SQUARE]
    regions = {"liver": [contour(series, SQUARE)], "spleen": [contour(series, shifted)]}
    remarks = []

    mask, _ = read_contours(
        structure_set(series, **{name: regions[name] for name in names}), series, TASK, remark=remarks.append
    )

    assert [int((mask == TASK.values[name]).sum()) for name in ("liver", "spleen")] == [3, 12]
    assert remarks == ["9 voxels of liver are spleen too, and became that."]


def test_a_region_of_which_nothing_would_be_left_is_refused(series):
    dataset = structure_set(series, liver=[contour(series, SQUARE)], spleen=[contour(series, SQUARE)])

    with pytest.raises(UnacceptableFile, match="'liver' lies wholly within 'spleen'"):
        read_contours(dataset, series, TASK)


@pytest.mark.parametrize("turned", [False, True])
def test_a_contour_that_comes_twice_leaves_no_hole(series, turned):
    twice = SQUARE[::-1] if turned else SQUARE

    once = slice_of(series, contour(series, SQUARE))
    np.testing.assert_array_equal(slice_of(series, contour(series, SQUARE), contour(series, twice)), once)


def test_contours_that_overlap_are_united(series):
    shifted = [(i + 1, j + 1) for i, j in SQUARE]

    both = slice_of(series, contour(series, SQUARE), contour(series, shifted))
    one, other = (slice_of(series, contour(series, corners)) for corners in (SQUARE, shifted))
    np.testing.assert_array_equal(both, one | other)


def test_an_island_in_a_hole_is_drawn_whatever_the_order(series):
    rings = [[(0.6 + n, 0.6 + n), (6.4 - n, 0.6 + n), (6.4 - n, 6.4 - n), (0.6 + n, 6.4 - n)] for n in range(3)]
    contours = [contour(series, ring) for ring in rings]

    wanted = slice_of(series, *contours)
    assert wanted.sum() == np.logical_xor.reduce([slice_of(series, one) > 0 for one in contours]).sum()
    for order in ([2, 0, 1], [1, 2, 0], [2, 1, 0]):
        np.testing.assert_array_equal(slice_of(series, *(contours[number] for number in order)), wanted)


def test_exclusive_contours_that_overlap_cut_each_other(series):
    shifted = [(i + 1, j) for i, j in SQUARE]
    kind = "CLOSEDPLANAR_XOR"

    both = slice_of(series, contour(series, SQUARE, kind=kind), contour(series, shifted, kind=kind))
    one, other = (slice_of(series, contour(series, corners)) > 0 for corners in (SQUARE, shifted))
    np.testing.assert_array_equal(both > 0, one ^ other)


def test_a_region_without_contours_was_looked_at(series):
    mask, looked_at = read_contours(structure_set(series, höcker=[], LIVER=[]), series, TASK)

    assert (mask.any(), mask.shape, looked_at) == (False, series.grid.shape, ("liver", "höcker"))


def test_unknown_regions_are_listed(series):
    with pytest.raises(UnknownStructure, match=r"regions 'BODY', 'PTV', the task has liver=1, .* to be left out"):
        read_contours(structure_set(series, BODY=[], liver=[], PTV=[]), series, TASK)


def test_regions_may_be_left_out_by_name_whatever_they_hold(series):
    point = contour(series, [(1, 1)], kind="POINT")

    _, looked_at = read_contours(structure_set(series, liver=[], Isocentre=[point]), series, TASK, ["isocentre"])

    assert looked_at == ("liver",)


def test_contours_between_the_slices_are_refused_with_the_distance(series):
    with pytest.raises(
        GridMismatch, match=r"(?s)'liver' has a contour .* up to 2\.00 mm off the nearest slice .*7x5x4"
    ):
        read_contours(structure_set(series, liver=[contour(series, SQUARE, K + 0.4)]), series, TASK)


def test_contours_that_leave_their_slice_are_refused(series):
    item = contour(series, SQUARE)
    item.ContourData[2] = float(item.ContourData[2]) + 20

    with pytest.raises(GridMismatch, match="off the nearest slice"):
        read_contours(structure_set(series, liver=[item]), series, TASK)


def test_rounded_places_are_accepted(series):
    item = contour(series, SQUARE)
    item.ContourData = [f"{float(value):.1f}" for value in item.ContourData]

    assert slice_of(series, item).sum() == 12


def test_another_frame_of_reference_is_refused_with_both(series):
    dataset = structure_set(series, liver=[])
    dataset.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.2.3"

    with pytest.raises(GridMismatch, match=rf"'liver' .* 1\.2\.3, the image .* in {series.frame_of_reference_uid}"):
        read_contours(dataset, series, TASK)


@pytest.mark.parametrize("kind", ["POINT", "OPEN_PLANAR", "OPEN_NONPLANAR"])
def test_contours_that_enclose_nothing_are_refused(series, kind):
    with pytest.raises(UnreadableImage, match=f"'liver' has a contour of the type {kind}, wanted is CLOSED_PLANAR"):
        read_contours(structure_set(series, liver=[contour(series, SQUARE, kind=kind)]), series, TASK)


@pytest.mark.filterwarnings("ignore:Invalid value for VR DS")
@pytest.mark.parametrize("corner", [(np.nan, 1.0), (np.inf, 1.0), (1.0, -np.inf)])
def test_a_contour_with_a_corner_nowhere_is_refused_and_is_no_empty_region(series, corner):
    item = contour(series, SQUARE)
    item.ContourData = [*map(str, corner), *item.ContourData[2:]]

    with pytest.raises(UnreadableImage, match=r"'Liver' has a contour of 12 numbers, wanted are three finite ones"):
        slice_of(series, item)


@pytest.mark.parametrize("numbers", [["1", "2"], []])
def test_a_contour_of_no_corners_is_refused(series, numbers):
    item = contour(series, SQUARE)
    item.ContourData = numbers

    with pytest.raises(UnreadableImage, match=r"'Liver' has a contour of \d numbers, wanted are three finite ones"):
        slice_of(series, item)


def test_contours_that_belong_to_no_region_are_refused_and_do_not_get_lost(series):
    dataset = structure_set(series, liver=[contour(series, SQUARE)])
    dataset.ROIContourSequence[0].ReferencedROINumber = 77

    with pytest.raises(
        UnreadableImage, match=r"regions \[1\] and has contours of the regions \[77\], wanted are the same"
    ):
        read_contours(dataset, series, TASK)


@pytest.mark.parametrize("sequence", ["StructureSetROISequence", "ROIContourSequence"])
def test_regions_that_share_a_number_are_refused(series, sequence):
    dataset = structure_set(series, liver=[contour(series, SQUARE)])
    dataset[sequence].value.append(dataset[sequence].value[0])

    with pytest.raises(UnreadableImage, match=r"\[1, 1\].* wanted are the same numbers, each once"):
        read_contours(dataset, series, TASK)


def test_another_object_and_a_damaged_one_are_refused(series):
    other, damaged = structure_set(series, liver=[]), structure_set(series, liver=[])
    other.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    del damaged.ROIContourSequence

    with pytest.raises(UnreadableImage, match="structure set is wanted, found CT Image Storage"):
        read_contours(other, series, TASK)
    with pytest.raises(UnreadableImage, match=r"cannot be read: .*ROIContourSequence"):
        read_contours(damaged, series, TASK)
    with pytest.raises(UnreadableImage, match="cannot be read"):
        read_contours(b"no DICOM", series, TASK)


def test_of_hundreds_of_contours_on_a_slice_each_is_kept_in_its_own_window(monkeypatch):
    """Planning systems write vessels and bones so: 900 islands with holes, compared as whole slices, take long."""
    areas = []
    drawing = module._draw_enclosed
    monkeypatch.setattr(module, "_draw_enclosed", lambda found, plane: (areas.extend(found), drawing(found, plane)))
    square = np.array([(0, 0), (6, 0), (6, 6), (0, 6)]) - 0.5
    places = [(8 * i + 1, 8 * j + 1) for i in range(30) for j in range(30)]
    outlines = [corners + place for place in places for corners in (square, square / 3 + 2)]

    filled = module._filled([module.Contour(0, corners) for corners in outlines], (250, 250, 1))

    assert filled.sum() == 900 * (36 - 4)
    assert sum(area.inside.size for area in areas) == 900 * (36 + 4)
