"""What somebody draws in the viewer is stored, or kept and offered again, whatever happens to page and network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Error, Route, expect

from tests.e2e.browser import Viewer
from tests.serving.places import Server, image_bytes, mask_bytes, put_label, server, until

pytestmark = pytest.mark.e2e

SIZE = (64, 48, 12)

CASES = 16


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with small cases, of which each test takes another one."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "studies").mkdir()
    for number in range(CASES):
        (folder / "studies" / f"case_{number:02d}.nii.gz").write_bytes(image_bytes(number, SIZE))
    with server(folder / "studies", folder / "data", {}) as running:
        yield running


@pytest.fixture
def screen(desk: Server, browser: BrowserContext) -> Iterator[Viewer]:
    """A page of the viewer."""
    with browser.new_page() as page:
        yield Viewer(page, desk.address.rstrip("/"))


@pytest.fixture(scope="module")
def fresh() -> Callable[[], str]:
    """Names a case that nobody has opened."""
    numbers = iter(range(CASES))
    return lambda: f"case_{next(numbers):02d}"


def another(screen: Viewer) -> Viewer:
    """Another page in the same browser."""
    return Viewer(screen.page.context.new_page(), screen.address)


def history(desk: Server, image: str) -> list[dict[str, Any]]:
    """All versions, oldest first."""
    found: list[dict[str, Any]] = desk.get("/datastore/label/history", image=image)
    return found


def parents(desk: Server, image: str) -> list[int | None]:
    """What each version was made from."""
    return [one["parent"] for one in history(desk, image)]


def held(screen: Viewer) -> list[Route]:
    """Holds back what is stored from now on; the requests appear in the list, and go on when that is asked of them."""
    found: list[Route] = []
    screen.page.route(
        "**/dicomweb/studies?*",
        lambda route: found.append(route) if route.request.method == "POST" else route.continue_(),
    )
    return found


def came(screen: Viewer, routes: list[Route]) -> Route:
    """The request that is held, once it has come."""

    def first() -> Route | None:
        # Playwright calls its handlers only while it is asked something.
        screen.page.evaluate("() => true")
        return routes[0] if routes else None

    found: Route = until(first, what="the request to store")
    return found


# While it is stored.


def test_strokes_made_while_a_save_runs_stay_unsaved_and_are_saved_by_the_next(
    desk: Server, screen: Viewer, fresh: Callable[[], str]
) -> None:
    image = fresh()
    screen.open_case(image)
    screen.brush(0.4, 0.5)
    first = screen.marks()
    routes = held(screen)

    screen.press("save")
    route = came(screen, routes)
    screen.brush(0.6, 0.5)
    drawn = screen.voxels()
    route.continue_()
    screen.says("message", "Saved as version 1.")
    screen.is_done()

    assert history(desk, image)[0]["voxels"] == first
    screen.press("next")
    screen.says("message", "Your drawing is not saved.")
    screen.page.unroute_all()
    screen.press("save")
    screen.says("message", "Saved as version 2.")
    screen.is_done()
    until(lambda: image not in screen.copies(), what="the end of the copy")
    screen.open_case(image)
    assert screen.voxels() == drawn
    assert parents(desk, image) == [None, 1]
    assert all(one["seconds"] is not None for one in history(desk, image))


@pytest.mark.parametrize("fault", ["refused", "lost", "bad gateway"])
def test_a_fault_of_the_network_says_what_became_of_the_drawing_and_the_next_press_makes_one_version(
    desk: Server, screen: Viewer, fresh: Callable[[], str], fault: str
) -> None:
    image = fresh()
    screen.open_case(image)
    screen.brush(0.5, 0.5)
    drawn = screen.voxels()
    routes = held(screen)

    screen.press("save")
    route = came(screen, routes)
    if fault == "bad gateway":
        route.fulfill(status=502, body="Bad gateway")
    else:
        if fault == "lost":
            assert route.fetch().status == 200
        route.abort()

    wanted = "The server did not answer by itself: status 502." if fault == "bad gateway" else "could not be reached"
    screen.says("message", wanted)
    screen.says("message", "Your drawing is still here: press Save again. What is stored already is not stored twice.")
    screen.is_done()
    assert len(history(desk, image)) == (1 if fault == "lost" else 0)
    screen.page.unroute_all()
    screen.press("save")
    screen.says("message", "version 1")
    screen.is_done()
    assert parents(desk, image) == [None]
    screen.open_case(image)
    assert screen.voxels() == drawn
    screen.offers_nothing()


def test_what_is_stored_is_told_as_stored_though_asking_anew_fails(
    desk: Server, screen: Viewer, fresh: Callable[[], str]
) -> None:
    image = fresh()
    screen.open_case(image)
    screen.brush(0.5, 0.5)
    screen.page.route("**/cases/versions?*", lambda route: route.abort())

    screen.press("save")

    screen.says("message", "Saved as version 1. What is shown of the case may be old: The server could not be reached")
    screen.is_done()
    screen.page.unroute_all()
    screen.press("save")
    screen.says("message", "Version 1 holds just this already; nothing new was stored.")
    assert parents(desk, image) == [None]


# When the page is left.


def test_a_drawing_is_offered_again_voxel_for_voxel_after_reload_close_and_crash(
    desk: Server, screen: Viewer, fresh: Callable[[], str]
) -> None:
    image = fresh()
    screen.open_case(image)
    screen.choose("Anterior")
    screen.brush(0.4, 0.5)
    screen.choose("Posterior")
    screen.brush(0.6, 0.4)
    drawn = screen.voxels()
    assert set(drawn) == {"Anterior", "Posterior"}

    def is_offered(page: Viewer) -> None:
        page.offers("copy", "What you drew from nothing, until")
        assert page.voxels() == {}
        page.take("copy", "Open it")
        page.says("message", "Your drawing is open again, as it was. It is not saved yet.")
        assert page.voxels() == drawn

    screen.page.reload()
    assert screen.asked_to_stay == 1
    screen.is_open(image)
    is_offered(screen)

    closed = another(screen)
    closed.open_case(image)
    is_offered(closed)
    closed.page.close(run_before_unload=True)

    crashed = another(screen)
    crashed.open_case(image)
    is_offered(crashed)
    crashed.brush(0.5, 0.7)
    drawn = crashed.voxels()
    until(lambda: is_kept(crashed, drawn), what="the copy of the last stroke")
    with crashed.page.expect_event("crash"), suppress(Error):
        crashed.page.goto("chrome://crash")

    last = another(screen)
    last.open_case(image)
    is_offered(last)
    last.press("save")
    last.says("message", "Saved as version 1.")
    last.is_done()
    assert history(desk, image)[0]["voxels"] == {name: len(places) for name, places in drawn.items()}
    last.page.close()


KEPT = """() => new Promise(resolve => {
    indexedDB.open('label-refinery').onsuccess = ({ target: { result: database } }) => {
        database.transaction('drawings').objectStore('drawings').getAll().onsuccess = ({ target: { result } }) => {
            database.close();
            const newest = result.sort((one, other) => other.kept - one.kept)[0];
            const count = newest.masks[0].slices.flatMap(([, runs]) => Array.from(runs)).reduce(
                (sum, run) => sum + (run % 256 ? Math.floor(run / 256) : 0), 0);
            resolve(count);
        };
    };
})"""
"""How many voxels the newest copy marks."""


def is_kept(screen: Viewer, drawn: dict[str, list[list[int]]]) -> bool:
    count: int = screen.page.evaluate(KEPT)
    return count == sum(map(len, drawn.values()))


def test_a_copy_that_is_discarded_is_not_offered_again(desk: Server, screen: Viewer, fresh: Callable[[], str]) -> None:
    image = fresh()
    screen.open_case(image)
    screen.brush(0.5, 0.5)
    screen.page.reload()
    screen.is_open(image)
    screen.offers("copy")

    screen.take("copy", "Discard it")

    screen.offers_nothing()
    until(lambda: image not in screen.copies(), what="the end of the copy")


def test_ohifs_own_ways_out_of_a_case_want_a_second_try(desk: Server, screen: Viewer, fresh: Callable[[], str]) -> None:
    image = fresh()
    screen.go("/ohif/")
    screen.page.get_by_text(image, exact=True).first.click()
    screen.page.locator("[data-cy^=mode-segmentation-]:visible").click()
    screen.is_open(image)
    screen.brush(0.5, 0.5)
    drawn, address = screen.voxels(), screen.page.url
    told = "Your drawing is not saved. Press Save, or leave once more: it is offered when the case opens again."

    for way, leave in {
        "click": lambda: screen.page.click("[data-cy=return-to-work-list]"),
        "dblclick": lambda: screen.page.dblclick("[data-cy^=study-browser-thumbnail]"),
        "history": lambda: screen.page.evaluate("() => window.history.back()"),
    }.items():
        leave()
        expect(screen.page.locator("#case-bar")).to_have_attribute("data-leaving", way)
        screen.says("message", told)
        until(lambda: screen.page.url == address, what="the case")
        assert screen.voxels() == drawn

    for _ in range(2):
        screen.page.click("[data-cy=return-to-work-list]")
    screen.page.wait_for_url(lambda url: url != address)
    assert screen.asked_to_stay == 0
    screen.open_case(image)
    screen.offers("copy")
    screen.take("copy", "Open it")
    screen.says("message", "open again")
    assert screen.voxels() == drawn


# What is in view.


def test_a_mask_without_voxels_is_stored_as_no_finding_by_the_second_press(
    desk: Server, screen: Viewer, fresh: Callable[[], str]
) -> None:
    image = fresh()
    screen.open_case(image)
    screen.press("save")
    screen.says("message", "Nothing is marked. Press Save again to store that none of the structures is there.")
    screen.brush(0.5, 0.5)
    screen.erase(0.5, 0.5)
    assert not any(screen.marks().values())

    screen.press("save")
    screen.says("message", "Nothing is marked.")
    assert history(desk, image) == []
    screen.press("save")

    screen.says("message", "Stored: no finding.")
    (said,) = history(desk, image)
    assert said["voxels"] == {"Anterior": 0, "Posterior": 0}
    screen.is_done()
    screen.offers_nothing()


def test_no_finding_over_a_mask_that_marks_something_asks_and_is_undone_by_a_button(
    desk: Server, screen: Viewer, fresh: Callable[[], str]
) -> None:
    image = fresh()
    submit(desk, image)
    screen.open_case(image)
    before = screen.voxels()

    screen.press("no-finding")
    screen.says("message", "Version 1 by dr.kim marks Anterior, Posterior. Press No finding again to store that")
    screen.press("no-finding")
    screen.says("message", "Stored: no finding.")
    assert not any(screen.marks().values())
    screen.take("undo", "Restore version 1")

    screen.says("message", "Version 3 has the mask of version 1 again, as yours.")
    assert screen.voxels() == before
    assert parents(desk, image)[:2] == [None, 1]
    assert history(desk, image)[-1]["voxels"] == history(desk, image)[0]["voxels"]


def submit(desk: Server, image: str) -> None:
    """Stores the true mask of a case."""
    put_label(desk.client, image, mask_bytes(int(image[-2:]), SIZE), client_id="dr.kim")


def test_a_mask_that_was_taken_out_of_the_view_comes_back_before_it_is_stored(
    desk: Server, screen: Viewer, fresh: Callable[[], str]
) -> None:
    image = fresh()
    screen.open_case(image)
    screen.brush(0.5, 0.5)
    drawn = screen.voxels()
    of_mask(screen, "Remove from Viewport")
    until(lambda: screen.voxels() == {}, what="the empty view")

    screen.press("save")

    screen.says("message", "it had been taken out. It is shown again; nothing was stored. Press Save again.")
    assert screen.voxels() == drawn
    screen.press("save")
    screen.says("message", "Saved as version 1.")
    screen.is_done()
    of_mask(screen, "Delete")
    until(lambda: screen.voxels() == {}, what="the empty view")
    screen.press("save")
    screen.says("message", "it had been deleted. The current one is open again; nothing was stored.")
    assert screen.voxels() == drawn
    assert parents(desk, image) == [None]


def of_mask(screen: Viewer, entry: str) -> None:
    """Chooses an entry of OHIF's menu of the active mask."""
    screen.page.locator("#viewerLayoutResizableRightPanel button:left-of([role=combobox])").last.click()
    screen.page.get_by_role("menuitem", name=entry).click()


