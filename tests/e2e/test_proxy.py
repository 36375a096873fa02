"""Behind a proxy that knows people by a cookie, their browser works for our pages and for no others."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Page, sync_playwright

from lib.serving.tokens import TokenFile
from lib.stages import Role
from lib.store import layout
from scripts.benchmarks.bench_ohif import CHROMIUM
from tests.e2e.browser import NO_BROWSER
from tests.e2e.nginx import proxy
from tests.postgresql import skip_or_fail
from tests.serving.places import CONF, Server, app_server, mask_bytes, put_images, put_label

CHANGE = "/cases/no-finding?image=case_00"
"""What a page elsewhere may want: an expert's word that there is nothing."""

ASK = """async ([address, mode, method]) => {
    try { return (await fetch(address, { method, mode, credentials: "include" })).status; } catch (error) { return -1; }
}"""

FORM = """address => {
    const form = document.createElement("form");
    Object.assign(form, { method: "post", action: address });
    document.body.append(form);
    form.submit();
}"""


@dataclass
class Clinic:
    """A server at which people sign in, a proxy in front, and somebody else's pages.

    Attributes:
        server: behind the proxy.
        port: of the proxy.
        elsewhere: port of the other pages.
    """

    server: Server
    port: int
    elsewhere: int

    def versions(self, image: str = "case_00") -> list[str]:
        """Who stored each version of an image."""
        return [one["author"] for one in self.server.get("/datastore/label/history", image=image)]


class Blank(BaseHTTPRequestHandler):
    """An empty page at every address."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>Elsewhere</title><body></body>")

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def pages() -> Iterator[int]:
    """Somebody else's pages, at all names of this machine; their port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Blank) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield int(server.server_port)
        finally:
            server.shutdown()


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    folder = tmp_path_factory.mktemp("clinic")
    put_images(folder / "studies", 2)
    tokens = {"kim": TokenFile(folder / "data" / layout.TOKENS).add("kim", Role.EXPERT)}
    conf = {**CONF, "auth": "tokens"}
    with (
        app_server("segmentation", folder / "studies", folder / "data", conf) as server,
        proxy(urlsplit(server.address).netloc, tokens) as port,
        pages() as elsewhere,
    ):
        server.client.headers["Authorization"] = f"Bearer {tokens['kim']}"
        put_label(server.client, "case_01", mask_bytes(1))
        yield Clinic(server, port, elsewhere)


@pytest.fixture(scope="module")
def signed_in(clinic: Clinic) -> Iterator[Page]:
    """A page of a browser that has signed in at the proxy."""
    chromium = shutil.which("chromium")
    if chromium is None:
        skip_or_fail(NO_BROWSER)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM)
        try:
            opened = browser.new_page()
            opened.goto(f"http://127.0.0.1:{clinic.port}/")
            assert opened.evaluate(ASK, ["/signed-in/kim", "cors", "GET"]) == 204
            assert opened.evaluate(ASK, ["/info/", "cors", "GET"]) == 200
            yield opened
        finally:
            browser.close()


@pytest.fixture
def page(clinic: Clinic, signed_in: Page) -> Page:
    """The same, at the start page."""
    signed_in.goto(f"http://127.0.0.1:{clinic.port}/")
    return signed_in


@pytest.mark.e2e
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["another-port", "another-site"])
def test_a_page_elsewhere_changes_nothing_by_a_form_or_a_script(clinic: Clinic, page: Page, host: str) -> None:
    address = f"http://127.0.0.1:{clinic.port}{CHANGE}"
    page.goto(f"http://{host}:{clinic.elsewhere}/")

    for mode in ("no-cors", "cors"):
        assert page.evaluate(ASK, [address, mode, "POST"]) in (-1, 0), mode
    with page.expect_response(address) as reply:
        page.evaluate(FORM, address)

    assert reply.value.status == 403
    assert "Only pages of this server may change anything here" in reply.value.text()
    assert clinic.versions() == []


@pytest.mark.e2e
def test_a_page_elsewhere_carries_the_cookie_so_that_only_the_server_can_refuse(clinic: Clinic, page: Page) -> None:
    """What makes the test above say something: the browser sends the cookie, and the proxy lets it in."""
    page.goto(f"http://127.0.0.1:{clinic.elsewhere}/")
    address = f"http://127.0.0.1:{clinic.port}/info/"

    with page.expect_response(address) as reply:
        assert page.evaluate(ASK, [address, "no-cors", "GET"]) == 0

    assert reply.value.status == 200


@pytest.mark.e2e
def test_a_page_of_the_server_works(clinic: Clinic, page: Page) -> None:
    before = clinic.versions("case_01")

    asked = [f"{CHANGE.replace('case_00', 'case_01')}", "cors", "POST"]
    assert page.evaluate(ASK, asked) == 200

    assert clinic.versions("case_01") == [*before, "kim"]


@pytest.mark.e2e
def test_a_form_of_the_server_works(clinic: Clinic, page: Page) -> None:
    """The form of /open, which asks for a token."""
    with page.expect_response("**/open") as reply:
        page.evaluate(FORM, "/open")

    assert reply.value.status == 401 and "Your token" in reply.value.text()


@pytest.mark.e2e
def test_programs_work_through_the_proxy(clinic: Clinic) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{clinic.port}") as client:
        assert client.post("/activelearning/first").status_code == 401
        client.get("/signed-in/kim")
        assert client.post("/activelearning/first").status_code == 200


@pytest.mark.e2e
def test_a_proxy_that_changes_the_host_is_told_unless_the_browser_vouches(clinic: Clinic) -> None:
    token = clinic.server.client.headers["Authorization"].removeprefix("Bearer ")
    upstream = urlsplit(clinic.server.address).netloc
    with (
        proxy(upstream, {"kim": token}, keeps_host=False) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Origin": f"http://127.0.0.1:{port}"}) as client,
    ):
        client.get("/signed-in/kim")
        refused = client.post("/activelearning/first")
        assert refused.status_code == 403 and "pass on the header Host as it came" in refused.json()["detail"]
        assert client.post("/activelearning/first", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200
