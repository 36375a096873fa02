"""Files of a build of OHIF name the address that they are served at."""

from __future__ import annotations

import pytest

from lib.serving.viewer import at_address


@pytest.mark.parametrize(
    ("name", "text", "fitted"),
    [
        ("index.html", '<script src="/app.js">', '<script src="/ohif/app.js">'),
        ("index.html", '<link href="/app.css"><meta content="/tile.png">',
         '<link href="/ohif/app.css"><meta content="/ohif/tile.png">'),
        ("index.html", "window.PUBLIC_URL = '/';", "window.PUBLIC_URL = '/ohif/';"),
        ("app.bundle.js", '__webpack_require__.p = "/";', '__webpack_require__.p = "/ohif/";'),
        ("app.bundle.css", "src:url(/font.woff2)", "src:url(/ohif/font.woff2)"),
        ("manifest.json", '"src": "/assets/icon.png"', '"src": "/ohif/assets/icon.png"'),
    ],
)  # fmt: skip
def test_an_address_is_put_before_each_path(name: str, text: str, fitted: str) -> None:
    assert at_address(name, text, "/", "/ohif/") == fitted


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("index.html", '<meta content="width=device-width"> <a href="https://ohif.org/">'),
        ("app.bundle.js", 'const path = "/";'),
        ("app.bundle.css", "url(data:image/png) url(https://elsewhere.example/font)"),
        ("LICENSE.txt", 'src="/'),
    ],
)
def test_other_text_stays(name: str, text: str) -> None:
    assert at_address(name, text, "/", "/ohif/") == text


def test_a_build_for_one_folder_is_fitted_to_another() -> None:
    text = "window.PUBLIC_URL = '/ohif/';</script><script src=\"/ohif/app.js\"></script>"

    fitted = "window.PUBLIC_URL = '/ohif-monai/';</script><script src=\"/ohif-monai/app.js\"></script>"
    assert at_address("index.html", text, "/ohif/", "/ohif-monai/") == fitted
