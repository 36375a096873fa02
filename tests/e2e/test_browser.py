"""An annotator in a browser: a draft is shown, corrected with the brush and stored, and the model learns from it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect
from scipy.ndimage import distance_transform_edt

from lib.dicom.provenance import Provenance
from lib.dicom.segmentation import read_segmentation, write_segmentation
from lib.dicom.source import read_source
from lib.phantoms.dicom_series import write_dicom_series
from lib.phantoms.head import HeadParameters, draw_head
from lib.phantoms.scanner import Phantom
from lib.serving.tokens import TokenFile
from lib.stages import Role
from lib.store import layout
from lib.volume import Array, Volume, view_on, write_volume
from scripts.benchmarks.common import task_of
from tests.dicom.drawing import Unturned, ohif, stored
from tests.e2e.browser import BRUSH_MM, PATIENCE_MS, Viewer, inside_brush, viewer
from tests.e2e.orthanc import NAME, PASSWORD, orthanc
from tests.serving.places import Server, affine, app_server, put_label, until, voxels

SAMPLES = Path(__file__).resolve().parents[2] / "sample-data"

CONF = {"rescan": "0", "train_seconds": "1"}

NOON = dt.datetime(2026, 1, 2, 12, 0, tzinfo=dt.UTC)

IPH = (216, 101, 79)
"""Its colour."""


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
        screen.lists("EDH", "IPH", "IVH", "SAH", "SDH")
        until(lambda: screen.pixels_of((230, 180, 90)) >= 10, what="the draft on the slice")

        screen.choose("IPH")
        place_mm = screen.brush(0.45, 0.5)
        until(lambda: screen.pixels_of(IPH) >= 100, what="the trace of the brush")
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


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """CTs of two heads that bleed, as a scanner sends them, with tilted slices; by SeriesInstanceUID."""
    folder, written = tmp_path_factory.mktemp("heads"), {}
    for seed, bleeds in ((1, ("EDH",)), (2, ("IPH", "SDH"))):
        head = draw_head(HeadParameters(seed, bleeds, orientation="LPS", tilt_deg=(-12.0, 0.0, 0.0)))
        series = folder / f"head_{seed}"
        uid = write_dicom_series(series, head.image, head.affine, patient_id=f"HEAD-{seed}", seed=seed)
        written[uid] = sorted(series.iterdir())
    return written


def correct_the_first(heads: dict[str, list[Path]], server: Server, screen: Viewer) -> Array:
    """Adds to the draft of the first head, stores that and goes on to the other one; the mask that was stored."""
    first, _ = heads

    def is_drafted() -> bool:
        images = server.get("/datastore/", output="all")["objects"].values()
        return len(images) == 2 and all(image["labels"] for image in images)

    until(is_drafted, seconds=240, what="the drafts ahead")
    screen.go("/ohif/")
    expect(screen.page.get_by_text("HEAD-1").first).to_be_visible(timeout=PATIENCE_MS)

    screen.go("/open", image=first)
    screen.says("case", "hemorrhage · HEAD-1, Phantom CT, 2024-01-01 · DRAFT rule hemorrhage (v1)")
    screen.lists("EDH", "IPH", "IVH", "SAH", "SDH")
    until(lambda: screen.pixels_of((230, 180, 90)) >= 10, what="the draft on the slice")

    screen.choose("IPH")
    place_mm = screen.brush(0.45, 0.5)
    screen.press("save")
    screen.says("message", "Saved as version 2.")
    screen.says("case", "EXPERT")

    made = correction(server, first, place_mm)
    assert [(one["stage"], one["parent"]) for one in made.history] == [("draft", None), ("expert", 1)]
    assert np.count_nonzero(made.before) > 0
    assert np.count_nonzero(made.surely) > 100 and made.is_exactly(2)

    screen.open_next()
    screen.says("case", "hemorrhage · HEAD-2, Phantom CT, 2024-01-01 · DRAFT rule hemorrhage (v1)")
    assert screen.foreign == []
    assert screen.problems == []
    return made.after


@pytest.mark.e2e
def test_a_ct_in_a_folder_is_corrected_on_its_own_slices(heads: dict[str, list[Path]], tmp_path: Path) -> None:
    (image, *_), *_ = heads.values()
    with (
        app_server("hemorrhage", image.parents[1], tmp_path / "data", {**CONF, "train_after": "0"}) as server,
        viewer(server.address) as screen,
    ):
        correct_the_first(heads, server, screen)


@pytest.mark.e2e
def test_a_ct_at_orthanc_is_corrected_and_the_segmentation_stored_there(
    heads: dict[str, list[Path]], tmp_path: Path
) -> None:
    login = tmp_path / "login"
    login.write_text(f"{NAME}:{PASSWORD}")
    conf = {**CONF, "train_after": "0", "studies_login": str(login)}
    with orthanc() as pacs:
        pacs.put(path for paths in heads.values() for path in paths)
        with (
            app_server("hemorrhage", pacs.address, tmp_path / "data", conf) as server,
            viewer(server.address) as screen,
        ):
            stored = correct_the_first(heads, server, screen)

        (segmentation,) = pacs.instances("SEG")
        (paths, *_) = heads.values()
        mask, _ = read_segmentation(segmentation, read_source(paths), task_of("hemorrhage"))
        np.testing.assert_array_equal(mask, stored)


def drawn_before(image_id: str, head: Phantom, folder: Path) -> bytes:
    """The true bleeds as somebody drew and stored them in OHIF, on the series of an image as it was before."""
    task = task_of("hemorrhage")
    volume = Volume(head.image, head.affine)
    Unturned(image_id, image_id, "CT", volume.grid, NOON).write(folder, volume)
    source = read_source(sorted(folder.iterdir()))
    mask = view_on(Volume(head.mask, head.affine), source.grid, image_id)
    drawn = write_segmentation(mask, task, source, Provenance("x", "kim", NOON, "before"), looked_at=("IPH",))
    return stored(ohif(drawn))


@pytest.mark.e2e
@pytest.mark.parametrize("orientation", ["RAS", "ARS"], ids=["flipped", "exchanged"])
def test_what_was_drawn_before_series_were_turned_is_shown_in_its_place(tmp_path: Path, orientation: str) -> None:
    head = draw_head(HeadParameters(4, ("IPH",), orientation=orientation))
    for name in ("studies", "before"):
        (tmp_path / name).mkdir()
    write_volume(tmp_path / "studies" / "head.nii.gz", Volume(head.image, head.affine))
    before = drawn_before("head", head, tmp_path / "before")
    conf = {**CONF, "train_after": "0", "ahead": "0"}
    with (
        app_server("hemorrhage", tmp_path / "studies", tmp_path / "data", conf) as server,
        viewer(server.address) as screen,
    ):
        body = b"--xx\r\nContent-Type: application/dicom\r\n\r\n" + before + b"\r\n--xx--\r\n"
        kind = 'multipart/related; type="application/dicom"; boundary="xx"'
        reply = server.client.post("/dicomweb/studies", content=body, headers={"Content-Type": kind})
        assert reply.status_code == 200, reply.text
        screen.go("/open", image="head")
        screen.says("case", "hemorrhage · head · EXPERT")
        screen.lists("IPH", "EDH", "IVH", "SAH", "SDH")
        until(lambda: screen.pixels_of(IPH) >= 50, what="the outline of the bleed")

        places = screen.places_of(IPH)
        i, j, k = np.rint(np.linalg.solve(head.affine[:3, :3], (places - head.affine[:3, 3]).T)).astype(int)
        assert len(set(k)) == 1
        from_bleed = distance_transform_edt(head.mask[:, :, k[0]] == 0)
        assert from_bleed[i, j].max() <= 2, "voxels"

        screen.press("save")
        screen.says("message", "Saved as version 2.")
        np.testing.assert_array_equal(mask_of(server, "head", 2)[0], head.mask)
        assert screen.problems == []


@dataclass
class Office:
    """A server for mammograms where people sign in.

    Attributes:
        server: asked as nobody in particular.
        tokens: of the expert ``kim`` and the annotator ``lee``.
    """

    server: Server
    tokens: dict[str, str]

    def sign_in(self, name: str) -> None:
        """Lets the next requests, beside those of the viewer, be somebody's."""
        self.server.client.headers["Authorization"] = f"Bearer {self.tokens[name]}"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """A server on the sample mammograms that drafts only what it is asked for."""
    data = tmp_path_factory.mktemp("office") / "data"
    tokens = TokenFile(data / layout.TOKENS)
    given = {"kim": tokens.add("kim", Role.EXPERT), "lee": tokens.add("lee", Role.ANNOTATOR)}
    conf = {**CONF, "train_after": "0", "ahead": "0", "auth": "tokens"}
    with app_server("mass", SAMPLES / "mass", data, conf) as server:
        yield Office(server, given)


