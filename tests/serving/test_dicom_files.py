"""Images and masks become DICOM files once; what people keep as DICOM stays as it is."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pydicom
import pytest

from lib import __version__
from lib.errors import NotFound
from lib.serving.dicom_files import DicomFiles
from lib.stages import Role, Stage, current
from lib.store.annotations import Annotation, NewAnnotation
from lib.volume import Volume, nifti_bytes
from tests.serving.conftest import Here
from tests.serving.drawn_series import blocks, put_series
from tests.serving.places import put_label

pytestmark = pytest.mark.filterwarnings("ignore")  # of pydicom about phantoms' names


@pytest.fixture
def files(here: Here) -> DicomFiles:
    return DicomFiles(here.app.record, here.app.library)


def annotated(here: Here, image_id: str) -> Annotation:
    grid = here.app.library.readable_with_grid(image_id)[1]
    put_label(here.client, image_id, nifti_bytes(Volume(blocks(grid.shape), grid.affine)), client_id="dr.kim")
    annotation = current(here.app.record.annotations.history(image_id))
    assert annotation is not None
    return annotation


def test_a_dicom_image_is_its_own_files(here: Here, files: DicomFiles) -> None:
    uid = put_series(here, "ct")

    found = files.of_image(here.app.library.readable(uid))

    assert {path.parent for path in found} == {here.studies / "ct"}


def test_another_image_is_written_as_a_series_once(here: Here, files: DicomFiles) -> None:
    image = here.app.library.readable("case_00")
    first = files.of_image(image)
    before = [path.stat().st_mtime_ns for path in first]

    assert files.of_image(image) == first
    assert [path.stat().st_mtime_ns for path in first] == before
    assert len(first) == here.app.library.readable_with_grid("case_00")[1].shape[2]
    assert {path.parents[1] for path in first} == {here.data / "cache"}


@pytest.mark.parametrize(("kind", "modality"), [("segmentation", "SEG"), ("structure_set", "RTSTRUCT")])
def test_a_mask_is_written_once_in_each_form(here: Here, files: DicomFiles, kind: str, modality: str) -> None:
    annotation = annotated(here, "case_00")
    path = getattr(files, kind)(annotation)
    before = path.stat().st_mtime_ns

    assert getattr(files, kind)(annotation) == path
    assert path.stat().st_mtime_ns == before
    assert pydicom.dcmread(path).Modality == modality


def test_a_mask_that_was_pruned_is_told_as_such(here: Here, files: DicomFiles) -> None:
    annotation = annotated(here, "case_00")
    here.app.record.masks.path(annotation.mask or "").unlink()

    with pytest.raises(NotFound, match="The mask of version 1 of 'case_00' is no longer kept"):
        files.segmentation(annotation)
    assert not list((here.data / "cache").glob("*-v1-*"))


MODEL = {"stage": Stage.DRAFT, "author": "model:segmentation@v2", "role": Role.MODEL, "model_version": 2}
OTHER = {"stage": Stage.DRAFT, "author": "model:OtherAI", "role": Role.MODEL}
RULE = {"stage": Stage.DRAFT, "author": "rule:threshold", "role": Role.RULE, "rule": "threshold"}
REFINER = {
    "stage": Stage.REFINED, "author": "model:segmentation_refine@v3", "role": Role.REFINER, "refiner_version": 3
}  # fmt: skip
JUNIOR = {"stage": Stage.DRAFT, "author": "lee", "role": Role.ANNOTATOR}
EXPERT = {"stage": Stage.EXPERT, "author": "dr.kim", "role": Role.EXPERT}

BY_MODEL, BY_RULE, BY_REFINER = ("segmentation", "v2"), ("threshold", __version__), ("segmentation_refine", "v3")


@pytest.mark.parametrize(
    ("made_by", "kind", "algorithm"),
    [
        # What no person touched.
        ([MODEL], "AUTOMATIC", BY_MODEL),
        ([RULE], "AUTOMATIC", BY_RULE),
        ([OTHER], "AUTOMATIC", ("OtherAI", "unknown")),
        ([MODEL, REFINER], "AUTOMATIC", BY_REFINER),
        ([RULE, REFINER], "AUTOMATIC", BY_REFINER),
        ([OTHER, REFINER], "AUTOMATIC", BY_REFINER),
        # What a person drew, corrected or accepted on the way.
        ([MODEL, JUNIOR], "SEMIAUTOMATIC", BY_MODEL),
        ([RULE, EXPERT], "SEMIAUTOMATIC", BY_RULE),
        ([OTHER, EXPERT], "SEMIAUTOMATIC", ("OtherAI", "unknown")),
        ([JUNIOR, REFINER], "SEMIAUTOMATIC", BY_REFINER),
        ([MODEL, JUNIOR, REFINER], "SEMIAUTOMATIC", BY_REFINER),
        ([JUNIOR, REFINER, EXPERT], "SEMIAUTOMATIC", BY_REFINER),
        ([MODEL, JUNIOR, EXPERT, EXPERT], "SEMIAUTOMATIC", BY_MODEL),
        # What no program had a part in.
        ([JUNIOR], "MANUAL", None),
        ([EXPERT], "MANUAL", None),
        ([JUNIOR, EXPERT], "MANUAL", None),
    ],
    ids=lambda value: "-".join(step["role"] for step in value) if isinstance(value, list) else "",
)
def test_an_object_says_whether_a_program_or_a_person_made_its_mask_by_all_that_it_was_made_from(
    here: Here, files: DicomFiles, made_by: list[dict[str, Any]], kind: str, algorithm: tuple[str, str] | None
) -> None:
    record, grid = here.app.record, here.app.library.readable_with_grid("case_00")[1]
    counts = {"Anterior": 8, "Posterior": 0}
    mask = np.zeros(grid.shape, np.uint8)
    mask[4:6, 4:6, 4:6] = 1
    parent = None
    with record.storing_mask(nifti_bytes(Volume(mask, grid.affine))) as digest:
        for step in made_by:
            new = NewAnnotation(
                image="case_00", mask=digest, looked_at=tuple(counts), voxels=counts, parent=parent, **step
            )
            annotation = record.annotations.add(new)
            parent = annotation.version

    segments = pydicom.dcmread(files.segmentation(annotation)).SegmentSequence
    regions = pydicom.dcmread(files.structure_set(annotation)).StructureSetROISequence

    assert {segment.SegmentAlgorithmType for segment in segments} == {kind}
    assert {region.ROIGenerationAlgorithm for region in regions} == {kind}
    assert [
        (named.AlgorithmName, named.AlgorithmVersion)
        for segment in segments
        for named in segment.get("SegmentationAlgorithmIdentificationSequence", [])
    ] == [algorithm] * (2 if algorithm else 0)


def test_an_accepted_draft_is_semiautomatic_and_names_who_drew_it(
    here: Here, files: DicomFiles, weights: bytes
) -> None:
    here.put_weights(weights)
    here.client.post("/infer/segmentation", params={"image": "case_00", "output": "json"})
    accepted = here.client.post(
        "/annotations/accept", params={"image": "case_00"}, data={"params": json.dumps({"client_id": "dr.kim"})}
    )
    assert accepted.status_code == 200, accepted.text
    annotation = current(here.app.record.annotations.history("case_00"))
    assert annotation is not None and annotation.stage is Stage.EXPERT

    (segment, *_) = pydicom.dcmread(files.segmentation(annotation)).SegmentSequence

    assert (segment.SegmentAlgorithmType, segment.SegmentAlgorithmName) == ("SEMIAUTOMATIC", "segmentation")
