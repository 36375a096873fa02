"""The two viewers: their files, how long browsers keep them, and the settings that the server gives them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lib.serving import viewer
from lib.serving.routes.ohif import ASKED, KEPT, STATIC
from lib.serving.viewer import of_monailabel
from tests.serving.conftest import Here

HASHED_SCRIPT = "app.bundle.096daabbdde29bd851ab.js"
WASM = "17dd54813d5acc10bf8f.wasm"


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fetched viewer of a few small files."""
    folder = tmp_path / "environment" / "ohif"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("OHIF 3.12")
    (folder / HASHED_SCRIPT).write_text("1")
    (folder / "app.bundle.css").write_text("a{}")
    (folder / "assets" / "icon.png").write_bytes(b"\x89PNG")
    (folder / WASM).write_bytes(b"\0asm")
    (folder.parent / "secret.txt").write_text("secret")
    monkeypatch.setattr(viewer, "FETCHED", folder)
    return folder


@pytest.fixture
def not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer, "FETCHED", tmp_path / "nowhere")


def settings(here: Here, address: str) -> dict[str, Any]:
    """What the server tells the script that follows."""
    reply = here.client.get(f"{address}app-config.js")
    assert reply.headers["content-type"].startswith("text/javascript")
    assert reply.headers["cache-control"] == ASKED
    first, _, script = reply.text.partition("\n")
    assert script == (STATIC / "ohif-config.js").read_text(encoding="utf-8")
    told: dict[str, Any] = json.loads(first.removeprefix("const server = ").removesuffix(";"))
    return told


@pytest.mark.parametrize("path", ["", "segmentation", "viewer/", "a/deep/page", "assets"])
def test_every_page_of_the_viewer_is_its_index(here: Here, build: Path, path: str) -> None:
    reply = here.client.get(f"/ohif/{path}?StudyInstanceUIDs=1.2.3")

    assert (reply.status_code, reply.text) == (200, "OHIF 3.12")
    assert reply.headers["cache-control"] == ASKED


@pytest.mark.parametrize(
    ("path", "kind", "kept"),
    [
        (HASHED_SCRIPT, "text/javascript", KEPT),
        (WASM, "application/wasm", KEPT),
        ("app.bundle.css", "text/css", ASKED),
        ("assets/icon.png", "image/png", ASKED),
    ],
)
def test_a_file_with_a_digest_in_its_name_is_kept_by_browsers(
    here: Here, build: Path, path: str, kind: str, kept: str
) -> None:
    reply = here.client.get(f"/ohif/{path}")

    assert reply.content == (build / path).read_bytes()
    assert reply.headers["content-type"].partition(";")[0] == kind
    assert reply.headers["cache-control"] == kept


def test_an_unchanged_file_is_not_sent_again(here: Here, build: Path) -> None:
    first = here.client.get("/ohif/app.bundle.css")

    assert here.client.get("/ohif/app.bundle.css", headers={"If-None-Match": first.headers["etag"]}).status_code == 304


@pytest.mark.parametrize(
    "path", ["missing.js", "assets/missing.png", "ort/ort.wasm", "..%2fsecret.txt", "..%5c..%5csecret"]
)
def test_a_missing_file_is_told_and_not_replaced_by_a_page(here: Here, build: Path, path: str) -> None:
    reply = here.client.get(f"/ohif/{path}")

    assert reply.status_code == 404
    assert "The viewer has no file" in reply.json()["detail"]


@pytest.mark.parametrize("path", ["..%2f..%2fsecret", "%2e%2e/%2e%2e/etc/passwd", "/etc/passwd", "a%00b", "x" * 5000])
def test_a_way_out_of_the_viewers_folder_ends_at_its_index_page(here: Here, build: Path, path: str) -> None:
    reply = here.client.get(f"/ohif/{path}")

    assert (reply.status_code, reply.text) == (200, "OHIF 3.12")


def test_without_the_fetched_viewer_the_one_of_monailabel_shows_the_studies(here: Here, not_fetched: None) -> None:
    reply = here.client.get("/ohif/viewer")

    assert reply.content == (of_monailabel().folder / "index.html").read_bytes()
    told = settings(here, "/ohif/")
    assert (told["canStore"], told["bar"]) == (False, None)


def test_monailabels_viewer_is_fitted_to_its_own_address(here: Here) -> None:
    original = of_monailabel().folder
    (app,) = original.glob("app.bundle.*.js")

    page = here.client.get("/ohif-monai/").text
    script = here.client.get(f"/ohif-monai/{app.name}")

    assert f'src="/ohif-monai/{app.name}"' in page and "PUBLIC_URL = '/ohif-monai/'" in page
    assert '"/ohif/' not in page
    assert '__webpack_require__.p = "/ohif-monai/"' in script.text
    assert script.headers["content-type"].partition(";")[0] == "text/javascript"
    assert script.headers["cache-control"] == KEPT
    nested = next(path for path in sorted(original.glob("assets/*.png")))
    assert here.client.get(f"/ohif-monai/assets/{nested.name}").content == nested.read_bytes()


def test_the_settings_say_where_the_studies_are_and_what_the_viewer_can(here: Here, build: Path) -> None:
    assert settings(here, "/ohif/") == {
        "address": "/ohif/", "dicomweb": "/dicomweb", "signIn": False, "canStore": True, "bar": "/ohif-bar/bar",
    }  # fmt: skip
    monai = settings(here, "/ohif-monai/")
    assert (monai["address"], monai["canStore"], monai["bar"]) == ("/ohif-monai/", False, None)


def test_the_viewer_is_told_that_people_sign_in(open_app: Callable[..., Here], build: Path) -> None:
    here = open_app(auth="tokens")

    assert settings(here, "/ohif/")["signIn"] is True


def test_the_settings_name_no_other_host() -> None:
    script = (STATIC / "ohif-config.js").read_text(encoding="utf-8")

    assert "http:" not in script and "https:" not in script


def test_the_scripts_of_the_bar_are_served_with_all_that_they_import(here: Here) -> None:
    known = {path.name: path for path in (STATIC / "bar").iterdir()}
    imported = {name for path in known.values() for name in re.findall(r"from '\./([^']+)'", path.read_text())}

    assert imported < set(known) and {"bar.js", "bar.css"} == set(known) - imported
    for name, path in known.items():
        reply = here.client.get(f"/ohif-bar/{name}")
        assert reply.content == path.read_bytes()
        kind = reply.headers["content-type"].partition(";")[0]
        assert (kind, reply.headers["cache-control"]) == (
            f"text/{'css' if path.suffix == '.css' else 'javascript'}",
            ASKED,
        )


@pytest.mark.parametrize("name", ["none.js", "..%2Fohif-config.js", "bar.js%00", "BAR.JS"])
def test_the_bar_has_no_other_files(here: Here, name: str) -> None:
    reply = here.client.get(f"/ohif-bar/{name}")

    assert reply.status_code == 404
