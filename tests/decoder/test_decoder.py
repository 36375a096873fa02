from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lib.decoder import client
from lib.decoder.client import Decoder
from lib.decoder.confinement import landlock_version
from lib.decoder.protocol import MOST_SHARING
from lib.errors import ComputationInterrupted, NoImage, UnknownStructure, UnreadableImage
from lib.opened import fence

needs_landlock = pytest.mark.skipif(not landlock_version(), reason="this kernel has no Landlock")


@pytest.fixture(scope="module")
def misbehaving() -> Iterator[Decoder]:
    decoder = Decoder("tests.decoder.misbehaving")
    yield decoder
    decoder.stop()


def test_files_come_to_the_reading_open_and_arrays_come_back(misbehaving, tmp_path):
    paths = [tmp_path / name for name in ("a.nii", "b.nii")]
    for path, text in zip(paths, (b"first", b"second"), strict=True):
        path.write_bytes(text)

    told, arrays = misbehaving.ask("content", paths, {})

    assert told == {"names": ["a.nii", "b.nii"]}
    assert [array.tobytes() for array in arrays] == [b"first", b"second"]


@pytest.mark.parametrize("values", [
    np.arange(24, dtype=np.int16).reshape(2, 3, 4),
    np.asfortranarray(np.arange(24, dtype=np.float32).reshape(2, 3, 4)),
    np.arange(24, dtype=">u2").reshape(2, 3, 4)[:, ::-1],
    np.zeros((0, 3), np.uint8),
    np.array(3.5),
], ids=["C", "Fortran", "turned, big endian", "empty", "one number"])  # fmt: skip
def test_arrays_of_any_form_arrive_as_they_are_and_may_be_written_to(misbehaving, values):
    _, (found,) = misbehaving.ask("doubled", [], {"values": values}, name="values")

    np.testing.assert_array_equal(found, values * 2)
    found[...] = 0


@needs_landlock
def test_a_reading_can_open_list_write_or_run_nothing(misbehaving, tmp_path):
    secret = tmp_path / "tickets.key"
    secret.write_bytes(b"secret")

    told, _ = misbehaving.ask("opens", [secret], {"path": str(secret)})

    assert set(told.values()) == {"PermissionError"}, told
    assert secret.read_bytes() == b"secret"


@needs_landlock
def test_a_reading_reaches_no_other_process(misbehaving):
    with socket.create_server(("127.0.0.1", 0)) as server:
        told, _ = misbehaving.ask("reaches", [], {"port": server.getsockname()[1], "starter": os.getpid()}, name="file")

    assert set(told.values()) == {"PermissionError"}, told


def test_a_reading_that_takes_too_much_memory_is_refused_and_the_next_one_goes_on(misbehaving, tmp_path):
    with pytest.raises(UnreadableImage, match=r"huge\.nii needs more memory than one file may take"):
        misbehaving.ask("takes_memory", [], {"bytes": 64 << 30}, name="huge.nii")

    assert misbehaving.ask("takes_memory", [], {"bytes": 1 << 20}, name="small.nii")[0] == {"sum": 10.0}


def test_a_file_that_ends_its_reader_is_unreadable(misbehaving):
    with pytest.raises(UnreadableImage, match=r"evil\.nii ended the process that read it"):
        misbehaving.ask("dies", [], {}, name="evil.nii")


def test_a_reading_that_does_not_end_is_ended(misbehaving, monkeypatch):
    monkeypatch.setattr(client, "SECONDS", 0.5)
    begin = time.monotonic()

    with pytest.raises(ComputationInterrupted, match=r"slow\.nii was not read within"):
        misbehaving.ask("runs_for_ever", [], {}, name="slow.nii")

    assert time.monotonic() - begin < 30
    assert len(_readers_of(misbehaving)) <= client.READY


def _readers_of(decoder: Decoder) -> list[int]:
    """Processes of readings, after a moment in which those that were ended are taken away; some wait for the next."""
    found: list[int] = []
    for _ in range(50):
        children = Path(f"/proc/{decoder._process.pid}/task/{decoder._process.pid}/children").read_text().split()
        found = [int(child) for child in children]
        if len(found) <= client.READY:
            break
        time.sleep(0.1)
    return found


def test_refusals_keep_their_kind_and_words(misbehaving):
    with pytest.raises(UnknownStructure, match=r"^no such structure$"):
        misbehaving.ask("refuses", [], {"kind": "UnknownStructure"}, name="mask")
    with pytest.raises(NoImage, match=r"^a report$") as found:
        misbehaving.ask("refuses", [], {"kind": "NoImage"}, name="mask")
    assert found.value.modality == "SR"
    with pytest.raises(UnreadableImage, match=r"mask cannot be read: KeyError\('odd'\)"):
        misbehaving.ask("refuses", [], {"kind": "other"}, name="mask")


ARRAY = {"shape": [8], "type": "|u1", "order": "C"}


