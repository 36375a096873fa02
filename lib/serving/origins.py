"""Whose pages may use the server through somebody's browser."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from lib.errors import ForeignHost, ForeignOrigin
from lib.serving.hosts import is_loopback

READING = ("GET", "HEAD", "OPTIONS", "TRACE")
"""Methods that change nothing (RFC 9110 section 9.2.1)."""

PORTS = {"http": 80, "https": 443}

OWN = ("same-origin", "none")
"""What ``Sec-Fetch-Site`` says of a request that a page of this server, or the person at the browser, has sent."""

Origin = tuple[str, str, int]
"""Scheme, host and port."""


def refuse_other_machines(headers: Headers, allowed: Sequence[str]) -> None:
    """Without sign-in, no web page of another host may use the server through somebody's browser.

    Raises:
        ForeignHost: if the request came under another name than this machine's own.
        ForeignOrigin: if a page of another host sent it.
    """
    host, origin = _hostname(f"//{headers.get('host', '')}"), headers.get("origin")
    if not is_loopback(host):
        raise ForeignHost(f"This server answers to localhost and 127.0.0.1 only, found Host {host!r}.")
    if origin is not None and not is_loopback(_hostname(origin)) and origin not in allowed:
        raise ForeignOrigin(f"Requests from pages of {origin} are refused.")


def refuse_other_pages(method: str, headers: Headers, allowed: Sequence[str]) -> None:
    """With sign-in, nothing is changed for a page elsewhere: a proxy may have added the person's token by a cookie.

    Browsers say of each such request which page sent it: by ``Sec-Fetch-Site`` where the connection is encrypted, by
    ``Origin`` always. No page can change what they say. Programs say neither, and no page speaks through them.

    Args:
        method: of the request; one that only reads may be sent by any page, which cannot see the reply.
        headers: of the request.
        allowed: origins of pages elsewhere that may use the server.

    Raises:
        ForeignOrigin: if another page sent it.

    Reference:
        Fetch Metadata Request Headers, https://www.w3.org/TR/fetch-metadata/
    """
    if method in READING:
        return
    origins, sites = headers.getlist("origin"), headers.getlist("sec-fetch-site")
    page = _origin(origins[0]) if len(origins) == 1 else None
    if page is not None and page in map(_origin, allowed):
        return
    # The browser knows better than the header Host, which a proxy may have changed.
    if sites and all(site in OWN for site in sites):
        return
    if not sites and (not origins or (page is not None and page == _own(headers, page[0]))):
        return
    raise ForeignOrigin(
        f"Only pages of this server may change anything here; this came from {_told(origins, sites)}, to the host "
        f"{headers.get('host', '')!r}. Behind a proxy, let that pass on the header Host as it came; name a page "
        "elsewhere by --conf origins."
    )


def _told(origins: list[str], sites: list[str]) -> str:
    said = [f"the page {', '.join(origins)!r}"] if origins else []
    return " and ".join([*said, *(f"Sec-Fetch-Site {site!r}" for site in sites)])


def _own(headers: Headers, scheme: str) -> Origin | None:
    """The origin of this server's pages as the browser knows it; whether it is encrypted only the page tells."""
    hosts = headers.getlist("host")
    return _origin(f"{scheme}://{hosts[0]}") if len(hosts) == 1 else None


def _origin(text: str) -> Origin | None:
    """An origin (RFC 6454), with the port in any case; ``None`` for ``null`` and whatever else is none."""
    if not re.fullmatch(r"https?://[^\s/?#@\\,]+", text, re.IGNORECASE):
        return None
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    scheme = parts.scheme.lower()
    return (scheme, _plain(host), PORTS[scheme] if port is None else port) if host else None


def _plain(host: str) -> str:
    """A name without the dot at its end, or an address in its shortest form."""
    try:
        return ip_address(host).compressed
    except ValueError:
        return host.lower().removesuffix(".")


def _hostname(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
