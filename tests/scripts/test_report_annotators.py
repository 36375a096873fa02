"""The report on annotators as files."""

from __future__ import annotations

import json

import pytest

from lib.stages import Role
from lib.store.record import open_record
from scripts.report_annotators import main
from tests.serving.test_measuring import LARGE, SMALL, saved
from tests.store.records import TASK, put_image


@pytest.fixture
def record(tmp_path):
    made = open_record(TASK, tmp_path / "data")
    put_image(made, "ct_017")
    yield made
    made.close()


def test_everybody_with_cases_is_reported_and_drawn_and_what_waits_is_compared_first(record, tmp_path, capsys):
    saved(record, Role.ANNOTATOR, SMALL, "Kim/Lee")
    saved(record, Role.EXPERT, LARGE)

    main(["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")])

    (report,) = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["name"], report["cases"], report["not_compared"]) == ("Kim/Lee", 1, 0)
    assert report["structures"]["anterior"]["volume_percent"]["mean"] == -75.0
    assert (tmp_path / "out" / "Kim%2FLee.png").read_bytes().startswith(b"\x89PNG")
    assert "pictures of 1 annotators" in capsys.readouterr().out


def test_without_cases_the_report_is_empty(record, tmp_path):
    main(["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")])

    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.json"]
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == []
