"""Masks of clients: which number means which structure, and what is refused."""

from __future__ import annotations

import gzip
import io
import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from lib.errors import GridMismatch, InvalidRequest, UnacceptableFile, UnknownStructure, UnreadableImage
from lib.label_table import NamedValue
from lib.labels import (
    mask_on_image,
    read_label_info,
    read_mask,
    to_task_values,
    voxels_per_structure,
    write_segments,
)
from lib.nrrd import read_nrrd_header
from lib.opened import OpenFile, opened
from lib.phantoms.scanner import oriented_grid
from lib.task import Structure, Task, numbered
from lib.volume import Grid, Volume, sitk_of_volume, write_volume
from tests.drawn import drawn

TASK = Task("hippocampus", "Two halves", numbered(["anterior", "posterior"]))
BOTH = drawn("""
    . # #
    . 2 2
""")
FIRST = drawn("""
    . # #
    . . .
""")
SECOND = drawn("""
    . . .
    . 2 2
""")
GRID = Grid((2, 3, 1), np.eye(4))


def pairs_of(path):
    """What a Slicer segmentation says of its segments."""
    with opened(path) as file:
        return read_nrrd_header(file, ".seg.nrrd").pairs


def named(**values):
    return tuple(NamedValue(name, value) for name, value in values.items())


# --- which number means what -----------------------------------------------------------------------------------------


def test_without_label_info_the_numbers_are_the_tasks():
    np.testing.assert_array_equal(to_task_values(BOTH, (), TASK), BOTH)


@pytest.mark.parametrize(
    ("first", "second"), [("anterior", "posterior"), ("Anterior", "POSTERIOR"), (" anterior ", "Posterior\n")]
)
def test_names_decide_whatever_their_case_and_outer_blanks(first, second):
    swapped = drawn("""
        . 2 2
        . # #
    """)

    found = to_task_values(swapped, (NamedValue(second, 1), NamedValue(first, 2)), TASK)

    np.testing.assert_array_equal(found, BOTH)
    assert found.dtype == np.uint8


def test_names_are_compared_in_one_unicode_form():
    task = Task("t", "", numbered(["Höhle"]))

    assert to_task_values(FIRST, (NamedValue("Ho\u0308hle", 1),), task).max() == 1


def test_only_the_second_structure_counted_by_position_stays_the_second():
    as_sent = drawn("""
        . . .
        . # #
    """)

    np.testing.assert_array_equal(to_task_values(as_sent, named(posterior=1), TASK), SECOND)


def test_only_the_second_structure_without_label_info_stays_the_second():
    np.testing.assert_array_equal(to_task_values(SECOND, (), TASK), SECOND)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_numbers_that_are_named_are_all_that_may_be_there(dtype):
    """What is not named may be anything: the right kidney of another numbering becomes no posterior half."""
    with pytest.raises(UnknownStructure, match=r"values \[2\], which are not among those that are named: anterior=1"):
        to_task_values(BOTH.astype(dtype), named(anterior=1), TASK)


@pytest.mark.parametrize("name", ["background", "Background ", "foreground_scribbles", "background_scribbles"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_what_is_called_no_structure_is_left_out_and_said(name, dtype):
    remarks = []

    found = to_task_values(BOTH.astype(dtype), named(anterior=1, **{name: 2}), TASK, remarks.append)

    np.testing.assert_array_equal(found, FIRST)
    assert remarks == [f"2 voxels of the value 2 ({name}) were left out; they are no structure."]


def test_a_value_that_is_not_there_is_not_said_to_be_left_out():
    remarks = []

    to_task_values(BOTH, named(anterior=1, posterior=2, background=255), TASK, remarks.append)

    assert remarks == []


def test_where_only_what_is_left_out_is_named_the_others_are_the_tasks():
    sent = drawn("""
        . # #
        7 2 2
    """)

    np.testing.assert_array_equal(to_task_values(sent, named(background=7), TASK), BOTH)


def test_the_background_is_no_structure():
    with pytest.raises(UnknownStructure, match="names anterior=0, posterior=2; 0 is the background"):
        to_task_values(BOTH, named(anterior=0, posterior=2), TASK)
    np.testing.assert_array_equal(to_task_values(BOTH, named(background=0, anterior=1, posterior=2), TASK), BOTH)


def test_two_numbers_may_mean_one_structure():
    assert to_task_values(BOTH, named(anterior=1, Anterior=2), TASK).ravel().tolist() == [0, 1, 1, 0, 1, 1]


def test_a_segment_called_background_is_background():
    np.testing.assert_array_equal(to_task_values(BOTH, named(Background=2), TASK), FIRST)


def test_an_unknown_name_is_refused_with_both_lists():
    with pytest.raises(UnknownStructure, match=r"names anterior=1, tail=2; \['tail'\] .* anterior=1, posterior=2"):
        to_task_values(BOTH, named(anterior=1, tail=2), TASK)


def test_an_unknown_number_is_refused_with_both_lists():
    with pytest.raises(UnknownStructure, match=r"values \[3, 9\], the task has anterior=1, posterior=2.*label_info"):
        to_task_values(drawn("1 3 9"), (), TASK)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16, np.uint16, np.int64, bool])
def test_whole_numbers_of_any_type_are_taken(kind):
    found = to_task_values(FIRST.astype(kind), (), TASK)

    np.testing.assert_array_equal(found, FIRST)
    assert found.dtype == np.uint8


@pytest.mark.parametrize(("odd", "shown"), [(0.5, r"\[0\.5\]"), (np.nan, r"\[nan\]"), (np.inf, r"\[inf\]")])
def test_a_mask_with_other_numbers_is_refused(odd, shown):
    mask = BOTH.astype(np.float32)
    mask[0, 0] = odd

    with pytest.raises(UnknownStructure, match=rf"whole numbers only, found {shown}"):
        to_task_values(mask, (), TASK)


@pytest.mark.parametrize(
    ("kind", "off"),
    [(np.float32, 0.0004), (np.float32, -0.0009), (np.float64, 1e-12), (np.float64, 0.00099), (np.float16, -0.0005)],
)
def test_a_voxel_nearly_a_whole_number_is_rounded_and_it_is_said(kind, off):
    mask, remarks = BOTH.astype(kind), []
    mask[0, 1] += kind(off)
    told = float(abs(mask - BOTH).max())

    np.testing.assert_array_equal(to_task_values(mask, named(posterior=1, anterior=2), TASK, remarks.append),
                                  np.choose(BOTH, [0, 2, 1]))  # fmt: skip
    assert remarks == [f"1 voxels of the mask were up to {told:.2g} away from whole numbers, and were rounded."]


