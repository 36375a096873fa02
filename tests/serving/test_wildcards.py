"""A pattern is matched in bounded steps, whatever a client makes of it, and means what DICOM says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.errors import InvalidRequest
from lib.serving.dicomweb import LONGEST_TEXT, MOST_PARAMETERS, MOST_TEXTS, Search, attribute
from lib.serving.wildcards import is_like
from tests.serving.conftest import Here

LONG = 10_000
HOSTILE = [
    "*?" * 10 + "x",
    "*?*?*?*?*?*?*?*?*x",
    "*" * 60 + "x",
    "*a" * 30 + "b",
    "*?a" * 20 + "b",
    "?*" * 40 + "b",
    "a*" * 64,
]


class Counted(str):
    """A text that counts how often one of its letters is looked at."""

    looks = 0

    def __getitem__(self, at: Any) -> str:
        type(self).looks += 1
        return super().__getitem__(at)


@pytest.mark.parametrize(
    ("text", "pattern", "fits"),
    [("", "", True), ("", "*", True), ("", "?", False), ("a", "", False), ("abc", "abc", True), ("abc", "ab", False),
     ("abc", "a*c", True), ("ac", "a*c", True), ("abcbd", "a*bd", True), ("abc", "a?c", True), ("ac", "a?c", False),
     ("a\nc", "a?c", True), ("a\nc", "a*", True), ("a.c", "a.c", True), ("abc", "a.c", False), ("a[b]", "a[b]", True),
     ("ab", "a[b]", False), ("a*c", "a?c", True), ("?", "*", True), ("脳", "?", True), ("abab", "*ab", True),
     ("aab", "*a?b", True), ("abb", "*b?b", False), ("abc", "***", True), ("abc", "?*?*?", True),
     ("ab", "?*?*?", False)],
)  # fmt: skip
def test_a_star_stands_for_any_letters_and_a_question_mark_for_one(text: str, pattern: str, fits: bool) -> None:
    assert is_like(text, pattern) is fits


def by_definition(text: str, pattern: str) -> bool:
    """The same by what the signs mean, each way tried; only for short texts."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(by_definition(text[taken:], pattern[1:]) for taken in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and by_definition(text[1:], pattern[1:])


@settings(derandomize=True, database=None, deadline=None, max_examples=500)
@given(st.text("ab", max_size=8), st.text("ab*?", max_size=6))
def test_taking_as_little_as_it_can_finds_what_trying_every_way_finds(text: str, pattern: str) -> None:
    assert is_like(text, pattern) is by_definition(text, pattern)


@pytest.mark.parametrize("pattern", HOSTILE)
@pytest.mark.parametrize("text", ["a" * 64, "a" * 1000, "ab" * 300])
def test_no_pattern_costs_more_than_one_look_for_each_pair_of_letters(text: str, pattern: str) -> None:
    Counted.looks = 0

    is_like(text, Counted(pattern))

    assert Counted.looks <= len(text) * (len(pattern) + 1) + 1


def search(pattern: str, keyword: str = "PatientName") -> Search:
    return Search.from_query([(keyword, pattern)])


@pytest.mark.parametrize(
    ("parameters", "told"),
    [([("PatientID", "*?" * LONG)], rf"PatientID has a text of {2 * LONG} letters, at most {LONGEST_TEXT}"),
     ([("StudyInstanceUID", "1" * LONG)], f"StudyInstanceUID has a text of {LONG} letters"),
     ([("00100020", "x" * (LONGEST_TEXT + 1))], "00100020 has a text of 257 letters"),
     ([("StudyInstanceUID", ",".join(["1.2"] * LONG))], f"lists {LONG} texts, at most {MOST_TEXTS}. Ask for some"),
     ([("Modality", "\\".join(["CT"] * 300))], "Modality lists 300 texts"),
     ([("includefield", "00100010," * LONG)], f"includefield lists {LONG + 1} texts"),
     ([("PatientID", "p")] * LONG, f"has {LONG} parameters, at most {MOST_PARAMETERS}"),
     ([(f"P{n}", "") for n in range(100)], "has 100 parameters"),
     ([("limit", "9" * 5000)], "limit must be a whole number"), ([("offset", "-1")], "offset must be a whole number"),
     ([("limit", "١٢")], "limit must be a whole number")],
)  # fmt: skip
def test_a_search_has_bounds(parameters: list[tuple[str, str]], told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        Search.from_query(parameters)


def test_the_largest_search_is_a_search() -> None:
    found = Search.from_query([("StudyInstanceUID", ",".join(["1" * LONGEST_TEXT] * MOST_TEXTS))] * MOST_PARAMETERS)

    assert len(found.texts("StudyInstanceUID")) == MOST_TEXTS


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [("MEIER*", "Meier^Anna", True), ("*ß", "Strasse", False), ("*strasse", "Straße", True), ("m?ier", "MEIER", True)],
)
def test_names_of_patients_fit_whatever_their_case(pattern: str, name: str, fits: bool) -> None:
    assert search(pattern).fits(attribute("PatientName", {"Alphabetic": name})) is fits
    assert not search("P1", "PatientID").fits(attribute("PatientID", "p1"))


@pytest.mark.parametrize("level", ["studies", "series", "instances"])
def test_a_hostile_pattern_is_answered(here: Here, level: str) -> None:
    for keyword in ("SOPInstanceUID", "PatientName", "PatientID", "SeriesDescription", "Modality"):
        for pattern in (*HOSTILE, "%" * 100 + "x", "_%" * 60, "[" * 99, "(a+)+$"):
            reply = here.client.get(f"/dicomweb/{level}", params={keyword: pattern})

            assert (reply.status_code, reply.text) == (200, "[]"), (keyword, pattern)
