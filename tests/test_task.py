"""A task's structures differ in name and value, and what is recorded stays."""

from __future__ import annotations

import pytest

from lib.errors import InvalidSetting
from lib.task import PALETTE, Structure, Task, listed, numbered, with_kept_values

GREY = (128, 128, 128)


def task(*structures):
    return Task("t", "", tuple(Structure(name, value, GREY) for name, value in structures))


def test_names_are_numbered_from_one_in_their_order_with_a_colour_each():
    structures = numbered([" liver", "spleen "])

    assert listed(structures) == "liver=1, spleen=2"
    assert [structure.colour for structure in structures] == list(PALETTE[:2])


def test_colours_repeat_when_they_run_out():
    structures = numbered(f"s{number}" for number in range(len(PALETTE) + 1))

    assert structures[-1].colour == PALETTE[0]


def test_nothing_is_listed_as_none():
    assert listed(()) == "none"


@pytest.mark.parametrize(
    "structures",
    [(("liver", 1), ("liver", 2)), (("liver", 1), ("Liver", 2)), (("liver", 1), ("liver ", 2)),
     (("Höhle", 1), ("Ho\u0308hle", 2)), (("liver", 1), ("spleen", 1))],
)  # fmt: skip
def test_structures_that_share_a_name_or_a_value_are_refused(structures):
    with pytest.raises(InvalidSetting, match=r"must differ in name and value, found .*=1, "):
        task(*structures)


@pytest.mark.parametrize("structure", [("", 1), (" ", 1), ("liver", 0), ("liver", 256), ("liver", -1)])
def test_a_structure_needs_a_name_and_a_value_that_fits_a_byte(structure):
    with pytest.raises(InvalidSetting, match=r"a name and a value from 1 to 255, found"):
        task(structure)


@pytest.mark.parametrize("name", ["liver", "LIVER", " Liver\t"])
def test_a_structure_is_found_whatever_the_case_of_its_name(name):
    assert task(("spleen", 1), ("Liver", 7)).structure(name).value == 7


def test_a_structure_that_is_not_there_is_none():
    assert task(("liver", 1)).structure("spleen") is None


def test_values_are_told_by_name():
    assert task(("liver", 1), ("spleen", 5)).values == {"liver": 1, "spleen": 5}


def test_what_only_the_record_knows_stays_and_what_is_new_is_appended():
    kept = with_kept_values(task(("kidney", 9), ("liver", 1)), task(("liver", 1), ("spleen", 5)).structures)

    assert listed(kept.structures) == "liver=1, spleen=5, kidney=9"


def test_a_known_structure_keeps_the_spelling_under_which_annotations_were_stored():
    kept = with_kept_values(task(("LIVER", 1)), task(("Liver", 1)).structures)

    assert listed(kept.structures) == "Liver=1"