def test_a_resampled_mask_of_more_values_than_a_label_map_has_is_rounded():
    mask, remarks = np.resize(BOTH, (100, 60, 20)).astype(np.float64), []
    mask += np.random.default_rng(0).uniform(-0.0009, 0.0009, mask.shape)

    np.testing.assert_array_equal(to_task_values(mask, (), TASK, remarks.append), np.resize(BOTH, mask.shape))
    assert len(remarks) == 1 and remarks[0].startswith("120000 voxels of the mask were up to 0.0009 away")


@pytest.mark.parametrize("odd", [1.0011, 0.9985, -0.002, 0.25])
def test_a_voxel_further_from_a_whole_number_is_refused(odd):
    mask = BOTH.astype(np.float64)
    mask[0, 1] = odd

    with pytest.raises(UnknownStructure, match=rf"whole numbers only, found \[{odd}\]\. Export it as a label map"):
        to_task_values(mask, (), TASK)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32])
def test_of_whole_numbers_nothing_is_said(kind):
    remarks = []

    to_task_values(BOTH.astype(kind), (), TASK, remarks.append)

    assert remarks == []


@pytest.mark.parametrize("value", [-1, 256, 257, 70000])
def test_a_number_that_fits_no_byte_is_not_taken_for_another(value):
    with pytest.raises(UnknownStructure, match=rf"label values \[{value}\]"):
        to_task_values(np.array([[[0, value]]], np.int32), (), TASK)


def test_every_structure_is_counted_also_an_absent_one():
    assert voxels_per_structure(FIRST, TASK.structures) == {"anterior": 2, "posterior": 0}


# --- label_info ------------------------------------------------------------------------------------------------------


def test_label_info_is_a_list_of_names_and_numbers():
    entries = [{"name": "posterior", "idx": 1}, {"name": "anterior", "idx": 2.0, "color": [1, 2, 3]}]

    assert read_label_info(entries) == named(posterior=1, anterior=2)


@pytest.mark.parametrize("entries", [{"name": "liver", "idx": 1}, "liver", 3, None])
def test_label_info_that_is_no_list_is_refused(entries):
    with pytest.raises(InvalidRequest, match=r'label_info must be a list of \{"name", "idx"\}, found'):
        read_label_info(entries)


@pytest.mark.parametrize(
    "entry",
    ["liver", {"name": "liver"}, {"idx": 1}, {"name": 1, "idx": 1}, {"name": "liver", "idx": "1"},
     {"name": "liver", "idx": 1.5}, {"name": "liver", "idx": float("nan")}, {"name": "liver", "idx": float("inf")},
     {"name": "liver", "idx": True}, {"name": "liver", "idx": None}],
)  # fmt: skip
def test_an_entry_of_another_shape_is_refused(entry):
    with pytest.raises(InvalidRequest, match=r'must be \{"name": text, "idx": number\}, found'):
        read_label_info([entry])


def test_one_number_with_two_names_is_refused():
    with pytest.raises(InvalidRequest, match=r"names one idx twice: \[\('anterior', 1\), \('posterior', 1\)\]"):
        read_label_info([{"name": "anterior", "idx": 1}, {"name": "posterior", "idx": 1}])


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".seg.nrrd"])
def test_a_mask_file_lands_on_the_images_grid(tmp_path, suffix):
    flipped = np.diag([-1.0, -1.0, 1.0, 1.0])
    flipped[:2, 3] = [1.0, 2.0]
    path = tmp_path / f"mask{suffix}"
    write_volume(path, Volume(BOTH[::-1, ::-1], flipped))

    np.testing.assert_array_equal(mask_on_image(path, GRID, (), TASK, "ct_017"), BOTH)


def test_a_mask_file_of_another_image_is_refused(tmp_path):
    write_volume(tmp_path / "mask.nii", Volume(np.zeros((9, 9, 9), np.uint8), np.eye(4)))

    with pytest.raises(GridMismatch, match=r"mask of ct_017 is 9x9x9 .* image is 2x3x1"):
        mask_on_image(tmp_path / "mask.nii", GRID, (), TASK, "ct_017")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".seg.nrrd"])
def test_a_label_map_that_covers_a_part_is_refused_whatever_its_name(tmp_path, suffix):
    path = tmp_path / f"mask{suffix}"
    write_volume(path, Volume(BOTH[:1], GRID.affine))

    with pytest.raises(GridMismatch, match=r"mask of ct_017 is 1x3x1 .* image is 2x3x1 .* Only 3D Slicer's"):
        mask_on_image(path, GRID, (), TASK, "ct_017")


