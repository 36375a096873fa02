"""A patient is taken out: pixels, masks and notes go, a tombstone stays, nobody else loses anything."""

from __future__ import annotations

import pytest

from lib.errors import UnknownImage
from lib.patients import PatientRule
from lib.stages import Role
from lib.store import erase, layout
from lib.store.erase import erase_patient
from lib.store.images import ImageState
from lib.store.indexer import Described, Indexer
from lib.store.listings import Listing
from lib.store.models import ModelState
from lib.store.verify import verify
from scripts import erase as command
from tests.store.records import GRID, ONLY_SQLITE, Outside, put_image
from tests.store.stored import data_of, draft, files_in, store, train


class Reader:
    """Takes every file for an image of the patient that its name begins with."""

    def describe_file(self, path, image_id):
        return Described(GRID, "MR", image_id.partition("_")[0])

    def describe_series(self, paths):
        raise NotImplementedError

    def id_of(self, relative):
        return relative.removesuffix(".nii")

    def patient_of(self, image_id):
        return image_id


@pytest.fixture
def studies(record, tmp_path):
    """A folder with two images of ann and one of bob, in the record."""
    folder = tmp_path / "studies"
    folder.mkdir()
    for name in ("ann_1.nii", "ann_2.nii", "bob_1.nii"):
        (folder / name).write_text(name)
    Indexer(record.images, "studies", folder, Reader()).look()
    return folder


@pytest.fixture
def labelled(record, studies):
    """The same with masks of everybody."""
    train(record, b"weights 1", ("bob_1", 1), state=ModelState.KEPT)
    train(record, b"weights 2", ("bob_1", 1), ("ann_1", 2))
    draft(record, "ann_1", 1, b"a draft of ann")
    store(record, "ann_1", Role.EXPERT, b"a mask of ann", "dr.kim", info={"comment": "Ann B., born 1960"})
    store(record, "ann_2", Role.EXPERT, b"an empty mask")
    store(record, "bob_1", Role.EXPERT, b"an empty mask")
    record.images.note("ann_1", {"comment": "Ann B."})
    return record


def masks_of(record):
    return set(files_in(data_of(record) / "masks").values())


def test_masks_go_from_the_disk_unless_another_patient_has_the_same(labelled):
    erased = erase_patient(labelled, data_of(labelled), ["ann"])

    assert masks_of(labelled) == {b"an empty mask"}
    assert (erased.images, erased.masks) == (["ann_1", "ann_2"], 2)
    assert labelled.masks.get(labelled.annotations.get("bob_1", 1).mask) == b"an empty mask"
    assert verify(labelled) == []


def test_a_tombstone_stays_and_says_nothing_about_the_person(labelled):
    erase_patient(labelled, data_of(labelled), ["ann"])

    stone = labelled.images.find("ann_1")
    assert (stone.state, stone.info, stone.grid) == (ImageState.ERASED, {}, None)
    assert [(a.version, a.mask, a.voxels, a.info) for a in labelled.annotations.history("ann_1")] == [
        (1, None, {}, {}),
        (2, None, {}, {}),
    ]
    with pytest.raises(UnknownImage, match=r"no image 'ann_1'"):
        labelled.images.get("ann_1")
    assert labelled.images.counts() == labelled.images.recounted()


def test_nothing_of_others_changes(labelled):
    def others():
        return (repr(labelled.images.get("bob_1")), labelled.annotations.history("bob_1"), labelled.models.every())

    before = others()

    erase_patient(labelled, data_of(labelled), ["ann"])

    assert others() == before


def test_the_model_versions_that_learned_from_the_patient_are_listed(labelled):
    assert erase_patient(labelled, data_of(labelled), ["ann"]).models == ["model:hippocampus@v2"]


def test_the_indexer_does_not_bring_the_patient_back(labelled, studies):
    erase_patient(labelled, data_of(labelled), ["ann"])
    indexer = Indexer(labelled.images, "studies", studies, Reader())

    indexer.look()
    (studies / "ann_2.nii").write_text("written anew by somebody")
    indexer.look()

    assert [image.id for image in labelled.images.every(ImageState.ERASED)] == ["ann_1", "ann_2"]
    assert "ann_1" not in labelled.images.ids() and "ann_2" not in labelled.images.ids()
    assert "ann_1" not in [i.id for i in labelled.images.candidates("dr.kim", Role.EXPERT, by_id=True)]


def test_not_even_under_another_name(labelled, studies):
    erase_patient(labelled, data_of(labelled), ["ann"])
    (studies / "ann_1.nii").rename(studies / "renamed.nii")
    Indexer(labelled.images, "studies", studies, Reader()).look()

    assert "renamed" not in labelled.images.ids()
    assert labelled.images.find("ann_1").state is ImageState.ERASED


def test_files_in_the_studies_are_listed_and_left_alone(labelled, studies):
    before = files_in(studies)

    assert erase_patient(labelled, data_of(labelled), ["ann"]).studies == ["ann_1.nii", "ann_2.nii"]
    assert files_in(studies) == before


def test_uploads_and_cached_volumes_are_deleted_and_no_others(record):
    data = data_of(record)
    for path in ("uploads/ann_3.nii", "uploads/bob_3.nii", "cache/1.2.3-99.nii.gz", "cache/1.2.34-99.nii.gz"):
        (data / path).parent.mkdir(exist_ok=True)
        (data / path).write_bytes(b"pixels")
    Indexer(record.images, "uploads", data / "uploads", Reader()).look()
    put_image(record, "1.2.3", "ann")
    put_image(record, "1.2.34", "bob")

    assert erase_patient(record, data, ["ann"]).files == 2
    assert sorted(files_in(data / "uploads")) == ["bob_3.nii"]
    assert sorted(files_in(data / "cache")) == ["1.2.34-99.nii.gz"]


