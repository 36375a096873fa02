"""An annotation comes in the format that is asked for, and says the same in each."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from starlette.testclient import TestClient

from lib.dicom.drawn import read_drawn, referenced_images
from lib.dicom.provenance import Provenance
from lib.dicom.segmentation import write_segmentation
from lib.labels import mask_on_image
from lib.phantoms.breast import BreastParameters, draw_mammogram
from lib.phantoms.dicom_mammogram import write_mammogram
from lib.serving.dicom_files import on_grid
from lib.volume import Volume, nifti_bytes
from tests.dicom.drawing import stored
from tests.dicom.malformed import without_references
from tests.serving.conftest import Here
from tests.serving.drawn_series import NOON, SHAPE, TASK, blocks, contours, put_series, source_of
from tests.serving.places import STRUCTURES, put_label, voxels

pytestmark = pytest.mark.filterwarnings("ignore")  # of pydicom about phantoms' names

TYPES = {"nifti": "application/gzip", "nrrd": "application/octet-stream", "seg": "application/dicom",
         "rtstruct": "application/dicom"}  # fmt: skip
ENDINGS = {"nifti": ".nii.gz", "nrrd": ".seg.nrrd", "seg": ".seg.dcm", "rtstruct": ".rtstruct.dcm"}


def put_mask(here: Here, image_id: str, name: str = "dr.kim", **params: Any) -> np.ndarray:
    grid = here.app.library.readable_with_grid(image_id)[1]
    mask = blocks(grid.shape)
    put_label(here.client, image_id, nifti_bytes(Volume(mask, grid.affine)), client_id=name, **params)
    return mask


def asked(client: TestClient, image_id: str, **query: Any) -> Any:
    return client.get("/annotations/latest", params={"image": image_id, **query})


def mask_of(here: Here, image_id: str, wanted: str, content: bytes, folder: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """The mask of a reply on the image's grid, and the structures that it speaks about."""
    image, grid = here.app.library.readable_with_grid(image_id)
    if wanted == "nifti":
        return voxels(content), STRUCTURES
    if wanted == "nrrd":
        path = folder / "reply.seg.nrrd"
        path.write_bytes(content)
        return mask_on_image(path, grid, (), TASK, image_id), STRUCTURES
    series = source_of(here, image_id)
    mask, looked_at = read_drawn(content, series, TASK)
    return on_grid(mask, series.grid, grid, image.id), looked_at


# --- asking for a format ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", TYPES)
@pytest.mark.parametrize("kind", ["file", "series", "enhanced"])
def test_every_format_holds_the_same_voxels(here: Here, tmp_path: Path, wanted: str, kind: str) -> None:
    image_id = "case_00" if kind == "file" else put_series(here, is_enhanced=kind == "enhanced")
    mask = put_mask(here, image_id)

    reply = asked(here.client, image_id, format=wanted)

    assert reply.status_code == 200, reply.text
    found, looked_at = mask_of(here, image_id, wanted, reply.content, tmp_path)
    np.testing.assert_array_equal(found, mask)
    assert looked_at == STRUCTURES
    assert reply.headers["content-type"] == TYPES[wanted]
    assert f'filename="{Path(image_id).name}_v1{ENDINGS[wanted]}"' in reply.headers["content-disposition"]


def test_nifti_comes_where_no_format_is_named(here: Here) -> None:
    put_mask(here, "case_00")

    assert asked(here.client, "case_00").content == asked(here.client, "case_00", format="nifti").content


@pytest.mark.parametrize("wanted", ["nrrd", "seg", "rtstruct"])
def test_no_finding_says_what_was_looked_for(here: Here, tmp_path: Path, wanted: str) -> None:
    uid = put_series(here)
    grid = here.app.library.readable_with_grid(uid)[1]
    empty = nifti_bytes(Volume(np.zeros(grid.shape, np.uint8), grid.affine))
    put_label(here.client, uid, empty, client_id="dr.kim", structures=["Posterior"])

    found, looked_at = mask_of(here, uid, wanted, asked(here.client, uid, format=wanted).content, tmp_path)

    assert not found.any()
    assert wanted == "nrrd" or looked_at == ("Posterior",)


