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
from playwright.sync_api import BrowserContext, Dialog, Page, expect, sync_playwright

from lib.serving.viewer import fetched
from lib.volume import Array
from scripts.benchmarks.bench_ohif import CHROMIUM, PATIENCE_MS, WINDOW
from tests.postgresql import skip_or_fail
from tests.serving.places import until

NO_BROWSER = "Chromium is not installed, so the viewer is not tried in a browser: sudo apt-get install chromium"
NO_VIEWER = "OHIF 3.12 is not fetched, so it is not tried: .venv/bin/python -m scripts.fetch_viewer"

BRUSH_MM = 25.0
"""Radius of OHIF's brush if nobody changes it."""

SMALL_BRUSH_MM = 4.0

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

VOXELS = """() => {
    const { segmentationService, viewportGridService } = window.services;
    const found = {};
    const id = viewportGridService.getActiveViewportId();
    for (const { segmentationId } of segmentationService.getSegmentationRepresentations(id)) {
        const mask = segmentationService.getSegmentation(segmentationId);
        mask.representationData.Labelmap.imageIds.forEach((imageId, slice) => {
            window.cornerstone.cache.getImage(imageId).voxelManager.getScalarData().forEach((value, place) => {
                if (value) {
                    (found[mask.segments[value].label] ??= []).push([slice, place]);
                }
            });
        });
    }
    return found;
}"""
"""Slice and place of each voxel of each structure in all masks that are in view."""

COPIES = """() => new Promise((resolve, reject) => {
    const opening = indexedDB.open('label-refinery');
    opening.onerror = () => reject(opening.error);
    opening.onsuccess = () => {
        const all = opening.result.transaction('drawings').objectStore('drawings').getAll();
        all.onsuccess = () => { opening.result.close(); resolve(all.result.map(one => one.image)); };
    };
})"""
"""The images of which this browser keeps drawings that are not saved."""

NOTE_DRAWING = """() => {
    const { segmentationService } = window.services;
    window.drawn = false;
    const event = segmentationService.EVENTS.SEGMENTATION_DATA_MODIFIED;
    segmentationService.subscribe(event, () => { window.drawn = true; });
}"""
"""Lets the next change of a mask be waited for."""

SET_RADIUS = """mm => window.commandsManager.runCommand(
    'setBrushSize', { value: mm, toolNames: ['CircularBrush', 'CircularEraser'] }
)"""


@dataclass
class Viewer:
    """A page of the viewer.

    Attributes:
        page: of the browser.
        address: of the server.
        asked: addresses of all requests that the page made.
        problems: what the page wrote to the console as errors, and what it did not catch.
        asked_to_stay: how often the browser asked before the page was left; it was left each time.
    """

    page: Page
    address: str
    asked: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    asked_to_stay: int = 0

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda told: self.problems.append(told.text) if told.type == "error" else None)
        self.page.on("dialog", self._leave)

    def _leave(self, dialog: Dialog) -> None:
        self.asked_to_stay += dialog.type == "beforeunload"
        dialog.accept()

    @property
    def foreign(self) -> list[str]:
        """Requests that left the machine."""
        hosts = {urlsplit(url).netloc for url in self.asked if urlsplit(url).scheme not in ("data", "blob")}
        return sorted(hosts - {urlsplit(self.address).netloc})

    def go(self, path: str, **query: str) -> None:
        """Opens an address of the server."""
        self.page.goto(f"{self.address}{path}?{urlencode(query)}" if query else f"{self.address}{path}")

    def open_case(self, image: str) -> None:
        """Opens a case and waits until it can be drawn on, by a brush that is small beside it."""
        self.go("/open", image=image)
        self.is_open(image)

    def is_open(self, image: str) -> None:
        """Waits until a case can be drawn on."""
        self.says("case", f" · {image} · ")
        self.is_done()
        self.page.evaluate(SET_RADIUS, SMALL_BRUSH_MM)

    def offers(self, name: str, text: str | re.Pattern[str] = "") -> None:
        """Waits until the bar offers something."""
        expect(self.page.locator(f"#case-bar [data-offer={name}]")).to_contain_text(text, timeout=PATIENCE_MS)

    def offers_nothing(self) -> None:
        """Waits until nothing is offered."""
        expect(self.page.locator("#case-bar [data-offer]")).to_have_count(0, timeout=PATIENCE_MS)

    def take(self, name: str, label: str) -> None:
        """Presses a button of what the bar offers."""
        self.page.locator(f"#case-bar [data-offer={name}]").get_by_role("button", name=label, exact=True).click()

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

    def brush(self, across: float, down: float, *, is_new: bool = True) -> Array:
        """Touches the image once with the brush; where, as shares of the viewport's width and height.

        Args:
            across, down: where.
            is_new: whether the stroke marks anything that was not marked alike before.

        Returns:
            The place in the patient, RAS in mm.
        """
        place = self._touch("Brush", across, down, is_new=is_new)
        return np.asarray(self.page.evaluate(f"place => ({SHOWN})().canvasToWorld(place)", place)) * (-1, -1, 1)

    def erase(self, across: float, down: float) -> None:
        """Touches the image once with the eraser."""
        self._touch("Eraser", across, down, is_new=True)

    def _touch(self, tool: str, across: float, down: float, *, is_new: bool) -> list[float]:
        self.page.click(f"[data-cy={tool}]")
        box = self.page.locator(".cornerstone-canvas").bounding_box()
        assert box is not None
        x, y = across * box["width"], down * box["height"]
        before = self.marks()
        self.page.evaluate(NOTE_DRAWING)
        self.page.mouse.move(box["x"] + x, box["y"] + y)
        self.page.mouse.down()
        self.page.mouse.up()
        # OHIF waits whether a second click follows.
        self.page.wait_for_function("() => window.drawn", timeout=PATIENCE_MS)
        if is_new:
            until(lambda: self.marks() != before, PATIENCE_MS / 1000, "the stroke")
        return [x, y]

    def voxels(self) -> dict[str, list[list[int]]]:
        """Slice and place of each marked voxel, by structure."""
        found: dict[str, list[list[int]]] = self.page.evaluate(VOXELS)
        return found

    def copies(self) -> list[str]:
        """The images of which the browser keeps drawings that are not saved."""
        found: list[str] = self.page.evaluate(COPIES)
        return found

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
def browsing() -> Iterator[BrowserContext]:
    """A browser, in which pages can be opened; skips where there is none, or no viewer."""
    chromium = shutil.which("chromium")
    if chromium is None:
        skip_or_fail(NO_BROWSER)
    if fetched() is None:
        skip_or_fail(NO_VIEWER)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM)
        try:
            yield browser.new_context(viewport=WINDOW)
        finally:
            browser.close()


@contextmanager
def viewer(address: str) -> Iterator[Viewer]:
    """A page on a server, in a browser of its own."""
    with browsing() as browser:
        yield Viewer(browser.new_page(), address.rstrip("/"))


def inside_brush(shape: tuple[int, ...], affine: Array, place_mm: Array, radius_mm: float) -> Array:
    """The voxels of the slice through a place whose centres lie within a radius of it: bool (I, J, K)."""
    inverse = np.linalg.inv(affine)
    k = round(float((inverse @ [*place_mm, 1])[2]))
    voxels = np.indices(shape).reshape(3, -1)
    centres = affine[:3, :3] @ voxels + affine[:3, 3:]
    distance = np.linalg.norm(centres - place_mm[:, None], axis=0)
    return ((distance <= radius_mm) & (voxels[2] == k)).reshape(shape)
