"""Names in the data folder are spelled in one file."""

from __future__ import annotations

import ast
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from lib.store import layout

ROOT = Path(__file__).resolve().parents[2]
NAMES = {value for name, value in vars(layout).items() if name.isupper()}
SOURCES = [path for folder in ("lib", "scripts") for path in sorted((ROOT / folder).rglob("*.py"))]
USUAL_WORDS = {layout.WEIGHTS, layout.SEGMENTATIONS, layout.KEYS}
"""Names that are columns, keys and folders of other programs elsewhere, too."""


def test_no_two_things_lie_in_one_place():
    assert len(NAMES) == len([name for name in vars(layout) if name.isupper()])


@pytest.mark.parametrize("image_id", ["case_1", "a/b/../c", "脳" * 341, "*", ".", "-v1", "tab\tand\nline"])
def test_what_is_made_of_an_image_has_a_name_that_a_file_may_have(image_id):
    name = layout.cached_name(image_id, "v1-0123456789abcdef-rtstruct-2.dcm")

    assert len(name.encode()) < 128 and Path(name).name == name and name[0].isalnum()
    assert fnmatchcase(name, layout.cached_name(image_id, "*"))
    assert not fnmatchcase(name, layout.cached_name(f"{image_id}-v1", "*"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_other_file_spells_a_name_of_the_data_folder(path):
    texts = {node.value for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
             if isinstance(node, ast.Constant) and isinstance(node.value, str)}  # fmt: skip

    assert path.name == "layout.py" or texts & NAMES <= USUAL_WORDS
