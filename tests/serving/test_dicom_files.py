"""Images and masks become DICOM files once; what people keep as DICOM stays as it is."""

from __future__ import annotations

import pydicom
import pytest

from lib.errors import NotFound
from lib.serving.dicom_files import DicomFiles
from lib.stages import current
from lib.store.annotations import Annotation
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
