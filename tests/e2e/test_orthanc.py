"""The studies are at a DICOMweb server: Orthanc, as a hospital's PACS."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import logging
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
from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless
from starlette.testclient import TestClient

from lib.dicom.segmentation import Provenance, read_segmentation, write_segmentation
from lib.dicom.source import SourceSeries, read_source
from lib.dicom.structure_set import write_structure_set
from lib.errors import StorageFull, StudiesAway
from lib.phantoms.dicom_series import write_dicom_series
from lib.phantoms.scanner import oriented_grid
from lib.series import read_series
from lib.serving.inference import Draftsman
from lib.serving.log import log_file
from lib.serving.loop import LabelingLoop
from lib.serving.parts import PartFiles, boundary_of
from lib.serving.server import create_server, load_app
from lib.stages import Stage, Standing
from lib.store.erase import erase_patient
from lib.store.images import Image, ImageState
from tests.dicom.drawing import ohif, reread, stored
from tests.dicom.malformed import SEGMENTATIONS, STRUCTURE_SETS
from tests.e2e.orthanc import NAME, PASSWORD, Orthanc, orthanc
from tests.serving.places import app_server, put_label, until

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]  # of pydicom about phantoms' names

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "sample-data"
NOON = dt.datetime(2026, 1, 2, 12, 0, tzinfo=dt.UTC)
SHAPE = (13, 9, 6)
QUIET = {"rescan": "0", "train_after": "0", "ahead": "0"}


@pytest.fixture
def pacs() -> Iterator[Orthanc]:
    with orthanc() as server:
        yield server


@dataclass
class Here:
    """An app in the process of the tests, with the studies at Orthanc."""

    client: TestClient
    app: LabelingLoop
    data: Path

    @property
    def images(self) -> list[str]:
        return self.app.record.images.ids()

    def get(self, path: str, **query: Any) -> Any:
        response = self.client.get(f"/dicomweb{path}", params=query)
        assert response.status_code == 200, response.text
        return response.json()

    def study_of(self, image_id: str) -> str:
        (found,) = self.app.record.listings.of_series(image_id.partition("/")[0])
        return found.listing.study_uid

    def source(self, image_id: str) -> SourceSeries:
        return self.app.dicom.files.source(self.app.record.images.get(image_id))

    def draft(self, image_id: str) -> None:
        response = self.client.post(f"/infer/{self.app.record.task.name}", params={"image": image_id})
        assert response.status_code == 200, response.text

    def store(self, *objects: Dataset | bytes) -> Any:
        contents = [one if isinstance(one, bytes) else stored(one) for one in objects]
        body = b"".join(b"--xx\r\nContent-Type: application/dicom\r\n\r\n" + one + b"\r\n" for one in contents)
        kind = 'multipart/related; type="application/dicom"; boundary="xx"'
        return self.client.post(
            "/dicomweb/studies",
            params={"client_id": "dr.kim"},
            content=body + b"--xx--\r\n",
            headers={"Content-Type": kind},
        )

    def history(self, image_id: str) -> list[tuple[str, str]]:
        return [(one.stage, one.author) for one in self.app.record.annotations.history(image_id)]


@pytest.fixture
def open_here(pacs: Orthanc, tmp_path: Path) -> Iterator[Callable[..., Here]]:
    """Opens an app on Orthanc; keywords are settings."""
    opened: list[Here] = []
    login = tmp_path / "login"
    login.write_text(f"{NAME}:{PASSWORD}\n")

    def open_it(app_name: str = "hemorrhage", **conf: str) -> Here:
        data = tmp_path / "data"
        settings = {**QUIET, "data": str(data), "studies_login": str(login), **conf}
        app = load_app(ROOT / "apps" / app_name, pacs.address, settings)
        app.drafting.compute = Draftsman().draft
        opened.append(Here(TestClient(create_server(app), base_url="http://127.0.0.1"), app, data))
        return opened[-1]

    yield open_it
    for each in opened:
        each.client.close()
        each.app.relay.remote.close()
        each.app.record.close()


def with_one_ct(pacs: Orthanc, open_here: Callable[..., Here], folder: Path, **conf: str) -> tuple[Here, str]:
    """An app that has found the one CT of the server, and the id of that image."""
    pacs.put(write_ct(folder / "a", 1))
    here = open_here(**conf)
    here.app.look()
    (image_id,) = here.images
    return here, image_id


def noted_once(here: Here, image_id: str, stored: Any, caplog: pytest.LogCaptureFixture) -> Image:
    """What is noted of an object at the server after two looks, by which it did not become an annotation."""
    with caplog.at_level(logging.WARNING):
        here.app.look()
        here.app.look()

    assert here.history(image_id) == []
    (noted,) = here.app.record.images.every(ImageState.NO_IMAGE)
    assert noted.id == f"{stored.SeriesInstanceUID}/{stored.SOPInstanceUID}"
    assert sum("is not taken in" in line for line in caplog.messages) == 1
    return noted


def write_ct(folder: Path, number: int, modality: Any = "CT") -> list[Path]:
    """A small series of noise around bone and brain."""
    _, affine = oriented_grid("LPS", SHAPE, (0.7, 1.3, 5.0), (12.0, -34.0, 567.8), (0.0, 0.0, 0.0))
    voxels = np.random.default_rng(number).integers(-1000, 1000, SHAPE).astype(np.int16)
    write_dicom_series(folder, voxels, affine, modality=modality, patient_id=f"p{number}", seed=number)
    return sorted(folder.iterdir())


def drawing(source: SourceSeries, app: LabelingLoop, seed: str = "mine", name: str = "IPH") -> Dataset:
    """A segmentation as OHIF stores it: a block of one structure."""
    mask, written_by = block(source, app, name), Provenance("mine", "x", NOON, seed)
    return ohif(write_segmentation(mask, app.record.task, source, written_by, looked_at=(name,)))


def contours(source: SourceSeries, app: LabelingLoop) -> Dataset:
    """The same as contours, as a planning system stores them."""
    written_by = Provenance("mine", "x", NOON, "contours")
    return write_structure_set(block(source, app), app.record.task, source, written_by, looked_at=("IPH",))


def block(source: SourceSeries, app: LabelingLoop, name: str = "IPH") -> np.ndarray:
    """A mask of a block of one structure."""
    mask = np.zeros(source.grid.shape, np.uint8)
    mask[1:4, 2:5, :2] = app.record.task.values[name]
    return mask


def put_objects(pacs: Orthanc, folder: Path, *objects: Dataset) -> None:
    """Stores objects at the server, as another program does."""
    for one in objects:
        (folder / "object.dcm").write_bytes(stored(one))
        pacs.put([folder / "object.dcm"])


def uid(told: dict[str, Any], level: str) -> str:
    return str(told[f"{pydicom.datadict.tag_for_keyword(f'{level}InstanceUID'):08X}"]["Value"][0])


def value(told: dict[str, Any], keyword: str) -> Any:
    return told[f"{pydicom.datadict.tag_for_keyword(keyword):08X}"]["Value"][0]


# --- Images -----------------------------------------------------------------------------------------------------------


def test_series_of_the_tasks_modality_are_images_and_nothing_is_fetched_for_that(
    pacs: Orthanc, open_here: Callable[..., Here], tmp_path: Path
) -> None:
    first = write_ct(tmp_path / "a", 1)
    pacs.put([*first, *write_ct(tmp_path / "b", 2), *write_ct(tmp_path / "c", 3, "MR")])
    here = open_here()
    told: list[tuple[int, int]] = []

    here.app.look(lambda done, total: told.append((done, total)))

    assert here.images == sorted(pacs.series("CT")) and len(here.images) == 2
    assert told == [(2, 2)]
    image = here.app.record.images.get(str(pydicom.dcmread(first[0]).SeriesInstanceUID))
    wanted = read_source(first).grid
    assert image.grid is not None and image.grid.shape == wanted.shape
    np.testing.assert_allclose(image.grid.affine, wanted.affine, atol=1e-6)
    assert not (here.data / "fetched").exists()
    # Only a checksum needs the pixels.
    offered = here.client.post("/activelearning/first", params={"checksum": False}).json()
    assert offered["id"] == here.images[0]
    assert not (here.data / "fetched").exists()


def test_a_second_look_reads_only_what_is_new_or_changed(
    pacs: Orthanc, open_here: Callable[..., Here], tmp_path: Path
) -> None:
    first, second = write_ct(tmp_path / "a", 1), write_ct(tmp_path / "b", 2)
    pacs.put(first[:-1])
    here = open_here()
    here.app.look()
    (image_id,) = here.images
    here.app.library.files(here.app.record.images.get(image_id))
    pacs.put([first[-1], *second])
    told: list[int] = []

    here.app.look(lambda done, total: told.append(total))
    here.app.look(lambda done, total: told.append(total))

    assert told == [2]
    image = here.app.record.images.get(image_id)
    assert image.grid is not None and image.grid.shape == SHAPE
    np.testing.assert_array_equal(here.app.library.volume(image).voxels, read_series(first).voxels)


def test_a_series_that_makes_no_volume_is_quarantined_with_its_reason_until_it_is_whole(
    pacs: Orthanc, open_here: Callable[..., Here], tmp_path: Path
) -> None:
    paths = write_ct(tmp_path / "a", 1)
    pacs.put([*paths[:2], *paths[3:]])
    here = open_here()

    here.app.look()

    (quarantined,) = here.app.record.images.every(ImageState.QUARANTINED)
    assert "10.0 mm apart" in quarantined.reason
    pacs.put([paths[2]])
    here.app.look()
    assert here.images == [quarantined.id]


def test_a_series_that_is_gone_is_quarantined_and_comes_back(
    pacs: Orthanc, open_here: Callable[..., Here], tmp_path: Path
) -> None:
    paths = write_ct(tmp_path / "a", 1)
    pacs.put(paths)
    here = open_here()
    here.app.look()
    (image_id,) = here.images
    pacs.delete_series(image_id)

    here.app.look()

    (quarantined,) = here.app.record.images.every(ImageState.QUARANTINED)
    assert quarantined.reason.startswith(f"Series {image_id} is gone from the server of the studies.")
    pacs.put(paths)
    here.app.look()
    assert here.images == [image_id]


def test_fetched_images_make_room_for_others_but_never_while_they_are_used(
    pacs: Orthanc, open_here: Callable[..., Here], tmp_path: Path
) -> None:
    for number in (1, 2, 3):
        pacs.put(write_ct(tmp_path / str(number), number))
    here = open_here(cache_gib="0")
    here.app.look()
    library = here.app.library
    one, two, three = (here.app.record.images.get(image_id) for image_id in here.images)
    folder = {image.id: here.data / "fetched" / image.source for image in (one, two, three)}

    with library.using(one) as paths:
        library.files(two)
        library.files(three)
        assert [path.is_file() for path in paths] == [True] * 6
        assert [folder[image.id].is_dir() for image in (one, two, three)] == [True, False, True]

    library.files(two)
    assert [folder[image.id].is_dir() for image in (one, two, three)] == [False, True, False]


def test_an_erased_patient_stays_erased_and_the_address_is_told(
    pacs: Orthanc, open_here: Callable[..., Here], tmp_path: Path
) -> None:
    here, image_id = with_one_ct(pacs, open_here, tmp_path)
    image = here.app.record.images.get(image_id)
    here.app.library.image_file(image)

    erased = erase_patient(here.app.record, here.data, [image.patient])
    here.app.look()

    assert erased.studies == [f"{here_study(pacs)}/{image_id}"]
    assert [path for path in (here.data / "fetched").rglob("*") if path.is_file()] == []
    assert here.images == [] and here.app.record.listings.of_series(image_id) == []


def here_study(pacs: Orthanc) -> str:
    (study,) = pacs.client.get("/dicom-web/studies").json()
    return uid(study, "Study")


# --- What viewers see -------------------------------------------------------------------------------------------------


def test_searches_and_instances_are_passed_on_with_our_addresses(
    pacs: Orthanc, open_here: Callable[..., Here], tmp_path: Path
) -> None:
    paths = write_ct(tmp_path / "a", 1)
    packed = pydicom.dcmread(paths[0])
    packed.compress(RLELossless, generate_instance_uid=False)
    packed.save_as(paths[0])
    pacs.put([*paths, *write_ct(tmp_path / "b", 2, "MR")])
    here = open_here()
    here.app.look()
    (image_id,) = here.images
    study = here.study_of(image_id)

    (found,) = here.get("/studies", PatientID="p1")
    told = here.get(f"/studies/{study}/series/{image_id}/metadata")
    address = f"/dicomweb/studies/{study}/series/{image_id}/instances/{packed.SOPInstanceUID}"
    instance = here.client.get(address, headers={"Accept": 'multipart/related; type="application/dicom"; '
                                                           "transfer-syntax=*"})  # fmt: skip
    frame = here.client.get(
        f"{address}/frames/1",
        headers={"Accept": 'multipart/related; type="image/dicom-rle"; transfer-syntax=1.2.840.10008.1.2.5'},
    )

    assert len(here.get("/studies")) == 2, "the MR is no image of the task, and can be looked at all the same"
    assert found["00081190"]["Value"] == [f"http://127.0.0.1:80/dicomweb/studies/{study}"]
    assert len(told) == 6
    bulk = next(one["7FE00010"]["BulkDataURI"] for one in told if uid(one, "SOP") != packed.SOPInstanceUID)
    assert bulk.startswith(f"http://127.0.0.1:80/dicomweb/studies/{study}/series/{image_id}/instances/")
    assert here.client.get(bulk.removeprefix("http://127.0.0.1:80")).status_code == 200
    assert paths[0].read_bytes() in instance.content
    assert next(pydicom.encaps.generate_frames(packed.PixelData, number_of_frames=1)) in frame.content
    assert not (here.data / "fetched").exists()


def test_a_draft_is_merged_into_what_the_server_tells_and_never_sent_there(
    pacs: Orthanc, open_here: Callable[..., Here]
) -> None:
    pacs.put(sorted((SAMPLES / "hemorrhage" / "head_11").iterdir()))
    here = open_here()
    here.app.look()
    (image_id,) = here.images
    study = here.study_of(image_id)

    here.draft(image_id)

    (told,) = here.get("/studies")
    assert told["00080061"]["Value"] == ["CT", "SEG"]
    assert value(told, "NumberOfStudyRelatedSeries") == 2
    ours, theirs = here.get(f"/studies/{study}/series")
    assert (value(ours, "Modality"), value(ours, "SeriesDescription")) == ("SEG", "DRAFT rule hemorrhage")
    assert uid(theirs, "Series") == image_id
    assert [uid(one, "Series") for one in here.get("/series", limit=1)] == [uid(ours, "Series")]
    assert [uid(one, "Series") for one in here.get("/series", limit=1, offset=1)] == [image_id]
    assert here.get("/series", limit=1, offset=2) == []
    assert [uid(one, "Series") for one in here.get("/series", Modality="CT")] == [image_id]
    reply = here.client.get(f"/dicomweb/studies/{study}/series/{uid(ours, 'Series')}")
    assert reply.content.partition(b"\r\n\r\n")[2].startswith(b"\0" * 128 + b"DICM")
    assert pacs.series("SEG") == []


def test_of_a_study_as_a_whole_comes_what_a_search_tells(
    pacs: Orthanc, open_here: Callable[..., Here], tmp_path: Path
) -> None:
    paths = sorted((SAMPLES / "hemorrhage" / "head_11").iterdir())
    pacs.put(paths)
    here = open_here()
    here.app.look()
    (image_id,) = here.images
    here.draft(image_id)
    study = here.study_of(image_id)

    told = here.get(f"/studies/{study}/instances")
    metadata = here.get(f"/studies/{study}/metadata")
    reply = here.client.get(f"/dicomweb/studies/{study}")
    parts = PartFiles(boundary_of(reply.headers["content-type"]), tmp_path)
    parts.write(reply.content)

    instances = [pydicom.dcmread(path) for path in parts.paths]
    wanted = {uid(one, "SOP") for one in told}
    assert len(told) == len(paths) + 1 and value(here.get("/studies")[0], "NumberOfStudyRelatedInstances") == len(told)
    assert [uid(one, "SOP") for one in metadata] == [str(one.SOPInstanceUID) for one in instances]
    assert {uid(one, "SOP") for one in metadata} == wanted
    (draft,) = here.app.record.annotations.history(image_id)
    assert parts.paths[0].read_bytes() == here.app.dicom.files.segmentation(draft).read_bytes()


def test_what_the_server_warns_of_is_passed_on(pacs: Orthanc, open_here: Callable[..., Here], tmp_path: Path) -> None:
    here, image_id = with_one_ct(pacs, open_here, tmp_path)
    study, correction = here.study_of(image_id), drawing(here.source(image_id), here.app)
    warning = '299 "pacs" "The fuzzymatching parameter is not supported."'
    here.app.relay.remote._client.event_hooks = {"response": [lambda reply: reply.headers.update({"Warning": warning})]}

    replies = [
        here.client.get("/dicomweb/studies", params={"PatientName": "M*", "fuzzymatching": "true"}),
        here.client.get(f"/dicomweb/studies/{study}"),
        here.client.get(f"/dicomweb/studies/{study}/metadata"),
        here.client.get(f"/dicomweb/studies/{study}/series/1.2.3/metadata"),
        here.store(correction),
    ]

    assert [reply.status_code for reply in replies] == [200, 200, 200, 404, 200]
    assert [reply.headers.get("warning") for reply in replies] == [warning] * 3 + [None] + [warning]


def test_an_uploaded_image_is_seen_beside_those_of_the_server_and_its_correction_stays_here(
    pacs: Orthanc, open_here: Callable[..., Here]
) -> None:
    here = open_here("mass")
    with (SAMPLES / "mass" / "breast_01.nii.gz").open("rb") as file:
        here.client.put("/datastore/image", params={"image": "mine"}, files={"file": ("mine.nii.gz", file)})

    (study,) = here.get("/studies")
    (series,) = here.get(f"/studies/{uid(study, 'Study')}/series")
    (told,) = here.get(f"/studies/{uid(study, 'Study')}/series/{uid(series, 'Series')}/metadata")
    reply = here.store(drawing(here.source("mine"), here.app, name=here.app.record.task.structures[0].name))

    assert value(told, "Modality") == "MG"
    assert reply.status_code == 200, reply.text
    assert here.history("mine") == [("expert", "dr.kim")]
    assert pacs.series("SEG") == []


def test_no_address_leads_out_of_the_servers_root(pacs: Orthanc, open_here: Callable[..., Here]) -> None:
    here = open_here()

    for way in ("../../system", "%2e%2e/%2e%2e/system", "1/series/2/instances/3/../../../../../../system"):
        response = here.client.get(f"/dicomweb/studies/{way.replace('..', '%2e%2e')}")

        assert response.status_code == 404, response.text
        assert "DicomAet" not in response.text


# --- Corrections ------------------------------------------------------------------------------------------------------


def test_a_correction_is_stored_there_and_becomes_an_annotation_here_once(
    pacs: Orthanc, open_here: Callable[..., Here]
) -> None:
    pacs.put(sorted((SAMPLES / "hemorrhage" / "head_11").iterdir()))
    here = open_here()
    here.app.look()
    (image_id,) = here.images
    here.draft(image_id)
    correction = drawing(here.source(image_id), here.app)

    first, again = here.store(correction), here.store(correction)
    here.app.look()

    assert (first.status_code, again.status_code) == (200, 200), first.text
    assert here.history(image_id) == [("draft", "rule:hemorrhage"), ("expert", "dr.kim")]
    assert pacs.series("SEG") == [str(correction.SeriesInstanceUID)]
    series = here.get(f"/studies/{here.study_of(image_id)}/series")
    assert sorted(uid(one, "Series") for one in series) == sorted([image_id, str(correction.SeriesInstanceUID)])
    current = here.app.record.annotations.tagged(image_id, "final")
    assert current.parent == 1
    wanted, _ = read_segmentation(correction, here.source(image_id), here.app.record.task)
    np.testing.assert_array_equal(here.app.library.mask(current), wanted)


@pytest.mark.parametrize(
    ("lua", "words"),
    [("function ReceivedInstanceFilter(dicom, origin) return false end", "says that it has stored"),
     ("function IncomingHttpRequestFilter(method, uri, ip, user, headers) return method ~= 'POST' end", "(403")],
)  # fmt: skip
def test_what_the_server_refuses_is_not_recorded(
    pacs: Orthanc, open_here: Callable[..., Here], tmp_path: Path, lua: str, words: str
) -> None:
    here, image_id = with_one_ct(pacs, open_here, tmp_path)
    correction = drawing(here.source(image_id), here.app)
    pacs.obey(lua)

    reply = here.store(correction)

    assert reply.status_code == 502
    assert words in reply.text and "The server of the studies" in reply.text
    assert here.history(image_id) == [] and list(here.data.glob("segmentations/*/*")) == []


def test_malformed_objects_are_refused_here_and_never_sent_there(
    pacs: Orthanc, open_here: Callable[..., Here], tmp_path: Path
) -> None:
    here, image_id = with_one_ct(pacs, open_here, tmp_path)
    source = here.source(image_id)
    cases = [(spoil(drawing(source, here.app)), message) for spoil, message in SEGMENTATIONS.values()]
    cases += [(spoil(reread(contours(source, here.app))), message) for spoil, message in STRUCTURE_SETS.values()]

    replies = [here.store(content) for content, _ in cases]

    assert {reply.status_code for reply in replies} == {409, 422}
    for reply, (_, message) in zip(replies, cases, strict=True):
        assert re.search(message, reply.text)
    assert here.history(image_id) == [] and pacs.series("SEG") == pacs.series("RTSTRUCT") == []


def test_when_recording_fails_the_reply_says_that_the_server_has_stored_it(
    pacs: Orthanc, open_here: Callable[..., Here], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, image_id = with_one_ct(pacs, open_here, tmp_path)
    correction = drawing(here.source(image_id), here.app)

    def full(*_: Any, **__: Any) -> Any:
        raise StorageFull("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr("lib.serving.stow.save_packed", full)
        failed = here.store(correction)
    again = here.store(correction)

    assert failed.status_code == 507 and "has stored it already: send it again" in failed.text
    assert again.status_code == 200
    assert here.history(image_id) == [("expert", "dr.kim")]


def test_what_another_program_stores_there_becomes_an_annotation_by_its_author(
    pacs: Orthanc, open_here: Callable[..., Here], tmp_path: Path
) -> None:
    here, image_id = with_one_ct(pacs, open_here, tmp_path, role="annotator", studies_author="somebody")
    source = here.source(image_id)
    named, unnamed = drawing(source, here.app, "one"), drawing(source, here.app, "two", "SDH")
    named.ContentCreatorName = ""
    named.OperatorsName = ["Kim^Hana", "Lee"]
    for one in (named, unnamed):
        put_objects(pacs, tmp_path, one)
        here.app.look()
        here.app.look()

    assert here.history(image_id) == [("draft", "Kim Hana"), ("draft", "somebody")]
    assert here.app.record.annotations.history(image_id)[0].voxels["IPH"] == 3 * 3 * 2


def automatic(dataset: Dataset, program: str = "OrganNet") -> Dataset:
    """The same, drawn by a program alone."""
    dataset.Manufacturer = program
    for segment in dataset.get("SegmentSequence") or ():
        segment.SegmentAlgorithmType, segment.SegmentAlgorithmName = "AUTOMATIC", program
    for region in dataset.get("StructureSetROISequence") or ():
        region.ROIGenerationAlgorithm = "AUTOMATIC"
    if "ManufacturerModelName" in dataset:
        del dataset.ManufacturerModelName
    return dataset


@pytest.mark.parametrize("draw", [drawing, contours])
def test_what_a_program_drew_by_itself_is_a_draft_and_never_learned_from(
    pacs: Orthanc, open_here: Callable[..., Here], tmp_path: Path, draw: Callable[..., Dataset]
) -> None:
    here, image_id = with_one_ct(pacs, open_here, tmp_path)
    drawn = automatic(draw(here.source(image_id), here.app))
    drawn.OperatorsName = "Kim^Hana"
    put_objects(pacs, tmp_path, drawn)

    here.app.look()
    here.app.look()

    assert here.history(image_id) == [("draft", "model:OrganNet")]
    assert here.app.record.annotations.newest_expert_id() == 0
    image = here.app.record.images.get(image_id)
    assert (image.standing, image.split) == (Standing.DRAFTED, None), "anybody may be offered it"
    (case,) = here.client.get("/cases/", params={"study": here.study_of(image_id)}).json()["cases"]
    assert case["current"]["description"] == "DRAFT model OrganNet"


def test_a_programs_object_that_a_person_stores_through_this_server_is_that_persons_correction(
    pacs: Orthanc, open_here: Callable[..., Here], tmp_path: Path
) -> None:
    here, image_id = with_one_ct(pacs, open_here, tmp_path)
    stored_here = automatic(drawing(here.source(image_id), here.app))

    assert here.store(stored_here).status_code == 200
    here.app.look()

    assert here.history(image_id) == [("expert", "dr.kim")]


def test_going_over_a_programs_draft_and_storing_it_elsewhere_is_a_correction_of_it(
    pacs: Orthanc, open_here: Callable[..., Here], tmp_path: Path
) -> None:
    here, image_id = with_one_ct(pacs, open_here, tmp_path)
    source = here.source(image_id)
    first, second = automatic(drawing(source, here.app, "one")), automatic(drawing(source, here.app, "two", "SDH"))
    second.SegmentSequence[0].SegmentAlgorithmType = "SEMIAUTOMATIC"
    second.OperatorsName, second.ContentCreatorName = "Kim^Hana", ""
    for one in (first, second):
        put_objects(pacs, tmp_path, one)
        here.app.look()

    assert here.history(image_id) == [("draft", "model:OrganNet"), ("expert", "Kim Hana")]
    assert here.app.record.annotations.history(image_id)[1].parent == 1


def test_no_rule_drafts_ahead_over_what_a_programs_model_drew(
    pacs: Orthanc, open_here: Callable[..., Here], tmp_path: Path
) -> None:
    here, image_id = with_one_ct(pacs, open_here, tmp_path, ahead="1")
    put_objects(pacs, tmp_path, automatic(drawing(here.source(image_id), here.app)))
    here.app.look()

    assert not here.app.ahead.draft_next()

    assert here.history(image_id) == [("draft", "model:OrganNet")]


def test_contours_that_another_program_stores_there_become_an_annotation_once(
    pacs: Orthanc, open_here: Callable[..., Here], tmp_path: Path
) -> None:
    here, image_id = with_one_ct(pacs, open_here, tmp_path)
    structure_set = contours(here.source(image_id), here.app)
    structure_set.OperatorsName = "Lee^Min"
    put_objects(pacs, tmp_path, structure_set)

    here.app.look()
    here.app.look()

    assert here.history(image_id) == [("expert", "Lee Min")]
    mask = here.app.library.mask(here.app.record.annotations.tagged(image_id, "final"))
    np.testing.assert_array_equal(mask, block(here.source(image_id), here.app))
    told = here.get(f"/studies/{here.study_of(image_id)}/series")
    assert sorted(value(one, "Modality") for one in told) == ["CT", "RTSTRUCT", "SEG"], "viewers draw on the SEG"


def test_contours_of_other_regions_are_noted_once_with_their_names(
    pacs: Orthanc, open_here: Callable[..., Here], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here, image_id = with_one_ct(pacs, open_here, tmp_path)
    structure_set = contours(here.source(image_id), here.app)
    structure_set.StructureSetROISequence[0].ROIName = "Body"
    put_objects(pacs, tmp_path, structure_set)

    noted = noted_once(here, image_id, structure_set, caplog)

    assert noted.modality == "RTSTRUCT"
    assert "the regions 'Body', the task has" in noted.reason


def test_of_several_objects_that_came_meanwhile_the_newest_becomes_the_current_annotation(
    pacs: Orthanc, open_here: Callable[..., Here], tmp_path: Path
) -> None:
    here, image_id = with_one_ct(pacs, open_here, tmp_path)
    source = here.source(image_id)
    newest, first, second = (
        drawing(source, here.app, "one"),
        drawing(source, here.app, "two"),
        contours(source, here.app),
    )
    for number, one in enumerate((first, second, newest), start=1):
        one.SeriesDate, one.OperatorsName, one.ContentCreatorName = f"2026010{number}", f"reader {number}", ""
    put_objects(pacs, tmp_path, newest, first, second)

    here.app.look()

    assert [author for _, author in here.history(image_id)] == ["reader 1", "reader 2", "reader 3"]


def test_an_object_that_joins_a_series_later_is_taken_in_too(
    pacs: Orthanc, open_here: Callable[..., Here], tmp_path: Path
) -> None:
    here, image_id = with_one_ct(pacs, open_here, tmp_path)
    first, second = (drawing(here.source(image_id), here.app, seed) for seed in ("one", "two"))
    second.SeriesInstanceUID = first.SeriesInstanceUID
    for one in (first, second):
        put_objects(pacs, tmp_path, one)
        here.app.look()

    # They hold the same mask, which is one version.
    assert len(here.app.record.segmentations.of_image(image_id)) == 2
    assert len(here.history(image_id)) == 1


def test_what_does_not_fit_is_noted_once_with_its_reason(
    pacs: Orthanc, open_here: Callable[..., Here], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here, image_id = with_one_ct(pacs, open_here, tmp_path)
    wrong = drawing(here.source(image_id), here.app)
    wrong.SegmentSequence[0].SegmentLabel = "Liver"
    wrong.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue = "unknown"
    put_objects(pacs, tmp_path, wrong)

    assert "'Liver'" in noted_once(here, image_id, wrong, caplog).reason


def test_our_own_draft_in_the_servers_hands_is_not_taken_for_a_correction(
    pacs: Orthanc, open_here: Callable[..., Here], tmp_path: Path
) -> None:
    pacs.put(sorted((SAMPLES / "hemorrhage" / "head_11").iterdir()))
    here = open_here()
    here.app.look()
    (image_id,) = here.images
    here.draft(image_id)
    (draft,) = here.app.record.annotations.history(image_id)
    pacs.put([here.app.dicom.files.segmentation(draft), here.app.dicom.files.structure_set(draft)])

    here.app.look()

    assert here.history(image_id) == [(Stage.DRAFT, "rule:hemorrhage")]


# --- When it is away --------------------------------------------------------------------------------------------------


def test_while_it_is_away_each_request_says_so_and_what_was_fetched_works(
    pacs: Orthanc, open_here: Callable[..., Here], tmp_path: Path
) -> None:
    pacs.put([*write_ct(tmp_path / "a", 1), *write_ct(tmp_path / "b", 2)])
    here = open_here()
    here.app.look()
    kept, other = here.images
    before = here.client.get("/datastore/image", params={"image": kept})
    correction = drawing(here.source(kept), here.app)
    study = here.study_of(kept)
    pacs.stop()

    searched, fetched, sent = (
        here.client.get("/dicomweb/studies"),
        here.client.get("/datastore/image", params={"image": other}),
        here.store(correction),
    )

    for reply in (searched, fetched, sent):
        assert reply.status_code == 503
        assert f"The server of the studies, {pacs.address}, does not answer" in reply.text
    with pytest.raises(StudiesAway, match="does not answer"):
        here.app.look()
    assert here.images == [kept, other] and here.history(kept) == []
    again = here.client.get("/datastore/image", params={"image": kept})
    assert again.content == before.content
    voxels = np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(again.content)).dataobj)
    assert voxels.shape == SHAPE
    assert len(here.get(f"/studies/{study}/series/{kept}/metadata")) == 6
    pacs.start()
    assert here.store(correction).status_code == 200
    assert here.client.get("/datastore/image", params={"image": other}).status_code == 200


def test_a_wrong_login_is_told_and_a_new_one_needs_no_new_start(
    pacs: Orthanc, open_here: Callable[..., Here], tmp_path: Path
) -> None:
    pacs.put(write_ct(tmp_path / "a", 1))
    login = tmp_path / "other"
    login.write_text("a.bearer.token")
    here = open_here(studies_login=str(login))

    refused = here.client.get("/dicomweb/studies")
    login.write_text(f"{NAME}:{PASSWORD}")
    here.app.look()

    assert refused.status_code == 502 and "does not let this server in (401" in refused.text
    assert "bearer.token" not in refused.text
    assert len(here.images) == 1


# --- All of it --------------------------------------------------------------------------------------------------------


def test_a_server_starts_without_it_goes_on_when_it_comes_and_learns_from_both_sides(
    pacs: Orthanc, tmp_path: Path
) -> None:
    login = tmp_path / "login"
    login.write_text(f"{NAME}:{PASSWORD}")
    pacs.put(sorted((SAMPLES / "hemorrhage" / "head_11").iterdir()))
    pacs.stop()
    conf = {**QUIET, "rescan": "0.5", "studies_login": str(login)}

    with app_server("hemorrhage", pacs.address, tmp_path / "data", conf) as server:  # type: ignore[arg-type]
        assert server.get("/info/")["datastore"]["total"] == 0
        assert PASSWORD not in json.dumps(server.get("/info/"))
        pacs.start()
        until(lambda: server.get("/info/")["datastore"]["total"] == 1, what="the listing of the series")
        (image_id,) = server.get("/datastore/", output="all")["objects"]
        truth = (SAMPLES / "hemorrhage-truth" / "head_11.nii.gz").read_bytes()
        put_label(server.client, image_id, truth, client_id="dr.kim", label_info=[])
        client = DICOMwebClient(f"{server.address.rstrip('/')}/dicomweb")
        (study,) = client.search_for_studies()
        assert len(client.retrieve_series(uid(study, "Study"), image_id)) == len(
            list((SAMPLES / "hemorrhage" / "head_11").iterdir())
        )
        (ours,) = (one for one in client.search_for_series(uid(study, "Study")) if value(one, "Modality") == "SEG")
        (mask,) = client.retrieve_series(uid(study, "Study"), uid(ours, "Series"))
        changed = pydicom.dcmread(BytesIO(stored(mask)))
        changed.SeriesInstanceUID = pydicom.uid.generate_uid()
        changed.SOPInstanceUID = changed.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        changed.ContentCreatorName = "Elsewhere^"
        put_objects(pacs, tmp_path, changed)
        until(lambda: len(server.get("/datastore/label/history", image=image_id)) == 2, what="the foreign mask")

        first, newest = server.get("/datastore/label/history", image=image_id)

    assert value(ours, "SeriesDescription") == "EXPERT dr.kim"
    assert (newest["author"], newest["stage"], newest["voxels"]) == ("Elsewhere", "expert", first["voxels"])
    screen, log = (tmp_path / "data" / "server.out").read_text(), log_file(tmp_path / "data").read_text()
    assert "does not answer" in screen and "The server of the studies answers again" in log
    assert PASSWORD not in screen + log


def test_a_mammogram_there_is_an_image_of_its_own(pacs: Orthanc, open_here: Callable[..., Here]) -> None:
    pacs.put(sorted((SAMPLES / "mass" / "breast_11").iterdir()))
    here = open_here("mass")
    here.app.look()
    (image_id,) = here.images
    source = here.source(image_id)
    correction = drawing(source, here.app, name=here.app.record.task.structures[0].name)

    here.draft(image_id)
    reply = here.store(correction)

    assert image_id == source.name and "/" in image_id
    assert reply.status_code == 200, reply.text
    assert here.history(image_id)[-1] == ("expert", "dr.kim")
    assert pacs.series("SEG") == [str(correction.SeriesInstanceUID)]
