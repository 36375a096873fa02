"""A task's structures differ in name and value, and what is recorded stays."""

from __future__ import annotations

import numpy as np
import pytest

from lib.errors import InvalidSetting
from lib.task import PALETTE, Structure, Task, listed, numbered, with_kept_values
from scripts.benchmarks.common import task_of

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


TO_XYZ = np.array([[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]])

SEEN = {
    "all": np.eye(3),
    "no green": np.array([[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]]),
    "no red": np.array([[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]]),
}
"""Linear red, green and blue as people see them who lack one kind of cones (Machado et al., 2009)."""


def closest(colours, seen):
    """The smallest difference of two colours in CIELAB; about 2 can just be seen side by side."""
    share = np.array(colours) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(linear @ SEEN[seen].T, 0, 1) @ TO_XYZ.T / TO_XYZ.sum(axis=1)
    root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    lab = np.stack([116 * root[:, 1] - 16, 500 * (root[:, 0] - root[:, 1]), 200 * (root[:, 1] - root[:, 2])], axis=1)
    distances = np.linalg.norm(lab[:, None] - lab, axis=2)
    return distances[np.triu_indices(len(lab), 1)].min()


@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize(("count", "wanted"), [(2, 100), (5, 35), (12, 20), (25, 14), (28, 14)])
def test_the_first_colours_are_told_apart_however_somebody_sees_colours(seen, count, wanted):
    assert len(PALETTE) == 28
    assert closest(PALETTE[:count], seen) > wanted


@pytest.mark.parametrize("seen", SEEN)
def test_the_types_of_hemorrhage_are_told_apart_however_somebody_sees_colours(seen):
    assert closest([structure.colour for structure in task_of("hemorrhage").structures], seen) > 20


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
