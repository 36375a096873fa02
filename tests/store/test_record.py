"""A mask and its row are stored together, or neither is."""

from __future__ import annotations

import threading

import pytest

from lib.errors import StageConflict, StorageFull
from lib.stages import Role
from tests.store.records import Outside, new
from tests.store.stored import data_of, files_in


class Crash(Exception):
    """Whatever goes wrong."""


def masks(record):
    return list(files_in(data_of(record) / "masks").values())


def test_a_mask_lies_on_the_disk_when_its_row_does(record):
    with record.storing_mask(b"mask") as digest:
        record.annotations.add(new("ct_017", Role.EXPERT, mask=digest))

    assert record.masks.get(Outside(record).annotations.get("ct_017", 1).mask) == b"mask"


def test_a_refused_row_leaves_no_file(record):
    with pytest.raises(StageConflict, match=r"no version 7 to correct"), record.storing_mask(b"mask") as digest:
        record.annotations.add(new("ct_017", Role.EXPERT, mask=digest, parent=7))

    assert masks(record) == []


def test_a_row_that_is_taken_back_at_the_end_leaves_no_file(record):
    with pytest.raises(Crash), record.storing_mask(b"mask") as digest:
        record.annotations.add(new("ct_017", Role.EXPERT, mask=digest))
        raise Crash

    assert masks(record) == []
    assert Outside(record).annotations.history("ct_017") == []


def test_a_refused_row_leaves_the_equal_mask_of_another(record):
    with record.storing_mask(b"empty") as digest:
        record.annotations.add(new("ct_017", Role.EXPERT, mask=digest))

    with pytest.raises(Crash), record.storing_mask(b"empty"):
        raise Crash

    assert masks(record) == [b"empty"]


def test_who_stores_an_equal_mask_while_another_is_refused_keeps_the_file(record):
    """The second finds the file of the first, which is deleted before the second has its turn to write."""
    refused, stored = threading.Event(), []

    def second():
        with record.storing_mask(b"empty") as digest:
            assert refused.is_set()
            stored.append(record.annotations.add(new("ct_018", Role.EXPERT, mask=digest)))

    waiting = threading.Thread(target=second)
    with pytest.raises(Crash), record.database.transaction():
        with record.storing_mask(b"empty"):
            waiting.start()
            refused.set()
            raise Crash
    waiting.join()

    assert masks(record) == [b"empty"]
    assert stored[0].mask is not None and record.masks.get(stored[0].mask) == b"empty"


def test_without_room_for_the_file_nothing_is_stored(record, monkeypatch):
    def full(content):
        raise StorageFull("The disk is full.")

    monkeypatch.setattr(record.masks, "put", full)

    with pytest.raises(StorageFull), record.storing_mask(b"mask"):
        raise AssertionError("the transaction began")


def test_the_reason_of_a_refusal_is_told_even_if_its_file_cannot_be_deleted(record, monkeypatch):
    def away(digests):
        raise OSError("read-only file system")

    monkeypatch.setattr(type(record), "delete_unused_masks", lambda self, digests: away(digests))

    with pytest.raises(Crash), record.storing_mask(b"mask"):
        raise Crash
    assert masks(record) == [b"mask"]


def test_only_masks_without_a_row_are_deleted_and_counted(record):
    with record.storing_mask(b"used") as used:
        record.annotations.add(new("ct_017", Role.EXPERT, mask=used))
    unused, gone = record.masks.put(b"unused"), "cd" * 32

    assert record.delete_unused_masks([used, unused, gone]) == 1
    assert masks(record) == [b"used"]
