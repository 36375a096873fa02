"""What a server of studies sends and this one passes on, so that no browser takes it for a page of ours."""

from __future__ import annotations

import re

from python_multipart.multipart import parse_options_header

PARTS = "multipart/related"

OCTETS = "application/octet-stream"

PASSED = (
    PARTS, OCTETS, "application/dicom", "application/dicom+json", "application/json", "text/plain", "image/jpeg",
    "image/png", "image/gif", "image/jp2", "image/jpx", "image/jls", "image/jphc", "image/jxl", "image/dicom-rle",
    "image/x-dicom-rle", "image/x-jls", "video/mpeg", "video/mp4", "video/mpeg2",
)  # fmt: skip
"""Media types that run nothing in a browser; HTML, SVG and all that is XML does."""

TOKEN, BOUNDARY, UID = r"[\w.+/*-]{1,80}", r"[\w'()+,./:=?-]{1,256}", r"[0-9.*]{1,64}"

OPTIONS = (("type", TOKEN), ("boundary", BOUNDARY), ("transfer-syntax", UID), ("charset", TOKEN))
"""Options of media types that are passed on."""

SANDBOX = "sandbox; default-src 'none'"


def headers_of_passed(content_type: str) -> dict[str, str]:
    """The headers with which something is passed on.

    The media type is written anew from what was understood of it: of a header that names several, browsers may take
    another one than we do.

    Args:
        content_type: header of the server's reply.
    """
    kind, options = parse_options_header(content_type)
    name = kind.decode("latin-1").lower()
    if name not in PASSED:
        return {"Content-Type": OCTETS, "Content-Disposition": "attachment", "Content-Security-Policy": SANDBOX}
    found = ((option, options.get(option.encode(), b"").decode("latin-1"), form) for option, form in OPTIONS)
    told = "".join(f'; {option}="{text}"' for option, text, form in found if re.fullmatch(form, text, re.ASCII))
    return {"Content-Type": f"{name}{told}", "Content-Security-Policy": SANDBOX}
