"""The clients of ``bench_load``: what they ask, and how long each kind of request took."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

WEIGHTS = {
    "frame": 168, "metadata": 20, "next": 28, "infer": 10, "save": 10, "list": 9, "seg": 3, "search": 5, "info": 4,
    "queue": 4,
    "home": 4, "metrics": 4, "image": 1,
}  # fmt: skip
"""How often each kind of request is made, by the way people work: mostly they leaf through slices."""

PATIENCE_S = 120.0


@dataclass(frozen=True)
class Case:
    """An image, as clients know it.

    Attributes:
        image: its id.
        study, series: its UIDs.
        instances: SOPInstanceUIDs of its slices.
        masks: a mask file, the form in which it is saved, for each of some different masks.
    """

    image: str
    study: str
    series: str
    instances: tuple[str, ...]
    masks: tuple[bytes, ...]


@dataclass
class Times:
    """Seconds of all answered requests, and what failed, by kind."""

    spent: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def rows(self) -> dict[str, dict[str, float | int]]:
        """By kind: how many, and milliseconds."""
        return {kind: row(self.spent[kind], len(self.errors[kind])) for kind in {**self.spent, **self.errors}}


def row(seconds: Sequence[float], errors: int = 0) -> dict[str, float | int]:
    """The figures of one kind of request."""
    from scripts.benchmarks.common import percentile

    shares = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99, "max_ms": 1.0}
    figures = {name: round(1000 * percentile(seconds, share), 1) for name, share in shares.items()}
    return {"n": len(seconds), **figures, "errors": errors}


MULTIPART = "multipart/form-data; boundary=load-4f1d"


def mask_form(content: bytes) -> bytes:
    """The body of a request that saves a mask."""
    head = b'--load-4f1d\r\nContent-Disposition: form-data; name="label"; filename="mask.nii.gz"\r\n\r\n'
    return head + content + b"\r\n--load-4f1d--\r\n"


class Client:
    """One client with a connection of its own."""

    def __init__(self, port: int, times: Times) -> None:
        self._port = port
        self._times = times
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)

    def ask(self, kind: str, method: str, path: str, body: bytes | None = None, media_type: str = "") -> bytes:
        """Asks once and notes how long it took; what fails is noted too."""
        begin = time.perf_counter()
        try:
            self._connection.request(method, path, body, {"Content-Type": media_type} if media_type else {})
            reply = self._connection.getresponse()
            content = reply.read()
        except (OSError, http.client.HTTPException) as error:
            self._times.errors[kind].append(repr(error)[:200])
            self._connection.close()
            return b""
        if reply.status != 200:
            self._times.errors[kind].append(f"{reply.status} {content[:200]!r}")
        self._times.spent[kind].append(time.perf_counter() - begin)
        return content

    def save(self, case: Case, mask: bytes, kind: str = "save") -> None:
        """Saves a mask of an image."""
        self.ask(kind, "PUT", f"/datastore/label?image={quote(case.image)}", mask_form(mask), MULTIPART)

    def infer(self, case: Case, kind: str = "infer") -> None:
        """Asks for a draft."""
        self.ask(kind, "POST", f"/infer/segmentation?image={quote(case.image)}&output=json")

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()


def _frame(client: Client, case: Case, chance: random.Random) -> None:
    instance = chance.choice(case.instances)
    address = f"/dicomweb/studies/{case.study}/series/{case.series}/instances/{instance}/frames/1"
    client.ask("frame", "GET", address)


def _metadata(client: Client, case: Case, chance: random.Random) -> None:
    client.ask("metadata", "GET", f"/dicomweb/studies/{case.study}/metadata")


def _next(client: Client, case: Case, chance: random.Random) -> None:
    body = json.dumps({"client_id": f"person {chance.randrange(16)}"}).encode()
    client.ask("next", "POST", "/activelearning/random", body, "application/json")


def _infer(client: Client, case: Case, chance: random.Random) -> None:
    client.infer(case)


def _save(client: Client, case: Case, chance: random.Random) -> None:
    client.save(case, chance.choice(case.masks))


def _getting(kind: str, path: str) -> Callable[[Client, Case, random.Random], None]:
    def get(client: Client, case: Case, chance: random.Random) -> None:
        client.ask(kind, "GET", path.format(image=quote(case.image)))

    return get


ASKS: Mapping[str, Callable[[Client, Case, random.Random], None]] = {
    "frame": _frame,
    "metadata": _metadata,
    "next": _next,
    "infer": _infer,
    "save": _save,
    "list": _getting("list", "/datastore/?output=all"),
    "seg": _getting("seg", "/annotations/latest?image={image}&format=seg"),
    "search": _getting("search", "/dicomweb/studies?limit=50"),
    "info": _getting("info", "/info/"),
    "queue": _getting("queue", "/queue"),
    "home": _getting("home", "/"),
    "metrics": _getting("metrics", "/metrics"),
    "image": _getting("image", "/datastore/image?image={image}"),
}
"""How each kind of request is made."""


def work(port: int, cases: Sequence[Case], clients: int, seconds: float, seed: int) -> Times:
    """So many clients work at once for so long, each as fast as it is answered."""
    times, until = Times(), time.monotonic() + seconds
    kinds, weights = zip(*WEIGHTS.items(), strict=True)

    def one(number: int) -> None:
        chance, client = random.Random(f"{seed} {number}"), Client(port, times)
        while time.monotonic() < until:
            case = chance.choice(cases)
            ASKS[chance.choices(kinds, weights)[0]](client, case, chance)
        client.close()

    together(one, clients)
    return times


def burst(port: int, cases: Sequence[Case], chance: random.Random) -> list[float]:
    """Seconds of each save when a mask of every case is saved at once; errors count as infinite."""
    times = Times()
    ready = threading.Barrier(len(cases))

    def one(number: int) -> None:
        client, mask = Client(port, times), masks[number]
        ready.wait()
        client.save(cases[number], mask)
        client.close()

    masks = [chance.choice(case.masks) for case in cases]
    together(one, len(cases))
    return times.spent["save"] + [float("inf")] * (len(cases) - len(times.spent["save"]))


def alone(port: int, cases: Sequence[Case], rounds: int, chance: random.Random) -> Times:
    """One client saves and asks for drafts that nobody has made yet, with nobody else about."""
    times = Times()
    client = Client(port, times)
    for number in range(rounds):
        client.infer(cases[number % len(cases)])
        client.save(cases[number % len(cases)], chance.choice(cases[number % len(cases)].masks))
    client.close()
    return times


def together(act: Callable[[int], None], count: int) -> None:
    """Runs it in so many threads at once and waits for all."""
    threads = [threading.Thread(target=act, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def cases_of(port: int, masks: Mapping[str, tuple[bytes, ...]]) -> list[Case]:
    """The cases of a server, as its viewers see them, by the images for which there are masks."""
    client = Client(port, Times())
    found = []
    for image, made in masks.items():
        opened = _listed(client, image)
        found.append(Case(image, *opened, made))
    client.close()
    return found


def _listed(client: Client, image: str) -> tuple[str, str, tuple[str, ...]]:
    """Study, series and instances of an image."""
    location = _location(client, image)
    study, series = location["StudyInstanceUIDs"], location["initialSeriesInstanceUID"]
    listed: list[dict[str, Any]] = json.loads(
        client.ask("", "GET", f"/dicomweb/studies/{study}/series/{series}/metadata")
    )
    return study, series, tuple(entry["00080018"]["Value"][0] for entry in listed)


def _location(client: Client, image: str) -> dict[str, str]:
    from urllib.parse import parse_qsl, urlsplit

    connection = client._connection
    connection.request("GET", f"/open?image={quote(image)}")
    reply = connection.getresponse()
    reply.read()
    return dict(parse_qsl(urlsplit(reply.headers["location"]).query))
