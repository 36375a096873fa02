"""What another server sends as DICOM JSON is checked before it is believed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lib.serving.dicom_json import DEEPEST, count_of, read_dicom_json, texts_of


def test_datasets_are_read_as_they_are() -> None:
    told = [
        {"0020000D": {"vr": "UI", "Value": ["1.2.3"]}, "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Müller^Ä"}]},
         "00081115": {"vr": "SQ", "Value": [{"0020000E": {"vr": "UI", "Value": ["4"]}}, None]},
         "00280030": {"vr": "DS", "Value": [0.5, 1]}, "00100020": {},
         "00080005": {"vr": "CS", "Value": [None]},
         "00420011": {"vr": "OB", "BulkDataURI": "x"}, "00091001": {"vr": "UN", "InlineBinary": "AA=="}},
    ]  # fmt: skip

    assert read_dicom_json(json.dumps(told).encode()) == told
    assert read_dicom_json(b"\xef\xbb\xbf" + json.dumps(told, ensure_ascii=False).encode()) == told


@pytest.mark.parametrize("content", [b"", b"  \r\n", b"[]"])
def test_nothing_is_no_dataset(content: bytes) -> None:
    assert read_dicom_json(content) == []


def one(attribute: Any) -> bytes:
    return json.dumps([{"0020000D": attribute}]).encode()


DEEP = b'{"00081115": {"vr": "SQ", "Value": [' * (DEEPEST + 2) + b"]}}" * (DEEPEST + 2)

WRONG = {
    "not-a-number": b'[{"00280030": {"vr": "DS", "Value": [NaN]}}]',
    "infinity": b'[{"00280030": {"vr": "DS", "Value": [-Infinity]}}]',
    "beyond-floats": b'[{"00280030": {"vr": "DS", "Value": [1e999]}}]',
    "many-digits": b'[{"00280030": {"vr": "DS", "Value": [' + b"9" * 5000 + b"]}}]",
    "brackets": b"[" * 100_000,
    "closed-brackets": b"[" * 100_000 + b"]" * 100_000,
    "objects": b'{"00081115":' * 100_000,
    "sequences": b"[" + DEEP + b"]",
    "half-a-pair": b'[{"00100020": {"vr": "LO", "Value": ["\\ud800"]}}]',
    "half-a-pair-in-a-name": b'[{"00100010": {"vr": "PN", "Value": [{"Alphabetic": "\\udfff"}]}}]',
    "latin-1": '[{"00100020": {"vr": "LO", "Value": ["Müller"]}}]'.encode("latin-1"),
    "utf-16": '[{"00100020": {"vr": "LO"}}]'.encode("utf-16"),
    "html": b"<html>Sign in</html>",
    "cut-off": b'[{"00100020": {"vr": "LO"}',
    "no-list": b'{"00100020": {"vr": "LO"}}',
    "null": b"null",
    "text": b'"x"',
    "number": b"7",
    "entries-are-numbers": b"[1, 2]",
    "entries-are-null": b"[null]",
    "entries-are-lists": b"[[]]",
    "attribute-is-a-text": one("1.2.3"),
    "attribute-is-a-list": one([1]),
    "attribute-is-null": one(None),
    "value-is-a-text": one({"vr": "UI", "Value": "1.2.3"}),
    "value-is-an-object": one({"vr": "UI", "Value": {"0": "1"}}),
    "value-is-null": one({"vr": "UI", "Value": None}),
    "values-are-objects": one({"vr": "UI", "Value": [{"a": 1}]}),
    "values-are-lists": one({"vr": "UI", "Value": [["1"]]}),
    "vr-is-a-number": one({"vr": 7}),
    "vr-is-a-list": one({"vr": ["UI"], "Value": ["1"]}),
    "address-is-a-number": one({"vr": "OB", "BulkDataURI": 7}),
    "bytes-are-a-list": one({"vr": "OB", "InlineBinary": [1]}),
    "name-is-a-list": one({"vr": "PN", "Value": [{"Alphabetic": ["x"]}]}),
    "sequence-of-texts": one({"vr": "SQ", "Value": ["x"]}),
    "sequence-of-wrong-datasets": one({"vr": "SQ", "Value": [{"0020000E": 7}]}),
}


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
def test_what_is_no_list_of_datasets_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_dicom_json(content)


def test_what_no_attribute_has_is_left_out() -> None:
    told = [{"00100020": {"vr": "LO", "Value": ["x"], "more": {"a": [float("inf")]}}, "comment": 7, "0010002": {}}]
    content = json.dumps(told).replace("Infinity", "1").encode()

    assert read_dicom_json(content) == [{"00100020": {"vr": "LO", "Value": ["x"]}}]


@pytest.mark.parametrize(
    ("value", "count"),
    [(7, 7), ("7", 7), (" 12 ", 12), (0, 0), (None, 0), ("", 0), ("many", 0), (-1, 0), (1.5, 0), (True, 0), (10**30, 0),
     ("٣", 0), (2**31 - 1, 2**31 - 1), (2**31, 0), ("9" * 5000, 0)],
)  # fmt: skip
def test_a_count_is_a_whole_number_that_can_be_stored(value: Any, count: int) -> None:
    assert count_of({"00201209": {"vr": "IS", "Value": [value]}}, "NumberOfSeriesRelatedInstances") == count
    assert count_of({}, "NumberOfSeriesRelatedInstances") == 0


def test_texts_are_told_from_other_values() -> None:
    assert texts_of({"00080061": {"vr": "CS", "Value": ["CT", None, 7, "SR"]}}, "00080061") == ["CT", "SR"]
    assert texts_of({}, "00080061") == []