@pytest.mark.parametrize("name", ["mask.png", "mask", "mask.nii.zip"])
def test_a_mask_of_another_kind_is_refused_with_the_accepted_ones(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")

    with pytest.raises(UnreadableImage, match=rf"one of \.nii\.gz, .*\.bin; found '{name}'"):
        read_mask(tmp_path / name, GRID, "ct_017")


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_an_empty_mask_file_is_refused(tmp_path, suffix):
    (tmp_path / f"mask{suffix}").touch()

    with pytest.raises(UnreadableImage, match=r"is empty \(0 bytes\). Send it again"):
        read_mask(tmp_path / f"mask{suffix}", GRID, "ct_017")


# --- OHIF's raw buffer -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["<u1", "<u2"])
def test_in_the_raw_buffer_the_first_axis_runs_fastest(tmp_path, kind):
    (tmp_path / "mask.bin").write_bytes(np.array([0, 0, 1, 2, 1, 2], kind).tobytes())

    mask = read_mask(tmp_path / "mask.bin", GRID, "ct_017")

    np.testing.assert_array_equal(mask.volume.voxels, BOTH)
    assert mask.volume.grid.is_same_as(GRID) and mask.named == ()


@pytest.mark.parametrize("length", [0, 5, 7, 11, 13, 24])
def test_a_raw_buffer_of_another_length_is_refused_with_both_lengths(tmp_path, length):
    (tmp_path / "mask.bin").write_bytes(bytes(length))

    with pytest.raises(UnreadableImage, match=rf"ct_017 has {length} bytes; .* needs 6 \(one byte a voxel\) or 12"):
        read_mask(tmp_path / "mask.bin", GRID, "ct_017")


# --- 3D Slicer's segmentations ---------------------------------------------------------------------------------------


def write_segmentation(path, layers, segments, encoding="gzip"):
    """A ``.seg.nrrd`` file as 3D Slicer writes it: layers (I, J, 1) and (name, label value, layer) of each segment."""
    stacked = np.stack(layers, -1).astype(np.uint8)
    size = f"{len(layers)} 2 3 1" if len(layers) > 1 else "2 3 1"
    header = ["NRRD0004", "type: uint8", f"dimension: {4 if len(layers) > 1 else 3}",
              "space: left-posterior-superior", f"sizes: {size}",
              f"space directions: {'none ' if len(layers) > 1 else ''}(-1,0,0) (0,-1,0) (0,0,1)",
              f"kinds: {'list ' if len(layers) > 1 else ''}domain domain domain", "endian: little",
              f"encoding: {encoding}", "space origin: (0,0,0)"]  # fmt: skip
    for number, (name, value, layer) in enumerate(segments):
        header += [f"Segment{number}_Name:={name}", f"Segment{number}_LabelValue:={value}",
                   f"Segment{number}_Layer:={layer}", f"Segment{number}_Extent:=0 1 0 2 0 0"]  # fmt: skip
    # Layers run fastest, then I, J, K.
    voxels = np.transpose(stacked, (3, 0, 1, 2)).tobytes(order="F")
    path.write_bytes("\n".join(header).encode() + b"\n\n" + (gzip.compress(voxels) if encoding == "gzip" else voxels))
    return path


def in_layer(mask):
    """A segment of a layer of its own is numbered from 1."""
    return (mask > 0).astype(np.uint8)


def test_the_names_in_a_slicer_segmentation_decide(tmp_path):
    swapped = drawn("""
        . 2 2
        . # #
    """)
    path = write_segmentation(tmp_path / "m.seg.nrrd", [swapped], [("Posterior", 1, 0), ("Anterior", 2, 0)])

    np.testing.assert_array_equal(mask_on_image(path, GRID, (), TASK, "ct_017"), BOTH)


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_segments_in_layers_of_their_own_are_put_together(tmp_path, encoding):
    layers = [in_layer(SECOND), in_layer(FIRST)]
    path = write_segmentation(tmp_path / "m.seg.nrrd", layers, [("posterior", 1, 0), ("anterior", 1, 1)], encoding)

    np.testing.assert_array_equal(mask_on_image(path, GRID, (), TASK, "ct_017"), BOTH)


@pytest.mark.parametrize("order", [0, 1])
def test_where_layers_overlap_the_larger_label_value_wins_and_it_is_told(tmp_path, order):
    segments = [("anterior", 1, 0), ("posterior", 1, 1)]
    layers = [in_layer(BOTH > 0), in_layer(SECOND)]
    path = write_segmentation(tmp_path / "m.seg.nrrd", layers[:: 1 - 2 * order], [
        (name, value, abs(order - layer)) for name, value, layer in segments[:: 1 - 2 * order]
    ])  # fmt: skip
    remarks = []

    np.testing.assert_array_equal(mask_on_image(path, GRID, (), TASK, "ct_017", remarks.append), BOTH)
    assert remarks == ["2 voxels of anterior are posterior too, and became that."]


def test_a_layer_of_which_nothing_would_be_left_is_refused(tmp_path):
    layers = [in_layer(SECOND), in_layer(BOTH > 0)]
    path = write_segmentation(tmp_path / "m.seg.nrrd", layers, [("anterior", 1, 0), ("posterior", 1, 1)])

    with pytest.raises(UnacceptableFile, match="'anterior' lies wholly within 'posterior'"):
        mask_on_image(path, GRID, (), TASK, "ct_017")


def test_two_layers_of_one_structure_are_one(tmp_path):
    layers = [in_layer(SECOND), in_layer(BOTH > 0)]
    path = write_segmentation(tmp_path / "m.seg.nrrd", layers, [("anterior", 1, 0), (" Anterior", 1, 1)])

    np.testing.assert_array_equal(mask_on_image(path, GRID, (), TASK, "ct_017"), (BOTH > 0).astype(np.uint8))


def old_segmentation(path, layers, names):
    """A segmentation as 3D Slicer wrote it before 2020: a layer for each segment, and no label values."""
    path = write_segmentation(path, layers, [(name, 1, layer) for layer, name in enumerate(names)])
    lines = path.read_bytes().split(b"\n\n", 1)
    header = [line for line in lines[0].split(b"\n") if b"LabelValue" not in line and b"_Layer" not in line]
    path.write_bytes(b"\n\n".join([b"\n".join(header), lines[1]]))
    return path


def test_segments_without_label_values_lie_in_layers_in_their_order(tmp_path):
    path = old_segmentation(tmp_path / "m.seg.nrrd", [in_layer(SECOND), in_layer(FIRST)], ["posterior", "anterior"])

    np.testing.assert_array_equal(mask_on_image(path, GRID, (), TASK, "ct_017"), BOTH)


def test_a_name_of_theirs_that_is_none_of_the_tasks_is_refused(tmp_path):
    path = old_segmentation(tmp_path / "m.seg.nrrd", [in_layer(SECOND), in_layer(FIRST)], ["spleen", "anterior"])

    with pytest.raises(UnknownStructure, match=r"\['spleen'\] are none of this task's structures"):
        mask_on_image(path, GRID, (), TASK, "ct_017")


def of_mitk(path, groups):
    """A label map with what MITK Workbench says of it."""
    image = sitk_of_volume(Volume(BOTH, np.eye(4)))
    image.SetMetaData("modality", "org.mitk.multilabel.segmentation")
    image.SetMetaData("org.mitk.multilabel.segmentation.labelgroups", groups)
    sitk.WriteImage(image, str(path))
    return path


def test_labels_of_mitk_are_read_by_their_names(tmp_path):
    labels = [{"name": "posterior", "value": 1, "color": {}}, {"name": "anterior", "value": 2}]
    path = of_mitk(tmp_path / "m.nrrd", json.dumps([{"labels": labels}]))

    expected = np.where(BOTH == 1, 2, np.where(BOTH == 2, 1, 0))
    np.testing.assert_array_equal(mask_on_image(path, GRID, (), TASK, "ct_017"), expected)


@pytest.mark.parametrize("groups", ["no JSON", "{}x", '[{"labels": [{"value": 1}]}]', "[1]", "[" * 5000])
def test_labels_of_mitk_that_cannot_be_read_are_refused(tmp_path, groups):
    with pytest.raises(UnreadableImage, match="of MITK whose labels cannot be read"):
        mask_on_image(of_mitk(tmp_path / "m.nrrd", groups), GRID, (), TASK, "ct_017")


CROPPED = drawn("""
    2
    #
""")


@pytest.mark.parametrize(
    "fields",
    [
        {
            "Segment0_Name": "anterior",
            "Segment0_LabelValue": "1",
            "Segment1_Name": "posterior",
            "Segment1_LabelValue": "2",
        },
        {"Segmentation_MasterRepresentation": "Binary labelmap"},
    ],
    ids=["with segments", "without any"],
)
def test_a_slicer_segmentation_ends_where_its_segments_end(tmp_path, fields):
    """It lies at the last column of the image."""
    image = sitk_of_volume(Volume(CROPPED, np.array([[1.0, 0, 0, 0], [0, 1, 0, 2], [0, 0, 1, 0], [0, 0, 0, 1]])))
    for key, value in fields.items():
        image.SetMetaData(key, value)
    sitk.WriteImage(image, str(tmp_path / "m.seg.nrrd"))

    expected = drawn("""
        . . 2
        . . #
    """)
    np.testing.assert_array_equal(mask_on_image(tmp_path / "m.seg.nrrd", GRID, (), TASK, "ct_017"), expected)


def test_segments_in_layers_end_where_they_end_too(tmp_path):
    larger = Grid((2, 5, 1), np.eye(4))
    layers = [in_layer(SECOND), in_layer(FIRST)]
    path = write_segmentation(tmp_path / "m.seg.nrrd", layers, [("posterior", 1, 0), ("anterior", 1, 1)])

    expected = drawn("""
        . # # . .
        . 2 2 . .
    """)
    np.testing.assert_array_equal(mask_on_image(path, larger, (), TASK, "ct_017"), expected)


def test_where_segments_overlap_the_later_one_is_on_top(tmp_path):
    below = drawn("""
        # # #
        . . .
    """)
    above = drawn("""
        . . #
        . . #
    """)
    path = write_segmentation(tmp_path / "m.seg.nrrd", [below, above], [("anterior", 1, 0), ("posterior", 1, 1)])

    expected = drawn("""
        # # 2
        . . 2
    """)
    np.testing.assert_array_equal(mask_on_image(path, GRID, (), TASK, "ct_017"), expected)


def test_label_info_names_segments_that_the_file_does_not(tmp_path):
    path = write_segmentation(tmp_path / "m.seg.nrrd", [BOTH], [("Segment_1", 1, 0), ("Segment_2", 2, 0)])

    found = mask_on_image(path, GRID, named(posterior=1, anterior=2), TASK, "ct_017")

    assert found.ravel().tolist() == [0, 2, 2, 0, 1, 1]


def test_names_in_the_file_win_over_the_positions_in_label_info(tmp_path):
    """3D Slicer counts the segments it shows; the label values in the file keep the gap of a deleted one."""
    sent = drawn("""
        . . .
        . 5 5
    """)
    path = write_segmentation(tmp_path / "m.seg.nrrd", [sent], [("posterior", 5, 0)])

    np.testing.assert_array_equal(mask_on_image(path, GRID, named(posterior=1), TASK, "ct_017"), SECOND)


def test_an_unknown_segment_is_refused_with_both_lists(tmp_path):
    path = write_segmentation(tmp_path / "m.seg.nrrd", [BOTH], [("anterior", 1, 0), ("tail", 2, 0)])

    with pytest.raises(UnknownStructure, match=r"anterior=1, tail=2; \['tail'\] .* anterior=1, posterior=2"):
        mask_on_image(path, GRID, (), TASK, "ct_017")


def test_layers_without_named_segments_are_refused(tmp_path):
    path = write_segmentation(tmp_path / "m.seg.nrrd", [FIRST, in_layer(SECOND)], [])

    with pytest.raises(UnreadableImage, match=r"m\.seg\.nrrd has 2 layers and names no segments"):
        mask_on_image(path, GRID, (), TASK, "ct_017")


@pytest.mark.parametrize(("value", "layer"), [(1, 7), ("one", 0), (1, "top"), (1, -1)])
def test_a_segment_outside_of_the_file_is_refused(tmp_path, value, layer):
    path = write_segmentation(tmp_path / "m.seg.nrrd", [FIRST, in_layer(SECOND)], [("anterior", value, layer)])

    with pytest.raises(UnreadableImage, match=rf"segment 0 has the label value '{value}' in layer '{layer}' of 2"):
        mask_on_image(path, GRID, (), TASK, "ct_017")


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_a_segmentation_cut_off_is_refused(tmp_path, encoding):
    path = write_segmentation(tmp_path / "m.seg.nrrd", [BOTH], [("anterior", 1, 0)], encoding)
    path.write_bytes(path.read_bytes()[: -13 if encoding == "gzip" else -1])

    with pytest.raises(UnreadableImage, match=r"m\.seg\.nrrd (is cut off: its header|cannot be read as NRRD)"):
        mask_on_image(path, GRID, (), TASK, "ct_017")


def test_a_segmentation_may_not_name_another_file_of_this_machine(tmp_path):
    path = write_segmentation(tmp_path / "m.seg.nrrd", [BOTH], [], "raw")
    (tmp_path / "secret").write_bytes(bytes(6))
    path.write_bytes(path.read_bytes().replace(b"\n\n", f"\ndata file: {tmp_path / 'secret'}\n\n".encode()))

    with pytest.raises(UnreadableImage, match=r"m\.seg\.nrrd keeps its voxels in another file"):
        mask_on_image(path, GRID, (), TASK, "ct_017")


FROM_TWO = Task("abdomen", "", (Structure("liver", 2, (0, 0, 0)), Structure("spleen", 3, (0, 0, 0))))


def test_a_number_that_a_client_does_not_explain_is_refused_where_it_may_mean_two_things(tmp_path):
    write_volume(tmp_path / "m.nii", Volume(SECOND, GRID.affine))

    with pytest.raises(
        UnknownStructure, match=r"values \[2\]: the task's are liver=2, spleen=3, but masks are sent to"
    ):
        mask_on_image(tmp_path / "m.nii", GRID, None, FROM_TWO, "ct_017")
    np.testing.assert_array_equal(mask_on_image(tmp_path / "m.nii", GRID, (), FROM_TWO, "ct_017"), SECOND)


def test_the_names_in_a_segmentation_explain_its_numbers(tmp_path):
    path = write_segmentation(tmp_path / "m.seg.nrrd", [SECOND], [("spleen", 2, 0)])

    np.testing.assert_array_equal(mask_on_image(path, GRID, None, FROM_TWO, "ct_017"), 3 * (SECOND > 0))


# --- the image on which 3D Slicer drew -------------------------------------------------------------------------------


def conversion(affine, extent):
    """``Segmentation_ConversionParameters`` as 3D Slicer 5 writes it, some of its other parameters included."""
    numbers = [*(repr(float(number)) for number in affine.ravel()), *map(str, extent)]
    return (
        "Collapse labelmaps|1|Merge the labelmaps into as few shared labelmaps as possible.&"
        "Decimation factor|0.0|0.0 (no decimation) to 1.0.&"
        f"Reference image geometry|{';'.join(numbers)};|Image geometry description string.&"
        "Smoothing factor|0.5|Range: 0.0 (no smoothing) to 1.0 (strong smoothing).&"
    )


def drawn_in_slicer(path, mask, affine, parameters, offset="0 0 0"):
    """A cropped segmentation as 3D Slicer 5 saves it; SimpleITK writes its space, as 3D Slicer, in LPS."""
    image = sitk_of_volume(Volume(mask, affine))
    fields = {"Segment0_ID": "Segment_1", "Segment0_Name": "anterior", "Segment0_LabelValue": "1",
              "Segment0_Layer": "0", "Segment0_Extent": "0 0 0 1 0 0", "Segmentation_ConversionParameters": parameters,
              "Segmentation_ContainedRepresentationNames": "Binary labelmap|Closed surface|",
              "Segmentation_MasterRepresentation": "Binary labelmap",
              "Segmentation_ReferenceImageExtentOffset": offset}  # fmt: skip
    for key, value in fields.items():
        image.SetMetaData(key, value)
    sitk.WriteImage(image, str(path), useCompression=True)
    return path


def from_voxel(affine, *voxel):
    """The affine of a part that begins at a voxel."""
    part = affine.copy()
    part[:3, 3] += affine[:3, :3] @ voxel
    return part


COLUMN = np.ones((1, 2, 1), np.uint8)
"""Two voxels along J."""


@pytest.mark.parametrize("tilt_deg", [(0, 0, 0), (8, -5, 11)], ids=["straight", "oblique"])
@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PIR"])
def test_a_part_of_this_image_is_taken_by_the_geometry_in_its_header(tmp_path, orientation, tilt_deg):
    grid = Grid(*oriented_grid(orientation, (4, 5, 6), (0.7, 1.3, 5.0), (12.0, -34.0, 567.8), tilt_deg))
    i, j, k = (size - 1 for size in grid.shape)
    part = from_voxel(grid.affine, 1, 2, 3)
    path = drawn_in_slicer(
        tmp_path / "m.seg.nrrd", COLUMN, part, conversion(grid.affine, (0, i, 0, j, 0, k)), offset="1 2 3"
    )

    found = mask_on_image(path, grid, (), TASK, "ct_017")

    assert np.argwhere(found).tolist() == [[1, 2, 3], [1, 3, 3]]


@pytest.mark.parametrize(
    ("matrix", "extent"),
    [
        (np.eye(4), (0, 1, 0, 2, 0, 1)),
        (np.eye(4), (0, 1, 0, 1, 0, 0)),
        (from_voxel(np.eye(4), 0, 0, -1), (0, 1, 0, 2, 0, 0)),
        (np.eye(4), (0, 1, 1, 3, 0, 0)),
        (np.diag([1.0, 0.5, 1.0, 1.0]), (0, 1, 0, 4, 0, 0)),
    ],
    ids=["one slice more", "one column less", "a slice below", "begins a column later", "half the spacing"],
)
def test_a_part_of_another_image_on_the_same_lattice_is_refused_with_both_grids(tmp_path, matrix, extent):
    path = drawn_in_slicer(tmp_path / "m.seg.nrrd", COLUMN, np.eye(4), conversion(matrix, extent))

    with pytest.raises(
        GridMismatch,
        match=r"of ct_017 was drawn on another image: its header tells of \dx\dx\d voxels at .* from \(.*\) on, "
        r"this image is 2x3x1 voxels at 1\.00x1\.00x1\.00 mm, RAS from \(0\.0, 0\.0, 0\.0\) on\. Send it to the image",
    ):
        mask_on_image(path, GRID, (), TASK, "ct_017")


def test_an_image_whose_extent_begins_elsewhere_is_the_same_one(tmp_path):
    """3D Slicer counts from the first index that the extent names."""
    earlier = from_voxel(np.eye(4), -10, -20, -30)
    path = drawn_in_slicer(tmp_path / "m.seg.nrrd", COLUMN, np.eye(4), conversion(earlier, (10, 11, 20, 22, 30, 30)))

    assert np.argwhere(mask_on_image(path, GRID, (), TASK, "ct_017")).tolist() == [[0, 0, 0], [0, 1, 0]]


def test_the_same_image_with_its_axes_in_another_order_and_direction_is_the_same_one(tmp_path):
    """K, J backwards and I of the image are I, J and K of the reference."""
    turned = np.array([[0.0, 0, 1, 0], [0, -1, 0, 2], [1, 0, 0, 0], [0, 0, 0, 1]])
    path = drawn_in_slicer(tmp_path / "m.seg.nrrd", COLUMN, np.eye(4), conversion(turned, (0, 0, 0, 2, 0, 1)))

    assert np.argwhere(mask_on_image(path, GRID, (), TASK, "ct_017")).tolist() == [[0, 0, 0], [0, 1, 0]]


def test_a_reference_a_little_beside_the_image_is_the_same_one(tmp_path):
    """3D Slicer may take the spacing of a long series from its first slices."""
    grid = Grid((2, 3, 200), np.eye(4))
    path = drawn_in_slicer(
        tmp_path / "m.seg.nrrd", COLUMN, np.eye(4), conversion(np.diag([1, 1, 1.001, 1]), (0, 1, 0, 2, 0, 199))
    )

    assert mask_on_image(path, grid, (), TASK, "ct_017").sum() == 2


@pytest.mark.parametrize(
    "parameters",
    [
        "",
        "Smoothing factor|0.5|Range: 0.0 to 1.0.&",
        "Reference image geometry||Image geometry description string.&",
        "Reference image geometry|1;0;0;0;|Cut off.&",
        "Reference image geometry|one;0;|No number.&",
        conversion(np.zeros((4, 4)), (0, 1, 0, 2, 0, 1)),
        conversion(np.full((4, 4), np.nan), (0, 1, 0, 2, 0, 1)),
        conversion(np.eye(4), (0, -1, 0, -1, 0, -1)),
    ],
    ids=["nothing", "others only", "empty", "cut off", "no number", "no matrix", "not finite", "no voxels"],
)
def test_a_part_whose_header_tells_of_no_image_is_placed_by_its_lattice(tmp_path, parameters):
    path = drawn_in_slicer(tmp_path / "m.seg.nrrd", COLUMN, np.eye(4), parameters)

    assert np.argwhere(mask_on_image(path, GRID, (), TASK, "ct_017")).tolist() == [[0, 0, 0], [0, 1, 0]]


def test_a_segmentation_of_the_whole_image_needs_no_word_on_it(tmp_path):
    """Programs that copy a header from case to case leave another case's geometry in it."""
    stale = conversion(np.eye(4), (0, 511, 0, 511, 0, 130))
    path = drawn_in_slicer(tmp_path / "m.seg.nrrd", FIRST, np.eye(4), stale)

    np.testing.assert_array_equal(mask_on_image(path, GRID, (), TASK, "ct_017"), FIRST)


def test_layers_tell_of_their_image_too(tmp_path):
    larger = Grid((2, 5, 1), np.eye(4))
    layers = [in_layer(SECOND), in_layer(FIRST)]
    path = write_segmentation(tmp_path / "m.seg.nrrd", layers, [("posterior", 1, 0), ("anterior", 1, 1)])
    pair = f"Segmentation_ConversionParameters:={conversion(np.eye(4), (0, 1, 0, 2, 0, 0))}"
    path.write_bytes(path.read_bytes().replace(b"\n\n", f"\n{pair}\n\n".encode(), 1))

    with pytest.raises(GridMismatch, match=r"drawn on another image: its header tells of 2x3x1 voxels"):
        mask_on_image(path, larger, (), TASK, "ct_017")


@pytest.mark.parametrize("affine", [np.eye(4), np.diag([-0.7, -0.7, 2.5, 1.0]), from_voxel(np.eye(4), 500.5, 3, -7)],
                         ids=["on the lattice", "other voxels", "elsewhere"])  # fmt: skip
@pytest.mark.parametrize("parameters", ["", conversion(np.eye(4), (0, 1, 0, 2, 0, 0))], ids=["no word", "this image"])
def test_a_segmentation_without_a_voxel_says_that_nothing_is_there(tmp_path, affine, parameters):
    """3D Slicer writes one voxel of value 0, which lies anywhere if no segment has a place."""
    path = drawn_in_slicer(tmp_path / "m.seg.nrrd", np.zeros((1, 1, 1), np.uint8), affine, parameters)

    found = mask_on_image(path, GRID, (), TASK, "ct_017")

    assert found.shape == GRID.shape and found.dtype == np.uint8 and not found.any()


def test_a_segmentation_without_a_voxel_of_another_image_is_refused(tmp_path):
    larger = conversion(np.eye(4), (0, 511, 0, 511, 0, 130))
    path = drawn_in_slicer(tmp_path / "m.seg.nrrd", np.zeros((1, 1, 1), np.uint8), np.eye(4), larger)

    with pytest.raises(GridMismatch, match=r"drawn on another image: its header tells of 512x512x131 voxels"):
        mask_on_image(path, GRID, (), TASK, "ct_017")


def test_a_single_voxel_that_is_marked_must_lie_on_the_image(tmp_path):
    path = drawn_in_slicer(tmp_path / "m.seg.nrrd", np.ones((1, 1, 1), np.uint8), from_voxel(np.eye(4), 0.5, 0, 0), "")

    with pytest.raises(GridMismatch, match=r"mask of ct_017 is 1x1x1 voxels"):
        mask_on_image(path, GRID, (), TASK, "ct_017")


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_a_label_map_of_one_voxel_is_no_empty_segmentation(tmp_path, suffix):
    write_volume(tmp_path / f"m{suffix}", Volume(np.zeros((1, 1, 1), np.uint8), np.eye(4)))

    with pytest.raises(GridMismatch, match=r"mask of ct_017 is 1x1x1 voxels"):
        mask_on_image(tmp_path / f"m{suffix}", GRID, (), TASK, "ct_017")


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".seg.nrrd"])
def test_a_lattice_a_little_beside_the_images_is_taken_and_it_is_said(tmp_path, suffix):
    remarks = []
    write_volume(tmp_path / f"m{suffix}", Volume(BOTH, from_voxel(np.eye(4), 0, 0.006, 0)))

    np.testing.assert_array_equal(mask_on_image(tmp_path / f"m{suffix}", GRID, (), TASK, "c", remarks.append), BOTH)
    assert remarks == ["The voxels of the mask lie up to 0.006 mm beside those of the image, less than a hundredth of "
                       "a voxel; it was taken as drawn on these."]  # fmt: skip


