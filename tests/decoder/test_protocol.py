"""Voxels that the decoder reads are written once, where whoever asked can have them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lib.decoder.protocol import SharedRoom, array_of, shared
from lib.volume import Array

SHAPE = (5, 4, 3)
DRAWN = np.arange(60, dtype=np.int16)


def filled(values: Array = DRAWN) -> SharedRoom:
    room = SharedRoom(values.size, values.dtype)
    for at in (40, 0, 20):
        room.put(at, values[at : at + 20])
    return room


def given(values: Array) -> tuple[Array, bool]:
    """What the one who asked gets of an array, and whether it lies where the array lay."""
    about, file = shared(values)
    try:
        room: Any = values
        while isinstance(room, np.ndarray):
            room = room.base
        memory = getattr(getattr(room, "obj", room), "file", None)
        is_same = memory is not None and os.fstat(memory.number).st_ino == os.fstat(file).st_ino
        return array_of(about, file), is_same
    finally:
        os.close(file)


@pytest.mark.parametrize(
    "seen",
    [lambda flat: flat, lambda flat: flat.reshape(SHAPE, order="F"), lambda flat: flat.reshape(SHAPE),
     lambda flat: flat.reshape(SHAPE, order="F")[None], lambda flat: flat.reshape(SHAPE, order="F").T],
    ids=["flat", "F", "C", "layer", "turned"],
)  # fmt: skip
def test_the_whole_of_a_room_is_given_away_without_a_copy(seen: Callable[[Array], Array]) -> None:
    found, is_same = given(seen(filled().whole()))

    assert is_same and (found == seen(DRAWN)).all() and found.shape == seen(DRAWN).shape


@pytest.mark.parametrize(
    "seen",
    [lambda flat: flat[:59], lambda flat: flat[::-1], lambda flat: flat.astype(np.int32),
     lambda flat: flat.reshape(SHAPE, order="F")[:, ::-1], lambda flat: flat.reshape(5, 2, 6).transpose(1, 0, 2)],
    ids=["part", "backwards", "other type", "flipped", "axes mixed"],
)  # fmt: skip
def test_anything_else_is_copied(seen: Callable[[Array], Array]) -> None:
    found, is_same = given(seen(filled().whole()))

    assert not is_same and (found == seen(DRAWN)).all()


def test_what_was_given_away_no_longer_changes_and_outlives_the_room() -> None:
    room = filled()
    values = room.whole()
    about, file = shared(values)

    with pytest.raises(PermissionError):
        room.put(0, DRAWN[:1])
    with pytest.raises(ValueError, match=r"read-only"):
        values[0] = 1
    del room, values
    found = array_of(about, file)
    os.close(file)
    found[0] = 7
    assert found[0] == 7 and (found[1:] == DRAWN[1:]).all()


def test_a_room_without_voxels_is_empty_and_one_that_is_dropped_leaves_no_open_file() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        filled()
        filled().whole()
    assert SharedRoom(0, np.dtype(np.uint8)).whole().size == 0
    assert len(os.listdir("/proc/self/fd")) == before
