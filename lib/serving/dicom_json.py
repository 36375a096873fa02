"""DICOM JSON of another server (PS3.18 annex F), which may send anything: read strictly, before it is believed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from lib.serving.dicomweb import Json, value_of

TAG = re.compile(r"[0-9A-Fa-f]{8}")

DEEPEST = 50
"""Sequences within sequences; structured reports have a dozen."""

KNOWN = ("vr", "Value", "BulkDataURI", "InlineBinary")
"""What an attribute may have."""

LARGEST_COUNT = 2**31 - 1
"""Of what is counted: instances of a series and the like."""


def read_dicom_json(content: bytes) -> list[Json]:
    """The datasets in a body, each attribute with values of its kind; no body is none of them.

    Names that are no tag, and what an attribute cannot have, are left out.

    Raises:
        ValueError: if it is no JSON in UTF-8 (RFC 8259: without NaN, and here without numbers that no float can be), or
            no list of datasets.
    """
    if not content.strip():
        return []
    try:
        found = json.loads(content.decode("utf-8-sig"), parse_constant=_no_number, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(found, list):
        raise ValueError(f"a list is wanted, found {type(found).__name__}")
    for one in found:
        _check_dataset(one, 0)
    return found


def count_of(told: Mapping[str, Any], keyword: str) -> int:
    """The first value of an attribute that counts something; 0 if it has none, or no such number."""
    text = str(value_of(told, keyword)).strip()
    return int(text) if re.fullmatch(r"[0-9]{1,10}", text) and int(text) <= LARGEST_COUNT else 0


def texts_of(told: Mapping[str, Any], tag: str) -> list[str]:
    """All values of an attribute that are texts."""
    return [value for value in told.get(tag, {}).get("Value") or [] if isinstance(value, str)]


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is beyond all numbers")
    return number


def _check_dataset(found: Any, depth: int) -> None:
    if not isinstance(found, dict):
        raise ValueError(f"a dataset is an object, found {type(found).__name__}")
    if depth > DEEPEST:
        raise ValueError(f"more than {DEEPEST} sequences lie within each other")
    for name in [name for name in found if not TAG.fullmatch(name)]:
        del found[name]
    for tag, attribute in found.items():
        try:
            _check_attribute(attribute, depth)
        except ValueError as error:
            raise ValueError(f"{tag}: {error}") from error


def _check_attribute(found: Any, depth: int) -> None:
    if not isinstance(found, dict):
        raise ValueError(f"an attribute is an object, found {type(found).__name__}")
    for name in [name for name in found if name not in KNOWN]:
        del found[name]
    for name in ("vr", "BulkDataURI", "InlineBinary"):
        _check_text(found.get(name, ""))
    values = found.get("Value", [])
    if not isinstance(values, list):
        raise ValueError(f"values are a list, found {type(values).__name__}")
    for value in values:
        _check_value(value, found.get("vr", ""), depth)


def _check_value(value: Any, vr: str, depth: int) -> None:
    if vr == "SQ" and value is not None:
        _check_dataset(value, depth + 1)
    elif vr == "PN" and isinstance(value, dict):
        for part in value.values():
            _check_text("" if part is None else part)
    elif isinstance(value, str):
        _check_text(value)
    elif value is not None and not isinstance(value, int | float):
        raise ValueError(f"a value of {vr or 'no VR'} is {type(value).__name__}")


def _check_text(found: Any) -> None:
    if not isinstance(found, str):
        raise ValueError(f"a text is wanted, found {type(found).__name__}")
    # Half a pair of surrogates can be written as JSON, and neither be stored nor sent.
    if not found.isascii():
        found.encode()