# --- 3D Slicer's segmentation ----------------------------------------------------------------------------------------


def test_a_segmentation_for_slicer_names_and_colours_what_was_looked_for(tmp_path):
    posterior = TASK.structures[1]
    path = tmp_path / "mask.seg.nrrd"

    write_segments(path, Volume(SECOND, GRID.affine), [posterior])

    fields = pairs_of(path)
    about = {key: fields[f"Segment0_{key}"] for key in ("Name", "LabelValue", "Layer", "Extent")}
    assert about == {"Name": "posterior", "LabelValue": "2", "Layer": "0", "Extent": "0 1 0 2 0 0"}
    assert [round(255 * float(part)) for part in fields["Segment0_Color"].split()] == list(posterior.colour)
    assert "Segment1_Name" not in fields


def test_a_segmentation_for_slicer_comes_back_whatever_the_numbers_of_the_task(tmp_path):
    swapped = Task("hippocampus", "The halves in the other order", numbered(["posterior", "anterior"]))
    write_segments(tmp_path / "mask.seg.nrrd", Volume(BOTH, GRID.affine), TASK.structures)

    found = mask_on_image(tmp_path / "mask.seg.nrrd", GRID, (), swapped, "case")

    np.testing.assert_array_equal(found == 2, BOTH == 1)
    np.testing.assert_array_equal(found == 1, BOTH == 2)


