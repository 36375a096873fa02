"""MONAI Label's own panel in OHIF, as its wheel brings it: a draft, the next case, and training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from lib.volume import Array
from tests.e2e.browser import PATIENCE_MS, Viewer, viewer
from tests.serving.places import affine, app_server, put_label, until, voxels

SAMPLES = Path(__file__).resolve().parents[2] / "sample-data"

MASK_IN_PANEL = """() => {
    if (!window.services.segmentationService.getSegmentation('1')) return [];
    const volume = window.services.segmentationService.getLabelmapVolume('1');
    const [columns, rows] = volume.dimensions;
    const drawn = [];
    volume.voxelManager.getCompleteScalarDataArray().forEach((value, at) => {
        if (value) {
            const slice = Math.floor(at / (columns * rows));
            const place = [at % columns, Math.floor(at / columns) % rows, slice];
            drawn.push([...volume.imageData.indexToWorld(place), value]);
        }
    });
    return drawn;
}"""
"""Place in the patient (LPS, mm) and value of each voxel that is not 0; none before the panel has made its mask."""


SHOWS_IMAGE = """() => {
    const { cornerstoneViewportService, viewportGridService } = window.services;
    const viewport = cornerstoneViewportService.getCornerstoneViewport(viewportGridService.getActiveViewportId());
    return Boolean(viewport?.getImageData?.());
}"""
"""Whether the image is in view: the panel can make no mask before."""

HAS_MASK = """() => {
    const service = window.services.segmentationService;
    return Boolean(service.getSegmentation('1') && service.getLabelmapVolume('1'));
}"""
"""Whether the panel has made its mask: it does so after connecting, and loses a draft that comes before."""


def mask_in_panel(screen: Viewer, shape: tuple[int, ...], to_mm: Array) -> Array:
    """What the viewer shows, uint8 on the grid of the image."""
    mask = np.zeros(shape, np.uint8)
    drawn = np.asarray(screen.page.evaluate(MASK_IN_PANEL)).reshape(-1, 4)
    places = np.column_stack([drawn[:, :3] * (-1, -1, 1), np.ones(len(drawn))])
    i, j, k = np.rint(np.linalg.inv(to_mm) @ places.T)[:3].astype(int)
    mask[i, j, k] = drawn[:, 3]
    return mask


@pytest.mark.e2e
def test_the_panel_of_monailabel_drafts_opens_the_next_case_and_trains(tmp_path: Path) -> None:
    conf = {"rescan": "0", "ahead": "0", "train_after": "0", "train_seconds": "60"}
    with (
        app_server("hemorrhage", SAMPLES / "hemorrhage", tmp_path / "data", conf) as server,
        viewer(server.address) as screen,
    ):
        page = screen.page
        put_label(
            server.client, "head_01", (SAMPLES / "hemorrhage-truth" / "head_01.nii.gz").read_bytes(), label_info=[]
        )
        study, *_ = server.get("/dicomweb/studies", PatientID="head_03")

        screen.go("/ohif-monai/monai-label", StudyInstanceUIDs=study["0020000D"]["Value"][0])
        page.locator(".settingsTable button").wait_for()
        page.wait_for_function(SHOWS_IMAGE, timeout=PATIENCE_MS)
        page.locator(".settingsTable button").click()
        page.wait_for_function(HAS_MASK, timeout=PATIENCE_MS)
        with page.expect_response("**/infer/**") as drafted:
            page.get_by_title("Run Segmentation", exact=True).click()
        assert drafted.value.status == 200

        (draft,) = server.get("/datastore/label/history", image="head_03")
        assert (draft["stage"], draft["author"]) == ("draft", "rule:hemorrhage")
        stored = server.client.get("/datastore/label", params={"image": "head_03", "tag": "original"}).content
        mask = voxels(stored)
        assert np.count_nonzero(mask) > 0
        until(lambda: np.array_equal(mask_in_panel(screen, mask.shape, affine(stored)), mask), what="the draft in OHIF")
        screen.keep_picture("panel-draft", tmp_path)

        page.get_by_text("Active Learning", exact=True).click()
        page.get_by_role("button", name="Update Model").click()
        expect(page.get_by_role("button", name="Stop Training")).to_be_visible(timeout=PATIENCE_MS)
        assert server.get("/train/", check_if_running="true")["status"] in ("SUBMITTED", "RUNNING")

        page.locator("select", has_text="first").select_option("first")
        with page.expect_response("**/activelearning/**") as offered:
            page.get_by_role("button", name="Next Sample").click()
        case = offered.value.json()
        expect(page.get_by_role("cell", name=case["PatientID"])).to_be_visible(timeout=PATIENCE_MS)
        screen.keep_picture("panel-next", tmp_path)
        page.on("dialog", lambda question: question.accept())
        page.get_by_role("button", name="OK").click()
        page.wait_for_url(f"**/monai-label?StudyInstanceUIDs={case['StudyInstanceUID']}", wait_until="commit")
        (shown,) = server.get("/cases/", study=case["StudyInstanceUID"])["cases"]
        assert shown["image"] == case["id"] != "head_03"
