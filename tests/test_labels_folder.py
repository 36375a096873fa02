"""Folders of masks: which file shows which structure of which image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lib.errors import GridMismatch, InvalidRequest, UnacceptableFile, UnknownStructure
from lib.labels_folder import Masks, Meaning, find_masks, place
from lib.task import Task, numbered
from lib.volume import Grid, Volume, write_volume
from tests.drawn import drawn

TASK = Task("organs", "", numbered(["liver", "spleen", "left kidney"]))
LIVER, SPLEEN, KIDNEY = TASK.structures
GRID = Grid((2, 3, 1), np.eye(4))
NAMES = {"ct_1": "ct_1", "ct_2": "ct_2", "site/ct_3": "site/ct_3", "s0001/ct": "s0001/ct", "series_a": "1.2.3"}


def found(*names, label_map=""):
    return find_masks([Path(name) for name in names], NAMES, TASK, Meaning.read(label_map, TASK))


def parts(*names, label_map=""):
    return {each.image_id: [(s.name, path.as_posix()) for s, path in each.parts] for each in
            found(*names, label_map=label_map).masks}  # fmt: skip


# --- layouts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".seg.nrrd", ".bin", ".NII.GZ"])
def test_a_file_named_as_the_image_holds_all_structures(suffix):
    assert found(f"ct_1{suffix}").masks == [Masks("ct_1", whole=Path(f"ct_1{suffix}"))]


def test_an_image_in_a_folder_has_its_mask_in_such_a_folder():
    assert found("site/ct_3.nii.gz").masks[0].image_id == "site/ct_3"


def test_a_dicom_series_goes_by_the_name_of_its_folder():
    assert found("series_a.nii.gz").masks[0].image_id == "1.2.3"


@pytest.mark.parametrize(
    ("name", "image_id"),
    [
        ("ct_1/liver.nii.gz", "ct_1"),
        ("ct_1/Liver.nrrd", "ct_1"),
        ("liver/ct_1.nii.gz", "ct_1"),
        ("site/ct_3/liver.nii.gz", "site/ct_3"),
        ("liver/site/ct_3.nii.gz", "site/ct_3"),
        ("ct_1/segmentations/liver.nii.gz", "ct_1"),
        ("s0001/segmentations/liver.nii.gz", "s0001/ct"),
    ],
)
def test_a_file_of_one_structure_names_it_and_the_image(name, image_id):
    assert parts(name) == {image_id: [("liver", name)]}


def test_the_files_of_an_image_are_taken_together():
    assert parts("ct_1/liver.nii.gz", "ct_1/spleen.nii.gz", "ct_2/liver.nii.gz") == {
        "ct_1": [("liver", "ct_1/liver.nii.gz"), ("spleen", "ct_1/spleen.nii.gz")],
        "ct_2": [("liver", "ct_2/liver.nii.gz")],
    }


def test_names_of_files_may_be_mapped():
    assert parts("ct_1/kidney_left.nii.gz", label_map="kidney_left=left kidney") == {
        "ct_1": [("left kidney", "ct_1/kidney_left.nii.gz")]
    }


def test_other_files_are_passed_over():
    assert found("readme.txt", "ct_1.json") == found()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ct_9.nii.gz", "no image is called 'ct_9'"),
        ("ct_9/liver.nii.gz", "no image is called 'ct_9' or 'liver'"),
        ("ct_1/aorta.nii.gz", "'aorta' is none of the structures liver=1, spleen=2, left kidney=3"),
        ("aorta/ct_1.nii.gz", "'aorta' is none of the structures"),
    ],
)
def test_what_belongs_to_nothing_is_left_with_a_reason(name, reason):
    ((path, told),) = found(name).left

    assert path == Path(name)
    assert told.startswith(reason)


def test_a_second_file_for_an_image_is_left_with_a_reason():
    assert found("ct_1.nii.gz", "ct_1.nrrd").left == [(Path("ct_1.nrrd"), "it shows image 'ct_1' a second time")]
    assert (
        found("ct_1.nii.gz", "ct_1/liver.nii.gz").left[0][1].startswith("its image also has a file of all structures")
    )


@pytest.mark.parametrize("text", ["liver", "1=", "=liver", "1=liver,2"])
def test_a_label_map_of_another_form_is_refused(text):
    with pytest.raises(InvalidRequest, match=r"A label map is 1=liver,kidney_left=kidney, found"):
        Meaning.read(text, TASK)


def test_a_label_map_to_an_unknown_structure_is_refused():
    with pytest.raises(UnknownStructure, match=r"'1=aorta': this task has liver=1"):
        Meaning.read("1=aorta", TASK)


# --- content ---------------------------------------------------------------------------------------------------------

BOTH = drawn("""
    . 1 1
    . 2 2
