"""No browser takes for a page of ours what a server of studies sends."""

from __future__ import annotations

import pytest

from lib.serving.passed_on import SANDBOX, headers_of_passed


@pytest.mark.parametrize(
    ("sent", "passed"),
    [
        ("image/png", "image/png"),
        ("IMAGE/JPEG", "image/jpeg"),
        ("application/dicom; transfer-syntax=1.2.840", 'application/dicom; transfer-syntax="1.2.840"'),
        ('multipart/related; type="application/dicom"; boundary="a b"', 'multipart/related; type="application/dicom"'),
        ("multipart/related; type=application/octet-stream; boundary=a-b:1; start=<x>",
         'multipart/related; type="application/octet-stream"; boundary="a-b:1"'),
        ("text/plain; charset=utf-8", 'text/plain; charset="utf-8"'),
        ("image/png; x=<script>", "image/png"),
    ],
)  # fmt: skip
def test_what_images_come_as_is_passed_on_in_our_own_words(sent: str, passed: str) -> None:
    assert headers_of_passed(sent) == {"Content-Type": passed, "Content-Security-Policy": SANDBOX}


@pytest.mark.parametrize(
    "sent",
    ["text/html", "TEXT/HTML; charset=utf-8", "image/svg+xml", "application/xhtml+xml", "text/xml", "application/xml",
     "application/dicom+xml", "text/javascript", "application/javascript", "text/css", "image/png, text/html",
     "text/html, image/png", "image/png\ttext/html", "multipart/x-mixed-replace; boundary=x", "multipart/form-data",
     "message/rfc822", "application/x-shockwave-flash", "application/pdf", "text/vtt", "*/*", "image/*", "", "x",
     "application/wasm", "text/cache-manifest", "image/png\x00", "application/octet-stream+html"],
)  # fmt: skip
def test_everything_else_is_a_file_to_be_kept(sent: str) -> None:
    assert headers_of_passed(sent) == {
        "Content-Type": "application/octet-stream",
        "Content-Disposition": "attachment",
        "Content-Security-Policy": SANDBOX,
    }
