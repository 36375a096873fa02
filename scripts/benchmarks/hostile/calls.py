"""The odd request of a number: route and role in turn, values that no client would send, half bodies, odd headers."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from scripts.benchmarks.hostile.reach import EXTREME, Chance

ROLES = ("nobody", "garbage", "viewer", "annotator", "expert", "admin", "ticket")
"""Who asks; the ticket is an annotator's."""

PUBLIC = re.compile(
    r"/|/docs|/annotators|/openapi\.json|/favicon\.ico|/ohif(-monai|-bar)?(/.*)?|/health/\w+|/auth/(token)?|/open"
)
"""What nobody has to sign in for."""


@dataclass(frozen=True)
class Route:
    """What can be asked.

    Attributes:
        method: of HTTP.
        path: with the names of its parts in braces.
        query: names of its parameters.
        body: ``form``, ``json``, ``parts`` or empty.
        fields: of a form.
        files: fields of a form that are files.
    """

    method: str
    path: str
    query: tuple[str, ...] = ()
    body: str = ""
    fields: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


HIDDEN = (
    Route("PUT", "/datastore/", ("image",), "form", ("params",), ("file",)),
    Route("DELETE", "/datastore/", ("id",)),
    Route("PUT", "/datastore/updatelabelinfo", ("label", "tag"), "form", ("params",)),
    Route("POST", "/train/", ("run_sync",), "json"),
    Route("POST", "/scoring/", ("run_sync",), "json"),
    Route("GET", "/", ("offset",)),
    Route("GET", "/docs"),
    Route("GET", "/openapi.json"),
    Route("GET", "/annotators"),
    Route("GET", "/favicon.ico"),
    Route("GET", "/queue/", ("role", "offset", "limit")),
    Route("GET", "/ohif/{path}"),
    Route("GET", "/ohif-monai/{path}"),
    Route("GET", "/ohif-bar/bar.js"),
    Route("GET", "/dicomweb/studies/{study}/series/{series}/instances/{instance}/{more}"),
    Route("GET", "/dicomweb/studies/{study}/series/{series}/instances/{instance}/{more}/{deeper}"),
    Route("GET", "/{nothing}"),
    Route("OPTIONS", "/{nothing}"),
)
"""Routes that the description of the server leaves out."""


def routes_of(description: Mapping[str, Any]) -> list[Route]:
    """All routes, from the server's OpenAPI description and ``HIDDEN``."""
    found = [
        _route(method.upper(), path, operation, description)
        for path, operations in description["paths"].items()
        for method, operation in operations.items()
    ]
    return [*found, *HIDDEN]


def _route(method: str, path: str, operation: Mapping[str, Any], description: Mapping[str, Any]) -> Route:
    query = tuple(each["name"] for each in operation.get("parameters", ()) if each["in"] == "query")
    content = operation.get("requestBody", {}).get("content", {})
    kinds = {"multipart/form-data": "form", "application/x-www-form-urlencoded": "form", "application/json": "json",
             "multipart/related": "parts"}  # fmt: skip
    kind, body = next(((name, kinds[name]) for name in content if name in kinds), ("", ""))
    schema = content.get(kind, {}).get("schema", {})
    name = schema.get("$ref", "").rpartition("/")[2]
    properties = description.get("components", {}).get("schemas", {}).get(name, schema).get("properties", {})
    files = tuple(key for key, value in properties.items() if "binary" in str(value) or "octet-stream" in str(value))
    return Route(method, path, query, body, tuple(key for key in properties if key not in files), files)


@dataclass(frozen=True)
class Known:
    """What there is at the server, so that requests get far.

    Attributes:
        values: sound values by the name of a parameter.
        expendable: ids of images that may be deleted.
    """

    values: Mapping[str, Sequence[str]]
    expendable: Sequence[str] = ("nothing",)


