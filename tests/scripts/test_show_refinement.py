"""The picture of a refinement: panels, outlines, and what is drawn of a record."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from lib.refinement.refine import Refinement
from lib.stages import Role, Stage
from lib.store.annotations import Annotation
from lib.store.record import Record, open_record
from lib.volume import Array, Volume
from scripts import show_refinement
from scripts.evaluation.overlays import TRUTH_COLOUR
from scripts.evaluation.stages import MASK_COLOUR, Refined, draw_stages
from tests.refinement.pairs import rough
from tests.store.records import TASK, add, put_image
from tests.training.shapes import drawn


def pixels(content: bytes) -> Array:
    """Colours of a picture, float (rows, columns, 3) from 0 to 1."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) / 255


def columns_with(content: bytes, colour: str, above: float = 0.85) -> list[float]:
    """Where along the width of a picture, from 0 to 1, an outline has this colour; the legend is left out."""
    picture = pixels(content)
    picture = picture[: int(above * len(picture))]
    close = np.abs(picture - to_rgb(colour)).max(axis=-1) < 0.1
    found: list[float] = (np.flatnonzero(close.any(axis=0)) / picture.shape[1]).tolist()
    return found


def case(truth: Array | None) -> Refined:
    """A drawn image with a draft and two stages."""
    masks = {"draft": rough(0), "stage 1": drawn(0)[1], "stage 2": drawn(0)[1]}
    return Refined("ct_017", drawn(0)[0], masks, truth)


def test_every_mask_has_a_panel_with_its_outline_and_the_experts() -> None:
    content = draw_stages([case(drawn(0)[1])])

    for colour in (MASK_COLOUR, TRUTH_COLOUR):
        assert {int(3 * x) for x in columns_with(content, colour)} == {0, 1, 2}


def test_without_an_expert_only_draft_and_stages_are_outlined() -> None:
    content = draw_stages([case(None)])

    assert columns_with(content, TRUTH_COLOUR) == []
    assert {int(3 * x) for x in columns_with(content, MASK_COLOUR)} == {0, 1, 2}


def test_every_image_is_a_row() -> None:
    one, two = (pixels(draw_stages([case(None)] * count)).shape for count in (1, 2))

    assert one[1] == two[1] and two[0] > 1.7 * one[0]


class Chosen:
    """A refiner that finds the true mask in every stage."""

    reasons: Mapping[int, str] = {}

    def __init__(self, *_: Any) -> None:
        """Needs no weights."""

    def refine(self, _volume: Volume, draft: Array, stages: int, looked_at: Sequence[int]) -> Refinement:
        found = drawn(0)[1]
        return Refinement(draft, (np.where(np.isin(found, looked_at), found, 0),) * stages, self.reasons)


class Drawn:
    """A library in which each image is the same drawn one, and drafts are rough."""

    def __init__(self, record: Record, data: Path) -> None:
        self.record, self.data = record, data

    def readable(self, image_id: str) -> str:
        return image_id

    def volume(self, _image: str) -> Volume:
        return drawn(0)[0]

    def mask(self, annotation: Annotation) -> Array:
        return drawn(0)[1] if annotation.stage is Stage.EXPERT else rough(annotation.version)


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Record]:
    """A record without a refiner that the command opens."""
    made = open_record(TASK, tmp_path / "data")
    put_image(made, "ct_017")
    monkeypatch.setattr(show_refinement, "opened_app", lambda chosen: Drawn(made, tmp_path / "data"))
    yield made
    made.close()


def shown(monkeypatch: pytest.MonkeyPatch, record: Record, *more: str) -> list[Refined]:
    """What the command draws once there is a refiner."""
    asked: list[Refined] = []
    monkeypatch.setattr(record.refiners, "serving", lambda: SimpleNamespace(version=3))
    monkeypatch.setattr("lib.serving.learning.checkpoint_of", lambda record, model: None)
    monkeypatch.setattr("lib.refinement.refine.Refiner", Chosen)
    monkeypatch.setattr("scripts.evaluation.stages.draw_stages", lambda rows, window: asked.extend(rows) or b"picture")
    show_refinement.main([*more])
    return asked


def test_the_last_draft_before_the_experts_version_is_shown_with_every_stage(
    record: Record, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = ("anterior", "posterior")
    add(record, "ct_017", Role.ANNOTATOR, "lee", looked_at=both)
    add(record, "ct_017", Role.EXPERT, "kim", looked_at=both)
    add(record, "ct_017", Role.ANNOTATOR, "lee", looked_at=both)

    out = tmp_path / "out.png"
    (row,) = shown(monkeypatch, record, "--image", "ct_017", "--stages", "2", "--out", str(out))

    assert list(row.masks) == ["draft v1, lee", "stage 1", "stage 2"]
    np.testing.assert_array_equal(row.masks["draft v1, lee"], rough(1))
    np.testing.assert_array_equal(row.truth, drawn(0)[1])
    assert out.read_bytes() == b"picture"
    assert capsys.readouterr().out == f"Wrote {out}: 1 image by version 3 of the refiner.\n"


def test_what_is_taken_is_shown_where_that_is_not_the_last_stage_and_says_why(
    record: Record, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add(record, "ct_017", Role.ANNOTATOR, "lee")
    monkeypatch.setattr(Chosen, "reasons", {2: "dark: nothing would be left of it"})

    # As many stages as the server does, which is one.
    (row,) = shown(monkeypatch, record, "--image", "ct_017", "--out", str(tmp_path / "out.png"))

    assert list(row.masks) == ["draft v1, lee", "stage 1", "taken, as\ndark: nothing would be left of it"]
    taken = list(row.masks.values())[-1]
    assert np.array_equal(taken == 2, rough(1) == 2) and not np.array_equal(taken, rough(1))
    assert row.truth is None


def test_only_structures_that_the_drafts_author_looked_at_are_shown(
    record: Record, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add(record, "ct_017", Role.ANNOTATOR, "lee", looked_at=("anterior",))
    add(record, "ct_017", Role.EXPERT, "kim", looked_at=("anterior", "posterior"))

    (row,) = shown(monkeypatch, record, "--image", "ct_017", "--out", str(tmp_path / "out.png"))

    assert {1} == set(np.unique(row.masks["stage 1"])) - {0} == set(np.unique(row.truth)) - {0}


def test_no_stage_is_nothing_to_show(record: Record, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        show_refinement.main(["--image", "ct_017", "--stages", "0"])

    assert "--stages is a number from 1 on, found 0" in capsys.readouterr().err


def test_an_image_without_a_draft_is_refused(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="'ct_017' has no draft from before the expert's version; infer or store one"):
        shown(monkeypatch, record, "--image", "ct_017")


def test_without_a_refiner_nothing_is_drawn(record: Record) -> None:
    with pytest.raises(SystemExit, match=r"No refiner serves yet in .*data; it learns from drafts"):
        show_refinement.main(["--image", "ct_017"])
