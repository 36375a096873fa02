"""Imports point inwards: words, methods, the record, the edge, and outside of all the apps and scripts."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

METHODS = ("lib.predictor", "lib.preprocessing")
"""Modules directly in ``lib`` that are no words."""

LAYERS = {"phantoms": 1, "store": 3, "export": 3, "serving": 4, "dashboard": 4}
"""Of the packages in ``lib``; those that are not named here are methods, layer 2."""

MAY_IMPORT = {1: {1}, 2: {1, 2}, 3: {1, 3}, 4: {1, 2, 3, 4}}

WORDS_LIBRARIES = {"numpy", "nibabel", "SimpleITK", "PIL", "pydicom", "scipy"}
LIBRARIES = {
    1: WORDS_LIBRARIES,
    2: {*WORDS_LIBRARIES, "torch", "monai", "highdicom", "contourpy", "matplotlib"},
    3: {*WORDS_LIBRARIES, "sqlalchemy", "alembic", "psycopg"},
}
"""Other people's packages of each layer; the edge may use any, but only ``serving`` uses MONAI Label."""

HEAVY = {*LIBRARIES[2], *LIBRARIES[3], "monailabel", "matplotlib", "lib", "apps"}
"""What a command must not load before it knows its options."""


def layer_of(module: str) -> int:
    """The layer of a module of ``lib``."""
    parts = module.split(".")
    if len(parts) > 1 and (ROOT / "lib" / parts[1]).is_dir():
        return LAYERS.get(parts[1], 2)
    return 2 if module in METHODS else 1


def imported(tree: ast.AST) -> Iterator[str]:
    """Full names of all modules that are imported anywhere in a tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # A relative import would hide where it leads.
            yield "." * node.level + (node.module or "") if node.level else str(node.module)
            if node.module == "lib":
                yield from (f"lib.{alias.name}" for alias in node.names if not alias.name.startswith("_"))


def wrong_arrows(module: str, source: str) -> list[str]:
    """The imports of a module of ``lib`` that point outwards, or to a package its layer must do without."""
    layer, wrong = layer_of(module), []
    for name in imported(ast.parse(source)):
        package = name.split(".")[0]
        if package == "lib":
            outwards = layer_of(name) not in MAY_IMPORT[layer]
            sideways = module.startswith("lib.dashboard") and name.startswith("lib.serving")
            mounts = name.startswith("lib.dashboard") and module.startswith("lib.serving")
            is_wrong = outwards or sideways or (mounts and module != "lib.serving.server")
        elif package == "monailabel":
            is_wrong = not module.startswith("lib.serving")
        elif layer == 4:
            is_wrong = package in ("", "apps", "scripts", "tests")
        else:
            is_wrong = package not in {*sys.stdlib_module_names, *LIBRARIES[layer]}
        if is_wrong:
            wrong.append(f"{module} -> {name}")
    return wrong


def wrong_app_arrows(source: str) -> list[str]:
    """The imports of an app that are neither words nor the loop."""
    return [
        name
        for name in imported(ast.parse(source))
        if name.split(".")[0] not in {*sys.stdlib_module_names, "lib"}
        or (name.startswith("lib.") and layer_of(name) != 1 and name != "lib.serving.loop")
    ]


def early_heavy_imports(source: str) -> list[str]:
    """Heavy packages that a script imports as soon as it is loaded; those for type checkers are not."""
    early: list[str] = []
    waiting = list(ast.parse(source).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            early += [name for name in imported(node) if name.split(".")[0] in HEAVY]
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    return early


def module_name(path: Path) -> str:
    """``lib/store/files.py`` is ``lib.store.files``."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = sorted((ROOT / "lib").rglob("*.py"))
APPS = sorted((ROOT / "apps").glob("*/main.py"))
COMMANDS = sorted([*(ROOT / "scripts").glob("*.py"), *(ROOT / "scripts" / "benchmarks").glob("bench_*.py")])


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_module_imports_only_what_lies_further_inside(path):
    assert wrong_arrows(module_name(path), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", APPS, ids=module_name)
def test_an_app_imports_words_and_the_loop_alone(path):
    assert wrong_app_arrows(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", COMMANDS, ids=module_name)
def test_a_command_loads_nothing_heavy_before_it_knows_its_options(path):
    assert early_heavy_imports(path.read_text(encoding="utf-8")) == []


def test_modules_apps_and_commands_are_found():
    assert min(len(MODULES), len(APPS), len(COMMANDS)) > 0
    assert {"lib.errors", "lib.store.record", "lib.serving.server"} <= {module_name(path) for path in MODULES}


@pytest.mark.parametrize(
    ("module", "layer"),
    [("lib", 1), ("lib.errors", 1), ("lib.volume", 1), ("lib.phantoms.abdomen", 1), ("lib.preprocessing", 2),
     ("lib.predictor", 2), ("lib.metrics.overlap", 2), ("lib.training.finetune", 2), ("lib.store.record", 3),
     ("lib.store.migrations.env", 3), ("lib.serving.routes.infer", 4)],
)  # fmt: skip
def test_every_module_has_a_layer(module, layer):
    assert layer_of(module) == layer


@pytest.mark.parametrize(
    ("module", "source"),
    [("lib.volume", "import torch"), ("lib.volume", "from lib.store.record import Record"),
     ("lib.volume", "from lib import preprocessing"), ("lib.phantoms.abdomen", "from lib.metrics.overlap import dice"),
     ("lib.losses.marginal", "from lib.store import schema"), ("lib.training.gate", "import monailabel"),
     ("lib.training.gate", "import fastapi"), ("lib.store.images", "import torch"),
     ("lib.store.images", "from lib.training.gate import verdict"), ("lib.store.images", "import monai.transforms"),
     ("lib.store.images", "def late():\n    from lib.serving.loop import LabelingLoop"),
     ("lib.store.images", "from . import schema"), ("lib.dashboard.pages", "from lib.serving.loop import LabelingLoop"),
     ("lib.serving.loop", "import apps.segmentation.main")],
)  # fmt: skip
def test_an_arrow_that_points_outwards_is_found(module, source):
    assert len(wrong_arrows(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [("lib.volume", "import numpy as np\nfrom lib.errors import GridMismatch"), ("lib.losses.marginal", "import torch"),
     ("lib.store.images", "from lib import errors\nfrom lib.volume import Grid\nfrom sqlalchemy import select"),
     ("lib.serving.server", "import monailabel\nimport fastapi\nfrom lib.store.record import Record")],
)  # fmt: skip
def test_an_arrow_that_points_inwards_is_not(module, source):
    assert wrong_arrows(module, source) == []


def test_an_app_that_reaches_past_the_loop_is_found():
    source = "from lib.serving.loop import LabelingLoop\nfrom lib.task import Task\nfrom lib.store.record import Record"

    assert wrong_app_arrows(source) == ["lib.store.record"]
    assert wrong_app_arrows("import torch") == ["torch"]


def test_a_command_that_loads_too_early_is_found():
    late = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\ndef main():\n    import torch"

    assert early_heavy_imports(late) == []
    assert early_heavy_imports("try:\n    import torch\nexcept ImportError:\n    pass") == ["torch"]
    assert early_heavy_imports("from lib.volume import read_volume") == ["lib.volume"]


@pytest.mark.parametrize("module", ["lib.store.record", "lib.store.indexer", "lib.serving.__main__"])
def test_the_record_and_the_command_start_without_torch_and_monai(module):
    told = "import sys; print(sorted({'torch', 'monai', 'monailabel'} & {name.split('.')[0] for name in sys.modules}))"

    done = subprocess.run(
        [sys.executable, "-c", f"import {module}; {told}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == "[]"
