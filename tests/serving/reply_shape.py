"""What of a server's reply a client can rely on: status, headers, and the shape of its body.

A shape is what JSON types alone can say, in plain JSON itself:

- a string names a type (``str int float bool null list map``), ``=word`` a value that is part of the contract, and
  ``int|null`` alternatives;
- a list holds the shape of its first element, or nothing if it was empty;
- a map gives each key its shape; ``{"*": shape}`` is a map whose keys are free (ids, names), and ``key?`` is a key
  that is not always there; a key that is a value chosen by the caller stands as its placeholder.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping
from email.message import Message
from email.parser import BytesParser
from functools import reduce
from typing import Any, Protocol

Shape = str | list[Any] | dict[str, Any]

# Maps below these keys have names of models, labels, tags, strategies, images or transforms as keys.
FREE_MAPS = frozenset(
    "models trainers strategies scoring train_stats label_tags objects labels config label_names strategy "
    "centroids pre post metrics".split()
)
# Words that clients compare with, at these keys.
LITERALS = frozenset("status tag label_tag type detail".split())
# At these keys the value that the caller chose comes back.
ECHOES = frozenset("image label session_id name client_id method model".split())
# There or not depending on the moment: a task's process adds it when it starts.
SOMETIMES = frozenset(["gpus"])
KEPT_HEADERS = ("last-modified", "etag", "accept-ranges", "allow")


class Response(Protocol):
    """The part of an httpx or TestClient response that is looked at here."""

    @property
    def status_code(self) -> int:
        """HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Header names (any case) and values."""

    @property
    def content(self) -> bytes:
        """The whole body."""


def shape_of(value: Any, known: Mapping[str, str] | None = None, key: str = "") -> Shape:
    """Shape of a JSON value; ``known`` maps values that the caller chose to the placeholders they stand for."""
    known = known or {}
    if isinstance(value, dict):
        return _shape_of_map(value, known, key)
    if isinstance(value, list):
        return [shape_of(value[0], known)] if value else []
    if isinstance(value, str):
        if key in LITERALS:
            return "=" + (with_placeholders(value, known) if key == "detail" else value)
        return f"={known[value]}" if key in ECHOES and value in known else "str"
    return "null" if value is None else type(value).__name__


def _shape_of_map(value: dict[str, Any], known: Mapping[str, str], key: str) -> Shape:
    # A model's own statistics stand below the key that elsewhere holds those of all models by name.
    if key in FREE_MAPS and "total_epochs" not in value:
        shapes = [shape_of(each, known) for each in value.values()]
        return {"*": reduce(either, shapes)} if shapes else {}
    return {
        known.get(name, f"{name}?" if name in SOMETIMES else name): shape_of(each, known, name)
        for name, each in sorted(value.items())
    }


def either(first: Shape, second: Shape) -> Shape:
    """The shape that both shapes fit."""
    if first == second:
        return first
    if isinstance(first, dict) and isinstance(second, dict):
        return _either_map(first, second)
    if isinstance(first, list) and isinstance(second, list):
        return [reduce(either, first + second)]
    return "|".join(sorted({*_kind(first).split("|"), *_kind(second).split("|")}))


def _either_map(first: dict[str, Any], second: dict[str, Any]) -> Shape:
    one = {name.rstrip("?"): shape for name, shape in first.items()}
    two = {name.rstrip("?"): shape for name, shape in second.items()}
    optional = {name.rstrip("?") for name in (*first, *second) if name.endswith("?")} | (one.keys() ^ two.keys())
    joined: dict[str, Any] = {}
    for name in sorted(one.keys() | two.keys()):
        shape = either(one[name], two[name]) if name in one and name in two else one.get(name, two.get(name))
        joined[f"{name}?" if name in optional and name != "*" else name] = shape
    return joined


def _kind(shape: Shape) -> str:
    return shape if isinstance(shape, str) else "map" if isinstance(shape, dict) else "list"


def differences(wanted: Shape, found: Shape, where: str = "") -> list[str]:
    """What a client of the ``wanted`` shape would stumble over in the ``found`` one; empty if nothing.

    An empty list or free map fits any other, a whole number fits where a float is wanted, and a key with ``?`` on
    either side may be missing on the other.
    """
    if isinstance(wanted, dict) and isinstance(found, dict):
        return _map_differences(wanted, found, where)
    if isinstance(wanted, list) and isinstance(found, list):
        return differences(wanted[0], found[0], f"{where}[0]") if wanted and found else []
    accepted = set(_kind(wanted).split("|"))
    if "float" in accepted:
        accepted.add("int")
    surplus = sorted(set(_kind(found).split("|")) - accepted)
    return [f"{where or '/'}: {_kind(wanted)} wanted, {'|'.join(surplus)} found"] if surplus else []


def _map_differences(wanted: dict[str, Any], found: dict[str, Any], where: str) -> list[str]:
    if "*" in wanted or "*" in found:
        both = "*" in wanted and "*" in found
        named = next((each for each in (wanted, found) if each and "*" not in each), None)
        if both:
            return differences(wanted["*"], found["*"], f"{where}/*")
        return [f"{where or '/'}: free keys on one side, {sorted(named)} on the other"] if named else []
    names = {name.rstrip("?"): name for name in wanted}
    got = {name.rstrip("?"): name for name in found}
    said = [f"{where}/{name}: missing" for name, full in names.items() if name not in got and not full.endswith("?")]
    said += [f"{where}/{n}: not in the contract" for n, full in got.items() if n not in names and full[-1:] != "?"]
    for name in names.keys() & got.keys():
        said += differences(wanted[names[name]], found[got[name]], f"{where}/{name}")
    return sorted(said)


def with_placeholders(text: str, known: Mapping[str, str]) -> str:
    """The text with the values that the caller chose replaced by their placeholders, the longest first."""
    for value in sorted(known, key=len, reverse=True):
        text = text.replace(value, known[value])
    return text


def file_name_pattern(name: str, known: Mapping[str, str]) -> str:
    """A file name as a pattern: a temporary file's random part becomes ``*``."""
    return re.sub(r"^tmp[a-z0-9_]{8}(?=\.|$)", "*", with_placeholders(name, known))