def test_an_earlier_version_comes_by_its_number_or_by_a_tag(here: Here) -> None:
    put_mask(here, "case_00", "dr.kim")
    grid = here.app.library.readable_with_grid("case_00")[1]
    put_label(here.client, "case_00", nifti_bytes(Volume(np.zeros(grid.shape, np.uint8), grid.affine)), client_id="b")

    assert voxels(asked(here.client, "case_00", version=1).content).any()
    assert voxels(asked(here.client, "case_00", tag="version_1").content).any()
    assert not voxels(asked(here.client, "case_00", tag="final").content).any()
    assert "case_00_v2.nii.gz" in asked(here.client, "case_00").headers["content-disposition"]


def test_a_temporary_file_does_not_stay(here: Here) -> None:
    put_mask(here, "case_00")
    before = sorted(here.app.temporary.iterdir())

    asked(here.client, "case_00", format="nrrd")

    assert sorted(here.app.temporary.iterdir()) == before


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        ({"image": "case_00", "format": "stl"}, 422, "format is one of nifti, nrrd, seg, rtstruct; found 'stl'."),
        ({"image": "case_01"}, 404, "'case_01' has no annotation tagged ''; it has none."),
        ({"image": "case_00", "version": "7"}, 404, "'case_00' has no annotation of version 7."),
        ({"image": "case_00", "tag": "original"}, 404, "has no annotation tagged 'original'; it has version_1 (expert"),
        ({"image": "case_77"}, 404, "case_77"),
        ({"image": "case_00", "version": "1", "tag": "final"}, 422, "Ask for a version or for a tag"),
    ],
)
def test_what_is_not_there_is_said_in_a_sentence(here: Here, query: dict[str, str], status: int, sentence: str) -> None:
    put_mask(here, "case_00")

    reply = here.client.get("/annotations/latest", params=query)

    assert reply.status_code == status, reply.text
    assert sentence in reply.json()["detail"]


def test_a_withdrawal_has_no_mask(here: Here) -> None:
    put_mask(here, "case_00")
    here.client.delete("/datastore/label", params={"id": "case_00", "tag": "version_1"})

    reply = asked(here.client, "case_00", version=2)

    assert reply.status_code == 404
    assert "Version 2 of 'case_00' has no mask: it is a withdrawal" in reply.json()["detail"]


def test_a_radiograph_has_no_contours(here: Here) -> None:
    phantom = draw_mammogram(BreastParameters(seed=2, shape=(65, 80)))
    view = write_mammogram(here.studies / "mg", phantom, laterality="L", view="CC", patient_id="Meier", seed=1)
    here.look()
    put_mask(here, view)

    assert asked(here.client, view, format="seg").status_code == 200
    reply = asked(here.client, view, format="rtstruct")
    assert (reply.status_code, "no place in the patient" in reply.json()["detail"]) == (422, True)


# --- structure sets and enhanced images in the viewer ----------------------------------------------------------------


def post(here: Here, content: bytes) -> Any:
    body = b"--xx\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--xx--\r\n"
    headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary="xx"'}
    return here.client.post("/dicomweb/studies", content=body, headers=headers, params={"client_id": "dr.kim"})


def value(told: dict[str, Any], tag: str) -> list[Any]:
    found: list[Any] = told[tag]["Value"]
    return found


MODALITY, MODALITIES, SERIES_UID, SERIES_COUNT = "00080060", "00080061", "0020000E", "00201206"


def test_a_stored_structure_set_is_a_correction_and_stays_as_it_came(here: Here) -> None:
    uid = put_series(here)
    series = source_of(here, uid)
    content = contours(series)

    assert [post(here, content).status_code for _ in range(2)] == [200, 200]

    (annotation,) = here.app.record.annotations.history(uid)
    assert (annotation.author, annotation.stage, annotation.looked_at) == ("dr.kim", "expert", STRUCTURES)
    np.testing.assert_array_equal(here.app.library.mask(annotation), blocks(series.grid.shape))
    sent = pydicom.dcmread(BytesIO(content))
    address = f"{sent.StudyInstanceUID}/series/{sent.SeriesInstanceUID}/instances/{sent.SOPInstanceUID}"
    reply = here.client.get(f"/dicomweb/studies/{address}", headers={"Accept": "application/dicom"})
    assert reply.content == content


