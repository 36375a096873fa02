"""Debian's Chromium on the viewer, as a person uses it: looks, clicks, draws."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from lib.serving.viewer import fetched
from lib.volume import Array
from scripts.benchmarks.bench_ohif import CHROMIUM, PATIENCE_MS, WINDOW
from tests.postgresql import skip_or_fail

NO_BROWSER = "Chromium is not installed, so the viewer is not tried in a browser: sudo apt-get install chromium"
NO_VIEWER = "OHIF 3.12 is not fetched, so it is not tried: .venv/bin/python -m scripts.fetch_viewer"

BRUSH_MM = 25.0
"""Radius of OHIF's brush if nobody changes it."""

SHOWN = """() => {
    const id = window.services.viewportGridService.getActiveViewportId();
    return window.services.cornerstoneViewportService.getCornerstoneViewport(id);
}"""
"""The viewport in which is drawn, as OHIF lets scripts have it."""


TO_PATIENT = f"""points => {{
    const viewport = ({SHOWN})();
    return points.map(point => Array.from(viewport.canvasToWorld(point)));
}}"""
"""The places of points of the viewport, LPS in mm."""

MARKS = """() => {
    const { segmentationService, viewportGridService } = window.services;
    const found = {};
    const id = viewportGridService.getActiveViewportId();
    for (const { segmentationId, segments } of segmentationService.getSegmentationRepresentations(id)) {
        const mask = segmentationService.getSegmentation(segmentationId);
        for (const { segmentIndex } of Object.values(segments).filter(one => one.visible)) {
            const name = mask.segments[segmentIndex].label;
            for (const image of mask.representationData.Labelmap.imageIds) {
                const values = window.cornerstone.cache.getImage(image).voxelManager.getScalarData();
                found[name] = (found[name] ?? 0) + values.filter(value => value === segmentIndex).length;
            }
        }
    }
    return found;
}"""
"""The voxels of each structure in all masks that are shown."""

NOTE_DRAWING = """() => {
    const { segmentationService } = window.services;
    window.drawn = new Promise(done => {
        segmentationService.subscribe(segmentationService.EVENTS.SEGMENTATION_DATA_MODIFIED, () => done(true));
    });
}"""
"""Lets the next change of a mask be waited for."""


