"""An annotator in a browser: a draft is shown, corrected with the brush and stored, and the model learns from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect

from lib.serving.tokens import TokenFile
from lib.stages import Role
from lib.store import layout
from lib.volume import Array
from tests.e2e.browser import BRUSH_MM, PATIENCE_MS, inside_brush, viewer
from tests.serving.places import Server, affine, app_server, put_label, until, voxels

SAMPLES = Path(__file__).resolve().parents[2] / "sample-data"

CONF = {"rescan": "0", "train_seconds": "1"}


@dataclass
class Correction:
    """What one touch of the brush should have changed.

    Attributes:
        history: all versions of the image, oldest first.
        before: the draft's mask.
        after: the stored mask.
        surely: voxels that the brush covered, without those at its edge.
        perhaps: with those at its edge.
    """

    history: list[dict[str, Any]]
    before: Array
    after: Array
    surely: Array
    perhaps: Array

    def is_exactly(self, value: int) -> bool:
        """Whether the mask is the draft, with a value where the brush was and nowhere else."""
        changed = self.before != self.after
        return bool(
            np.all(self.after[self.surely] == value)
            and np.all(self.after[changed] == value)
            and not np.any(changed & ~self.perhaps)
        )


def mask_of(server: Server, image: str, version: int) -> tuple[Array, Array]:
    """A version's voxels and their affine."""
    response = server.client.get("/datastore/label", params={"image": image, "tag": f"version_{version}"})
    assert response.status_code == 200, response.text
    return voxels(response.content), affine(response.content)


def correction(server: Server, image: str, place_mm: Array) -> Correction:
    """Reads from the record what came of the brush at a place."""
    history = server.get("/datastore/label/history", image=image)
    (before, to_mm), (after, _) = mask_of(server, image, history[-1]["parent"]), mask_of(server, image, len(history))
    edge_mm = float(np.linalg.norm(np.linalg.norm(to_mm[:3, :2], axis=0)))
    return Correction(
        history, before, after,
        inside_brush(before.shape, to_mm, place_mm, BRUSH_MM - edge_mm),
        inside_brush(before.shape, to_mm, place_mm, BRUSH_MM + edge_mm),
    )  # fmt: skip


def what_drafts(server: Server, app: str) -> str:
    """How drafts are called that are made now: the gate decides whether the new version serves."""
    version = server.get("/info/")["models"][app]["config"]["model_version"]
    return f"DRAFT model {app} v{version}" if version else f"DRAFT rule {app}"


@pytest.mark.e2e
def test_a_bleed_is_corrected_in_the_viewer_and_the_model_learns_from_it(tmp_path: Path) -> None:
    conf = {**CONF, "train_after": "1"}
    with (
        app_server("hemorrhage", SAMPLES / "hemorrhage", tmp_path / "data", conf) as server,
        viewer(server.address) as screen,
    ):
        server.post("/infer/hemorrhage", image="head_03", output="json")

        screen.go("/ohif/")
        expect(screen.page.get_by_text("head_03").first).to_be_visible(timeout=PATIENCE_MS)
        screen.keep_picture("viewer-studies", tmp_path)

        screen.go("/open", image="head_03")
        screen.says("case", "hemorrhage · head_03 · DRAFT rule hemorrhage (v1)")
        assert screen.segments() == ["EDH", "IPH", "IVH", "SAH", "SDH"]
        until(lambda: screen.pixels_of((230, 180, 90)) >= 10, what="the draft on the slice")

        screen.choose("IPH")
        place_mm = screen.brush(0.45, 0.5)
        until(lambda: screen.pixels_of((216, 101, 79)) >= 100, what="the trace of the brush")
        screen.keep_picture("viewer-case", tmp_path)
        screen.press("save")
        screen.says("message", "Saved as version 2.")
        screen.says("case", "EXPERT")

        made = correction(server, "head_03", place_mm)
        assert [(one["stage"], one["parent"]) for one in made.history] == [("draft", None), ("expert", 1)]
        assert made.history[-1]["structures"] == ["EDH", "IPH", "IVH", "SAH", "SDH"]
        assert np.count_nonzero(made.before == 1) == np.count_nonzero(made.after == 1) > 0
        assert np.count_nonzero(made.surely) > 100 and made.is_exactly(2)

        screen.says("job", "Version 1 is")
        assert server.ended()["status"] == "DONE"

        drafted = what_drafts(server, "hemorrhage")
        screen.open_next()
        screen.says("case", drafted)
        assert screen.foreign == []
        assert screen.problems == []


