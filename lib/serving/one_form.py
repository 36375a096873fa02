"""Texts of clients in one Unicode form: what is one sign on one keyboard is two on another, and names one thing."""

from __future__ import annotations

from unicodedata import is_normalized, normalize
from urllib.parse import parse_qsl, urlencode

from starlette.types import Scope


def nfc(text: str) -> str:
    """A text in the form in which ids and names are kept (NFC)."""
    return normalize("NFC", text)


def in_one_form(scope: Scope) -> Scope:
    """A request whose path and query are in that form, whatever the client wrote."""
    path, query = nfc(scope["path"]), scope["query_string"]
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True) if b"%" in query else []
    # Else it stays as it was written, byte by byte.
    if not all(is_normalized("NFC", text) for pair in pairs for text in pair):
        query = urlencode([(nfc(name), nfc(text)) for name, text in pairs]).encode()
    return {**scope, "path": path, "query_string": query}
