"""A task of many structures in the viewer: all can be reached and told apart, whatever they are called."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import BrowserContext, expect

from lib.volume import Volume, nifti_bytes
from tests.e2e.browser import Viewer
from tests.serving.places import Server, image_bytes, put_label, server, until

pytestmark = pytest.mark.e2e

SIZE = (64, 48, 12)

NAMES = ["Größe links 海马", "déjà à", "Ώμος", "наружная ткань", *(f"Structure {number}" for number in range(21))]
"""The letters of some are ones that OHIF takes for blanks when it misreads them."""

CASES = ["case_a", "case_b", "case_c"]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with small cases."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "studies").mkdir()
    for number, name in enumerate(CASES):
        (folder / "studies" / f"{name}.nii.gz").write_bytes(image_bytes(number, SIZE))
    with server(folder / "studies", folder / "data", {"labels": ",".join(NAMES)}) as running:
        yield running


@pytest.fixture
def screen(desk: Server, browser: BrowserContext) -> Iterator[Viewer]:
    """A page of the viewer."""
    with browser.new_page() as page:
        yield Viewer(page, desk.address.rstrip("/"))


def put_mask(desk: Server, image: str, slices: dict[int, range]) -> None:
    """Stores a mask: each value covers some slices, more of them in the middle one."""
    mask = np.zeros(SIZE, np.uint8)
    for value, places in slices.items():
        for k in places:
            edge = 3 + 2 * (k == places[len(places) // 2])
            mask[6 * value : 6 * value + edge, 10 : 10 + edge, k] = value
    info = [{"name": name, "idx": number} for number, name in enumerate(NAMES, start=1)]
    put_label(desk.client, image, nifti_bytes(Volume(mask, np.eye(4))), label_info=info)


REACHED = """rows => rows.map(row => {
    row.scrollIntoView({ block: 'nearest' });
    const { left, top, bottom } = row.getBoundingClientRect();
    return [top + 3, bottom - 3].every(down => row.contains(document.elementFromPoint(left + 60, down)));
})"""
"""Whether each row can be scrolled to where nothing lies over it."""

SLICE = """() => {
    const { viewportGridService, cornerstoneViewportService } = window.services;
    return cornerstoneViewportService.getCornerstoneViewport(viewportGridService.getActiveViewportId()).getSliceIndex();
}"""


def test_names_beyond_ascii_are_the_same_whenever_a_mask_is_opened_and_stored_again(
    desk: Server, screen: Viewer
) -> None:
    put_mask(desk, "case_a", {1: range(4, 7), 2: range(5, 8), 3: range(4, 6), 4: range(6, 8)})
    screen.open_case("case_a")
    screen.lists(*NAMES)
    marks = screen.marks()
    assert {name for name, count in marks.items() if count} == set(NAMES[:4])
    screen.choose(NAMES[0])
    screen.brush(0.8, 0.5)
    drawn = screen.marks()
    assert drawn[NAMES[0]] > marks[NAMES[0]]

    screen.press("save")
    screen.says("message", "Saved as version 2.")
    screen.is_done()
    screen.open_case("case_a")

    screen.lists(*NAMES)
    assert screen.marks() == drawn
    screen.choose(NAMES[3])
    screen.brush(0.8, 0.2)
    screen.press("save")
    screen.says("message", "Saved as version 3.")
    (_, second, third) = desk.get("/datastore/label/history", image="case_a")
    assert second["voxels"] == {name: drawn.get(name, 0) for name in NAMES}
    assert list(third["voxels"]) == NAMES and third["voxels"][NAMES[3]] > second["voxels"][NAMES[3]]


def test_each_of_25_structures_can_be_reached_in_a_small_window_and_no_tool_asks_elsewhere(
    desk: Server, screen: Viewer
) -> None:
    screen.page.set_viewport_size({"width": 1280, "height": 720})
    screen.open_case("case_b")
    screen.page.click("[data-cy=Brush]")
    rows = screen.page.locator("[data-cy=data-row]")
    expect(rows).to_have_count(25)

    until(lambda: rows.evaluate_all(REACHED) == [True] * 25, 30, "reaching every row")
    colours = rows.evaluate_all(
        "rows => rows.map(row => [...row.querySelectorAll('*')].map(part => part.style.backgroundColor).join(''))"
    )
    assert len(set(colours)) == 25
    for tool in ("InterpolateLabelmap", "LabelmapSlicePropagation", "MarkerLabelmap"):
        expect(screen.page.locator(f"[data-cy={tool}]")).to_have_count(0)
    has_gpu = screen.page.evaluate("async () => Boolean(await navigator.gpu?.requestAdapter())")
    expect(screen.page.locator("[data-cy=RegionSegmentPlus]")).to_have_count(int(has_gpu))
    assert screen.foreign == []


def test_a_case_opens_where_most_is_marked_and_choosing_a_structure_leaps_only_if_the_slice_does_not_show_it(
    desk: Server, screen: Viewer
) -> None:
    put_mask(desk, "case_c", {1: range(1, 4), 2: range(2, 9), 3: range(9, 11)})
    screen.open_case("case_c")
    seen = [screen.page.evaluate(SLICE)]
    for name in (NAMES[1], NAMES[0], NAMES[2], NAMES[-1]):
        screen.choose(name)
        seen.append(screen.page.evaluate(SLICE))

    # The viewer may count from either end.
    assert seen in ([2, 2, 2, 10, 10], [9, 9, 9, 1, 1])
