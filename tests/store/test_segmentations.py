"""DICOM segmentations as they came: found by their UIDs, kept, checked, copied and erased with the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from lib.stages import Role
from lib.store.backup import back_up
from lib.store.erase import erase_patient
from lib.store.listings import Listing
from lib.store.record import Record, open_existing
from lib.store.segmentations import StoredSegmentation
from lib.store.verify import verify
from tests.store.records import add, put_image
from tests.store.stored import data_of


def kept(record: Record, image_id: str, uid: str, content: bytes = b"object") -> StoredSegmentation:
    """An object and the annotation that it became."""
    digest = record.segmentations.files.put(content)
    version = add(record, image_id, Role.EXPERT).version
    made = StoredSegmentation(uid, f"{uid}.1", image_id, version, digest)
    record.segmentations.add(made)
    return made


def test_an_object_is_found_by_its_uid_and_by_its_image(record: Record) -> None:
    put_image(record, "a")
    first, second = kept(record, "a", "1.1"), kept(record, "a", "1.2")

    assert record.segmentations.find("1.2") == second
    assert record.segmentations.find("1.3") is None
    assert record.segmentations.of_image("a") == [first, second]
    assert record.segmentations.files.get(first.content) == b"object"


def test_one_uid_is_stored_once(record: Record) -> None:
    put_image(record, "a")
    made = kept(record, "a", "1.1")

    with pytest.raises(IntegrityError, match=r"UNIQUE|unique"):
        record.segmentations.add(made)


def test_a_file_that_a_row_names_is_not_deleted(record: Record) -> None:
    put_image(record, "a")
    made, unused = kept(record, "a", "1.1"), record.segmentations.files.put(b"refused")

    assert record.segmentations.delete_unused([made.content, unused]) == 1
    assert record.segmentations.files.get(made.content) == b"object"


def test_erasing_a_patient_takes_objects_and_names(record: Record) -> None:
    put_image(record, "a", "ann")
    put_image(record, "b", "bob")
    gone, stays = kept(record, "a", "1.1", b"of ann"), kept(record, "b", "1.2", b"of bob")
    record.listings.put("a", Listing("a", "1", "2", "", "", "ann", "ann", "", "CT", 1, {}))
    cached = data_of(record) / "cache" / "a-99-dicom"
    cached.mkdir(parents=True)
    (cached / "0000.dcm").write_bytes(b"pixels")

    assert erase_patient(record, data_of(record), ["ann"]).files == 1

    assert record.segmentations.every() == [stays]
    assert not record.segmentations.files.path(gone.content).exists()
    assert record.segmentations.files.path(stays.content).exists()
    assert record.listings.of_study("1") == [] and not cached.exists()


def test_a_backup_holds_objects_and_no_names(record: Record, tmp_path: Path) -> None:
    put_image(record, "a")
    made = kept(record, "a", "1.1")
    record.listings.put("a", Listing("a", "1", "2", "", "", "ann", "ann", "", "CT", 1, {}))

    back_up(record, data_of(record), tmp_path / "copy")

    copy = open_existing(tmp_path / "copy")
    assert copy.segmentations.find("1.1") == made
    assert copy.segmentations.files.get(made.content) == b"object"
    assert copy.listings.of_study("1") == [] and "a" in copy.listings.missing(10)


def test_a_lost_object_is_told(record: Record) -> None:
    put_image(record, "a")
    made = kept(record, "a", "1.1")
    record.segmentations.files.path(made.content).unlink()

    found = [finding.what for finding in verify(record)]

    assert f"The segmentation file {made.content} is missing. Restore it from a backup." in found
