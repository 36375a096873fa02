"""Existing labels become annotations: each by itself, checked as a client's, and once."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pydicom
import pytest

from lib.errors import SetupError, StorageFull
from lib.labels_folder import Meaning
from lib.serving.annotator import Annotator
from lib.serving.importing_labels import Fate, LabelFolder, import_labels
from lib.serving.library import Library
from lib.serving.studies import Studies
from lib.stages import Role, Stage
from lib.store.images import ImageKind, NewImage
from lib.task import Task, numbered
from lib.volume import Volume, write_volume
from tests.dicom.drawing import stored
from tests.serving.conftest import Here
from tests.serving.drawn_series import blocks, contours, put_series, segments, source_of
from tests.serving.places import STRUCTURES
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
    source = LabelFolder(folder, Annotator(author, role, "tests"), Meaning())
    studies = Studies(record, Library(record, folder.parent, folder.parent / "data"))
    return [(each.name, each.fate, each.note) for each in import_labels(studies, source, **more)]


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
        notes, ("it is cut off", "image as reference", "no readable image", "", "no image"), strict=True
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


@pytest.mark.parametrize(("name", "message"), [("masks", "holds no label. Wanted are IMAGE"), ("none", "is no folder")])
def test_a_folder_without_labels_is_refused(record, folder, name, message):
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


# --- DICOM segmentations and structure sets --------------------------------------------------------------------------


def imported_here(here: Here, folder, label_map="", leave_out=(), role=Role.EXPERT, **more):
    meaning = Meaning.read(label_map, here.app.record.task)
    source = LabelFolder(folder, Annotator("dr.kim", role, "tests"), meaning, leave_out)
    return [(each.name, each.fate, each.note) for each in import_labels(here.app.dicom, source, **more)]


def placed(folder, name, content):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def named(*names):
    """The task of somebody who calls the structures otherwise."""
    return Task("theirs", "", numbered(names))


@pytest.mark.parametrize("drawing", [segments, contours])
@pytest.mark.parametrize("name", ["label.seg", "deep/below/1.dcm", "without suffix"])
def test_a_dicom_object_becomes_an_annotation_of_the_image_that_it_refers_to(here, folder, drawing, name):
    uid = put_series(here)
    placed(folder, name, drawing(source_of(here, uid)))

    assert imported_here(here, folder) == [(uid, Fate.IMPORTED, "")]

    (annotation,) = here.app.record.annotations.history(uid)
    np.testing.assert_array_equal(here.app.library.mask(annotation), blocks(annotation_shape(here, uid)))
    assert (annotation.author, annotation.stage, annotation.looked_at) == ("dr.kim", Stage.EXPERT, STRUCTURES)
    assert annotation.info == {"imported_from": [name]}
    assert imported_here(here, folder) == [(uid, Fate.SKIPPED, "dr.kim has stored the same already")]


def annotation_shape(here, image_id):
    return here.app.library.readable_with_grid(image_id)[1].shape


def test_an_object_drawn_on_a_derived_series_lands_on_the_file(here, folder):
    placed(folder, "label.dcm", segments(source_of(here, "case_01")))

    assert imported_here(here, folder) == [("case_01", Fate.IMPORTED, "")]
    assert here.app.record.annotations.history("case_01")[0].voxels["Anterior"] == 19


def test_several_objects_of_one_image_become_one_version(here, folder):
    uid = put_series(here)
    series = source_of(here, uid)
    for number, name in enumerate(STRUCTURES):
        placed(folder, f"{number}.dcm", segments(series, looked_at=(name,)))

    assert imported_here(here, folder) == [(uid, Fate.IMPORTED, "")]

    (annotation,) = here.app.record.annotations.history(uid)
    np.testing.assert_array_equal(here.app.library.mask(annotation), blocks(series.grid.shape))
    assert annotation.looked_at == STRUCTURES


def test_where_one_object_would_leave_nothing_of_another_both_are_refused(here, folder):
    uid = put_series(here)
    series = source_of(here, uid)
    placed(folder, "1.dcm", segments(series, looked_at=("Anterior",)))
    placed(folder, "2.dcm", segments(series, named("Posterior", "Anterior"), looked_at=("Posterior",)))

    ((_, fate, note),) = imported_here(here, folder)

    assert (fate, note.partition(", whose")[0]) == (Fate.REFUSED, "'Anterior' lies wholly within 'Posterior'")
    assert here.app.record.annotations.history(uid) == []


@pytest.mark.parametrize(
    ("role", "stage", "note"),
    [
        (Role.EXPERT, Stage.EXPERT, "drawn by OrganNet alone; with --stage draft an expert would look at it first"),
        (Role.ANNOTATOR, Stage.DRAFT, ""),
    ],
)
def test_of_what_a_program_drew_the_stage_that_the_person_names_counts(here, folder, role, stage, note):
    uid = put_series(here)
    made = pydicom.dcmread(BytesIO(segments(source_of(here, uid))))
    for segment in made.SegmentSequence:
        segment.SegmentAlgorithmType, segment.SegmentAlgorithmName = "AUTOMATIC", "OrganNet"
    placed(folder, "label.dcm", stored(made))

    assert imported_here(here, folder, role=role) == [(uid, Fate.IMPORTED, note)]

    assert Outside(here.app.record).versions(uid) == [(1, stage, "dr.kim")]


@pytest.mark.parametrize("drawing", [segments, contours])
def test_names_are_mapped_and_others_left_out(here, folder, drawing):
    uid = put_series(here)
    placed(folder, "1.dcm", drawing(source_of(here, uid), named("GTV Mass", "BODY")))

    ((_, fate, note),) = imported_here(here, folder)
    assert (fate, "'GTV Mass'" in note and "'BODY'" in note) == (Fate.REFUSED, True)

    assert imported_here(here, folder, "gtv mass=Posterior", ["body"]) == [(uid, Fate.IMPORTED, "")]
    (annotation,) = here.app.record.annotations.history(uid)
    assert annotation.voxels == {"Posterior": 19}


@pytest.mark.parametrize("name", ["ct.dcm", "ct.seg.dcm", "ct.RTSTRUCT.dcm"])
def test_an_object_that_refers_to_images_from_elsewhere_is_found_by_its_name(here, folder, name):
    """As after another de-identification: other UIDs, the same places."""
    uid = put_series(here)
    placed(folder, name, elsewhere(contours(source_of(here, uid))))

    assert imported_here(here, folder) == [(uid, Fate.IMPORTED, "")]


def elsewhere(content):
    dataset = pydicom.dcmread(BytesIO(content))
    frame = dataset.ReferencedFrameOfReferenceSequence[0]
    frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3"
    return stored(dataset)


def test_each_bad_object_is_refused_with_its_reason_and_stops_nothing(here, folder):
    uid = put_series(here)
    good = segments(source_of(here, uid))
    placed(folder, "a damaged.dcm", good[:300])
    placed(folder, "b elsewhere.dcm", elsewhere(contours(source_of(here, uid))))
    placed(folder, "case_00.nii.gz", b"no mask")
    placed(folder, "case_01/Anterior.nii.gz", b"no mask")
    placed(folder, "case_01.dcm", segments(source_of(here, "case_01")))
    placed(folder, "good.dcm", good)
    placed(folder, "notes.txt", b"seen by two")
    (folder / "image.dcm").write_bytes(next((here.studies / "ct").iterdir()).read_bytes())

    outcomes = {name: (fate, note) for name, fate, note in imported_here(here, folder)}

    assert outcomes.pop(uid) == (Fate.IMPORTED, "")
    for name, reason in (
        ("a damaged.dcm", "refers to no image of this server"),
        ("b elsewhere.dcm", "refers to no image of this server; the series that it names: 1.2.3"),
        ("case_00", "no readable image"), ("case_01", "no readable image"),
        ("case_01.dcm", "its image also has mask files"),
    ):  # fmt: skip
        fate, note = outcomes.pop(name)
        assert (fate, reason in note) == (Fate.REFUSED, True), note
    assert outcomes == {}


def test_unknown_names_are_refused_with_the_options_that_would_take_them(here, folder):
    uid = put_series(here)
    task = Task("other", "Blocks with names of another hospital", numbered(("GTV Posterior", "BODY")))
    placed(folder, "plan.dcm", contours(source_of(here, uid), task))

    ((_, fate, note),) = imported_here(here, folder)

    assert fate is Fate.REFUSED
    assert "has the regions 'GTV Posterior', 'BODY'" in note
    assert "--label-map 'GTV Posterior=Posterior'" in note and "--leave-out 'GTV Posterior'" in note


def test_a_structure_set_of_another_stack_is_refused(here, folder):
    uid, other = put_series(here), put_series(here, "other")
    dataset = pydicom.dcmread(BytesIO(contours(source_of(here, uid))))
    for region in dataset.StructureSetROISequence:
        region.ReferencedFrameOfReferenceUID = source_of(here, other).frame_of_reference_uid
    placed(folder, "1.dcm", stored(dataset))

    ((name, fate, note),) = imported_here(here, folder)

    assert (name, fate) == (uid, Fate.REFUSED)
    assert "lies in the frame of reference" in note
