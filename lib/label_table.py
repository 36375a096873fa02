"""Which name a mask file itself gives to a number: segments of 3D Slicer and of MITK, and tables in NIfTI headers."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from lib.errors import UnreadableImage
from lib.nifti import read_nifti_extensions
from lib.nrrd import NrrdHeader
from lib.opened import OpenFile
from lib.task import MAX_STRUCTURES

NUMBER = re.compile("[0-9]{1,9}")
"""A label value or a layer as 3D Slicer writes it."""

SEGMENT = re.compile("Segment([0-9]{1,6})_")
"""Begin of the keys by which 3D Slicer describes a segment."""

MITK = "org.mitk.multilabel.segmentation.labelgroups"
"""MITK's key since 2023: JSON, a list of layers with their labels."""

OLD_MITK = re.compile("org[._]mitk[._]label_([0-9]{3})_[0-9]{5}")
"""MITK's keys before: a layer and the number of a label in it; the text is XML."""

OLD_NAME, OLD_VALUE = (re.compile(rf'[^>]*>\s*<{kind} value="([^"]*)"') for kind in ("string", "unsigned"))
"""What follows ``key="name"`` and ``key="value"`` in an XML text of MITK's."""

KEY, QUOTED = re.compile('Key="(-?[0-9]{1,9})"'), ("<![CDATA[", "]]>")
"""The number of a label in Connectome Workbench's table, and what may enclose its name."""


class NamedValue(NamedTuple):
    """What somebody says about one number in a mask: which structure it means."""

    name: str
    value: int


class Segment(NamedTuple):
    """A segment in a file: its name, the number of its voxels, and the layer on which they lie, from 0 on."""

    name: str
    value: int
    layer: int


def nrrd_segments(header: NrrdHeader, name: str) -> tuple[Segment, ...]:
    """The segments that an NRRD header describes, as 3D Slicer or as MITK does; none if it describes none.

    Args:
        header: of the file.
        name: of the file, for messages.

    Raises:
        UnreadableImage: if it describes segments that the file cannot hold, or layers without segments.
    """
    segments = tuple(_of_mitk(header.pairs, name)) or tuple(_of_slicer(header, name))
    if max(header.layers, len(segments)) > MAX_STRUCTURES:
        raise UnreadableImage(
            f"{name} has {len(segments)} segments in {header.layers} layers; wanted are at most {MAX_STRUCTURES}."
        )
    if header.layers > 1 and not segments:
        raise UnreadableImage(f"{name} has {header.layers} layers and names no segments. Export it as a label map.")
    if odd := next((segment for segment in segments if segment.layer >= header.layers), None):
        raise _odd(name, repr(odd.name), str(odd.value), str(odd.layer), header.layers)
    return segments


def _of_slicer(header: NrrdHeader, name: str) -> Iterator[Segment]:
    """3D Slicer's segments (segmentation file format)."""
    described = {int(found[1]) for key in header.pairs if (found := SEGMENT.match(key))}
    for number in sorted(described):
        prefix = f"Segment{number}_"
        # Before 2020 each segment lay in a layer of its own, in which it had the value 1.
        is_old = f"{prefix}LabelValue" not in header.pairs
        value = header.pairs.get(f"{prefix}LabelValue", "1")
        layer = header.pairs.get(f"{prefix}Layer", str(number) if is_old else "0")
        if not all(NUMBER.fullmatch(text) for text in (value, layer)) or int(layer) >= header.layers:
            raise _odd(name, number, value, layer, header.layers)
        yield Segment(header.pairs.get(f"{prefix}Name", ""), int(value), int(layer))


def _odd(name: str, segment: object, value: str, layer: str, layers: int) -> UnreadableImage:
    return UnreadableImage(
        f"{name}: segment {segment} has the label value {value[:20]!r} in layer {layer[:20]!r} of {layers}. Export it "
        "again."
    )


def _of_mitk(pairs: Mapping[str, str], name: str) -> Iterator[Segment]:
    """The labels of MITK Workbench: JSON of groups of labels, one layer a group; before 2023 XML of one label each."""
    try:
        for layer, group in enumerate(json.loads(pairs.get(MITK, "[]"))):
            for label in group["labels"] or ():
                yield Segment(str(label["name"]), int(label["value"]), layer)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnreadableImage(
            f"{name} is a segmentation of MITK whose labels cannot be read ({type(error).__name__}). Export it as a "
            "label map."
        ) from error
    for key, text in sorted(pairs.items()):
        if match := OLD_MITK.fullmatch(key):
            label, value = OLD_NAME.match(_after(text, "name")), OLD_VALUE.match(_after(text, "value"))
            if label is None or value is None or not NUMBER.fullmatch(value[1]):
                raise UnreadableImage(
                    f"{name} is a segmentation of MITK whose labels cannot be read ({key}). Export it as a label map."
                )
            # The first label of each layer is what lies outside of all others.
            if int(value[1]):
                yield Segment(html.unescape(label[1]), int(value[1]), int(match[1]))


def _after(text: str, key: str) -> str:
    return text.partition(f'key="{key}"')[2]


def nifti_table(file: OpenFile, suffix: str) -> tuple[NamedValue, ...]:
    """The names that the header of a NIfTI file gives to numbers; mostly none.

    Connectome Workbench invented the table, TotalSegmentator writes it too.

    Args:
        file: a readable NIfTI file.
        suffix: of its name.

    Raises:
        UnreadableImage: if it gives one number two names.
    """
    text = read_nifti_extensions(file, suffix).decode("utf-8", "replace")
    found: dict[int, str] = {}
    for entry in text.partition("<LabelTable>")[2].partition("</LabelTable>")[0].split("</Label>"):
        attributes, _, content = entry.rpartition("<Label ")[2].partition(">")
        key, begin = KEY.search(attributes), content.strip()
        is_quoted = begin.startswith(QUOTED[0]) and begin.endswith(QUOTED[1])
        name = begin[len(QUOTED[0]) : -len(QUOTED[1])] if is_quoted else html.unescape(begin)
        if key is None or not name.strip() or not int(key[1]):
            continue
        if found.setdefault(int(key[1]), name) != name:
            raise UnreadableImage(
                f"The header of {file.name} calls the value {key[1]} both {found[int(key[1])]!r} and {name!r}. Save it "
                "again."
            )
    return tuple(NamedValue(name, value) for value, name in found.items())