@pytest.mark.parametrize(("answer", "with_memory"), [
    (b"no JSON", False),
    (b"[" * 100_000, False),
    (b"[1]", False),
    (json.dumps({"open": 7}).encode(), False),
    (json.dumps({"open": "x"}).encode(), False),
    (json.dumps({"done": {}, "arrays": []}).encode(), True),
    (json.dumps({"done": {}, "arrays": [ARRAY]}).encode(), False),
    (json.dumps({"done": {}, "arrays": [ARRAY]}).encode(), True),
    (json.dumps({"done": {}, "arrays": [{**ARRAY, "type": "|O8", "shape": [1]}]}).encode(), True),
    (json.dumps({"done": {}, "arrays": [{**ARRAY, "shape": [10**12]}]}).encode(), True),
    (json.dumps({"done": {}, "arrays": [{**ARRAY, "shape": [-1]}]}).encode(), True),
    (json.dumps({"done": {}, "arrays": [{**ARRAY, "order": "Z"}]}).encode(), True),
    (json.dumps({"done": [], "arrays": []}).encode(), False),
    (json.dumps({"refused": "SystemExit", "message": "x"}).encode(), False),
], ids=range(14))  # fmt: skip
def test_what_a_reading_that_was_taken_over_says_is_not_believed(misbehaving, answer, with_memory):
    with pytest.raises(UnreadableImage, match=r"mask cannot be read"):
        misbehaving.ask("lies", [], {"answer": answer, "with_memory": with_memory}, name="mask")


def test_a_file_that_cannot_be_opened_is_unreadable(misbehaving, tmp_path):
    with pytest.raises(UnreadableImage, match="No such file"):
        misbehaving.ask("content", [tmp_path / "gone.nii"], {})


def test_a_link_that_leads_out_of_a_fenced_folder_is_not_followed(misbehaving, tmp_path):
    secret, studies = tmp_path / "secret.nii", tmp_path / "studies"
    secret.write_bytes(b"secret")
    studies.mkdir()
    (studies / "link.nii").symlink_to(secret)
    fence(studies)

    with pytest.raises(UnreadableImage, match=r"link\.nii is a link, or lies behind one, that leads out"):
        misbehaving.ask("content", [studies / "link.nii"], {})


def test_many_ask_at_once(misbehaving, tmp_path):
    found = {}

    def ask(number: int) -> None:
        path = tmp_path / f"{number}.nii"
        path.write_bytes(b"%d" % number)
        found[number] = misbehaving.ask("content", [path], {})[1][0].tobytes()

    threads = [threading.Thread(target=ask, args=[number]) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == {number: b"%d" % number for number in range(40)}


def test_a_host_that_was_ended_is_started_again(tmp_path):
    decoder = Decoder("tests.decoder.misbehaving")
    path = tmp_path / "a.nii"
    path.write_bytes(b"a")
    decoder.ask("content", [path], {})
    os.kill(decoder._process.pid, signal.SIGKILL)
    decoder._process.wait()

    assert decoder.ask("content", [path], {})[1][0].tobytes() == b"a"
    decoder.stop()


def _ask_from_elsewhere(decoder: Decoder, path: Path, answers) -> None:
    _, arrays = decoder.ask("content", [path], {})
    answers.send(arrays[0].tobytes())


def test_another_process_asks_the_same_host(tmp_path):
    decoder = Decoder("tests.decoder.misbehaving")
    path = tmp_path / "a.nii"
    path.write_bytes(b"a")
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_ask_from_elsewhere, args=(decoder, path, theirs))
    process.start()
    theirs.close()

    assert ours.recv() == b"a"
    process.join()
    assert process.exitcode == 0
    decoder.stop()


def test_the_host_ends_when_nobody_can_ask_it_any_more():
    decoder = Decoder("tests.decoder.misbehaving")
    decoder.start()
    process, decoder._process = decoder._process, None
    decoder.stop()

    assert process.wait(timeout=10) == 0


def _processes(decoder: Decoder, reading: str, count: int, **arguments: bool) -> list[int]:
    return [decoder.ask(reading, [], arguments, name="a")[0]["process"] for _ in range(count)]


def test_each_reading_that_needs_a_decoder_in_c_has_a_process_of_its_own(misbehaving):
    found = _processes(misbehaving, "volume", 5)

    assert len(set(found)) == 5


def test_masks_share_a_process_for_a_while_and_with_nothing_else(misbehaving):
    masks = _processes(misbehaving, "mask", 3 * MOST_SHARING)

    assert 3 <= len(set(masks)) < len(masks)
    assert max(masks.count(process) for process in masks) <= MOST_SHARING
    assert not set(_processes(misbehaving, "volume", 3)) & set(masks)


def test_after_a_refusal_a_process_reads_no_more(misbehaving):
    (before,) = _processes(misbehaving, "mask", 1)
    with pytest.raises(UnknownStructure, match="refused"):
        _processes(misbehaving, "mask", 1, is_refused=True)

    assert before not in _processes(misbehaving, "mask", 2)