def test_what_is_cached_of_one_image_is_not_taken_for_that_of_another(record):
    cache = data_of(record) / layout.CACHE
    cache.mkdir()
    for image_id in ("ann", "ann-1", "bob", "*"):
        put_image(record, image_id, image_id.partition("-")[0])
        (cache / layout.cached_name(image_id, "99.nii.gz")).write_bytes(b"pixels")

    assert erase_patient(record, data_of(record), ["ann"]).files == 2
    assert sorted(files_in(cache)) == sorted(layout.cached_name(image_id, "99.nii.gz") for image_id in ("bob", "*"))


@ONLY_SQLITE
def test_a_name_that_viewers_searched_for_is_in_no_file_afterwards(record):
    put_image(record, "1.2.3", "ann")
    attributes = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Zyxwvut^Ann"}]}}
    record.listings.put(
        "1.2.3", Listing("1.2.3", "1.2", "1.2.3", "", "20260101", "p1", "zyxwvut^ann", "", "CT", 2, attributes)
    )
    assert any(b"wvut" in content for content in files_in(data_of(record)).values())

    erase_patient(record, data_of(record), ["ann"])

    assert [name for name, content in files_in(data_of(record)).items() if b"wvut" in content] == []


def test_an_id_with_signs_of_a_pattern_only_means_itself(record):
    cache = data_of(record) / "cache"
    cache.mkdir()
    (cache / "1.2.34-99.nii.gz").write_bytes(b"pixels of somebody else")
    put_image(record, "*", "ann")

    assert erase_patient(record, data_of(record), ["ann"]).files == 0
    assert len(files_in(cache)) == 1


def test_an_unknown_patient_is_told_and_nothing_is_erased(labelled):
    before = files_in(data_of(labelled) / "masks")

    with pytest.raises(UnknownImage, match=r"No image belongs to the patient 'carl'; nothing was erased"):
        erase_patient(labelled, data_of(labelled), ["carl"])

    assert files_in(data_of(labelled) / "masks") == before
    assert list(labelled.images.every(ImageState.ERASED)) == []


def test_what_was_interrupted_between_files_and_rows_is_completed_by_a_second_call(labelled, monkeypatch):
    class Crash(Exception):
        pass

    def crash(paths):
        delete(paths[:1])
        raise Crash

    delete = erase.delete_paths
    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(erase, "delete_paths", crash)
        erase_patient(labelled, data_of(labelled), ["ann"])

    assert Outside(labelled).images.get("ann_1").state is ImageState.OK
    erase_patient(labelled, data_of(labelled), ["ann"])

    assert masks_of(labelled) == {b"an empty mask"}
    assert verify(labelled) == []


def test_erasing_twice_finds_nothing_more_to_delete(labelled):
    erase_patient(labelled, data_of(labelled), ["ann"])
    again = erase_patient(labelled, data_of(labelled), ["ann"])

    assert (again.masks, again.files, again.models) == (0, 0, ["model:hippocampus@v2"])


def test_a_mask_that_is_stored_while_an_equal_one_is_erased_is_not_lost(labelled):
    digest = labelled.masks.put(b"a mask of ann")
    erase_patient(labelled, data_of(labelled), ["ann"])
    with labelled.database.transaction():
        labelled.masks.keep(digest, b"a mask of ann")
        store(labelled, "bob_1", Role.EXPERT, b"a mask of ann")

    assert verify(labelled) == []


@pytest.fixture
def hashed(record):
    """Images whose patient is known by a keyed hash, as those from DICOM."""
    secret = b"s" * 32
    (data_of(record) / layout.PATIENT_KEY).write_bytes(secret)
    rule = PatientRule(secret)
    put_image(record, "1.2.1", rule.of_series("P-17@"))
    put_image(record, "1.2.2", rule.of_series("P-17@CLINIC"))
    put_image(record, "1.2.3", rule.of_series("9.8.7"))
    put_image(record, "P-17/scan", "P-17")
    return record


@ONLY_SQLITE
@pytest.mark.parametrize(
    ("options", "erased"),
    [
        (["--patient", "P-17"], ["1.2.1", "P-17/scan"]),
        (["--patient", "P-17", "--issuer", "CLINIC"], ["1.2.2", "P-17/scan"]),
        (["--patient", "9.8.7"], ["1.2.3"]),
    ],
    ids=["PatientID", "with issuer", "a study without PatientID"],
)
def test_the_command_finds_a_patient_by_what_people_know(hashed, capsys, options, erased):
    command.main(["--data", str(data_of(hashed)), *options])

    assert sorted(image.id for image in hashed.images.every(ImageState.ERASED)) == erased
    assert f"Erased {len(erased)} images, 0 masks and 0 other files." in capsys.readouterr().out


@ONLY_SQLITE
def test_the_command_ends_with_a_sentence_if_there_is_no_such_patient(hashed):
    with pytest.raises(SystemExit, match=r"No image belongs to the patient 'P-18'; nothing was erased"):
        command.main(["--data", str(data_of(hashed)), "--patient", "P-18"])


@ONLY_SQLITE
def test_the_command_says_what_is_left_to_do(labelled, capsys):
    command.main(["--data", str(data_of(labelled)), "--patient", "ann"])

    said = capsys.readouterr().out
    assert "Erased 2 images, 2 masks and 0 other files." in said
    assert "These model versions learned from the patient: model:hippocampus@v2." in said
    assert said.endswith("left for you to delete:\n  ann_1.nii\n  ann_2.nii\n")