@dataclass(frozen=True)
class Call:
    """A request to be sent.

    Attributes:
        number: by which it is drawn again.
        role: who asks.
        method: of HTTP.
        target: path and query as they stand in the first line.
        headers: name and value.
        body: its bytes.
        is_half: less comes than is promised, then the connection is closed.
    """

    number: int
    role: str
    method: str
    target: bytes
    headers: list[tuple[str, bytes]] = field(default_factory=list)
    body: bytes = b""
    is_half: bool = False

    def __str__(self) -> str:
        """``request 17 by viewer: GET /info/``, for messages."""
        body = f" {self.body[:60]!r}" if self.body else ""
        return f"request {self.number} by {self.role}: {self.method} {self.target[:200].decode('latin-1')}{body}"

    def encoded(self, authorization: bytes) -> bytes:
        """The bytes to be sent."""
        lines = [self.method.encode() + b" " + self.target + b" HTTP/1.1"]
        known = {name.lower() for name, _ in self.headers}
        if "host" not in known:
            lines.append(b"Host: 127.0.0.1")
        if authorization:
            lines.append(b"Authorization: " + authorization)
        if self.body and not known & {"content-length", "transfer-encoding"}:
            promised = len(self.body) * 2 + 10 if self.is_half else len(self.body)
            lines.append(b"Content-Length: %d" % promised)
        lines += [name.encode() + b": " + value for name, value in self.headers]
        return b"\r\n".join([*lines, b"Connection: close", b"", b""]) + self.body


ODD_TEXTS: tuple[str, ...] = (
    "", " ", "\0", "a\0b", "..", "../../bird.raw", "/etc/passwd", "%2e%2e%2f", "....//", "file:///etc/passwd", "*",
    "?", "*" * 2000,
    "*?" * 9 + "x", "*?*?*?*?*?*?*?*?*x", "?*" * 20, "*a" * 30, "(a+)+$", "[a", "[!]", "\\", "9" * 5000,
    "version_" + "9" * 4400,
    "version_1", "version_-1", "version_", "nan", "inf", "1e309", "0x10", "1_0", "٣", "true", "null", "{}", "[]",
    "\ud800",
    "e\u0301", "\u00e9", "\u202e", "\u2028", "\uffff", "\U0001f600", "a" * 300, "a" * 5000,
    "<script>alert(1)</script>", "' OR 1=1 --",
    "\r\nX: y", "\t", "a,b", "1,2,3", "1," * 500 + "1", "&", "=", "#", ";", "\x7f", "con", "x" * 7000, "__class__",
    "${7*7}", "{{7*7}}",
)  # fmt: skip


WILDCARDS = tuple(text for text in ODD_TEXTS if text and set(text) & set("*?["))

LIKELY: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("version", "lines", "refresh", "limit", "offset", "count", "limit_cases", "expiry"),
    tuple(map(str, EXTREME))),
    **dict.fromkeys(("PatientID", "PatientName", "SOPInstanceUID", "SeriesInstanceUID", "StudyDate", "StudyTime"),
    WILDCARDS),
    "tag": ("version_" + "9" * 4400, "version_99999999999999999999", "version_-1", "version_", "x" * 201, "\0"),
}  # fmt: skip
"""What goes wrong most likely where a number, a pattern or a tag is wanted."""


def _odd_text(name: str, chance: Chance) -> str:
    if name in LIKELY and chance.random() < 0.6:
        return chance.choice(LIKELY[name])
    if chance.random() < 0.35:
        return str(chance.choice(EXTREME))
    return chance.choice(ODD_TEXTS)


def _text(name: str, known: Known, chance: Chance, odd: float) -> str:
    """A value of a parameter: a sound one if there is one, else an odd one."""
    sound = known.values.get(name, ())
    return chance.choice(list(sound)) if sound and chance.random() >= odd else _odd_text(name, chance)


def _escaped(text: str) -> bytes:
    return quote(text.encode("utf-8", "surrogatepass"), safe="").encode()


