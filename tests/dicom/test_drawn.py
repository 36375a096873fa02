"""Who drew a DICOM object, as it says itself."""

from __future__ import annotations

from itertools import zip_longest

import pytest
from pydicom.dataset import Dataset

from lib.dicom.drawn import program_of

KINDS = {
    "SegmentSequence": ("SegmentAlgorithmType", "SegmentAlgorithmName"),
    "StructureSetROISequence": ("ROIGenerationAlgorithm", "ROIName"),
}


def drawn(sequence: str, *kinds: str | None, names: tuple[str, ...] = (), **attributes: str) -> Dataset:
    """An object with one segment or region of each kind; ``None`` leaves the attribute out."""
    dataset, items = Dataset(), []
    kind_of, name_of = KINDS[sequence]
    for kind, name in zip_longest(kinds, names):
        item = Dataset()
        if kind is not None:
            setattr(item, kind_of, kind)
        if name is not None:
            setattr(item, name_of, name)
        items.append(item)
    setattr(dataset, sequence, items)
    for keyword, text in attributes.items():
        setattr(dataset, keyword, text)
    return dataset


def test_a_program_that_drew_all_segments_is_named():
    found = drawn("SegmentSequence", "AUTOMATIC", "AUTOMATIC", names=("", "OrganNet"), Manufacturer="Maker")

    assert program_of(found) == "OrganNet"


def test_a_program_that_drew_all_contours_is_named_by_its_maker():
    assert program_of(drawn("StructureSetROISequence", "AUTOMATIC", Manufacturer="Maker")) == "Maker"
    assert (
        program_of(
            drawn("StructureSetROISequence", "AUTOMATIC", Manufacturer="Maker", ManufacturerModelName="AutoContour")
        )
        == "AutoContour"
    )


def test_a_program_without_any_name_is_unknown():
    assert program_of(drawn("SegmentSequence", "AUTOMATIC", names=(" ",))) == "unknown"


@pytest.mark.parametrize("sequence", KINDS)
@pytest.mark.parametrize(
    "kinds",
    [("MANUAL",), ("SEMIAUTOMATIC",), ("AUTOMATIC", "MANUAL"), ("AUTOMATIC", None), (None,), ("",), ()],
    ids=str,
)
def test_what_a_person_drew_or_went_over_in_part_is_no_programs(sequence, kinds):
    assert program_of(drawn(sequence, *kinds, Manufacturer="Maker")) is None