def test_a_segmentation_for_slicer_tells_the_image_so_that_a_part_of_it_comes_back(tmp_path):
    """3D Slicer keeps the geometry when it saves the edited segmentation, cropped."""
    grid = Grid((2, 3, 4), oriented_grid("LPS", (2, 3, 4), (0.7, 1.3, 5.0), (12.0, -34.0, 567.8), (8, -5, 11))[1])
    write_segments(tmp_path / "ours.seg.nrrd", Volume(np.zeros(grid.shape, np.uint8), grid.affine), TASK.structures)
    kept = pairs_of(tmp_path / "ours.seg.nrrd")["Segmentation_ConversionParameters"]
    path = drawn_in_slicer(tmp_path / "m.seg.nrrd", COLUMN, grid.affine, kept)

    assert mask_on_image(path, grid, (), TASK, "ct_017").sum() == 2
    with pytest.raises(GridMismatch, match=r"drawn on another image: its header tells of 2x3x4 voxels"):
        mask_on_image(path, Grid((2, 3, 5), grid.affine), (), TASK, "ct_017")


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


def nifti_claiming(shape):
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.uint8)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    header.set_sform(np.eye(4), 1)
    return header.binaryblock + bytes(4)


def nrrd_claiming(sizes, *lines, encoding="gzip"):
    header = ["NRRD0004", "type: uchar", f"dimension: {len(sizes)}", f"sizes: {' '.join(map(str, sizes))}",
              f"encoding: {encoding}", *lines, "", ""]  # fmt: skip
    return "\n".join(header).encode()