def hostile_call(number: int, seed: int, routes: Sequence[Route], known: Known) -> Call:
    """The request of this number; all routes with all roles take turns."""
    chance = random.Random(f"{seed} request {number}")
    route, role = routes[number % len(routes)], ROLES[number // len(routes) % len(ROLES)]
    odd = chance.choice([0.0, 0.3, 0.3, 1.0])
    if route.method == "DELETE" and route.path.startswith("/datastore/") and "label" not in route.path:
        known = Known({**known.values, "id": known.expendable}, known.expendable)
    target = _target(route, known, chance, odd)
    headers = _headers(chance) if chance.random() < 0.25 else []
    body, kind = _body(route, known, chance, odd)
    if kind and "content-type" not in {name.lower() for name, _ in headers}:
        headers.append(("Content-Type", kind))
    method = (
        chance.choice(["PATCH", "HEAD", "OPTIONS", "TRACE", "PUT", "FOO"]) if chance.random() < 0.02 else route.method
    )
    is_half = (bool(body) and chance.random() < 0.03) or any(name in PROMISING for name, _ in headers)
    return Call(number, role, method, target, headers, body, is_half)


def _target(route: Route, known: Known, chance: Chance, odd: float) -> bytes:
    def part(found: re.Match[str]) -> str:
        text = _text(found[1], known, chance, odd)[:3000]
        return text if found[1] == "path" and "\0" not in text and text.isascii() else _escaped(text).decode()

    path = re.sub(r"\{(\w+)[^}]*\}", part, route.path)
    path = "".join(
        letter if 33 <= ord(letter) < 127 and letter not in "?#" else quote(letter.encode()) for letter in path
    )
    names = [name for name in route.query if chance.random() < 0.6 or name in ("image", "id", "label")]
    if chance.random() < 0.1:
        names += [chance.choice(["token", "client_id", "limit", "offset", "fuzzymatching", "x" * 500])] * chance.choice(
            [1, 50]
        )
    if "/dicomweb/" in path and chance.random() < 0.6:
        names += chance.sample(["PatientID", "PatientName", "StudyDate", "SOPInstanceUID", "SeriesInstanceUID",
        "limit", "offset",
                                "includefield", "ModalitiesInStudy", "00100010", "99999999", "StudyTime"],
                                2)  # fmt: skip
    pairs = [_escaped(name) + b"=" + _escaped(_text(name, known, chance, odd)) for name in names]
    query = b"&".join(pairs)[:60000]
    return path.encode() + (b"?" + query if query else b"")


ODD_HEADERS: tuple[tuple[str, tuple[bytes, ...]], ...] = (
    ("Range", (b"bytes=0-", b"bytes=-1", b"bytes=5-2", b"bytes=0-0," * 300 + b"0-0", b"bytes=99999999999999999999-",
    b"lines=1", b"\xff")),
    ("Accept", (b"*/*", b"", b"image/png", b"application/dicom", b"multipart/related; type=\"a", b"a/b;q=nan",
    b"," * 5000, b"\xff\xfe")),
    ("Content-Type", (b"", b"application/json", b"multipart/form-data", b"multipart/form-data; boundary=",
    b"text/plain",
                      b"multipart/related; boundary=" + b"x" * 300, b"application/json; charset=utf-7", b"\xff",
                      b"a" * 5000)),
    ("Host", (b"", b"evil.example", b"127.0.0.1:99999", b"[::1", b"a b", b"127.0.0.1, evil.example", b"\xff")),
    ("Origin", (b"null", b"http://evil.example", b"http://127.0.0.1@evil.example", b"http://[", b"")),
    ("Content-Length", (b"-1", b"0", b"1e3", b"99999999999999999999", b"5, 5", b"")),
    ("Transfer-Encoding", (b"chunked", b"gzip, chunked", b"x")),
    ("If-None-Match", (b"*", b"\"x\"", b"W/")),
    ("If-Range", (b"x", b"\xff")),
    ("Expect", (b"100-continue", b"x")),
    ("Cookie", (b"a=b;" * 1000, b"token=x")),
    ("X-Forwarded-For", (b"203.0.113.9", b"\xff", b"::1")),
    ("X-Forwarded-Proto", (b"https", b"javascript")),
    ("User-Agent", (b"x" * 5000, b"\xff", b"")),
    ("Sec-Fetch-Site", (b"cross-site",)),
    ("Upgrade", (b"websocket", b"h2c")),
)  # fmt: skip


PROMISING = ("Content-Length", "Transfer-Encoding", "Expect")
"""Headers that may promise more than comes."""


def _headers(chance: Chance) -> list[tuple[str, bytes]]:
    return [(name, chance.choice(values)) for name, values in chance.sample(ODD_HEADERS, chance.choice([1, 1, 2]))]


# Bodies.

KEYS = ("client_id", "label_info", "parent", "seconds", "structures", "version", "stages", "result_extension",
"result_compress",
        "max_epochs", "max_batch_size", "image", "model", "y", "y_pred", "note", "strategy", "annotator",
        "user")  # fmt: skip


def odd_json(chance: Chance) -> str:
    """JSON that is valid or nearly so."""
    depth = chance.choice([150, 250, 300, 300, 400, 900, 100_000])
    deep = ["[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth]
    odd = [
        "1e999", "NaN", "-Infinity", "9" * 5000, str(chance.choice(EXTREME)), '"\\ud800"', '"\\u0000"', "[]", "{}",
        "null", "true", '""', json.dumps("x" * 10**5),
        '"' + "\u202e" * 50 + '"', "-0.0", "1e-400",
        f'[{{"name": "Bright", "idx": {"9" * chance.choice([1, 20, 400, 5000])}}}]', '[{"name": [], "idx": {}}]',
        '["Bright"]', '["nothing"]',
        '[{"name": "Bright", "idx": 1e300}]', "[" + "0," * 50000 + "0]",
    ]  # fmt: skip
    value = chance.choice(deep if chance.random() < 0.25 else odd)
    key = json.dumps(chance.choice([*KEYS, "", "__proto__", "x" * 5000, "\ud800"]))
    return chance.choice([
        f"{{{key}: {value}}}", f"{{{key}: {value}}}", f"{{{key}: {value}}}", value, f"{{{key}: 1, {key}: {value}}}",
        "{", "",
        f"\ufeff{{{key}: {value}}}", f"{{{key}: {value}}} x",
    ])  # fmt: skip


def _json(route: Route, chance: Chance, odd: float) -> str:
    if chance.random() >= max(odd, 0.3):
        return chance.choice(['{"seconds": 1, "max_epochs": 1}', "{}", '{"client_id": "kim"}'])
    return odd_json(chance)


def _body(route: Route, known: Known, chance: Chance, odd: float) -> tuple[bytes, bytes]:
    """The body of a request and its Content-Type."""
    if not route.body:
        return (
            (odd_json(chance).encode("utf-8", "surrogatepass"), b"application/json")
            if chance.random() < 0.03
            else (b"", b"")
        )
    if route.body == "json":
        text = _json(route, chance, odd).encode("utf-8", "surrogatepass")
        return chance.choice(
            [text] * 8 + [text.decode("utf-8", "replace").encode("utf-16"), b"\xff\xfe\0"]
        ), b"application/json"
    if route.body == "parts":
        return _parts(chance), b'multipart/related; type="application/dicom"; boundary=xx'
    return _form(route, known, chance, odd)


def _parts(chance: Chance) -> bytes:
    part = chance.choice([b"", b"x", bytes(128) + b"DICM", b"\0" * 10**5])
    return chance.choice([
        b"--xx\r\nContent-Type: application/dicom\r\n\r\n" + part + b"\r\n--xx--\r\n",
        (b"--xx\r\n\r\n" + part[:10] + b"\r\n") * 1500 + b"--xx--",
        b"--xx\r\n" + b"X: y\r\n" * 5000 + b"\r\n\r\n--xx--",
        b"--xx\r\n\r\n" + part,
        b"--yy--",
        b"",
    ])  # fmt: skip


def _form(route: Route, known: Known, chance: Chance, odd: float) -> tuple[bytes, bytes]:
    parts = []
    for name in route.fields:
        if chance.random() < 0.8:
            text = _json(route, chance, odd) if name in ("params", "info") else _text(name, known, chance, odd)
            parts.append((f'name="{name}"', text.encode("utf-8", "surrogatepass")))
    for name in route.files:
        if chance.random() < 0.8:
            file = chance.choice(
                [
                    "x.nii.gz",
                    "x.nrrd",
                    "x.bin",
                    "../x.nii",
                    "",
                    "x" * 1000 + ".nii",
                    "\u202e.nii",
                    'a"b.nii',
                    "x.nii\0.exe",
                ]
            )
            parts.append((f'name="{name}"; filename="{file}"', chance.choice([b"", b"x", bytes(1000)])))
    if not route.files and chance.random() < 0.5:
        pairs = [
            _escaped(about.split('"')[1]) + b"=" + _escaped(text.decode("utf-8", "replace")) for about, text in parts
        ]
        return b"&".join(pairs), b"application/x-www-form-urlencoded"
    repeated = parts * (2000 if chance.random() < 0.02 else 1)
    body = b"".join(
        b"--xx\r\nContent-Disposition: form-data; "
        + about.encode("utf-8", "surrogatepass")
        + b"\r\n\r\n"
        + text
        + b"\r\n"
        for about, text in repeated
    )
    end = b"--xx--\r\n" if chance.random() < 0.95 else b""
    return body + end, b"multipart/form-data; boundary=xx"