def described(response: Response, known: Mapping[str, str], sent: Mapping[str, bytes]) -> dict[str, Any]:
    """One reply without its free values; a body that equals a file in ``sent`` is told by that file's name."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    content_type = headers.get("content-type", "")
    reply: dict[str, Any] = {
        "status": response.status_code,
        "content_type": re.sub(r"; ?boundary=.*", "", content_type),
        "headers": sorted(name for name in KEPT_HEADERS if name in headers),
    }
    if "content-disposition" in headers:
        reply["disposition"] = _disposition(headers["content-disposition"], known)
    reply["body"] = _described_body(content_type, response.content, known, sent)
    if reply["body"]["kind"] == "file" and reply.get("disposition", {}).get("filename", "").endswith(".zip"):
        reply["body"] = {"kind": "zip", "members": _members(response.content, known)}
    return reply


def _disposition(text: str, known: Mapping[str, str]) -> dict[str, Any]:
    message = Message()
    message["content-disposition"] = text
    return {
        "kind": message.get_content_disposition(),
        "filename": file_name_pattern(message.get_filename() or "", known),
        "spelling": "filename*=" if "filename*=" in text else "filename=",
    }


def _described_body(
    content_type: str, content: bytes, known: Mapping[str, str], sent: Mapping[str, bytes]
) -> dict[str, Any]:
    if not content:
        return {"kind": "empty"}
    if content_type.startswith("application/json"):
        body = json.loads(content)
        if isinstance(body, dict) and "openapi" in body:
            return {"kind": "openapi", "routes": _routes(body)}
        return {"kind": "json", "shape": shape_of(body, known)}
    if content_type.startswith("multipart/"):
        return {"kind": "multipart", "parts": _parts(content_type, content, known)}
    if content_type.startswith("text/html"):
        return {"kind": "page"}
    if content_type.startswith("text/"):
        text = content.decode()
        return {"kind": "text"} | ({"text": text} if text == "Internal Server Error" else {})
    same = [name for name, each in sent.items() if each == content]
    return {"kind": "file"} | ({"equals": same[0]} if same else {})


def _routes(openapi: dict[str, Any]) -> list[str]:
    return sorted(f"{method.upper()} {path}" for path, methods in openapi["paths"].items() for method in methods)


def _parts(content_type: str, content: bytes, known: Mapping[str, str]) -> list[dict[str, Any]]:
    message = BytesParser().parsebytes(b"content-type: " + content_type.encode() + b"\r\n\r\n" + content)
    parts = []
    for part in message.walk():
        if part.is_multipart():
            continue
        name, filename = part.get_param("name", header="content-disposition"), part.get_filename()
        each: dict[str, Any] = {"name": name, "content_type": part.get_content_type()}
        if filename is not None:
            each["filename"] = file_name_pattern(filename, known)
        if each["content_type"] == "application/json":
            each["shape"] = shape_of(json.loads(str(part.get_payload())), known)
        parts.append(each)
    return parts


def _members(content: bytes, known: Mapping[str, str]) -> list[str]:
    # Which images come first is up to the server.
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return sorted(re.sub(r"{image_\d}", "{image}", with_placeholders(name, known)) for name in archive.namelist())
