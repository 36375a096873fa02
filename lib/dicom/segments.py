"""Structures as the segments of a DICOM segmentation, and segments as structures."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from lib.dicom.provenance import LONGEST_TEXT
from lib.errors import UnknownStructure
from lib.task import Structure, Task, listed, name_key

PRIVATE_SCHEME = "99LABELREF"
"""Scheme of the codes of structures that have none of SNOMED CT; the code is the name without regard to case."""

NO_CODE = Code("", "", "")


def code_of(structure: Structure) -> Code:
    """What the structure is, in SNOMED CT, or in our own scheme if it has no code there."""
    if structure.code:
        return Code(structure.code, "SCT", structure.name)
    return Code(name_key(structure.name), PRIVATE_SCHEME, structure.name)


def matched(dataset: Dataset, task: Task, leave_out: Collection[str] = ()) -> dict[int, Structure | None]:
    """The structure of each segment by its number; ``None`` for the background and what is left out.

    The label decides, since viewers keep it and give every segment the same code; the code decides where the task
    has no such name. Old SNOMED codes (scheme SRT) count as their successors.

    Args:
        dataset: a segmentation.
        task: the structures to choose from.
        leave_out: labels of segments that are no structures of the task.

    Raises:
        UnknownStructure: if a segment is neither a structure of the task nor left out; all of them are listed.
    """
    left_out = {name_key(name) for name in leave_out}
    found: dict[int, Structure | None] = {}
    unknown = []
    for segment in dataset.SegmentSequence:
        number, label = int(segment.SegmentNumber), str(segment.get("SegmentLabel") or "")
        if not dataset.get("SpecificCharacterSet"):
            label = _as_utf8(label)
        code = _type_code(segment)
        structure = task.structure(label) or next((one for one in task.structures if code_of(one) == code), None)
        if name_key(label) in left_out:
            found[number] = None
            continue
        is_background = label.strip().casefold() == "background" or code == codes.DCM.Background
        if structure is None and not is_background:
            unknown.append(f"{label[:LONGEST_TEXT]!r} ({code.meaning or 'no code'})")
        found[number] = structure
    if unknown:
        raise UnknownStructure(
            f"The segmentation has the segments {', '.join(unknown)}, the task has {listed(task.structures)}. "
            "Give each segment the name of one of these structures."
        )
    return found


def _as_utf8(text: str) -> str:
    """A text of which nothing says how it is encoded: OHIF writes UTF-8, pydicom takes it for Latin-1."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _type_code(segment: Dataset) -> Code:
    item: Any = next(iter(segment.get("SegmentedPropertyTypeCodeSequence") or ()), None)
    if item is None:
        return NO_CODE
    value = item.get("CodeValue") or item.get("LongCodeValue") or ""
    return Code(str(value), str(item.get("CodingSchemeDesignator") or ""), str(item.get("CodeMeaning") or ""))