def test_all_masks_in_view_are_stored_as_one_unless_they_overlap(
    desk: Server, screen: Viewer, fresh: Callable[[], str]
) -> None:
    image = fresh()
    screen.open_case(image)
    screen.choose("Anterior")
    screen.brush(0.4, 0.5)
    of_mask(screen, "Create New Segmentation")
    expect(screen.page.locator("[data-cy=data-row]")).to_have_count(1)
    screen.page.evaluate("""() => {
        const { segmentationService, viewportGridService } = window.services;
        const mask = segmentationService.getActiveSegmentation(viewportGridService.getActiveViewportId());
        segmentationService.setSegmentLabel(mask.segmentationId, 1, 'Posterior');
    }""")
    screen.brush(0.4, 0.5)
    screen.press("save")
    screen.says("message", "The masks overlap: Posterior and Anterior claim the same voxels.")
    screen.is_done()
    assert history(desk, image) == []
    screen.erase(0.4, 0.5)
    screen.brush(0.6, 0.5)
    drawn = screen.voxels()

    screen.press("save")

    screen.says("message", "Saved as version 1. It holds all 2 masks that were in view.")
    screen.is_done()
    screen.open_case(image)
    assert screen.voxels() == drawn


# Earlier versions.


def test_the_bar_names_the_version_in_view_and_any_other_is_shown_and_restored(
    desk: Server, screen: Viewer, fresh: Callable[[], str]
) -> None:
    image = fresh()
    submit(desk, image)
    screen.open_case(image)
    screen.says("case", "EXPERT dr.kim (v1)")
    first = screen.voxels()
    screen.brush(0.5, 0.2)
    screen.press("save")
    screen.says("message", "Saved as version 2.")
    screen.is_done()
    second = screen.voxels()
    assert first != second
    (name,) = set(one["author"] for one in history(desk, image)) - {"dr.kim"}
    screen.says("case", f"EXPERT {name} (v2)")
    expect(screen.page.locator("[role=combobox]")).to_contain_text(f"EXPERT {name} (v2)")

    screen.press("versions")
    row = screen.page.locator("[data-version='1']")
    row.get_by_role("button", name="Show").click()
    screen.says("case", "looking at EXPERT dr.kim (v1)")
    assert {place: voxels for place, voxels in screen.marks().items() if voxels} == {
        place: len(voxels) for place, voxels in first.items()
    }
    screen.press("before")
    screen.says("case", f"EXPERT {name} (v2)")
    screen.is_done()
    assert screen.voxels() == second

    screen.page.reload()
    screen.is_open(image)
    screen.press("versions")
    row.get_by_role("button", name="Restore").click()
    screen.says("message", "Version 3 has the mask of version 1 again, as yours.")
    screen.is_done()
    assert screen.voxels() == first
    # Opened by OHIF itself: what is in view is named, and is what Save takes.
    rows = screen.page.locator("[data-cy=study-browser-thumbnail-no-image]")
    expect(rows).to_have_count(2)
    rows.first.dblclick()
    screen.says("case", "(v2) · current: ")
    until(lambda: screen.voxels() == second, what="the second version")
    screen.press("save")
    screen.says("message", "Nothing is stored yet: see above.")
    screen.offers("meanwhile", "after version 2, which yours was made from; nothing was stored.")
    assert len(history(desk, image)) == 3