@pytest.mark.e2e
def test_a_mass_is_corrected_by_somebody_who_signed_in(tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "data" / layout.TOKENS)
    token = tokens.add("kim", Role.EXPERT)
    conf = {**CONF, "train_after": "0", "auth": "tokens"}
    with (
        app_server("mass", SAMPLES / "mass", tmp_path / "data", conf) as server,
        viewer(server.address) as screen,
    ):
        server.client.headers["Authorization"] = f"Bearer {token}"
        screen.go("/open", image="breast_03")
        screen.page.fill("input[name=token]", token)
        screen.page.click("button")

        screen.says("case", "mass · breast_03 ·")
        screen.press("draft")
        screen.says("case", "DRAFT rule mass (v1)")
        screen.is_done()
        assert screen.segments() == ["mass"]
        place_mm = screen.brush(0.5, 0.7)
        screen.press("next")
        screen.says("message", "Your drawing is not saved.")
        screen.press("save")
        screen.says("message", "Saved as version 2.")

        made = correction(server, "breast_03", place_mm)
        assert [one["author"] for one in made.history] == ["rule:mass", "kim"]
        assert np.count_nonzero(made.surely) > 100 and made.is_exactly(1)

        screen.open_next()
        screen.says("case", "mass ·")
        # The form to sign in comes with status 401.
        assert [problem for problem in screen.problems if "401" not in problem] == []
        screen.is_done()
        screen.page.get_by_text("Add Segment").click()
        screen.brush(0.5, 0.5)
        screen.press("save")
        screen.says("message", "The segmentation has the segments 'Segment 2' (Tissue), the task has mass")

        screen.press("no-finding")
        screen.says("message", "Your drawing is not saved.")
        screen.press("no-finding")
        screen.says("message", "Stored: no finding.")
        assert screen.foreign == []


@pytest.mark.e2e
def test_an_expert_accepts_a_juniors_mask_as_it_is(tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "data" / layout.TOKENS)
    junior, expert = tokens.add("lee", Role.ANNOTATOR), tokens.add("kim", Role.EXPERT)
    conf = {**CONF, "train_after": "0", "ahead": "0", "auth": "tokens"}
    with (
        app_server("mass", SAMPLES / "mass", tmp_path / "data", conf) as server,
        viewer(server.address) as screen,
    ):
        server.client.headers["Authorization"] = f"Bearer {junior}"
        drawn = (SAMPLES / "mass-truth" / "breast_03.nii.gz").read_bytes()
        put_label(server.client, "breast_03", drawn, label_info=[])

        screen.go("/open", image="breast_03")
        screen.page.fill("input[name=token]", expert)
        screen.page.click("button")
        screen.says("case", "mass · breast_03 · DRAFT lee (v1)")
        assert screen.segments() == ["mass"]
        screen.keep_picture("viewer-accept", tmp_path)
        screen.press("accept")
        screen.says("message", "Accepted.")
        screen.says("case", "mass · breast_03 · EXPERT kim (v2)")

        history = server.get("/datastore/label/history", image="breast_03")
        assert [(one["author"], one["stage"], one["parent"]) for one in history] == [
            ("lee", "draft", None),
            ("kim", "expert", 1),
        ]
        accepted, _ = mask_of(server, "breast_03", 2)
        assert np.count_nonzero(accepted) > 0
        np.testing.assert_array_equal(accepted, voxels(drawn))
