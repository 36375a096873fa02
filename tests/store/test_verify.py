"""Rows against files: every damage is told, what can be mended is mended, nothing else is touched."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import delete, insert, select, update

from lib.stages import Role, Standing
from lib.store import schema
from lib.store.images import ImageState
from lib.store.record import open_record
from lib.store.verify import repair, verify
from lib.task import Structure, Task
from scripts import verify_store
from tests.store.records import ONLY_SQLITE, Outside, put_image
from tests.store.stored import data_of, draft, files_in, store, train


@pytest.fixture
def whole(record):
    """A record with drafts, corrections, a withdrawal and two model versions."""
    train(record, b"weights 1", ("ct_018", 1))
    draft(record, "ct_017", 1, b"draft of 17")
    store(record, "ct_017", Role.EXPERT, b"mask of 17", "dr.kim")
    store(record, "ct_018", Role.ANNOTATOR, b"mask of 18", "lee")
    record.annotations.withdraw("ct_018", 1, "lee", Role.ANNOTATOR)
    train(record, b"weights 2", ("ct_017", 2))
    return record


def rows(record):
    with record.database.reading() as connection:
        return {table.name: connection.execute(select(table)).all() for table in schema.metadata.sorted_tables}


def mask_of(record, image_id, version):
    return record.masks.path(record.annotations.get(image_id, version).mask)


def write(record, *statements):
    with record.database.transaction() as connection:
        for statement in statements:
            connection.execute(statement)


def lose_a_mask(record):
    mask_of(record, "ct_017", 2).unlink()


def damage_a_mask(record):
    mask_of(record, "ct_017", 2).write_bytes(b"something else")


def cut_a_mask_off(record):
    mask_of(record, "ct_017", 2).write_bytes(b"mask")


def lose_weights(record):
    record.weights.path(record.models.get(1).weights).unlink()


def damage_weights(record):
    record.weights.path(record.models.get(2).weights).write_bytes(b"")


def leave_half_a_write(record):
    (mask_of(record, "ct_017", 2).parent / ".new-abc").write_bytes(b"half a mask")


def let_an_image_stand_elsewhere(record):
    write(record, update(schema.image).where(schema.image.c.id == "ct_017").values(standing="untouched", current=None))


def let_a_withdrawn_version_count(record):
    write(record, update(schema.image).where(schema.image.c.id == "ct_018").values(standing="waiting", current=1))


def miscount(record):
    write(record, update(schema.tally).values(images=schema.tally.c.images + 5))


def count_what_is_not_there(record):
    place = {"state": "hidden", "standing": "drafted", "split": ""}
    write(record, insert(schema.tally).values(task=record.task.name, images=3, **place))


def lose_a_version(record):
    column = schema.annotation.c
    write(record, delete(schema.annotation).where(column.image == "ct_017", column.version == 1))


DAMAGES = {
    lose_a_mask: (r"The mask file [0-9a-f]{64} is missing\. Restore it from a backup", False),
    damage_a_mask: (r"The mask file [0-9a-f]{64} is damaged\. Restore it from a backup", False),
    cut_a_mask_off: (r"The mask file [0-9a-f]{64} is damaged", False),
    lose_weights: (r"The weights file [0-9a-f]{64} is missing\. Restore it from a backup", False),
    damage_weights: (r"The weights file [0-9a-f]{64} is damaged", False),
    leave_half_a_write: (r"\.new-abc was left behind by an interrupted write", True),
    let_an_image_stand_elsewhere: (
        r"'ct_017': stands at untouched, version None; .*labelled.* 2",
        True,
    ),
    let_a_withdrawn_version_count: (
        r"'ct_018': stands at waiting, version 1; .*untouched.*None",
        True,
    ),
    miscount: (r"The running count says .*, the images are ", True),
    count_what_is_not_there: (r"The running count says .*hidden", True),
    lose_a_version: (r"'ct_017': its versions are \[2\], with gaps", False),
}


def test_a_whole_record_has_no_findings(whole):
    assert verify(whole) == []


def test_an_empty_record_has_no_findings(record):
    assert verify(record) == []


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damage_is_told_and_nothing_is_changed_by_looking(whole, damage):
    pattern, can_be_repaired = DAMAGES[damage]
    damage(whole)
    before = rows(whole), files_in(data_of(whole) / "masks"), files_in(data_of(whole) / "weights")

    found = verify(whole)

    matching = [finding for finding in found if re.search(pattern, finding.what)]
    assert len(matching) == 1, found
    assert matching[0].can_be_repaired is can_be_repaired
    assert (rows(whole), files_in(data_of(whole) / "masks"), files_in(data_of(whole) / "weights")) == before


@pytest.mark.parametrize(
    "damage", [d for d, (_, repairable) in DAMAGES.items() if repairable], ids=lambda d: d.__name__
)
def test_a_repair_mends_what_can_be_mended(whole, damage):
    masks = files_in(data_of(whole) / "masks")
    before = {image.id: (image.standing, image.current) for image in whole.images.every(ImageState.OK)}
    damage(whole)

    found = repair(whole)

    assert found and all(finding.can_be_repaired for finding in found)
    assert verify(whole) == []
    assert files_in(data_of(whole) / "masks") == masks
    assert {image.id: (image.standing, image.current) for image in whole.images.every(ImageState.OK)} == before


@pytest.mark.parametrize("damage", [lose_a_mask, damage_a_mask, lose_weights, lose_a_version], ids=lambda d: d.__name__)
def test_a_repair_leaves_what_only_a_backup_brings_back(whole, damage):
    damage(whole)
    before = rows(whole)["annotation"], files_in(data_of(whole) / "masks"), files_in(data_of(whole) / "weights")

    repair(whole)

    assert any(not finding.can_be_repaired for finding in verify(whole))
    after = rows(whole)["annotation"], files_in(data_of(whole) / "masks"), files_in(data_of(whole) / "weights")
    assert after == before


def test_several_damages_are_told_at_once(whole):
    for damage in (lose_a_mask, leave_half_a_write, miscount, let_a_withdrawn_version_count):
        damage(whole)

    assert [finding.can_be_repaired for finding in verify(whole)] == [False, True, True, True]
    assert [finding.can_be_repaired for finding in repair(whole)] == [False, True, True, True]
    (left,) = verify(whole)
    assert left.what.endswith("is missing. Restore it from a backup.")


def test_a_server_that_writes_meanwhile_is_no_damage(whole, monkeypatch):
    outside, counts = Outside(whole), whole.images.counts

    def counts_before_a_write():
        found = counts()
        outside.images.set_state("ct_019", ImageState.HIDDEN)
        return found

    monkeypatch.setattr(whole.images, "counts", counts_before_a_write)

    assert verify(whole) == []


def test_a_mask_that_two_versions_share_is_told_once(whole):
    store(whole, "ct_019", Role.EXPERT, b"mask of 17")
    lose_a_mask(whole)

    assert len(verify(whole)) == 1


def test_an_image_that_is_labelled_stands_so_after_a_repair(whole):
    let_an_image_stand_elsewhere(whole)
    repair(whole)

    assert (whole.images.get("ct_017").standing, whole.images.get("ct_017").current) == (Standing.LABELLED, 2)


def test_the_masks_of_another_task_in_the_same_database_are_not_missed_here(whole, tmp_path):
    other = open_record(
        Task("liver", "", (Structure("liver", 1, (1, 2, 3)),)),
        tmp_path / "other",
        whole.database.engine.url.render_as_string(hide_password=False),
    )
    put_image(other, "ct_500")
    store(other, "ct_500", Role.EXPERT, b"mask of another task", looked_at=("liver",), voxels={"liver": 1})

    assert verify(whole) == []
    assert verify(other) == []
    repair(whole)
    assert verify(other) == []


@ONLY_SQLITE
@pytest.mark.parametrize(
    ("damages", "options", "said", "code"),
    [
        ([], [], "All rows and files agree.", 0),
        ([miscount], [], "1 found, 1 left.", 1),
        ([miscount], ["--repair"], "repaired: The running count", 0),
        ([miscount, lose_a_mask], ["--repair"], "2 found, 1 left.", 1),
    ],
)
def test_the_command_says_what_it_found_and_ends_accordingly(whole, capsys, damages, options, said, code):
    for damage in damages:
        damage(whole)

    with pytest.raises(SystemExit) as ended:
        verify_store.main(["--data", str(data_of(whole)), *options])

    assert ended.value.code == code
    assert said in capsys.readouterr().out


def test_a_folder_without_a_record_is_told(tmp_path):
    with pytest.raises(SystemExit, match=r"holds no record\. Name the folder that the server prints"):
        verify_store.main(["--data", str(tmp_path)])

    assert list(tmp_path.iterdir()) == []
