"""Two people at one case, and people whose sign-in ends: neither loses anything, and both are told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Route, expect

from lib.serving.tokens import TokenFile
from lib.stages import Role
from lib.store import layout
from tests.e2e.browser import Viewer
from tests.serving.places import Server, image_bytes, mask_bytes, put_label, server

pytestmark = pytest.mark.e2e

SIZE = (64, 48, 12)

CASES = 8


@dataclass
class Ward:
    """A server at which people sign in.

    Attributes:
        server: asked as the annotator ``lee``.
        file: of the tokens.
        tokens: of the experts ``kim`` and ``mia`` and the annotator ``lee``.
        browser: in which their pages are opened.
    """

    server: Server
    file: TokenFile
    tokens: dict[str, str]
    browser: BrowserContext

    def seen_by(self, name: str, image: str) -> Viewer:
        """A page on a case as somebody sees it."""
        screen = Viewer(self.browser.new_page(), self.server.address.rstrip("/"))
        screen.open_as(self.tokens[name], image)
        screen.is_open(image)
        return screen

    def history(self, image: str) -> list[tuple[str, str, int | None]]:
        """Author, stage and parent of each version, oldest first."""
        found: list[dict[str, Any]] = self.server.get("/datastore/label/history", image=image)
        return [(one["author"], one["stage"], one["parent"]) for one in found]


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory, browser: BrowserContext) -> Iterator[Ward]:
    """A server with small cases; each has a mask by the annotator as its first version."""
    folder = tmp_path_factory.mktemp("ward")
    (folder / "studies").mkdir()
    for number in range(CASES):
        (folder / "studies" / f"case_{number:02d}.nii.gz").write_bytes(image_bytes(number, SIZE))
    file = TokenFile(folder / "data" / layout.TOKENS)
    roles = {"kim": Role.EXPERT, "mia": Role.EXPERT, "lee": Role.ANNOTATOR}
    tokens = {name: file.add(name, role) for name, role in roles.items()}
    with server(folder / "studies", folder / "data", {"auth": "tokens"}) as running:
        running.client.headers["Authorization"] = f"Bearer {tokens['lee']}"
        for number in range(CASES):
            put_label(running.client, f"case_{number:02d}", mask_bytes(number, SIZE))
        yield Ward(running, file, tokens, browser)


@pytest.fixture(scope="module")
def fresh() -> Callable[[], str]:
    """Names a case that nobody has opened."""
    numbers = iter(range(CASES))
    return lambda: f"case_{next(numbers):02d}"


@pytest.fixture(autouse=True)
def closed(browser: BrowserContext) -> Iterator[None]:
    """Closes the pages of a test."""
    yield
    for page in browser.pages:
        page.close()


def come_back(screen: Viewer) -> None:
    """Lets the page ask at once what it asks every ten seconds."""
    screen.page.evaluate("() => window.dispatchEvent(new Event('focus'))")


def test_of_two_saves_on_one_version_the_second_asks_and_both_are_kept_with_their_true_parent(
    ward: Ward, fresh: Callable[[], str]
) -> None:
    image = fresh()
    kim, mia = ward.seen_by("kim", image), ward.seen_by("mia", image)
    come_back(mia)
    mia.says("others", "Also open: kim (v1)")
    mia.brush(0.4, 0.4)
    mia.press("save")
    mia.says("message", "Saved as version 2.")

    kim.brush(0.6, 0.4)
    drawn = kim.voxels()
    kim.press("save")

    kim.says("message", "Nothing is stored yet: see above.")
    kim.offers("meanwhile", "mia")
    kim.offers("meanwhile", "version 2")
    come_back(kim)
    kim.says("others", "Also open: mia (v2)")
    assert len(ward.history(image)) == 2
    kim.take("meanwhile", "Compare")
    kim.says("case", "looking at EXPERT mia (v2)")
    kim.press("before")
    kim.says("case", "DRAFT lee (v1)")
    kim.is_done()
    assert kim.voxels() == drawn
    kim.take("meanwhile", "Save as mine anyway")
    kim.says("message", "Saved as version 3.")
    assert ward.history(image) == [("lee", "draft", None), ("mia", "expert", 1), ("kim", "expert", 1)]
    kim.is_done()
    kim.page.reload()
    kim.is_open(image)
    assert kim.voxels() == drawn


def test_who_has_a_case_open_is_told_that_somebody_saves_it_and_opens_that(
    ward: Ward, fresh: Callable[[], str]
) -> None:
    image = fresh()
    kim, mia = ward.seen_by("kim", image), ward.seen_by("mia", image)
    mia.brush(0.4, 0.4)
    mia.press("save")
    mia.says("message", "Saved as version 2.")

    come_back(kim)
    kim.offers("newer", "mia has saved version 2 meanwhile.")
    kim.take("newer", "Open it")

    kim.says("case", "EXPERT mia (v2)")
    kim.is_done()
    assert kim.voxels() == mia.voxels()


def test_what_is_accepted_is_what_is_on_the_screen_unless_somebody_has_saved_meanwhile(
    ward: Ward, fresh: Callable[[], str]
) -> None:
    image = fresh()
    kim, mia = ward.seen_by("kim", image), ward.seen_by("mia", image)
    mia.brush(0.4, 0.4)
    mia.press("save")
    mia.says("message", "Saved as version 2.")

    kim.press("accept")

    kim.says("message", "Nothing is stored yet: see above.")
    kim.offers("meanwhile", "mia")
    assert len(ward.history(image)) == 2
    kim.take("meanwhile", "Accept version 1 anyway")
    kim.says("message", "Accepted.")
    assert ward.history(image)[2] == ("kim", "expert", 1)


def test_a_junior_who_saves_over_an_experts_mask_is_told_what_becomes_of_it(
    ward: Ward, fresh: Callable[[], str]
) -> None:
    image = fresh()
    kim = ward.seen_by("kim", image)
    kim.press("accept")
    kim.says("message", "Accepted.")
    kim.page.close()
    lee = ward.seen_by("lee", image)
    lee.says("case", "EXPERT kim (v2)")
    lee.brush(0.4, 0.4)

    lee.press("save")

    lee.says(
        "message",
        "Saved as version 3. The current version stays 2 by kim, since an expert's mask counts before an annotator's; "
        "yours is kept, see Versions.",
    )
    lee.says("case", "DRAFT lee (v3) · current: EXPERT kim (v2)")


def test_a_token_that_is_taken_back_while_somebody_draws_is_renewed_in_place(
    ward: Ward, fresh: Callable[[], str]
) -> None:
    image = fresh()
    mia = ward.seen_by("mia", image)
    mia.brush(0.4, 0.4)
    drawn = mia.voxels()
    ward.file.remove("mia")
    ward.tokens["mia"] = ward.file.add("mia", Role.EXPERT)

    mia.press("save")
    mia.offers("sign-in", "The token of mia, with which the viewer was opened, was taken back.")
    mia.offers("sign-in", "Your drawing is still here.")
    field = mia.page.locator("[data-offer=sign-in] input")
    field.fill(ward.tokens["kim"])
    mia.take("sign-in", "Sign in again")
    mia.says("message", "This is the token of kim; what is drawn here is by mia.")
    field.fill(ward.tokens["mia"])
    mia.take("sign-in", "Sign in again")

    mia.says("message", "Saved as version 2.")
    assert ward.history(image)[1] == ("mia", "expert", 1)
    mia.is_done()
    assert mia.voxels() == drawn
    mia.offers_nothing()


def test_who_loads_the_viewer_anew_after_being_signed_out_comes_back_to_the_case_and_the_drawing(
    ward: Ward, fresh: Callable[[], str]
) -> None:
    image = fresh()
    mia = ward.seen_by("mia", image)
    mia.brush(0.4, 0.4)
    drawn = mia.voxels()
    ward.file.remove("mia")
    ward.tokens["mia"] = ward.file.add("mia", Role.EXPERT)

    mia.page.reload()
    mia.page.fill("input[name=token]", ward.tokens["mia"])
    mia.page.click("button")

    mia.is_open(image)
    assert mia.asked_to_stay == 1
    mia.take("copy", "Open it")
    mia.says("message", "Your drawing is open again")
    assert mia.voxels() == drawn
    assert "token" not in mia.page.url


def test_the_end_of_a_sign_in_is_told_before_it_comes(ward: Ward, fresh: Callable[[], str]) -> None:
    image = fresh()
    mia = ward.seen_by("mia", image)
    mia.offers_nothing()

    def soon(route: Route) -> None:
        reply = route.fetch()
        route.fulfill(response=reply, body=json.dumps({**reply.json(), "ends": 600}))

    mia.page.route("**/cases/open?*", soon)
    come_back(mia)
    mia.offers("sign-in", "You are signed out in 10 min.")
    mia.page.unroute_all()
    mia.page.locator("[data-offer=sign-in] input").fill(ward.tokens["mia"])
    mia.take("sign-in", "Sign in again")

    mia.says("message", "Signed in again as mia.")
    mia.offers_nothing()


# The start page.


def test_who_signs_in_at_the_start_page_finds_cases_progress_and_queue_and_no_dead_link(
    ward: Ward, fresh: Callable[[], str]
) -> None:
    image = fresh()
    screen = Viewer(ward.browser.new_page(), ward.server.address.rstrip("/"))
    screen.go("/")
    expect(screen.page.get_by_text(image)).to_have_count(0)
    screen.page.fill("#token", "wrong")
    screen.page.get_by_role("button", name="Sign in").click()
    expect(screen.page.locator("#message")).to_contain_text("The token is not known.")
    screen.page.fill("#token", ward.tokens["kim"])
    screen.page.get_by_role("button", name="Sign in").click()
    work = screen.page.locator("#work")
    expect(work).to_contain_text("You are kim, expert.")
    expect(work).to_contain_text(f"of {CASES} images are labelled.")
    expect(work).to_contain_text("for an expert.")
    for link in screen.page.locator("a").all():
        address = str(link.get_attribute("href"))
        if not address.startswith(("open", "?")):
            assert screen.page.request.get(f"{screen.address}/{address}").status == 200, address

    screen.page.get_by_role("link", name=image, exact=True).last.click()

    screen.is_open(image)
    assert "token" not in screen.page.url
    screen.page.get_by_role("link", name="Cases").click()
    expect(work).to_contain_text("You are kim, expert.")
    screen.page.get_by_role("button", name="Next case").click()
    screen.says("case", "case_")
    screen.is_done()
    screen.page.get_by_role("link", name="Cases").click()
    screen.page.get_by_role("button", name="Sign out").click()
    expect(screen.page.get_by_role("button", name="Sign in")).to_be_visible()
    expect(work).to_be_empty()
