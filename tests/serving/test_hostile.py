"""The short form of ``bench_hostile``: whatever comes, nothing outside is read and the server stays sound and small."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from scripts.benchmarks.hostile.attack import Attack
from scripts.benchmarks.hostile.calls import HIDDEN, Known, Route, hostile_call, routes_of
from scripts.benchmarks.hostile.canaries import MARK, Canaries, files_with_canary, holds_canary, line
from scripts.benchmarks.hostile.files import FORMATS, KINDS, Way, hostile_file, way_of
from scripts.benchmarks.hostile.foreign import ELSEWHERE, NAME_BYTES
from scripts.benchmarks.hostile.place import Place
from scripts.benchmarks.hostile.reach import Reach
from tests.serving.places import until

FILES, REQUESTS = range(7, 5_000, 31), range(3, 20_000, 61)
MOST_MIB = 2048

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with Place() as found:
        yield found


@pytest.fixture(scope="module")
def attack(place: Place) -> Attack:
    """A few hundred files and requests of the benchmark, and then a look at what is left."""
    made = Attack(place, seed=0)
    made.files(FILES, clients=2)
    made.requests(REQUESTS, clients=2)
    made.finish()
    return made


@pytest.mark.e2e
def test_no_file_and_no_request_is_a_server_error_a_way_out_or_a_step_up(attack: Attack) -> None:
    told = "\n".join(f"{each.replay} {each.what} ({each.about})" for each in attack.findings)
    assert not attack.findings, f"python -m scripts.benchmarks.bench_hostile --only NUMBER sends one again:\n{told}"


@pytest.mark.e2e
def test_hostile_messages_are_answered_and_some_are_taken_in(attack: Attack) -> None:
    assert attack.statuses["files"].total() == len(FILES)
    assert attack.statuses["requests"].total() == len(REQUESTS)
    assert {"200", "422"} <= set(attack.statuses["files"])
    assert {"200", "401", "403", "404", "422"} <= set(attack.statuses["requests"])


@pytest.mark.e2e
def test_a_server_outlives_hostile_messages_within_its_memory_and_agrees_with_its_record(attack: Attack) -> None:
    place = attack.place
    place.stop()

    assert place.restarts == []
    assert {name: peak for name, peak in place.seen.peak_mib.items() if peak > MOST_MIB} == {}
    assert "All rows and files agree." in place.command("scripts.verify_store")


# The attack itself: what it claims to send and to see.


@pytest.fixture
def reach(tmp_path: Path) -> Reach:
    return Reach(
        (tmp_path / "bird.raw",),
        tmp_path / "ran",
        (24, 20, 16),
        {kind: b"" for kind in ("ct", "mr", "mg", "seg", "rt")},
    )


WITHOUT_OBJECTS = [number for number in range(len(KINDS) * 3) if not KINDS[number % len(KINDS)][1].endswith(".dcm")]


def test_a_file_is_the_same_whenever_it_is_drawn(reach: Reach) -> None:
    for number in WITHOUT_OBJECTS[::9]:
        assert hostile_file(number, 0, reach) == hostile_file(number, 0, reach)
    assert hostile_file(WITHOUT_OBJECTS[0], 0, reach) != hostile_file(WITHOUT_OBJECTS[0], 1, reach)


def test_every_format_is_drawn_and_every_way_is_gone() -> None:
    assert {kind for _, kind in KINDS} == set(FORMATS)
    assert {way_of(number) for number in range(len(KINDS))} == set(Way)


def test_detached_headers_are_written_in_many_spellings_and_with_every_line_end(reach: Reach) -> None:
    numbers = [number for number in range(3000) if KINDS[number % len(KINDS)][1] in (".nrrd", ".seg.nrrd")]
    headers = [hostile_file(number, 0, reach).content[:2000] for number in numbers]

    found = {
        word
        for word in (b"data file", b"datafile", b"DATAFILE", b"Data File", b"LIST", b"%0")
        for header in headers
        if word in header
    }
    assert len(found) == 6
    assert any(b"\r" in header and b"\n" not in header for header in headers)
    assert any(b"\r\n" in header for header in headers)


def test_an_hdf5_file_with_external_voxels_is_what_it_claims(tmp_path: Path) -> None:
    outside, file = tmp_path / "outside.raw", tmp_path / "image.h5"
    outside.write_bytes(MARK * 1000)
    file.write_bytes(ELSEWHERE.replace(b"/" + b"X" * (NAME_BYTES - 1), str(outside).encode().rjust(NAME_BYTES, b"/")))

    assert sitk.GetArrayFromImage(sitk.ReadImage(str(file))).tobytes().startswith(MARK)


@pytest.fixture
def routes() -> list[Route]:
    operation = {"parameters": [{"name": "image", "in": "query"}, {"name": "number", "in": "path"}]}
    return routes_of({"paths": {"/things/{number}": {"get": operation, "put": operation}}})


def test_every_route_is_asked_by_everybody(routes: list[Route]) -> None:
    calls = [hostile_call(number, 0, routes, Known({})) for number in range(len(routes) * 7)]

    assert len(routes) == 2 + len(HIDDEN)
    assert len({call.role for call in calls}) == 7
    assert calls[5] == hostile_call(5, 0, routes, Known({}))


@pytest.mark.parametrize(
    "disguise",
    [
        bytes,
        lambda content: b"text " + content,
        lambda content: content[::-1],
        gzip.compress,
        lambda content: b"part\r\n" + gzip.compress(content),
        lambda content: np.frombuffer(content, np.uint8).astype("<i2").tobytes(),
        lambda content: (np.frombuffer(content, np.uint8).astype(">u2") + 1024).tobytes(),
        lambda content: b"x" + np.frombuffer(content, np.uint8).astype("<f4").tobytes(),
        lambda content: (np.frombuffer(content, np.uint8).astype("<f8") - 7).tobytes(),
        lambda content: ((np.frombuffer(content, np.uint8).astype(int) + 100) % 256).astype(np.uint8).tobytes(),
    ],
    ids=["plain", "inside", "reversed", "packed", "packed part", "int16", "shifted uint16", "float32", "float64",
    "wrapped"],
)  # fmt: skip
def test_a_canary_is_known_in_every_disguise(disguise) -> None:
    assert holds_canary(disguise(line("bird") * 4))


def test_what_is_no_canary_is_none() -> None:
    chance = np.random.default_rng(0)
    assert not holds_canary(chance.bytes(100_000))
    assert not holds_canary(bytes(100_000))
    assert not holds_canary(b"")
    assert not holds_canary(json.dumps({"image": "/tmp/elsewhere/bird.raw"}).encode())


def test_who_opens_a_canary_and_who_keeps_its_content_is_seen(tmp_path: Path) -> None:
    canaries = Canaries(tmp_path / "elsewhere", tmp_path / "site" / "data")
    canaries.data.mkdir(parents=True)
    canaries.write()
    kept = canaries.data / "cache" / "stolen"
    kept.parent.mkdir()

    with canaries.watched() as opened:
        kept.write_bytes(struct.pack("<I", 7) + canaries.files[0].read_bytes())
        until(lambda: opened, what="the notice of the open file")

    assert any(str(canaries.files[0]) in each for each in opened)
    assert files_with_canary(canaries.data, canaries) == [str(kept)]
