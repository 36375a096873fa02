"""Which images belong to one person."""

from __future__ import annotations

import re

import pytest

from lib.errors import InvalidSetting
from lib.patients import PATIENTS_FILE, PatientRule, read_patient_rule

SECRET = b"a secret of this server"


def rule(pattern="", **named):
    return PatientRule(SECRET, named, re.compile(pattern) if pattern else None)


@pytest.mark.parametrize(("image_id", "patient"), [("p1/head/ct", "p1"), ("p1/ct", "p1"), ("ct_017", "ct_017")])
def test_images_of_one_first_folder_are_of_one_patient_and_others_of_their_own(image_id, patient):
    assert rule().of_file(image_id) == patient


@pytest.mark.parametrize(
    ("pattern", "patient"), [(r"s(\d+)_", "017"), (r"s\d+", "s017"), (r"(x)?s017", "s017"), (r"(nothing)", "all")]
)
def test_a_pattern_finds_the_patient_by_its_first_group_or_as_a_whole(pattern, patient):
    assert rule(pattern).of_file("all/s017_ct") == patient


@pytest.mark.parametrize("pattern", [r"\d*", r"(\d*)"])
def test_a_pattern_that_matches_nothing_at_all_puts_nobody_together(pattern):
    assert rule(pattern).of_file("anna") == "anna"


def test_the_list_counts_before_the_pattern():
    assert rule(r"ct_(\d+)", ct_017="anna").of_file("ct_017") == "anna"


def test_a_dicom_patient_is_told_by_a_hash_that_only_this_server_can_make():
    key = rule().of_series("4711@clinic")

    assert re.fullmatch(r"[0-9a-f]{64}", key)
    assert key == rule().of_series("4711@clinic")
    assert len({key, rule().of_series("4711@"), PatientRule(b"another").of_series("4711@clinic")}) == 3


def test_the_list_lies_beside_the_images(tmp_path):
    (tmp_path / PATIENTS_FILE).write_text("\ufeffpatient,image,age\nanna,ct_017,40\n bert , ct_018 ,50\n", "utf-8")

    found = read_patient_rule(tmp_path, "", SECRET)

    assert found.named == {"ct_017": "anna", "ct_018": "bert"}


def test_ids_in_the_list_are_compared_in_one_unicode_form(tmp_path):
    (tmp_path / PATIENTS_FILE).write_text("image,patient\nHu\u0308fte,anna\n", "utf-8")

    assert read_patient_rule(tmp_path, "", SECRET).of_file("Hüfte") == "anna"


def test_a_line_without_a_patient_says_nothing(tmp_path):
    (tmp_path / PATIENTS_FILE).write_text("image,patient\nct_017,\nct_018\n\nct_019,anna\n", "utf-8")

    assert read_patient_rule(tmp_path, "", SECRET).named == {"ct_019": "anna"}


def test_a_list_without_a_column_is_refused_with_the_columns_found(tmp_path):
    (tmp_path / PATIENTS_FILE).write_text("image;patient\nct_017;anna\n", "utf-8")

    with pytest.raises(InvalidSetting, match=r"needs the columns image and patient, found \['image;patient'\]"):
        read_patient_rule(tmp_path, "", SECRET)


def test_an_empty_list_is_refused(tmp_path):
    (tmp_path / PATIENTS_FILE).touch()

    with pytest.raises(InvalidSetting, match=r"needs the columns image and patient, found \[\]"):
        read_patient_rule(tmp_path, "", SECRET)


def test_a_list_in_another_encoding_is_refused(tmp_path):
    (tmp_path / PATIENTS_FILE).write_bytes("image,patient\nct_017,Jürgen\n".encode("latin-1"))

    with pytest.raises(InvalidSetting, match=r"patients\.csv is not UTF-8 text.* Save it as UTF-8"):
        read_patient_rule(tmp_path, "", SECRET)


def test_a_pattern_that_is_none_is_refused():
    with pytest.raises(InvalidSetting, match=r"--conf patient '\(' is no regular expression: missing \)"):
        read_patient_rule(None, "(", SECRET)