SEGMENT = ("Segment0_Name:=anterior", "Segment0_LabelValue:=1", "Segment0_Layer:=0")
LAYERED = ("space: RAS", "space directions: none (1,0,0) (0,1,0) (0,0,1)", "kinds: list domain domain domain", *SEGMENT)

ZEROS = gzip.compress(bytes(8 << 20))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.nii.gz", gzip.compress(nifti_claiming((16384, 16384, 16)))),
        ("m.nii.gz", gzip.compress(nifti_claiming((1300, 1300, 1300)) + bytes(8 << 20))),
        ("m.nii", nifti_claiming((1300, 1300, 1300)) + bytes(8 << 20)),
        ("m.nii.gz", gzip.compress(nifti_claiming((4, 3, 2))) + ZEROS * 100),
        ("m.nrrd", nrrd_claiming((1300, 1300, 1300)) + ZEROS),
        ("m.nrrd", nrrd_claiming((3000, 1000, 1000), encoding="raw") + bytes(8 << 20)),
        ("m.seg.nrrd", nrrd_claiming((1300, 1300, 1300), *SEGMENT) + ZEROS),
        ("m.seg.nrrd", nrrd_claiming((1 << 30, 2, 3, 1), *LAYERED) + ZEROS),
        ("m.seg.nrrd", nrrd_claiming((300, 2, 3, 1), *LAYERED) + ZEROS),
        ("m.bin", bytes(8 << 20)),
    ],
    ids=["64 bytes", "packed NIfTI", "plain NIfTI", "members", "packed NRRD", "plain NRRD", "segments", "many layers",
         "more layers than structures", "buffer"],
)  # fmt: skip
def test_a_mask_that_claims_more_than_the_image_is_refused_by_its_header_alone(name, content):
    file = Counting(content)

    with pytest.raises((GridMismatch, UnreadableImage), match=r"16384x|1300x|4x3x2|3000x|GiB|300 layers|8388608 bytes"):
        mask_on_image(OpenFile(file, name), GRID, (), TASK, "ct_017")

    assert file.count < 1 << 20


