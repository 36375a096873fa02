"""Names of masks that differ from those of their images by fixed words."""

from __future__ import annotations

import pytest

from lib.errors import UnknownImage
from lib.label_names import ImageNames, Match, is_named_as_mask


def found(stem, *images):
    return ImageNames({name: name for name in images}).find(stem)


@pytest.mark.parametrize(
    ("image", "mask", "left_out"),
    [
        ("liver_001", "liver_001", ()),
        ("liver_001_0000", "liver_001", ("_0000",)),
        ("imagesTr/liver_001_0000", "labelsTr/liver_001", ("imagesTr/", "_0000", "labelsTr/")),
        ("imagesTr/la_003", "la_003", ("imagesTr/",)),
        ("a/case_ct", "a/case_seg", ("_ct", "_seg")),
        ("case", "case_seg", ("_seg",)),
        ("case-CT", "case-Segmentation", ("-CT", "-Segmentation")),
        ("volume-1", "segmentation-1", ("volume-", "segmentation-")),
        ("img/img0001", "label/label0001", ("img/", "img", "label/", "label")),
        ("case_img", "case_label", ("_img", "_label")),
        ("case_00000/imaging", "case_00000/segmentation", ("imaging", "segmentation")),
        ("s0000/ct", "s0000", ("ct",)),
        ("BraTS/B1_t1ce", "BraTS/B1_seg", ("_t1ce", "_seg")),
        ("img_0000", "label_0000", ("img_", "label_")),
        (
            "sub/anat/sub_T1w",
            "derivatives/labels/sub/anat/sub_T1w_seg-manual",
            ("derivatives/", "labels/", "-manual", "_seg"),
        ),
        ("p.1/scan_mr", "p.1/scan.mask", ("_mr", ".mask")),
    ],
)
def test_fixed_words_are_left_out_of_names_and_told(image, mask, left_out):
    assert found(mask, image, "other", "other_ct") == Match(image, left_out)


@pytest.mark.parametrize(
    ("image", "mask"),
    [("ct_1", "ct_10"), ("case_1", "case_2"), ("case_a", "case"), ("liver_0010", "liver"), ("active", "seg"),
     ("site_a/case", "site_b/case"), ("ct", "seg"), ("case", "scase")],
)  # fmt: skip
def test_other_differences_are_no_words(image, mask):
    assert found(mask, image) is None


def test_the_name_with_the_fewest_words_left_out_is_meant():
    assert found("case_0001", "case_0001", "case_0001_0000", "case_0000") == Match("case_0001")
    assert found("case_seg", "case", "case_ct").image_id == "case"


@pytest.mark.parametrize(
    ("mask", "images"),
    [
        ("B1/B1_seg", ["B1/B1_flair", "B1/B1_t1", "B1/B1_t1ce", "B1/B1_t2"]),
        ("case", ["case_0000", "case_0001"]),
        ("labels/case", ["images/case", "imagesTr/case"]),
    ],
)
def test_a_name_that_may_mean_several_images_means_none(mask, images):
    with pytest.raises(UnknownImage, match=rf"{mask}.*may belong to any of the images '{images[0]}', '{images[1]}'"):
        found(mask, *images)


@pytest.mark.parametrize(
    ("stem", "is_mask"),
    [("a/case_seg", True), ("labelsTr/case", True), ("case/segmentation", True), ("case_ct", False), ("roids", False)],
)
def test_masks_are_told_by_a_word_that_only_they_have(stem, is_mask):
    assert is_named_as_mask(stem) is is_mask
