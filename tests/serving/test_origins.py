"""Where people sign in, no page elsewhere changes anything in their name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.datastructures import Headers

from lib.errors import ForeignOrigin
from lib.serving.origins import refuse_other_pages
from lib.serving.tokens import TokenFile
from lib.stages import PEOPLE, Role
from lib.store import layout
from tests.serving.conftest import Here
from tests.serving.places import mask_bytes, put_label
from tests.serving.test_gate import Guarded, problem

OWN = "labels.clinic.example"
"""The name of the server, as the guarded client asks it."""


@pytest.fixture
def guarded(open_app: Callable[..., Here]) -> Guarded:
    here = open_app(auth="tokens", origins="https://viewer.clinic.example, https://other.clinic.example:8443/")
    file = TokenFile(here.data / layout.TOKENS)
    return Guarded(here, {role: file.add(str(role), role) for role in PEOPLE})


def changed(guarded: Guarded, method: str = "DELETE", path: str = "/train/", **headers: str) -> Any:
    """The reply to a request that changes something, by somebody who may."""
    named = {name.replace("_", "-"): text.encode("latin-1") for name, text in headers.items()}
    return guarded.by(Role.ADMIN).request(method, path, headers=named)


ALLOWED = ("https://viewer.clinic.example", "https://other.clinic.example:8443")


def refused(**headers: str) -> str:
    """Why a request that changes something is refused; empty: it is not. Where no Host is named it is ours."""
    named = {"Host": OWN, **{name.replace("_", "-"): text for name, text in headers.items()}}
    raw = [(name.lower().encode(), text.encode("latin-1")) for name, text in named.items()]
    try:
        refuse_other_pages("POST", Headers(raw=raw), ALLOWED)
    except ForeignOrigin as error:
        return str(error)
    return ""


PAGES = [
    "https://evil.example", "http://evil.example", "null", "", "file://", f"https://{OWN}.evil.example",
    f"https://evil.example/{OWN}", f"https://{OWN}@evil.example", f"https://evil.example#{OWN}", f"https://x.{OWN}",
    "https://clinic.example", f"http://{OWN}:8000", f"https://{OWN}:80", f"ftp://{OWN}", f"{OWN}", f"//{OWN}",
    f"https://{OWN}/", f"https://{OWN}, https://evil.example", f"https://{OWN}\\@evil.example", "http://[", "http://[::1]",
    f"http://{OWN}:99999", "https://viewer.clinic.example.evil.example", "http://viewer.clinic.example",
    "https://other.clinic.example", "https://\xe4vil.example", "http://127.0.0.1", "http://localhost:8000",
]  # fmt: skip


@pytest.mark.parametrize("origin", PAGES)
def test_a_page_elsewhere_changes_nothing(origin: str) -> None:
    found = refused(Origin=origin)

    assert found.startswith("Only pages of this server may change anything") and "--conf origins" in found


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "post", "UNKNOWN"])
def test_no_method_that_may_change_something_is_forgotten(guarded: Guarded, method: str) -> None:
    problem(changed(guarded, method, "/train/", Origin="https://evil.example"), 403, "Only pages of this server")


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/cases/no-finding?image=case_00"), ("POST", "/annotations/accept?image=case_00"),
     ("PUT", "/datastore/label?image=case_00"), ("POST", "/dicomweb/studies"), ("PUT", "/model/segmentation"),
     ("POST", "/infer/segmentation?image=case_00"), ("POST", "/open"), ("POST", "/auth/token"), ("PUT", "/session/")],
)  # fmt: skip
def test_no_route_is_forgotten_also_none_that_needs_no_role(guarded: Guarded, method: str, path: str) -> None:
    problem(changed(guarded, method, path, Origin="https://evil.example"), 403, "Only pages of this server")
    assert guarded.here.app.record.annotations.history("case_00") == []


@pytest.mark.parametrize(
    ("host", "origin"),
    [(OWN, f"http://{OWN}"), (OWN, f"https://{OWN}"), (f"{OWN}:443", f"https://{OWN}"), (OWN, f"https://{OWN}:443"),
     (f"{OWN}:80", f"http://{OWN}"), (OWN.upper(), f"HTTPS://{OWN}"), (OWN, f"https://{OWN.title()}"),
     (f"{OWN}.", f"https://{OWN}"), (OWN, f"https://{OWN}."), (f"{OWN}:8000", f"http://{OWN}:8000"),
     ("[::1]:8000", "http://[::1]:8000"), ("[0:0:0:0:0:0:0:1]", "https://[::1]"), ("10.1.2.3", "https://10.1.2.3"),
     ("localhost:8000", "http://localhost:8000")],
)  # fmt: skip
def test_a_page_of_this_server_works_however_its_name_is_written(host: str, origin: str) -> None:
    assert refused(Host=host, Origin=origin) == ""


@pytest.mark.parametrize("host", ["", "evil.example, labels", "[", f"{OWN}:port", f"x@{OWN}"])
def test_a_host_that_is_none_is_nobodys_own(host: str) -> None:
    assert refused(Host=host, Origin=f"https://{OWN}").startswith("Only pages of this server")


@pytest.mark.parametrize("origin", ["https://viewer.clinic.example", "https://other.clinic.example:8443"])
@pytest.mark.parametrize("site", [None, "cross-site", "same-site"])
def test_a_page_that_the_settings_name_works(origin: str, site: str | None) -> None:
    assert refused(Origin=origin, **({"Sec_Fetch_Site": site} if site else {})) == ""


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "Same-Origin", "same-origin, cross-site", "unknown"])
@pytest.mark.parametrize("origin", [None, f"https://{OWN}", "https://evil.example"])
def test_what_the_browser_says_comes_from_elsewhere_changes_nothing(site: str, origin: str | None) -> None:
    found = refused(Sec_Fetch_Site=site, **({"Origin": origin} if origin else {}))

    assert found.startswith("Only pages of this server") and f"Sec-Fetch-Site {site!r}" in found


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_behind_a_proxy_that_changes_the_host_the_word_of_the_browser_counts(site: str) -> None:
    assert refused(Host="127.0.0.1:8000", Origin=f"https://{OWN}", Sec_Fetch_Site=site) == ""
    found = refused(Host="127.0.0.1:8000", Origin=f"https://{OWN}")
    assert "to the host '127.0.0.1:8000'" in found and "pass on the header Host" in found


def test_what_a_proxy_says_of_the_host_is_not_believed() -> None:
    page = "https://evil.example"

    assert refused(X_Forwarded_Host="evil.example", Forwarded="host=evil.example", Origin=page)


def test_two_origins_are_none(guarded: Guarded) -> None:
    headers = [("Origin", f"https://{OWN}"), ("Origin", "https://evil.example")]

    problem(guarded.by(Role.ADMIN).delete("/train/", headers=headers), 403, "Only pages of this server")


def test_programs_go_on(guarded: Guarded) -> None:
    """3D Slicer, MONAI Label's client and curl send neither header."""
    annotator = guarded.by(Role.ANNOTATOR)

    assert put_label(annotator, "case_00", mask_bytes(0))["version"] == 1
    assert annotator.post("/activelearning/first", json={}).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_reading_is_not_asked_where_from(guarded: Guarded, method: str) -> None:
    headers = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}

    reply = guarded.by(Role.VIEWER).request(method, "/datastore/image?image=case_00", headers=headers)
    assert reply.status_code == 200
    # The browser keeps the reply from a page that may not see it.
    assert "access-control-allow-origin" not in reply.headers


def test_reading_changes_nothing(guarded: Guarded) -> None:
    """What a page elsewhere may ask for in somebody's name leaves no trace in the record."""
    history = guarded.here.app.record.audit
    before = history.newest(100)
    admin = guarded.by(Role.ADMIN)
    for path in ("/open?image=case_00", "/train/", "/batch/infer", "/scoring/", "/queue/", "/datastore/", "/info/"):
        admin.get(path, follow_redirects=False)

    assert history.newest(100) == before
    assert guarded.here.app.record.annotations.history("case_00") == []
    assert admin.get("/train/").json()["status"] == "IDLE"


def test_who_is_refused_for_the_page_stands_in_the_log(guarded: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    changed(guarded, Origin="https://evil.example")

    assert any("DELETE /train/ was refused (403)" in line and "evil.example" in line for line in caplog.messages)
