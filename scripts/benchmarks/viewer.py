"""What a viewer asks a DICOMweb server for when somebody opens a study, timed."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

PARALLEL = 6
"""Requests that a browser sends to one host at once."""

PAGE = 100
"""Studies or series of one page."""

FRAMES = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
INSTANCES = 'multipart/related; type="application/dicom"; transfer-syntax=*'
METADATA = "application/dicom+json"

KINDS = (
    "first image: series, metadata, one frame (ms)", "frames one by one (ms each)",
    f"frames, {PARALLEL} at once (ms each)", "metadata of a series (ms)", "whole series (ms)",
    f"first page of {PAGE} studies (ms)", f"first page of {PAGE} series (ms)", f"last page of {PAGE} series (ms)",
)  # fmt: skip
"""What is timed, in this order."""


@dataclass(frozen=True)
class Study:
    """A study of one series; ``instances`` in the order of their numbers."""

    study_uid: str
    series_uid: str
    instances: tuple[str, ...]

    @property
    def address(self) -> str:
        """Of the series."""
        return f"/studies/{self.study_uid}/series/{self.series_uid}"


class Viewer:
    """Asks one server."""

    def __init__(self, port: int, root: str, series: int) -> None:
        """Asks nothing yet.

        Args:
            port: of the server, here.
            root: where DICOMweb begins.
            series: how many there are to search in.
        """
        self.port = port
        self.root = root
        self.series = series

    def opened(self, study: Study) -> dict[str, float]:
        """Milliseconds of each of ``KINDS``; the study was not opened before."""
        frames = [f"{study.address}/instances/{uid}/frames/1" for uid in study.instances]
        asked: tuple[Callable[[], float], ...] = (
            lambda: self._timed(lambda: self._first_image(study)),
            lambda: self._timed(lambda: [self._ask(frame, FRAMES) for frame in frames]) / len(frames),
            lambda: self._at_once(frames),
            lambda: self._timed(lambda: self._ask(f"{study.address}/metadata", METADATA)),
            lambda: self._timed(lambda: self._ask(study.address, INSTANCES)),
            lambda: self._timed(lambda: self._page("/studies", 0)),
            lambda: self._timed(lambda: self._page("/series", 0)),
            lambda: self._timed(lambda: self._page("/series", self.series - PAGE)),
        )
        return {kind: one() for kind, one in zip(KINDS, asked, strict=True)}

    def _first_image(self, study: Study) -> None:
        self._json(f"/studies/{study.study_uid}/series?includefield=all")
        told = self._json(f"{study.address}/metadata")
        by_number = sorted(told, key=lambda one: one["00200013"]["Value"][0])
        self._ask(f"{study.address}/instances/{by_number[0]['00080018']['Value'][0]}/frames/1", FRAMES)

    def _at_once(self, addresses: list[str]) -> float:
        def some(number: int) -> None:
            connection = self._connected()
            for address in addresses[number::PARALLEL]:
                self._ask(address, FRAMES, connection)

        with ThreadPoolExecutor(PARALLEL) as threads:
            return self._timed(lambda: list(threads.map(some, range(PARALLEL)))) / len(addresses)

    def _page(self, path: str, offset: int) -> None:
        found = self._json(f"{path}?limit={PAGE}&offset={offset}")
        if len(found) != PAGE:
            raise RuntimeError(f"{path} from {offset} on gave {len(found)} results, wanted are {PAGE}.")

    def _timed(self, ask: Callable[[], Any]) -> float:
        # Servers close connections that were idle.
        self._connection = self._connected()
        begin = time.perf_counter()
        ask()
        return 1000 * (time.perf_counter() - begin)

    def _json(self, path: str) -> Any:
        return json.loads(self._ask(path, METADATA))

    def _connected(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def _ask(self, path: str, accept: str, connection: http.client.HTTPConnection | None = None) -> bytes:
        asked = connection or self._connection
        asked.request("GET", self.root + path, headers={"Accept": accept})
        reply = asked.getresponse()
        content = reply.read()
        if reply.status != 200:
            raise RuntimeError(f"{path}: {reply.status} {content[:300]!r}")
        return content
