"""What a killed process was writing of an image does not outlive the next start."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from pathlib import Path

from lib.serving.made_once import unfinished
from tests.serving.conftest import Here
from tests.store.stored import files_in


def write_and_hang(data: Path, begun: Path) -> None:
    """Writes half of something for a viewer, and never ends."""
    with unfinished(data / "cache" / "0a1b-dicom", data / "tmp") as folder:
        folder.mkdir()
        (folder / "0000.dcm").write_bytes(b"pixels of ann")
        begun.touch()
        signal.pause()


def test_what_a_killed_process_was_writing_is_gone_after_the_next_start(
    open_app: Callable[..., Here], tmp_path: Path
) -> None:
    first = open_app()
    first.app.record.close()
    begun = tmp_path / "begun"
    process = multiprocessing.get_context("spawn").Process(target=write_and_hang, args=(first.data, begun))
    process.start()
    for _ in range(600):
        process.join(0.1)
        if begun.exists() or not process.is_alive():
            break
    process.kill()
    process.join()
    assert b"pixels of ann" in files_in(first.data).values()

    open_app(images=0)

    assert b"pixels of ann" not in files_in(first.data).values()


def test_weights_whose_process_was_killed_before_their_row_are_gone_after_the_next_start(
    open_app: Callable[..., Here], weights: bytes
) -> None:
    first = open_app()
    first.put_weights(weights)
    lost = first.app.record.weights.put(b"of a training that was killed")
    first.app.record.close()

    second = open_app(images=0)

    assert not second.app.record.weights.path(lost).exists()
    assert second.app.record.weights.get(second.app.record.models.every()[0].weights) == weights