@dataclass
class Viewer:
    """A page of the viewer.

    Attributes:
        page: of the browser.
        address: of the server.
        asked: addresses of all requests that the page made.
        problems: what the page wrote to the console as errors, and what it did not catch.
    """

    page: Page
    address: str
    asked: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda told: self.problems.append(told.text) if told.type == "error" else None)

    @property
    def foreign(self) -> list[str]:
        """Requests that left the machine."""
        hosts = {urlsplit(url).netloc for url in self.asked if urlsplit(url).scheme not in ("data", "blob")}
        return sorted(hosts - {urlsplit(self.address).netloc})

    def go(self, path: str, **query: str) -> None:
        """Opens an address of the server."""
        self.page.goto(f"{self.address}{path}?{urlencode(query)}" if query else f"{self.address}{path}")

    def open_as(self, token: str, image: str) -> None:
        """Opens a case as somebody who signs in with a token."""
        self.go("/open", image=image)
        self.page.fill("input[name=token]", token)
        self.page.click("button")

    def part(self, name: str) -> str:
        """What a part of the bar says: ``case``, ``message`` or ``job``."""
        return self.page.locator(f"#case-bar [data-part={name}]").inner_text()

    def says(self, name: str, text: str | re.Pattern[str]) -> None:
        """Waits until a part of the bar says something."""
        expect(self.page.locator(f"#case-bar [data-part={name}]")).to_contain_text(text, timeout=PATIENCE_MS)

    def press(self, action: str) -> None:
        """Presses a button of the bar once it can be pressed."""
        self.page.click(f"#case-bar [data-action={action}]:enabled")

    def is_done(self) -> None:
        """Waits until what a button began has ended."""
        expect(self.page.locator("#case-bar [data-action=save]")).to_be_enabled(timeout=PATIENCE_MS)

    def open_next(self) -> None:
        """Presses "Next case" and waits for the other address."""
        before = self.page.url
        self.press("next")
        self.page.wait_for_url(lambda url: url != before)

    def lists(self, *structures: str) -> None:
        """Waits until OHIF's panel has these structures, in this order."""
        rows = [re.compile(rf"^\d+\s*{re.escape(name)}$") for name in structures]
        expect(self.page.locator("[data-cy=data-row]")).to_have_text(rows, use_inner_text=True, timeout=PATIENCE_MS)

    def choose(self, structure: str) -> None:
        """Makes a structure the one that the brush draws."""
        self.page.locator("[data-cy=data-row]", has_text=structure).click()

    def brush(self, across: float, down: float) -> Array:
        """Touches the image once with the brush; where, as shares of the viewport's width and height.

        Returns:
            The place in the patient, RAS in mm.
        """
        self.page.click("[data-cy=Brush]")
        box = self.page.locator(".cornerstone-canvas").bounding_box()
        assert box is not None
        x, y = across * box["width"], down * box["height"]
        self.page.evaluate(NOTE_DRAWING)
        self.page.mouse.move(box["x"] + x, box["y"] + y)
        self.page.mouse.down()
        self.page.mouse.up()
        # OHIF waits whether a second click follows.
        self.page.evaluate("() => window.drawn")
        place = self.page.evaluate(f"place => ({SHOWN})().canvasToWorld(place)", [x, y])
        return np.asarray(place) * (-1, -1, 1)

    def marks(self) -> dict[str, int]:
        """How many voxels of each structure the viewer shows, in whatever slice."""
        found: dict[str, int] = self.page.evaluate(MARKS)
        return found

    def pixels_of(self, colour: tuple[int, int, int]) -> int:
        """How many pixels of the viewport have about a colour, as the outline of a structure has."""
        return len(self._points_of(colour))

    def places_of(self, colour: tuple[int, int, int]) -> Array:
        """Where in the patient these pixels lie: (N, 3), RAS in mm."""
        points = [[float(x), float(y)] for y, x in self._points_of(colour)]
        return np.asarray(self.page.evaluate(TO_PATIENT, points)) * (-1, -1, 1)

    def _points_of(self, colour: tuple[int, int, int]) -> Array:
        """Row and column of each such pixel: (N, 2)."""
        picture = Image.open(io.BytesIO(self.page.locator(".cornerstone-canvas").screenshot())).convert("RGB")
        return np.argwhere(np.abs(np.asarray(picture).astype(int) - colour).max(axis=-1) <= 16)

    def keep_picture(self, name: str, otherwise: Path) -> None:
        """Keeps a picture of the page: in the folder that SCREENSHOTS names, else in another one."""
        folder = Path(os.environ.get("SCREENSHOTS") or otherwise)
        picture = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        picture.save(folder / f"{name}.png", optimize=True)


@contextmanager
def viewer(address: str) -> Iterator[Viewer]:
    """A page on a server; skips where there is no browser or no viewer."""
    chromium = shutil.which("chromium")
    if chromium is None:
        skip_or_fail(NO_BROWSER)
    if fetched() is None:
        skip_or_fail(NO_VIEWER)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM)
        try:
            yield Viewer(browser.new_page(viewport=WINDOW), address.rstrip("/"))
        finally:
            browser.close()


def inside_brush(shape: tuple[int, ...], affine: Array, place_mm: Array, radius_mm: float) -> Array:
    """The voxels of the slice through a place whose centres lie within a radius of it: bool (I, J, K)."""
    inverse = np.linalg.inv(affine)
    k = round(float((inverse @ [*place_mm, 1])[2]))
    voxels = np.indices(shape).reshape(3, -1)
    centres = affine[:3, :3] @ voxels + affine[:3, 3:]
    distance = np.linalg.norm(centres - place_mm[:, None], axis=0)
    return ((distance <= radius_mm) & (voxels[2] == k)).reshape(shape)