@pytest.mark.e2e
def test_an_expert_accepts_a_juniors_mask_as_it_is(office: Office, tmp_path: Path) -> None:
    server = office.server
    with viewer(server.address) as screen:
        office.sign_in("lee")
        drawn = (SAMPLES / "mass-truth" / "breast_05.nii.gz").read_bytes()
        put_label(server.client, "breast_05", drawn, label_info=[])

        screen.open_as(office.tokens["kim"], image="breast_05")
        screen.says("case", "mass · breast_05 · DRAFT lee (v1)")
        screen.lists("mass")
        screen.keep_picture("viewer-accept", tmp_path)
        screen.press("accept")
        screen.says("message", "Accepted.")
        screen.says("case", "mass · breast_05 · EXPERT kim (v2)")

        history = server.get("/datastore/label/history", image="breast_05")
        assert [(one["author"], one["stage"], one["parent"]) for one in history] == [
            ("lee", "draft", None),
            ("kim", "expert", 1),
        ]
        accepted, _ = mask_of(server, "breast_05", 2)
        assert np.count_nonzero(accepted) > 0
        np.testing.assert_array_equal(accepted, voxels(drawn))


@pytest.mark.e2e
def test_a_mass_is_corrected_by_somebody_who_signed_in(office: Office) -> None:
    server = office.server
    with viewer(server.address) as screen:
        office.sign_in("kim")
        screen.open_as(office.tokens["kim"], image="breast_03")

        screen.says("case", "mass · breast_03 ·")
        screen.press("draft")
        screen.says("case", "DRAFT rule mass (v1)")
        screen.is_done()
        screen.lists("mass")
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