def test_a_stored_structure_set_is_listed_beside_the_segmentation_that_viewers_can_change(here: Here) -> None:
    uid = put_series(here)
    content = contours(source_of(here, uid))
    assert post(here, content).status_code == 200
    study = pydicom.dcmread(BytesIO(content)).StudyInstanceUID

    listed = here.client.get(f"/dicomweb/studies/{study}/series").json()
    (told,) = here.client.get("/dicomweb/studies", params={"StudyInstanceUID": study}).json()
    (found,) = here.client.get("/dicomweb/series", params={"Modality": "RTSTRUCT"}).json()

    assert sorted(value(one, MODALITY)[0] for one in listed) == ["CT", "RTSTRUCT", "SEG"]
    assert (value(told, MODALITIES), value(told, SERIES_COUNT)) == (["CT", "RTSTRUCT", "SEG"], [3])
    assert value(found, SERIES_UID) == [pydicom.dcmread(BytesIO(content)).SeriesInstanceUID]


def test_pages_of_series_have_no_gap_where_contours_are_offered_twice(here: Here) -> None:
    uid = put_series(here)
    assert post(here, contours(source_of(here, uid))).status_code == 200
    every = here.client.get("/dicomweb/series").json()

    pages = [here.client.get("/dicomweb/series", params={"limit": 1, "offset": at}).json() for at in range(6)]

    assert [one for page in pages for one in page] == every
    assert len(every) == 5


def test_a_structure_set_that_names_images_only_for_its_contours_is_found_by_these(here: Here) -> None:
    uid = put_series(here)
    source = source_of(here, uid)
    dataset = pydicom.dcmread(BytesIO(contours(source)))
    dataset.ReferencedFrameOfReferenceSequence = []

    reply = post(here, stored(dataset))

    assert reply.status_code == 200
    (annotation,) = here.app.record.annotations.history(uid)
    np.testing.assert_array_equal(here.app.library.mask(annotation), blocks(source.grid.shape))


@pytest.mark.parametrize(
    ("spoil", "status", "sentence"),
    [
        (lambda one: setattr(one.StructureSetROISequence[0], "ROIName", "BODY"), 422, "regions 'BODY', the task has"),
        (lambda one: one.ROIContourSequence.clear() or delattr(one, "ROIContourSequence"), 422, "ROIContourSequence"),
        (without_references, 409, "refers to no image of this server"),
        (lambda one: setattr(one, "StudyInstanceUID", "1.2.3"), 409, "belongs to the study 1.2.3"),
    ],
)
def test_a_structure_set_that_does_not_fit_is_refused_with_a_sentence(
    here: Here, spoil: Callable[[Any], Any], status: int, sentence: str
) -> None:
    uid = put_series(here)
    dataset = pydicom.dcmread(BytesIO(contours(source_of(here, uid))))
    spoil(dataset)

    reply = post(here, stored(dataset))

    assert reply.status_code == status
    assert sentence in reply.json()["00081198"]["Value"][0]["00000902"]["Value"][0]
    assert here.app.record.annotations.history(uid) == []


def test_an_enhanced_image_is_listed_drawn_on_and_corrected_like_any_other(here: Here) -> None:
    uid = put_series(here, is_enhanced=True)
    file = pydicom.dcmread(here.studies / "ct" / "frames.dcm")
    mask = put_mask(here, uid)

    listed = here.client.get(f"/dicomweb/studies/{file.StudyInstanceUID}/series").json()
    instances = here.client.get(f"/dicomweb/studies/{file.StudyInstanceUID}/series/{uid}/instances").json()
    reply = asked(here.client, uid, format="seg")

    assert [value(one, MODALITY)[0] for one in listed] == ["CT", "SEG"]
    assert [value(one, "00280008") for one in instances] == [[SHAPE[2]]]
    assert referenced_images(reply.content) == {uid: {file.SOPInstanceUID}}
    provenance = Provenance("mine", "somebody", NOON, "mine")
    series = source_of(here, uid)
    corrected = write_segmentation(np.where(mask == 2, 0, mask).astype(np.uint8), TASK, series, provenance)
    assert post(here, stored(corrected)).status_code == 200
    assert here.app.record.annotations.history(uid)[-1].voxels == {"Anterior": int((mask == 1).sum()), "Posterior": 0}
    frames = here.client.get(
        f"/dicomweb/studies/{file.StudyInstanceUID}/series/{uid}/instances/{file.SOPInstanceUID}/frames/2"
    )
    assert np.ascontiguousarray(file.pixel_array[1]).tobytes() in frames.content
