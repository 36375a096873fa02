"""A viewer finds the studies, shows them and stores corrections, all by DICOMweb."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import requests
from dicomweb_client import DICOMfileClient, DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from lib.dicom.provenance import Algorithm, Provenance
from lib.dicom.segmentation import read_segmentation, write_segmentation
from lib.dicom.source import SourceSeries, read_source
from lib.dicom.structure_set import write_structure_set
from lib.phantoms.breast import BreastParameters, draw_mammogram
from lib.phantoms.dicom_mammogram import write_mammogram
from lib.phantoms.dicom_series import write_dicom_series
from lib.phantoms.scanner import oriented_grid
from lib.series import read_series
from lib.serving.log import log_file
from lib.serving.tokens import TokenFile
from lib.stages import PEOPLE, Role
from lib.store import layout
from lib.store.jobs import JobKind
from lib.task import Task, numbered
from lib.volume import Volume, nifti_bytes
from tests.dicom.drawing import ohif, reread, stored
from tests.dicom.malformed import SEGMENTATIONS, STRUCTURE_SETS
from tests.serving.conftest import Here
from tests.serving.places import STRUCTURES, Server, mask_bytes, put_images, put_label, server

pytestmark = pytest.mark.filterwarnings("ignore")  # of the client and of pydicom about phantoms' names

TASK = Task("segmentation", "Two blocks", numbered(STRUCTURES))
SHAPE = (13, 9, 6)  # 117 pixels a slice: frames of single bits begin within bytes
NOON = dt.datetime(2026, 1, 2, 12, 0, tzinfo=dt.UTC)


def voxels_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 1000, SHAPE).astype(np.int16)


def put_series(folder: Path, number: int, orientation: str = "LPS", compressed: bool = False) -> str:
    shape, affine = oriented_grid(orientation, SHAPE, (0.7, 1.3, 5.0), (12.0, -34.0, 567.8), (0.0, 0.0, 0.0))
    assert shape == SHAPE
    uid = write_dicom_series(folder, voxels_of(number), affine, patient_id=f"p{number}", seed=number)
    for path in folder.iterdir() if compressed else ():
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless)
        dataset.save_as(path)
    return uid


@dataclass
class Place:
    """A server with studies of every kind, and a client of each viewer's kind.

    Attributes:
        series: SeriesInstanceUID by the name of the folder.
        views: ids of the mammograms of one series.
    """

    server: Server
    client: DICOMwebClient
    series: dict[str, str]
    views: list[str]

    @property
    def root(self) -> str:
        return f"{self.server.address.rstrip('/')}/dicomweb"

    def study_of(self, series_uid: str) -> str:
        (found,) = self.client.search_for_series(search_filters={"SeriesInstanceUID": series_uid})
        return value(found, "StudyInstanceUID")

    def paths(self, name: str) -> list[Path]:
        return sorted((self.server.studies / name).iterdir())

    def source(self, name: str) -> SourceSeries:
        return read_source(self.paths(name))

    def history(self, image_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.server.get("/datastore/label/history", image=image_id)
        return found

    def post(self, *contents: bytes, path: str = "/studies", **query: str) -> requests.Response:
        """Sends objects as OHIF does."""
        body = b"".join(b"--xx\r\nContent-Type: application/dicom\r\n\r\n" + one + b"\r\n" for one in contents)
        headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary="xx"'}
        return requests.post(self.root + path, body + b"--xx--\r\n", params=query, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("dicomweb")
    studies = folder / "studies"
    put_images(studies, 3)
    names = ("read", "stored", "twice", "refused", "drafted", "none", "together", "other")
    series = {name: put_series(studies / name, number) for number, name in enumerate(names, start=1)}
    series["packed"] = put_series(studies / "packed", 20, compressed=True)
    phantom = draw_mammogram(BreastParameters(seed=2, shape=(65, 80)))
    views = [
        write_mammogram(studies / "breast", phantom, laterality=side, view="CC", patient_id="Meier", seed=1)
        for side in ("L", "R")
    ]
    with server(studies, folder / "data", {}) as process:
        client = DICOMwebClient(f"{process.address.rstrip('/')}/dicomweb")
        yield Place(process, client, series, views)


def value(told: dict[str, Any], keyword: str) -> Any:
    """The first value of an attribute in DICOM JSON."""
    return told[f"{pydicom.datadict.tag_for_keyword(keyword):08X}"]["Value"][0]


def drawn_on(source: SourceSeries, names: tuple[str, ...] = STRUCTURES) -> np.ndarray:
    """A block of each structure, one voxel of the first one in the last slice."""
    mask = np.zeros(source.grid.shape, np.uint8)
    if "Anterior" in names:
        mask[1:4, 2:5, :2], mask[0, 0, -1] = 1, 1
    if "Posterior" in names:
        mask[6:9, 2:5, -2:] = 2
    return mask


def drawing(
    source: SourceSeries, mask: np.ndarray | None = None, looked_at: tuple[str, ...] | None = None, seed: str = "mine"
) -> Dataset:
    """A segmentation as OHIF stores it."""
    mask = drawn_on(source) if mask is None else mask
    provenance = Provenance("DRAFT", "somebody", NOON, seed, Algorithm("segmentation", "v1"))
    return ohif(write_segmentation(mask, TASK, source, provenance, looked_at=looked_at))


# --- Searching --------------------------------------------------------------------------------------------------------


def test_all_studies_are_found_newest_first(place: Place) -> None:
    found = place.client.search_for_studies()

    dates = [value(one, "StudyDate") for one in found]
    assert len(found) == 3 + len(place.series) + 1
    assert dates == sorted(dates, reverse=True)
    assert place.client.search_for_studies(limit=2, offset=3) == found[3:5]


@pytest.mark.parametrize(
    ("wanted", "names"),
    [({"PatientID": "p1"}, {"p1"}), ({"PatientName": "*MEIER*"}, {"Meier"}), ({"PatientName": "phantom^p?"}, None),
     ({"ModalitiesInStudy": "MG"}, {"Meier"}), ({"StudyDate": "20231231-20240101", "PatientID": "p2"}, {"p2"}),
     ({"StudyDate": "20240102-", "PatientID": "p2"}, set()), ({"AccessionNumber": "none"}, set()),
     ({"00100020": "p3"}, {"p3"}), ({"PatientID": "P1"}, set()), ({"PatientID": "%"}, set()),
     ({"PatientID": ""}, "all")],
)  # fmt: skip
def test_studies_are_found_by_what_is_known_of_them(place: Place, wanted: dict[str, str], names: Any) -> None:
    found = {value(one, "PatientID") for one in place.client.search_for_studies(search_filters=wanted)}

    if names == "all":
        assert {"p1", "Meier"} < found
    else:
        assert found == ({f"p{number}" for number in range(1, 9)} if names is None else names)


def test_a_study_tells_its_modalities_and_how_much_it_holds(place: Place) -> None:
    (breast,) = place.client.search_for_studies(search_filters={"PatientID": "Meier"})

    assert value(breast, "ModalitiesInStudy") == "MG"
    assert value(breast, "NumberOfStudyRelatedSeries") == 1
    assert value(breast, "NumberOfStudyRelatedInstances") == 2


def test_series_and_instances_are_found_within_a_study_and_in_all(place: Place) -> None:
    uid = place.series["read"]
    study = place.study_of(uid)

    (series,) = place.client.search_for_series(study)
    instances = place.client.search_for_instances(study, uid)

    assert (value(series, "Modality"), value(series, "NumberOfSeriesRelatedInstances")) == ("CT", 6)
    assert [value(one, "InstanceNumber") for one in instances] == [1, 2, 3, 4, 5, 6]
    assert place.client.search_for_instances(search_filters={"StudyInstanceUID": study}) == instances
    assert {value(one, "Modality") for one in place.client.search_for_series(search_filters={"Modality": "MG"})} == {
        "MG"
    }
    only = place.client.search_for_instances(study, search_filters={"InstanceNumber": "3"}, fields=["KVP"])
    assert [(value(one, "InstanceNumber"), value(one, "KVP")) for one in only] == [(3, 120)]


def test_a_client_that_reads_the_files_themselves_finds_the_same(place: Place) -> None:
    files = DICOMfileClient(f"file://{place.server.studies}", in_memory=True, update_db=True)
    keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PatientID", "Modality", "StudyDate")

    wanted = {tuple(value(one, keyword) for keyword in keywords) for one in files.search_for_instances()}

    found = {
        tuple(value(one, keyword) for keyword in keywords)
        for modality in ("CT", "MG")
        for one in place.client.search_for_instances(search_filters={"Modality": modality})
    }
    assert len(wanted) == 6 * len(place.series) + 2
    assert found == wanted


@pytest.mark.parametrize(
    ("level", "wanted"),
    [("studies", {"PatientID": "p3"}), ("studies", {"StudyDate": "20240101", "PatientID": "p*"}),
     ("studies", {"PatientName": "Phantom^p?"}), ("series", {"Modality": "MG"}),
     ("series", {"Modality": "CT", "PatientID": "p1"}), ("series", {"SeriesDescription": "Phantom*"}),
     ("instances", {"PatientID": "p2", "InstanceNumber": "4"}), ("instances", {"PatientID": "p2", "Modality": "MR"}),
     ("instances", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"})],
)  # fmt: skip
def test_filters_find_what_a_client_that_reads_the_files_finds(
    place: Place, level: str, wanted: dict[str, str]
) -> None:
    files = DICOMfileClient(f"file://{place.server.studies}", in_memory=True, update_db=True)
    keyword = {"studies": "StudyInstanceUID", "series": "SeriesInstanceUID", "instances": "SOPInstanceUID"}[level]

    from_files, found = (
        {value(one, keyword) for one in getattr(client, f"search_for_{level}")(search_filters=wanted)}
        for client in (files, place.client)
    )

    assert found == from_files
    assert found or wanted.get("Modality") == "MR"


@pytest.mark.parametrize(
    ("level", "wanted"),
    [("studies", {}), ("series", {}), ("series", {"Modality": "CT"}), ("instances", {"Modality": "CT"})],
)
def test_pages_together_are_all_results(place: Place, level: str, wanted: dict[str, str]) -> None:
    search = getattr(place.client, f"search_for_{level}")
    every = search(search_filters=wanted)

    pages = [search(search_filters=wanted, limit=4, offset=offset) for offset in range(0, len(every) + 4, 4)]

    assert [one for page in pages for one in page] == every
    assert pages[-1] == []


def test_more_attributes_come_by_name_or_all_at_once(place: Place) -> None:
    uid = place.series["read"]
    study = place.study_of(uid)

    plain, more, every = (
        place.client.search_for_instances(study, uid, fields=fields)[0] for fields in (None, ["00280030"], ["all"])
    )

    assert more == plain | {"00280030": {"vr": "DS", "Value": [1.3, 0.7]}}
    assert every == every | more and len(every) > len(more)


def test_one_instance_is_read_in_each_way_that_all_are(place: Place) -> None:
    uid = place.series["read"]
    study, first = place.study_of(uid), pydicom.dcmread(place.paths("read")[0])
    client, one = place.client, (place.study_of(uid), uid, first.SOPInstanceUID)

    told = client.retrieve_series_metadata(study, uid)

    assert client.retrieve_instance(*one) == first
    assert client.retrieve_instance_metadata(*one) == told[0]
    assert client.retrieve_study_metadata(study) == told
    assert [each.SOPInstanceUID for each in client.iter_series(study, uid)] == [
        value(each, "SOPInstanceUID") for each in told
    ]
    assert client.retrieve_instance_frames(*one, [1], media_types=("application/octet-stream",)) == [first.PixelData]


def test_what_is_no_attribute_and_what_is_no_number_is_refused(place: Place) -> None:
    for query, message in (("Patient=x", "'Patient' is no attribute"), ("limit=-1", "limit must be a whole number")):
        response = requests.get(f"{place.root}/studies?{query}", timeout=20)

        assert response.status_code == 422 and message in response.json()["detail"]


# --- Retrieving -------------------------------------------------------------------------------------------------------


def test_instances_are_sent_byte_for_byte(place: Place) -> None:
    uid = place.series["read"]

    found = place.client.retrieve_series(place.study_of(uid), uid)

    files = {path.read_bytes() for path in place.paths("read")}
    assert {stored(one) for one in found} == files
    one = found[0]
    address = f"{place.root}/studies/{one.StudyInstanceUID}/series/{uid}/instances/{one.SOPInstanceUID}"
    single = requests.get(address, headers={"Accept": "application/dicom"}, timeout=20)
    assert single.headers["content-type"] == "application/dicom" and single.content in files


def test_how_long_a_reply_of_several_files_is_stands_before_it(place: Place) -> None:
    uid = place.series["read"]

    reply = requests.get(f"{place.root}/studies/{place.study_of(uid)}/series/{uid}", timeout=20)

    assert int(reply.headers["content-length"]) == len(reply.content)
    assert len(reply.content) > sum(path.stat().st_size for path in place.paths("read"))


def test_metadata_hold_everything_but_the_pixels(place: Place) -> None:
    uid = place.series["read"]
    first = pydicom.dcmread(place.paths("read")[0])

    told = place.client.retrieve_series_metadata(place.study_of(uid), uid)[0]

    assert place.client.retrieve_bulkdata(told["7FE00010"]["BulkDataURI"]) == [first.PixelData]
    del told["7FE00010"], first.PixelData
    assert Dataset.from_json(json.dumps(told)) == first


@pytest.mark.parametrize("name", ["read", "packed"])
def test_frames_are_the_pixels_of_the_files_as_they_are_stored(place: Place, name: str) -> None:
    uid = place.series[name]
    first = pydicom.dcmread(place.paths(name)[0])

    (frame,) = place.client.retrieve_instance_frames(place.study_of(uid), uid, first.SOPInstanceUID, [1])

    (fragment,) = (
        pydicom.encaps.generate_frames(first.PixelData, number_of_frames=1) if name == "packed" else (first.PixelData,)
    )
    assert frame == fragment


def test_a_radiograph_is_one_instance_of_its_series(place: Place) -> None:
    uids = {tuple(view.split("/")) for view in place.views}
    ((series_uid,),) = [{uid for uid, _ in uids}]
    study = place.study_of(series_uid)

    told = place.client.retrieve_series_metadata(study, series_uid)

    assert {(series_uid, value(one, "SOPInstanceUID")) for one in told} == uids


def test_an_image_that_is_no_dicom_is_shown_as_a_series_with_the_same_voxels(place: Place, tmp_path: Path) -> None:
    (study,) = place.client.search_for_studies(search_filters={"PatientName": "case_00*"})

    for number, one in enumerate(place.client.retrieve_study(value(study, "StudyInstanceUID"))):
        if one.Modality != "SEG":
            one.save_as(tmp_path / f"{number}.dcm")

    shown = read_series(sorted(tmp_path.iterdir()))
    file = nib.load(place.server.studies / "case_00.nii.gz")
    from_file = np.round(np.linalg.solve(file.affine, shown.affine), 3)
    assert np.abs(from_file[:3, :3]).sum() == 3  # the same lattice, K perhaps from the other end
    flipped = np.flip(np.asarray(file.dataobj), np.flatnonzero(np.diag(from_file)[:3] < 0))
    span = float(flipped.max() - flipped.min())
    np.testing.assert_allclose(shown.voxels, flipped, atol=span / 2**16)


@pytest.mark.parametrize(
    "path",
    ["/studies/1.2.3/series", "/studies/1.2.3/metadata", "/studies/1.2.3", "/studies/../../../etc/passwd/metadata",
     "/studies/%2e%2e%2f%2e%2e%2fetc/series/%2fetc%2fpasswd/metadata", "/studies/1.2.3/series/4/instances/5/frames/1",
     "/studies/1/series/2/instances/%00/bulkdata/7FE00010"],
)  # fmt: skip
def test_what_is_not_there_is_not_found_and_leads_nowhere_else(place: Place, path: str) -> None:
    response = requests.get(place.root + path, timeout=20, allow_redirects=False)

    assert response.status_code == (200 if path.endswith("3/series") else 404)
    assert path.endswith("3/series") is (response.text == "[]")


def test_frames_and_attributes_that_an_instance_lacks_are_refused(place: Place) -> None:
    uid, first = place.series["read"], pydicom.dcmread(place.paths("read")[0])
    address = f"{place.root}/studies/{first.StudyInstanceUID}/series/{uid}/instances/{first.SOPInstanceUID}"

    for end, status in (("frames/2", 404), ("frames/0", 404), ("frames/a", 422), ("bulkdata/00100010", 404)):
        assert requests.get(f"{address}/{end}", timeout=20).status_code == status


# --- Drafts and annotations in the viewer -----------------------------------------------------------------------------


def test_the_current_annotation_is_a_segmentation_of_the_study(place: Place) -> None:
    uid = place.series["drafted"]
    study, source = place.study_of(uid), place.source("drafted")
    mask = drawn_on(source)
    put_label(place.server.client, uid, nifti(mask, source), client_id="dr.kim")

    (told,) = place.client.search_for_series(study, search_filters={"Modality": "SEG"})
    (shown,) = place.client.retrieve_series(study, value(told, "SeriesInstanceUID"))

    assert value(told, "SeriesDescription") == shown.SeriesDescription == "EXPERT dr.kim"
    assert value(value(told, "ReferencedSeriesSequence"), "SeriesInstanceUID") == uid
    assert shown.ReferencedSeriesSequence[0].SeriesInstanceUID == uid
    np.testing.assert_array_equal(read_segmentation(shown, source, TASK)[0], mask)
    frames = place.client.retrieve_instance_frames(study, shown.SeriesInstanceUID, shown.SOPInstanceUID, [2, 3])
    for frame, pixels in zip(frames, shown.pixel_array[1:3], strict=True):
        assert frame == np.packbits(pixels.ravel(), bitorder="little").tobytes()
    (of_study,) = place.client.search_for_studies(search_filters={"StudyInstanceUID": study})
    assert of_study["00080061"]["Value"] == ["CT", "SEG"]


def nifti(mask: np.ndarray, source: SourceSeries) -> bytes:
    return nifti_bytes(Volume(mask, source.grid.affine))


# --- Storing ----------------------------------------------------------------------------------------------------------


def test_storing_a_segmentation_submits_a_correction(place: Place) -> None:
    uid, source = place.series["stored"], place.source("stored")
    sent = drawing(source)

    reply = place.client.store_instances([sent], additional_params={"client_id": "dr.kim"})

    (annotation,) = place.history(uid)
    assert (annotation["author"], annotation["stage"], annotation["version"]) == ("dr.kim", "expert", 1)
    assert annotation["voxels"] == {"Anterior": 19, "Posterior": 18}
    assert reply.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == sent.SOPInstanceUID
    mask = place.server.client.get("/datastore/label", params={"label": uid}).content
    np.testing.assert_array_equal(np.asarray(nifti_of(mask).dataobj), drawn_on(source))


def nifti_of(content: bytes) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(content))


def test_what_a_person_stored_is_sent_back_byte_for_byte_and_listed_as_it_is(place: Place) -> None:
    uid, source = place.series["other"], place.source("other")
    content = stored(drawing(source))

    assert place.post(content).status_code == 200

    sent = pydicom.dcmread(BytesIO(content))
    study, address = sent.StudyInstanceUID, f"series/{sent.SeriesInstanceUID}/instances/{sent.SOPInstanceUID}"
    reply = requests.get(f"{place.root}/studies/{study}/{address}", headers={"Accept": "application/dicom"}, timeout=20)
    assert reply.content == content
    (listed,) = place.client.search_for_series(study, search_filters={"Modality": "SEG"})
    assert value(listed, "SeriesInstanceUID") == sent.SeriesInstanceUID
    assert value(listed, "SeriesDescription") == "Research Derived series"
    assert len(place.history(uid)) == 1


def test_the_same_object_twice_changes_nothing_and_another_under_its_name_is_refused(place: Place) -> None:
    uid, source = place.series["twice"], place.source("twice")
    first, other = drawing(source), drawing(source)
    other.SeriesDescription = "changed"

    replies = [place.post(stored(one)) for one in (first, first, other)]

    assert [reply.status_code for reply in replies] == [200, 200, 409]
    assert "already" in sentence(replies[2])
    assert len(place.history(uid)) == 1


def test_our_own_draft_sent_back_changes_nothing(place: Place) -> None:
    put_label(place.server.client, "case_01", mask_bytes(1), client_id="dr.kim")
    (study,) = place.client.search_for_studies(search_filters={"PatientName": "case_01*"})
    (told,) = place.client.search_for_series(value(study, "StudyInstanceUID"), search_filters={"Modality": "SEG"})
    shown = place.client.retrieve_series(value(study, "StudyInstanceUID"), value(told, "SeriesInstanceUID"))

    place.client.store_instances(shown)

    assert len(place.history("case_01")) == 1


def test_a_correction_drawn_on_a_derived_series_lands_on_the_file(place: Place, tmp_path: Path) -> None:
    (study,) = place.client.search_for_studies(search_filters={"PatientName": "case_02*"})
    for number, one in enumerate(place.client.retrieve_study(value(study, "StudyInstanceUID"))):
        one.save_as(tmp_path / f"{number:02d}.dcm")
    source = read_source(sorted(tmp_path.iterdir()))

    assert place.post(stored(drawing(source))).status_code == 200

    image = nib.load(place.server.studies / "case_02.nii.gz")
    kept = nifti_of(place.server.client.get("/datastore/label", params={"label": "case_02"}).content)
    np.testing.assert_allclose(kept.affine, image.affine)
    assert kept.shape == image.shape
    stored_places = places_mm(np.asarray(kept.dataobj) == 2, kept.affine)
    assert stored_places == places_mm(drawn_on(source) == 2, source.grid.affine)


def places_mm(inside: np.ndarray, affine: np.ndarray) -> set[tuple[float, ...]]:
    """The centres of voxels, to a hundredth."""
    return {tuple((affine @ [*index, 1])[:3].round(2) + 0.0) for index in np.argwhere(inside)}


def test_a_mammogram_is_corrected_by_the_view_that_is_named(place: Place) -> None:
    source = read_source([place.server.studies / "breast" / "R_CC.dcm"])
    mask = np.zeros(source.grid.shape, np.uint8)
    mask[10:20, 10:20] = 1

    assert place.post(stored(drawing(source, mask))).status_code == 200

    left, right = place.views
    assert place.history(left) == []
    assert [one["voxels"]["Anterior"] for one in place.history(right)] == [100]


def test_no_finding_is_a_label_like_any_other(place: Place) -> None:
    uid, source = place.series["none"], place.source("none")

    assert place.post(stored(drawing(source, np.zeros(SHAPE, np.uint8)))).status_code == 200

    (annotation,) = place.history(uid)
    assert annotation["voxels"] == {"Anterior": 0, "Posterior": 0}


def moved(dataset: Dataset) -> None:
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        frame.PlanePositionSequence[0].ImagePositionPatient[2] += 2.5


def renamed(dataset: Dataset) -> None:
    dataset.SegmentSequence[0].SegmentLabel = "Tumour"


def in_another_study(dataset: Dataset) -> None:
    dataset.StudyInstanceUID = "1.2.3"


def of_another_series(dataset: Dataset) -> None:
    dataset.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3"


def in_another_frame(dataset: Dataset) -> None:
    dataset.FrameOfReferenceUID = "1.2.3"


def as_an_image(dataset: Dataset) -> None:
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"


@pytest.mark.parametrize(
    ("spoil", "status", "message", "reason"),
    [(moved, 422, "does not lie on its voxels", 0xC000), (renamed, 422, "'Tumour'.*Anterior=1, Posterior=2", 0xC000),
     (in_another_study, 409, "belongs to the study 1.2.3, wanted is", 0x0110),
     (of_another_series, 409, "refers to no image of this server.* 1.2.3", 0x0110),
     (in_another_frame, 422, "lies in the frame of reference 1.2.3", 0xC000),
     (as_an_image, 422, "Only DICOM segmentations and structure sets are stored here, found CT Image Storage", 0x0122)],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_one_sentence(
    place: Place, spoil: Callable[[Dataset], None], status: int, message: str, reason: int
) -> None:
    sent = drawing(place.source("refused"))
    spoil(sent)

    reply = place.post(stored(sent))

    assert reply.status_code == status and reply.headers["content-type"] == "application/dicom+json"
    assert re.search(message, sentence(reply))
    (failed,) = reply.json()["00081198"]["Value"]
    assert value(failed, "FailureReason") == reason
    assert value(failed, "ReferencedSOPInstanceUID") == sent.SOPInstanceUID
    assert place.history(place.series["refused"]) == []


def sentence(reply: requests.Response) -> str:
    told: str = reply.json()["00081198"]["Value"][0]["00000902"]["Value"][0]
    return told


@pytest.mark.parametrize("name", SEGMENTATIONS)
def test_a_malformed_segmentation_is_refused_with_one_sentence(place: Place, name: str) -> None:
    spoil, message = SEGMENTATIONS[name]

    reply = place.post(spoil(drawing(place.source("refused"))))

    assert reply.status_code == 422
    assert re.search(message, sentence(reply) if "00081198" in reply.json() else reply.json()["detail"])
    assert place.history(place.series["refused"]) == []


@pytest.mark.parametrize("name", STRUCTURE_SETS)
def test_a_malformed_structure_set_is_refused_with_one_sentence(place: Place, name: str) -> None:
    spoil, message = STRUCTURE_SETS[name]
    source = place.source("refused")
    provenance = Provenance("Plan", "somebody", NOON, "mine")

    reply = place.post(spoil(reread(write_structure_set(drawn_on(source), TASK, source, provenance))))

    assert reply.status_code in (409, 422) and re.search(message, sentence(reply))
    assert place.history(place.series["refused"]) == []


def test_of_several_objects_all_are_stored_or_none(place: Place) -> None:
    source = place.source("together")
    other = drawn_on(source)
    other[1, 2, 0] = 0
    good, bad = drawing(source), drawing(source, other, seed="other")
    renamed(bad)

    assert place.post(stored(good), stored(bad)).status_code == 422
    assert place.history(place.series["together"]) == []
    bad.SegmentSequence[0].SegmentLabel = "anterior"
    assert place.post(stored(good), stored(bad)).status_code == 200
    assert [one["version"] for one in place.history(place.series["together"])] == [1, 2]


@pytest.mark.parametrize(("body", "media_type"), [
    (b"", f'multipart/related; boundary="{"x" * 300}"'), (b"", "multipart/related"),
    (b"x", 'multipart/related; boundary="xx"'), (b"{}", "application/json"),
    (b"--xx\r\nContent-Type: application/dicom\r\n\r\nno dicom\r\n--xx--", 'multipart/related; boundary="xx"'),
])  # fmt: skip
def test_a_body_that_is_no_dicom_is_refused(place: Place, body: bytes, media_type: str) -> None:
    reply = requests.post(f"{place.root}/studies", body, headers={"Content-Type": media_type}, timeout=20)

    assert reply.status_code == 422
    assert "body" in reply.json()["detail"]


def test_no_patients_name_stands_in_the_log(place: Place) -> None:
    found = place.client.search_for_studies(search_filters={"PatientName": "*MEIER*"})
    refused = place.post(stored(drawing(place.source("other")))[:3000], client_id="dr.kim")

    told = log_file(place.server.data).read_text() + (place.server.data / "server.out").read_text()
    assert value(found[0], "PatientName")["Alphabetic"] == "Phantom^Meier"
    assert refused.status_code in (409, 422) and f"POST /dicomweb/studies: {refused.status_code}" in told
    assert "meier" not in told.casefold() and "phantom^" not in told.casefold()


# --- In the process of the tests --------------------------------------------------------------------------------------


def test_a_draft_names_its_model_and_is_to_be_had_as_a_segmentation(
    open_app: Callable[..., Here], weights: bytes, tmp_path: Path
) -> None:
    here = open_app(1)
    uid = put_series(here.studies / "ct", 1)
    here.look()
    here.put_weights(weights)

    sent = here.client.post("/infer/segmentation", params={"image": uid, "output": "dicom_seg"})
    refused = here.client.post("/infer/segmentation", params={"image": "case_00", "output": "dicom_seg"})

    shown = pydicom.dcmread(BytesIO(sent.content))
    assert (shown.Modality, shown.SeriesDescription) == ("SEG", "DRAFT model segmentation v1")
    assert shown.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
    assert refused.status_code == 422 and "needs a DICOM series, 'case_00' is a file" in refused.json()["detail"]
    listed = here.client.get("/dicomweb/series", params={"Modality": "SEG"}).json()
    assert [value(one, "SeriesInstanceUID") for one in listed] == [shown.SeriesInstanceUID]


def test_a_correction_of_a_draft_names_it_as_its_parent(open_app: Callable[..., Here], weights: bytes) -> None:
    here = open_app(0)
    uid = put_series(here.studies / "ct", 1)
    here.look()
    here.put_weights(weights)
    here.client.post("/infer/segmentation", params={"image": uid, "output": "json"})
    content = stored(drawing(read_source(sorted((here.studies / "ct").iterdir()))))

    assert post(here, content).status_code == 200

    draft, correction = here.app.record.annotations.history(uid)
    assert (draft.role, correction.parent, correction.model_version) == ("model", 1, 1)


def test_who_signed_in_is_the_author_and_the_role_decides_what_it_is_worth(
    open_app: Callable[..., Here], tmp_path: Path
) -> None:
    here = open_app(0, auth="tokens")
    uid = put_series(here.studies / "ct", 1)
    here.look()
    tokens = {role: TokenFile(here.data / layout.TOKENS).add(role, role) for role in PEOPLE}
    content = stored(drawing(read_source(sorted((here.studies / "ct").iterdir()))))

    replies = {role: post(here, content, tokens[role]) for role in (Role.VIEWER, Role.ANNOTATOR)}

    assert [reply.status_code for reply in replies.values()] == [403, 200]
    (annotation,) = here.app.record.annotations.history(uid)
    assert (annotation.author, annotation.stage) == ("annotator", "draft")
    ((_, change),) = here.app.record.audit.newest(5)
    assert (change.author, change.method, change.path, change.status) == ("annotator", "POST", "/dicomweb/studies", 200)
    as_viewer = {"Authorization": f"Bearer {tokens[Role.VIEWER]}"}
    told = here.client.get("/dicomweb/series?Modality=SEG", headers=as_viewer).json()
    assert value(told[0], "SeriesDescription") == "Research Derived series"
    assert here.client.get("/dicomweb/studies").status_code == 401


def test_the_reply_names_the_jobs_that_follow_on_a_juniors_save(
    open_app: Callable[..., Here], refiner_weights: bytes
) -> None:
    here = open_app(0, role="annotator")
    uid = put_series(here.studies / "ct", 1)
    here.look()
    here.put_refiner(refiner_weights)
    content = stored(drawing(read_source(sorted((here.studies / "ct").iterdir()))))

    first, again = post(here, content), post(here, content)

    (waiting,) = here.app.record.jobs.every(JobKind.REFINE)
    assert waiting.arguments == {"image": uid, "version": 1}
    assert first.headers["Label-Refinery-Jobs"] == f"refining={waiting.id}"
    assert "Label-Refinery-Jobs" not in again.headers


def post(here: Here, content: bytes, token: str = "") -> Any:
    """Sends one object as OHIF does, to the server in this process."""
    body = b"--xx\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--xx--\r\n"
    headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=xx'}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    return here.client.post("/dicomweb/studies", content=body, headers=headers)


def test_a_damaged_file_hides_no_other(here: Here) -> None:
    put_series(here.studies / "ct", 1)
    here.look()
    assert len(here.client.get("/dicomweb/studies").json()) == 3
    for path in (here.studies / "ct").iterdir():
        path.write_bytes(path.read_bytes()[:200])

    (series,) = here.client.get("/dicomweb/series", params={"Modality": "CT"}).json()
    address = f"/dicomweb/studies/{value(series, 'StudyInstanceUID')}/series/{value(series, 'SeriesInstanceUID')}"
    reply = here.client.get(f"{address}/metadata")

    assert reply.status_code == 422 and "no readable DICOM file" in reply.json()["detail"]
    here.look()
    assert len(here.client.get("/dicomweb/studies").json()) == 2


def test_removed_and_changed_images_are_shown_as_they_are_now(here: Here) -> None:
    put_series(here.studies / "ct", 1)
    here.look()
    before = here.client.get("/dicomweb/studies").json()
    (here.studies / "ct" / "slice_006.dcm").unlink()
    here.look()
    here.client.delete("/datastore/image", params={"id": "case_00"})

    after = here.client.get("/dicomweb/studies").json()

    assert [
        value(one, "NumberOfStudyRelatedInstances") for one in before if "CT" in value(one, "ModalitiesInStudy")
    ] == [6]
    assert [
        value(one, "NumberOfStudyRelatedInstances") for one in after if "CT" in value(one, "ModalitiesInStudy")
    ] == [5]
    assert len(after) == len(before) - 1


def test_what_unfolds_to_more_than_a_part_may_have_is_refused(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    put_series(here.studies / "ct", 1)
    here.look()
    sent = drawing(read_source(sorted((here.studies / "ct").iterdir())))
    sent.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    sent.add_new((0x7FE1, 0x0010), "OB", bytes(2 << 20))
    monkeypatch.setattr("lib.serving.stow.LARGEST_PART_MIB", 1)

    reply = post(here, stored(sent))

    assert reply.status_code == 413 and "has more than 1 MiB when it is decompressed" in reply.json()["detail"]
    monkeypatch.setattr("lib.serving.stow.LARGEST_PART_MIB", 3)
    assert post(here, stored(sent)).status_code == 200


@pytest.mark.parametrize("content", [b"1.2.3", b"\x00" * 200])
def test_bytes_that_are_no_dicom_leave_nothing_behind(here: Here, content: bytes) -> None:
    reply = post(here, content)

    assert reply.status_code == 422 and "is no DICOM file" in reply.json()["detail"]
    assert list((here.data / "segmentations").iterdir()) == []
