"""Digests: kept for the file that was digested, offered for what is gone."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from lib.stages import Role
from lib.store import schema
from lib.store.contents import Contents, Lost, digest_of
from lib.store.images import ImageState
from tests.store.records import Outside, add, put_file, put_image

DIGEST = "cd" * 32


def outside(record):
    return Contents(Outside(record).images, "studies")


def forget_files(record):
    with record.database.transaction() as connection:
        connection.execute(schema.file.delete())


@pytest.fixture
def contents(record):
    return Contents(record.images, "studies")


def test_what_is_not_digested_is_listed_until_it_is_and_what_people_worked_on_first(record, contents):
    seen = {image_id: put_file(record, image_id) for image_id in ("ct_017", "ct_018", "ct_019")}
    add(record, "ct_019", Role.EXPERT)
    assert contents.unknown() == [(image_id, seen[image_id]) for image_id in ("ct_019", "ct_017", "ct_018")]

    contents.note([("ct_019", seen["ct_019"], DIGEST)])

    assert [image_id for image_id, _ in outside(record).unknown()] == ["ct_017", "ct_018"]


@pytest.mark.parametrize(
    ("state", "listed"),
    [("hidden", True), ("erased", True), ("quarantined", False), ("no_image", False)],
)
def test_what_gave_no_image_is_not_digested(record, contents, state, listed):
    put_file(record, "ct_017")
    record.images.set_state("ct_017", ImageState(state))

    assert bool(contents.unknown()) is listed


@pytest.mark.parametrize("change", [{"size": 8}, {"modified_ns": 2}, {"inode": 2}, {"path": "other.nii"}])
def test_a_digest_of_a_file_that_has_changed_since_is_dropped(record, contents, change):
    seen = put_file(record, "ct_017")

    contents.note([("ct_017", replace(seen, **change), DIGEST)])

    assert outside(record).unknown() == [("ct_017", seen)]


def test_images_whose_files_are_gone_are_lost_with_size_and_digest(record, contents):
    for image_id, size in (("ct_017", 7), ("ct_018", 7), ("ct_019", 9)):
        contents.note([(image_id, put_file(record, image_id, size), DIGEST)])
    assert outside(record).lost() == {}
    add(record, "ct_018", Role.EXPERT)

    forget_files(record)
    for image_id in ("ct_017", "ct_018", "ct_019"):
        record.images.set_state(image_id, ImageState.QUARANTINED, "gone")

    assert outside(record).lost() == {7: [Lost("ct_018", DIGEST), Lost("ct_017", DIGEST)], 9: [Lost("ct_019", DIGEST)]}


def test_an_image_that_is_read_again_has_no_digest(record, contents):
    contents.note([("ct_017", put_file(record, "ct_017"), DIGEST)])

    put_image(record, "ct_017")

    assert [image_id for image_id, _ in outside(record).unknown()] == ["ct_017"]


def test_a_digest_is_the_sha_256_of_the_bytes_and_none_of_what_cannot_be_read(tmp_path):
    (tmp_path / "a").write_bytes(b"voxels")

    assert digest_of(tmp_path / "a") == hashlib.sha256(b"voxels").hexdigest()
    assert digest_of(tmp_path / "missing") is None