def test_layers_of_the_images_size_are_taken(tmp_path):
    layers = [np.zeros_like(SECOND)] * 99 + [in_layer(SECOND)]
    path = write_segmentation(tmp_path / "m.seg.nrrd", layers, [("posterior", 1, 99)])

    np.testing.assert_array_equal(mask_on_image(path, GRID, (), TASK, "ct_017"), SECOND)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_a_mask_may_have_the_images_voxels_in_any_order_of_the_axes(tmp_path, order):
    affine = np.eye(4)[[*order, 3]].T
    write_volume(tmp_path / "mask.nii", Volume(BOTH.transpose(order), affine))

    np.testing.assert_array_equal(mask_on_image(tmp_path / "mask.nii", GRID, (), TASK, "ct_017"), BOTH)


@pytest.mark.parametrize("kind", [np.int32, np.float64, np.int64])
def test_an_image_is_not_taken_for_a_mask(kind):
    image = np.arange(100_000, dtype=kind).reshape(100, 100, 10)

    with pytest.raises(UnknownStructure, match=r"whole numbers only, at most 65536 of them; found are more, such as"):
        to_task_values(image, (), TASK)


def test_numbers_without_end_are_told_in_short():
    with pytest.raises(UnknownStructure, match=r"label values \[1e\+300\], the task has"):
        to_task_values(np.array([[[0, 1e300]]]), (), TASK)


@pytest.mark.parametrize("field", ["LabelValue", "Layer"])
@pytest.mark.parametrize("number", ["9" * 5000, "\u0663", "1 ", "-1"])
def test_a_number_of_a_segment_is_one_of_few_digits(tmp_path, field, number):
    path = write_segmentation(tmp_path / "m.seg.nrrd", [BOTH], [("anterior", 1, 0)])
    value = {"LabelValue": b"1", "Layer": b"0"}[field]
    told = f"Segment0_{field}:={number}".encode()
    path.write_bytes(path.read_bytes().replace(f"Segment0_{field}:=".encode() + value, told))

    with pytest.raises(UnreadableImage, match=r"m\.seg\.nrrd: segment 0 has the label value '.{1,30}' in layer"):
        mask_on_image(path, GRID, (), TASK, "ct_017")


# --- names in a file and names that are told --------------------------------------------------------------------------


THREE = drawn("""
    . # 2
    . 3 3
""")


@pytest.mark.parametrize("name", ["background", "foreground_scribbles", "background_scribbles"])
@pytest.mark.parametrize("label_info", [None, (), "both"])
def test_a_segment_that_is_no_structure_is_left_out_and_said_whatever_label_info_lists(tmp_path, name, label_info):
    told = named(anterior=1, posterior=2) if label_info == "both" else label_info
    path = write_segmentation(tmp_path / "m.seg.nrrd", [THREE], [("anterior", 1, 0), ("posterior", 2, 0), (name, 3, 0)])
    remarks = []

    found = mask_on_image(path, GRID, told, TASK, "ct_017", remarks.append)

    assert found.ravel().tolist() == [0, 1, 2, 0, 0, 0]
    assert remarks == [f"2 voxels of the value 3 ({name}) were left out; they are no structure."]


def test_no_structure_on_a_layer_of_its_own_takes_no_voxel_from_any_and_may_be_covered(tmp_path):
    layers = [in_layer(FIRST), in_layer(FIRST), in_layer(SECOND)]
    path = write_segmentation(
        tmp_path / "m.seg.nrrd", layers, [("foreground_scribbles", 1, 0), ("anterior", 1, 1), ("background", 1, 2)]
    )
    remarks = []

    np.testing.assert_array_equal(mask_on_image(path, GRID, (), TASK, "ct_017", remarks.append), FIRST)
    assert remarks == ["2 voxels of the value 1 (background) were left out; they are no structure."]


