"""What a person can type or read is described."""

import re
from pathlib import Path

import pytest

from lib.serving.__main__ import parser
from lib.serving.settings import READERS, TASK_FILE_KEYS
from lib.stages import Role, Stage
from lib.store.schema import metadata

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))


@pytest.mark.parametrize("setting", sorted(READERS))
def test_every_setting_stands_in_the_readme(setting):
    assert f"| `{setting}` |" in README


@pytest.mark.parametrize("key", TASK_FILE_KEYS)
def test_every_key_of_the_task_file_stands_in_the_readme(key):
    assert f"{key} =" in README or f"[[{key}]]" in README


@pytest.mark.parametrize("word", [*Stage, *Role])
def test_every_stage_and_role_is_explained(word):
    assert f"`{word}`" in DOCS


@pytest.mark.parametrize("strategy", ["random", "first"])
def test_every_strategy_is_explained(strategy):
    from lib.serving.strategies import strategies

    assert strategy in strategies(None, None)
    assert f"`{strategy}`" in DOCS


def test_no_strategy_is_left_out_here():
    from lib.serving.strategies import strategies

    assert sorted(strategies(None, None)) == ["first", "random"]


@pytest.mark.parametrize("table", sorted(metadata.tables))
def test_every_table_is_explained(table):
    assert f"| `{table}` |" in DOCS


def test_every_option_of_run_has_a_help_text():
    assert [action.dest for action in parser()._actions if not action.help] == []


@pytest.mark.parametrize("script", sorted(path.stem for path in (ROOT / "scripts").glob("*.py") if path.stem[0] != "_"))
def test_every_script_stands_in_the_docs(script):
    assert f"scripts.{script}" in README + DOCS or f"scripts/{script}" in README + DOCS


@pytest.mark.parametrize("document", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_every_document_is_linked_from_the_readme(document):
    assert f"docs/{document.name}" in README


def guards() -> set[str]:
    """Names of tests and benchmarks that the table of the published server's faults relies on."""
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8").partition("## What the published server")[2]
    return set(re.findall(r"`((?:test|bench)_\w+)`", text.partition("\n## ")[0]))


def test_everything_that_guards_us_from_a_known_fault_is_there():
    tests = {name for path in (ROOT / "tests").rglob("test_*.py")
             for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)}  # fmt: skip
    benchmarks = {path.stem for path in (ROOT / "scripts" / "benchmarks").glob("bench_*.py")}

    assert len(guards()) > 40
    assert guards() - tests - benchmarks == set()
