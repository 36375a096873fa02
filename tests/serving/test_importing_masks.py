"""Existing masks become annotations: each by itself, checked as a client's, and once."""

from __future__ import annotations

import numpy as np
import pytest

from lib.errors import SetupError, StorageFull
from lib.labels_folder import Meaning
from lib.serving.annotator import Annotator
from lib.serving.importing_masks import Fate, MaskFolder, import_masks
from lib.stages import Role, Stage
from lib.store.images import ImageKind, NewImage
from lib.volume import Volume, write_volume
from tests.store.records import GRID, Outside, add, put_image

MASK = np.zeros(GRID.shape, np.uint8)
MASK[1:3, 1, 0] = (1, 2)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "masks").mkdir()
    return tmp_path / "masks"


def put(folder, name, mask=MASK):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    write_volume(folder / name, Volume(mask.astype(np.uint8), GRID.affine))


def imported(record, folder, role=Role.EXPERT, author="dr.kim", **more):
    source = MaskFolder(folder, Annotator(author, role, "tests"), Meaning())
    return [(each.name, each.fate, each.note) for each in import_masks(record, source, **more)]


def test_a_mask_becomes_an_annotation_with_its_file_and_where_it_came_from(record, folder):
    put(folder, "ct_017.nii.gz")

    assert imported(record, folder) == [("ct_017", Fate.IMPORTED, "")]

    (annotation,) = Outside(record).annotations.history("ct_017")
    assert (annotation.stage, annotation.author, annotation.client) == (Stage.EXPERT, "dr.kim", "tests")
    assert annotation.voxels == {"anterior": 1, "posterior": 1}
    assert annotation.info == {"imported_from": ["ct_017.nii.gz"]}
    assert record.masks.path(annotation.mask).is_file()


def test_an_annotators_masks_wait_for_an_expert(record, folder):
    put(folder, "ct_017.nii.gz")

    imported(record, folder, Role.ANNOTATOR)

    assert Outside(record).versions("ct_017") == [(1, Stage.DRAFT, "dr.kim")]


def test_a_structure_without_a_file_was_not_looked_at(record, folder):
    put(folder, "ct_017/posterior.nii.gz", MASK == 2)

    imported(record, folder)

    (annotation,) = Outside(record).annotations.history("ct_017")
    assert (annotation.looked_at, annotation.voxels) == (("posterior",), {"posterior": 1})


def test_what_was_there_before_is_no_parent(record, folder):
    add(record, "ct_017", Role.MODEL, model_version=3)
    put(folder, "ct_017.nii.gz")

    imported(record, folder)

    second = Outside(record).annotations.get("ct_017", 2)
    assert (second.parent, second.model_version) == (None, None)


def test_a_second_import_adds_nothing(record, folder):
    put(folder, "ct_017.nii.gz")
    imported(record, folder)

    assert imported(record, folder) == [("ct_017", Fate.SKIPPED, "dr.kim has stored the same already")]
    assert len(Outside(record).annotations.history("ct_017")) == 1


def test_another_author_or_other_structures_or_a_withdrawal_is_no_repetition(record, folder):
    put(folder, "ct_017/anterior.nii.gz", MASK == 1)
    imported(record, folder)
    imported(record, folder, author="dr.lee")
    record.annotations.withdraw("ct_017", 1, "dr.kim", Role.EXPERT)
    imported(record, folder)
    put(folder, "ct_017/posterior.nii.gz", MASK == 9)

    assert imported(record, folder)[0][1] is Fate.IMPORTED
    assert [a.looked_at for a in Outside(record).annotations.history("ct_017") if a.mask] == [
        ("anterior",), ("anterior",), ("anterior",), ("anterior", "posterior"),
    ]  # fmt: skip


def test_one_bad_file_stops_nothing(record, folder):
    put_image(record, "ct_016", reason="it is cut off")
    put(folder, "ct_016.nii.gz")
    put(folder, "ct_017.nii.gz", np.ones((9, 9, 9), np.uint8))
    (folder / "ct_018.nii.gz").write_bytes(b"no mask")
    put(folder, "ct_019.nii.gz")
    put(folder, "ct_020.nii.gz")

    outcomes = imported(record, folder)

    assert [(name, fate) for name, fate, _ in outcomes] == [
        ("ct_016", Fate.REFUSED), ("ct_017", Fate.REFUSED), ("ct_018", Fate.REFUSED), ("ct_019", Fate.IMPORTED),
        ("ct_020.nii.gz", Fate.REFUSED),
    ]  # fmt: skip
    notes = [note for *_, note in outcomes]
    for note, wanted in zip(
        notes, ("it is cut off", "image as reference", "cannot be read", "", "no image"), strict=True
    ):
        assert wanted in note
    assert Outside(record).versions("ct_017") == []


def test_a_trial_finds_the_same_and_stores_nothing(record, folder):
    put(folder, "ct_017.nii.gz")
    put(folder, "ct_018/anterior.nii.gz", MASK)

    trial = imported(record, folder, is_trial=True)

    assert Outside(record).versions("ct_017") == []
    assert trial == imported(record, folder)


def test_a_series_is_found_by_its_folder_unless_two_share_it(record, folder):
    for uid, source in (("1.1", "a"), ("1.2", "b"), ("1.3", "b")):
        record.images.put(NewImage(uid, ImageKind.SERIES, source, GRID, "CT", uid))
    put(folder, "a.nii.gz")
    put(folder, "b.nii.gz")

    assert [(name, fate) for name, fate, _ in imported(record, folder)] == [
        ("1.1", Fate.IMPORTED), ("b.nii.gz", Fate.REFUSED),
    ]  # fmt: skip


def test_progress_is_told(record, folder):
    put(folder, "ct_017.nii.gz")
    put(folder, "ct_018.nii.gz")
    told = []

    imported(record, folder, report=lambda done, total: told.append((done, total)))

    assert told == [(1, 2), (2, 2)]


@pytest.mark.parametrize(("name", "message"), [("masks", "holds no mask. Wanted are IMAGE"), ("none", "is no folder")])
def test_a_folder_without_masks_is_refused(record, folder, name, message):
    with pytest.raises(SetupError, match=message):
        imported(record, folder.parent / name)


def test_a_full_disk_ends_the_import_and_keeps_what_is_stored(record, folder, monkeypatch):
    put(folder, "ct_017.nii.gz")
    put(folder, "ct_018.nii.gz", 2 * (MASK == 1))
    first = record.masks.put

    def full(content):
        if Outside(record).versions("ct_017"):
            raise StorageFull("The disk that holds masks is full.")
        return first(content)

    monkeypatch.setattr(record.masks, "put", full)

    with pytest.raises(StorageFull, match="is full"):
        imported(record, folder)
    assert [Outside(record).versions(name) for name in ("ct_017", "ct_018")] == [[(1, Stage.EXPERT, "dr.kim")], []]