@pytest.mark.parametrize(
    ("segments", "label_info"),
    [
        ([("new", 1, 0), ("anterior", 2, 0)], {"anterior": 1}),
        ([("new", 1, 0), ("anterior", 2, 0)], {"anterior": 1, "posterior": 2}),
        ([("Segment_1", 1, 0), ("Posterior", 2, 0)], {"posterior": 1}),
    ],
)
def test_what_a_file_names_itself_is_not_given_to_another_segment_by_its_position(tmp_path, segments, label_info):
    path = write_segmentation(tmp_path / "m.seg.nrrd", [BOTH], segments)

    with pytest.raises(UnknownStructure, match=rf"\['{segments[0][0]}'\] are none of this task's structures"):
        mask_on_image(path, GRID, named(**label_info), TASK, "ct_017")


def test_segments_of_layers_that_only_label_info_names_are_counted_by_position(tmp_path):
    layers = [in_layer(FIRST), in_layer(SECOND)]
    path = write_segmentation(tmp_path / "m.seg.nrrd", layers, [("Segment_2", 1, 0), ("Segment_1", 1, 1)])

    found = mask_on_image(path, GRID, named(posterior=1, anterior=2), TASK, "ct_017")

    assert found.ravel().tolist() == [0, 2, 2, 0, 1, 1]


def test_one_value_with_two_names_is_refused(tmp_path):
    path = write_segmentation(tmp_path / "m.seg.nrrd", [FIRST], [("anterior", 1, 0), ("posterior", 1, 0)])

    with pytest.raises(UnknownStructure, match="calls the value 1 'anterior' and 'posterior'"):
        mask_on_image(path, GRID, (), TASK, "ct_017")


def test_voxels_of_a_layer_that_belong_to_no_segment_are_refused(tmp_path):
    path = write_segmentation(
        tmp_path / "m.seg.nrrd", [BOTH, in_layer(SECOND)], [("anterior", 1, 0), ("posterior", 1, 1)]
    )

    with pytest.raises(UnknownStructure, match=r"Layer 0 of the mask holds the values \[2\], which belong to none"):
        mask_on_image(path, GRID, (), TASK, "ct_017")


def test_every_value_that_is_not_named_is_told_with_the_option_that_leaves_all_of_them_out():
    mask = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)

    with pytest.raises(UnknownStructure, match=rf"--leave-out {','.join(map(str, range(3, 60)))}\."):
        to_task_values(mask, named(anterior=1, posterior=2), TASK)


# --- names in the header of a NIfTI file, and of MITK -----------------------------------------------------------------


def write_table(path, mask, names, name_of=lambda name: f"<![CDATA[{name}]]>"):
    """A NIfTI file with the table of names that Connectome Workbench reads, as TotalSegmentator writes it."""
    image = nib.Nifti1Image(mask, GRID.affine)
    labels = "".join(
        f'<Label Key="{value}" Red="1" Green="0" Blue="0" Alpha="1">{name_of(name)}</Label>' for value, name in names
    )
    text = (
        '<?xml version="1.0" encoding="UTF-8"?> <CaretExtension>  <VolumeInformation Index="0">   '
        f"<LabelTable>{labels}</LabelTable>  <VolumeType><![CDATA[Label]]></VolumeType></VolumeInformation>"
        "</CaretExtension>"
    )
    image.header.extensions.append(nib.nifti1.Nifti1Extension(0, text.encode()))
    nib.save(image, path)
    return path


SWAPPED = [(1, "posterior"), (2, "Anterior"), (3, "aorta")]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("name_of", [lambda name: f"<![CDATA[{name}]]>", lambda name: f" {name}\n"])
@pytest.mark.parametrize("label_info", [None, (), named(posterior=1, anterior=2)])
def test_a_table_of_names_in_a_nifti_header_decides(tmp_path, suffix, name_of, label_info):
    path = write_table(tmp_path / f"m{suffix}", BOTH, SWAPPED, name_of)

    assert mask_on_image(path, GRID, label_info, TASK, "ct_017").ravel().tolist() == [0, 2, 2, 0, 1, 1]


def test_names_of_a_table_are_refused_where_voxels_have_them_only(tmp_path):
    path = write_table(tmp_path / "m.nii", THREE, SWAPPED)

    with pytest.raises(UnknownStructure, match=r"aorta=3; \['aorta'\] are none .* --leave-out aorta"):
        mask_on_image(path, GRID, (), TASK, "ct_017")
    found = mask_on_image(path, GRID, (), TASK, "ct_017", names={"aorta": "background"})
    assert found.ravel().tolist() == [0, 2, 1, 0, 0, 0]


def test_a_table_that_contradicts_what_is_told_is_refused_with_both(tmp_path):
    path = write_table(tmp_path / "m.nii", BOTH, SWAPPED)

    with pytest.raises(
        UnknownStructure, match=r"value 1 is said to be 'anterior', but the table .* calls it 'posterior'"
    ):
        mask_on_image(path, GRID, named(anterior=1, posterior=2), TASK, "ct_017")


@pytest.mark.parametrize("text", [b"", b"<LabelTable>", b"<LabelTable><Label Key='1'>x</Label>", b"\x00\xff" * 500])
def test_other_extensions_of_a_nifti_header_mean_nothing(tmp_path, text):
    image = nib.Nifti1Image(BOTH, GRID.affine)
    image.header.extensions.append(nib.nifti1.Nifti1Extension(6, text))
    nib.save(image, tmp_path / "m.nii")

    np.testing.assert_array_equal(mask_on_image(tmp_path / "m.nii", GRID, (), TASK, "ct_017"), BOTH)


def old_mitk(layer, number, name, value):
    """A label as MITK Workbench described it before 2023."""
    xml = (
        f'<?xml version=\\"1.0\\"?> <Label> <property key="name" type="StringProperty"> <string value="{name}"/> '
        f'</property> <property key="value" type="UIntProperty"> <unsigned value="{value}"/> </property> </Label>'
    )
    return f"org.mitk.label_{layer:03d}_{number:05d}:={xml}"


def test_labels_of_an_older_mitk_are_read_by_their_names(tmp_path):
    path = write_segmentation(tmp_path / "m.nrrd", [BOTH], [])
    lines = [old_mitk(0, 0, "Exterior", 0), old_mitk(0, 1, "Posterior", 1), old_mitk(0, 2, "anterior", 2)]
    path.write_bytes(path.read_bytes().replace(b"\n\n", ("\n" + "\n".join(lines) + "\n\n").encode(), 1))

    assert mask_on_image(path, GRID, (), TASK, "ct_017").ravel().tolist() == [0, 2, 2, 0, 1, 1]