""")
UPPER = drawn("""
    . # #
    . . .
""")
RIGHT = drawn("""
    . . #
    . . #
""")


def placed(folder, files, label_map=""):
    for name, mask in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_volume(folder / name, Volume(mask, np.eye(4)))
    meaning = Meaning.read(label_map, TASK)
    (masks,) = find_masks([Path(name) for name in files], NAMES, TASK, meaning).masks
    return place(masks, folder, GRID, TASK, meaning)


def test_a_file_of_all_structures_speaks_about_all_of_them(tmp_path):
    found = placed(tmp_path, {"ct_1.nii.gz": BOTH})

    np.testing.assert_array_equal(found.mask, BOTH)
    assert found.looked_at == ("liver", "spleen", "left kidney")


def test_mapped_numbers_speak_about_their_structures_only(tmp_path):
    found = placed(tmp_path, {"ct_1.nii.gz": BOTH}, label_map="1=spleen,2=liver")

    np.testing.assert_array_equal(found.mask, np.choose(BOTH, [0, 2, 1]))
    assert found.looked_at == ("liver", "spleen")


@pytest.mark.parametrize("value", [1, 255])
def test_files_of_one_structure_speak_about_theirs_only(tmp_path, value):
    found = placed(tmp_path, {"ct_1/spleen.nii.gz": UPPER * np.uint8(value)})

    np.testing.assert_array_equal(found.mask, 2 * UPPER)
    assert found.looked_at == ("spleen",)


def test_an_empty_file_says_that_its_structure_is_absent(tmp_path):
    found = placed(tmp_path, {"ct_1/liver.nii.gz": UPPER, "ct_1/spleen.nii.gz": 0 * UPPER})

    assert found.looked_at == ("liver", "spleen")
    assert (found.mask == 2).sum() == 0


def test_where_two_structures_overlap_the_larger_value_wins_and_it_is_told(tmp_path):
    found = placed(tmp_path, {"ct_1/spleen.nii.gz": RIGHT, "ct_1/liver.nii.gz": UPPER})

    expected = drawn("""
        . 1 2
        . . 2
    """)
    np.testing.assert_array_equal(found.mask, expected)
    assert found.notes == ("1 voxels of liver are spleen too, and became that.",)


def test_a_structure_of_which_nothing_would_be_left_is_refused(tmp_path):
    """Whatever the order of the files: a tumour with the smaller value would count as looked for and absent."""
    within = drawn("""
        . 1 .
        . . .
    """)

    with pytest.raises(UnacceptableFile, match=r"'liver' lies wholly within 'spleen', whose label value is larger"):
        placed(tmp_path, {"ct_1/liver.nii.gz": within, "ct_1/spleen.nii.gz": UPPER})
    assert placed(tmp_path, {"ct_1/spleen.nii.gz": within, "ct_1/liver.nii.gz": UPPER}).looked_at == ("liver", "spleen")


def test_a_structure_that_is_absent_by_itself_is_looked_for(tmp_path):
    found = placed(tmp_path, {"ct_1/liver.nii.gz": np.zeros_like(UPPER), "ct_1/spleen.nii.gz": UPPER})

    assert (found.looked_at, found.notes) == (("liver", "spleen"), ())


def test_two_files_of_one_structure_are_joined(tmp_path):
    found = placed(
        tmp_path, {"ct_1/left.nii.gz": UPPER, "ct_1/right.nii.gz": RIGHT}, label_map="left=liver,right=liver"
    )

    np.testing.assert_array_equal(found.mask, UPPER | RIGHT)
    assert (found.looked_at, found.notes) == (("liver",), ())


def test_a_file_of_one_structure_with_two_values_is_refused(tmp_path):
    with pytest.raises(
        UnknownStructure, match=r"liver.nii.gz is to show one structure, but holds the values \[1.0, 2.0\]"
    ):
        placed(tmp_path, {"ct_1/liver.nii.gz": BOTH})


def test_a_mask_on_another_grid_is_refused(tmp_path):
    with pytest.raises(GridMismatch, match=r"The mask of ct_1 is 3x3x1 .* the image is 2x3x1"):
        placed(tmp_path, {"ct_1/liver.nii.gz": np.ones((3, 3, 1), np.uint8)})


def test_an_unknown_number_is_refused(tmp_path):
    with pytest.raises(UnknownStructure, match=r"label values \[9\]"):
        placed(tmp_path, {"ct_1.nii.gz": 9 * UPPER})


@pytest.mark.parametrize("name", ["ct_1.nii", "ct_1/liver.nii"])
def test_what_was_rounded_and_what_lies_beside_the_image_is_noted(tmp_path, name):
    mask = drawn("""
        . # #
        . . .
    """)
    beside = np.eye(4)
    beside[0, 3] = 0.004
    (tmp_path / name).parent.mkdir(exist_ok=True)
    write_volume(tmp_path / name, Volume(mask + np.float32(0.0004), beside))

    (masks,) = found(name).masks
    placed = place(masks, tmp_path, GRID, TASK, Meaning.read("", TASK))

    np.testing.assert_array_equal(placed.mask, mask)
    assert [note.split(",")[0] for note in placed.notes] == [
        "The voxels of the mask lie up to 0.004 mm beside those of the image",
        "6 voxels of the mask were up to 0.0004 away from whole numbers",
    ]


def test_values_that_are_left_out_are_said_and_the_others_are_the_tasks(tmp_path):
    write_volume(tmp_path / "ct_017.nii.gz", Volume(np.array([[[1], [2], [255]]], np.uint8), np.eye(4)))
    meaning = Meaning.read("255=background", TASK)

    placed = place(Masks("ct_017", Path("ct_017.nii.gz")), tmp_path, Grid((1, 3, 1), np.eye(4)), TASK, meaning)

    assert placed.mask.ravel().tolist() == [1, 2, 0]
    assert placed.notes == ("1 voxels of the value 255 (background) were left out; they are no structure.",)
    assert placed.looked_at == tuple(TASK.values)


def test_a_map_of_some_values_is_all_that_a_file_may_hold(tmp_path):
    write_volume(tmp_path / "ct_017.nii.gz", Volume(np.array([[[1], [2], [0]]], np.uint8), np.eye(4)))
    name = next(iter(TASK.values))

    with pytest.raises(UnknownStructure, match=r"label values \[2\], which are not among those that are named"):
        place(
            Masks("ct_017", Path("ct_017.nii.gz")), tmp_path, Grid((1, 3, 1), np.eye(4)), TASK,
            Meaning.read(f"1={name}", TASK),
        )  # fmt: skip


def test_only_a_value_is_left_out_by_the_map():
    with pytest.raises(UnknownStructure, match=r"'couch=background'.*a value to be left out is background"):
        Meaning.read("couch=background", TASK)


# --- names that are not alike, and masks among the images -------------------------------------------------------------


def sorted_in(images, files, label_map="", leave_out=()):
    """What is found in a folder of all these files, where the images are listed."""
    own = {path: path.as_posix().removesuffix(".nii.gz") for path in map(Path, images)}
    names = {image_id: image_id for image_id in own.values()}
    return find_masks(
        [Path(name) for name in (*images, *files)], names, TASK, Meaning.read(label_map, TASK), leave_out, own
    )


def test_a_mask_found_by_a_name_without_fixed_words_says_so():
    names = {"liver_001_0000": "liver_001_0000"}

    (masks,) = find_masks([Path("liver_001.nii.gz")], names, TASK, Meaning()).masks

    assert masks == Masks("liver_001_0000", Path("liver_001.nii.gz"), (), ("found by its name without '_0000'",))


@pytest.mark.parametrize("name", ["case_seg/liver.nii.gz", "liver/case_label.nii.gz"])
def test_words_are_left_out_of_the_names_of_folders_too(name):
    found = find_masks([Path(name)], {"case_ct": "case_ct"}, TASK, Meaning())

    assert [(each.image_id, each.parts) for each in found.masks] == [("case_ct", ((LIVER, Path(name)),))]


def test_what_may_mean_several_images_is_left_with_their_names():
    names = {name: name for name in ("case_0000", "case_0001")}

    ((path, reason),) = find_masks([Path("case.nii.gz")], names, TASK, Meaning()).left

    assert (path.name, "any of the images 'case_0000', 'case_0001'" in reason) == ("case.nii.gz", True)


@pytest.mark.parametrize(
    ("image", "masks"),
    [
        ("s0/ct.nii.gz", ["s0/segmentations/liver.nii.gz", "s0/segmentations/spleen.nii.gz"]),
        ("s0/ct.nii.gz", ["s0/liver.nii.gz"]),
        ("case_00000/imaging.nii.gz", ["case_00000/segmentation.nii.gz"]),
        ("B1/B1_flair.nii.gz", ["B1/B1_seg.nii.gz"]),
        ("imagesTr/liver_001_0000.nii.gz", ["labelsTr/liver_001.nii.gz"]),
        ("volume-1.nii.gz", ["segmentation-1.nii.gz"]),
        ("set/case_img.nii.gz", ["set/case_label.nii.gz"]),
        ("ct/case.nii.gz", ["liver/ct/case.nii.gz"]),
    ],
)
@pytest.mark.parametrize("are_listed", [False, True], ids=["ignored", "listed as images"])
def test_among_the_images_the_masks_are_found_and_no_image_is_one(image, masks, are_listed):
    found = sorted_in([image, *masks], []) if are_listed else sorted_in([image], masks)

    (only,) = found.masks
    assert (only.image_id, [path.as_posix() for path in only.paths]) == (image.removesuffix(".nii.gz"), masks)
    assert found.left == []
    assert any("is listed as an image too; --conf ignore" in note for note in only.notes) is are_listed


@pytest.mark.parametrize("images", [["ct_1.nii.gz", "ct_2.nii.gz"], ["a/b.nii.gz", "a/b_seg_of_nothing.nii.gz"]])
def test_images_among_themselves_hold_no_mask(images):
    assert sorted_in(images, []) == find_masks([], {}, TASK, Meaning())


def test_one_of_several_masks_is_not_guessed():
    found = sorted_in(["t2.nii.gz"], ["t2_seg.nii.gz", "t2_seg-manual.nii.gz"])

    assert found.masks == []
    assert {reason for _, reason in found.left} == {
        "several files may be the mask of 't2' by their names: t2_seg-manual.nii.gz, t2_seg.nii.gz; keep one of them"
    }


def test_a_mask_that_is_called_as_its_image_is_taken_before_others():
    names = {"t2": "t2"}

    found = find_masks([Path("t2_seg.nii.gz"), Path("t2.nii.gz")], names, TASK, Meaning())

    assert [each.whole for each in found.masks] == [Path("t2.nii.gz")]
    assert found.left == [(Path("t2_seg.nii.gz"), "it shows image 't2' a second time")]


def test_a_mask_of_no_image_that_lies_among_the_images_is_told():
    found = sorted_in(["a/ct_1.nii.gz", "b/ct_2_seg.nii.gz"], [])

    assert [path.name for path, _ in found.left] == ["ct_2_seg.nii.gz"]


def test_one_of_several_channels_is_not_guessed():
    images = [f"B1/B1_{word}.nii.gz" for word in ("t1", "t1ce", "t2", "flair")]

    found = sorted_in(images, ["B1/B1_seg.nii.gz"])

    assert (found.masks, [path.name for path, _ in found.left]) == ([], ["B1_seg.nii.gz"])


def test_files_of_other_structures_can_be_left_out():
    files = ["s0/segmentations/liver.nii.gz", "s0/segmentations/aorta.nii.gz", "s0/segmentations/heart.nii.gz"]

    found = sorted_in(["s0/ct.nii.gz"], files, leave_out=["Aorta"])

    assert [(path.name, "--label-map heart=NAME" in reason) for path, reason in found.left] == [("heart.nii.gz", True)]


def test_what_macos_leaves_beside_a_file_is_no_mask():
    assert found("._ct_1.nii.gz", "ct_1/._liver.nii.gz") == found()
