"""A scan is the same scan in a folder, at a PACS and as one enhanced file, for images and for what is drawn on them.

What is expected is read by pydicom and computed here: the place of each pixel in the patient by its value, of which no
two are alike. Segmentations are written by highdicom.
"""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid
from starlette.testclient import TestClient

from lib.phantoms.dicom_series import write_dicom_series, write_enhanced_series
from lib.phantoms.scanner import oriented_grid
from lib.serving.loop import LabelingLoop
from lib.serving.server import create_server, load_app
from lib.store.images import ImageState
from tests.dicom.drawing import stored
from tests.serving.conftest import APPS
from tests.serving.folder_pacs import folder_pacs
from tests.serving.places import CONF, affine, voxels

pytestmark = pytest.mark.filterwarnings("ignore")  # of pydicom and highdicom about phantoms' names

SHAPE, SPACING_MM = (13, 9, 6), (0.7, 1.3, 5.0)
NONE, OBLIQUE = (0.0, 0.0, 0.0), (8.0, -5.0, 11.0)
GANTRY = 0.36397  # the tangent of 20 degrees

SCANS = {
    "axial": ("LPS", NONE, 0.0),
    "columns mirrored": ("LAS", NONE, 0.0),
    "rows mirrored": ("RPS", NONE, 0.0),
    "both mirrored": ("RAS", NONE, 0.0),
    "sagittal": ("PIL", NONE, 0.0),
    "coronal": ("LIP", NONE, 0.0),
    "rows for columns": ("PLS", NONE, 0.0),
    "oblique": ("LPS", OBLIQUE, 0.0),
    "gantry": ("LPS", NONE, GANTRY),
    "gantry the other way": ("LPS", NONE, -GANTRY),
    "gantry, mirrored and oblique": ("LAS", OBLIQUE, GANTRY),
}
"""Where I, J and K point to, how the patient is turned, and how far each slice lies sideways for each mm further on."""

NAMED: list[str] = []
"""The patients so far: each scan is one of its own."""

Change = Callable[[list[pydicom.Dataset]], object]


def nothing(slices: list[pydicom.Dataset]) -> None:
    """Leaves the slices as they are."""


def put_scan(folder: Path, scan: str, kind: str = "slices", change: Change = nothing) -> str:
    """A scan in a folder, as slices or as one enhanced file; its SeriesInstanceUID."""
    orientation, turned, lean = SCANS[scan]
    patient = f"p{len(NAMED)}"
    NAMED.append(scan)
    shape, grid = oriented_grid(orientation, SHAPE, SPACING_MM, (12.0, -34.0, 567.8), turned)
    pixels = np.random.default_rng(5).permutation(np.prod(shape)).reshape(shape).astype(np.int16) - 1000
    if kind == "enhanced":
        uid = write_enhanced_series(folder / "frames.dcm", pixels, grid, patient_id=patient, seed=1)
        one = pydicom.dcmread(folder / "frames.dcm")
        places = [groups.PlanePositionSequence[0] for groups in one.PerFrameFunctionalGroupsSequence]
        lean_over(places, grid, lean)
        change(places)
        one.save_as(folder / "frames.dcm")
        return uid
    uid = write_dicom_series(folder, pixels, grid, patient_id=patient, seed=1)
    paths = sorted(folder.iterdir())
    slices = [pydicom.dcmread(path) for path in paths]
    lean_over(slices, grid, lean)
    change(slices)
    for path, one in zip(paths, slices, strict=True):
        one.save_as(path)
    return uid


def lean_over(slices: list[Any], grid: np.ndarray, lean: float) -> None:
    """Moves the slices along their columns, each further than the one before."""
    along = np.array([-1, -1, 1]) * grid[:3, 1] / np.linalg.norm(grid[:3, 1])
    for k, one in enumerate(slices):
        moved = np.array(one.ImagePositionPatient, float) + k * SPACING_MM[2] * lean * along
        one.ImagePositionPatient = [f"{value:.9g}" for value in moved]


def places_by_hand(folder: Path) -> dict[int, np.ndarray]:
    """Where each pixel lies, in LPS mm, by its value in HU: PS3.3 section C.7.6.2.1.1, written down."""
    found = {}
    for path in sorted(folder.iterdir()):
        one: Any = pydicom.dcmread(path)
        frames = one.pixel_array.reshape(-1, one.Rows, one.Columns)
        shared = one.get("SharedFunctionalGroupsSequence", [None])[0]
        for k, frame in enumerate(frames):
            if shared is None:
                origin, cosines, spacing = one.ImagePositionPatient, one.ImageOrientationPatient, one.PixelSpacing
                slope, intercept = one.RescaleSlope, one.RescaleIntercept
            else:
                origin = one.PerFrameFunctionalGroupsSequence[k].PlanePositionSequence[0].ImagePositionPatient
                cosines = shared.PlaneOrientationSequence[0].ImageOrientationPatient
                spacing = shared.PixelMeasuresSequence[0].PixelSpacing
                slope = shared.PixelValueTransformationSequence[0].RescaleSlope
                intercept = shared.PixelValueTransformationSequence[0].RescaleIntercept
            along_row, along_column = np.array(cosines, float).reshape(2, 3)
            for (row, column), number in np.ndenumerate(frame):
                place = np.array(origin, float) + along_row * spacing[1] * column + along_column * spacing[0] * row
                found[int(number * slope + intercept)] = place
    assert len(found) == np.prod(SHAPE)
    return found


def places_of(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The voxels of a file and the place of each in LPS mm."""
    values, matrix = voxels(content), affine(content)
    indices = np.moveaxis(np.indices(values.shape), 0, -1)
    return values, (indices @ matrix[:3, :3].T + matrix[:3, 3]) * [-1, -1, 1]


@dataclass
class Way:
    """One way to the images: an app in the process of the tests."""

    client: TestClient
    app: LabelingLoop
    scans: Path

    def image(self, uid: str) -> bytes:
        """The image as it is sent to clients that want a file."""
        reply = self.client.get("/datastore/image", params={"image": uid})
        assert reply.status_code == 200, reply.text
        return reply.content

    def store(self, content: bytes) -> Any:
        """Sends an object as OHIF does."""
        body = b"--xx\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--xx--\r\n"
        kind = 'multipart/related; type="application/dicom"; boundary="xx"'
        return self.client.post("/dicomweb/studies", content=body, headers={"Content-Type": kind})

    def label(self, uid: str) -> bytes:
        """The mask that is stored."""
        reply = self.client.get("/datastore/label", params={"label": uid, "tag": "final"})
        assert reply.status_code == 200, reply.text
        return reply.content

    def reasons(self) -> dict[str, str]:
        """Why images are in quarantine."""
        found = {image.id: image.reason for image in self.app.record.images.every(ImageState.QUARANTINED)}
        return {image_id: reason for image_id, reason in found.items() if " is gone" not in reason}


@pytest.fixture(scope="module", params=["folder", "relay"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    """Images that lie here, and images at a PACS."""
    folder = tmp_path_factory.mktemp("paths")
    scans = folder / "scans"
    with folder_pacs(scans) as pacs:
        studies = str(scans) if request.param == "folder" else pacs.address
        app = load_app(APPS / "segmentation", studies, {**CONF, "data": str(folder / "data")})
        client = TestClient(create_server(app), base_url="http://127.0.0.1", raise_server_exceptions=False)
        yield Way(client, app, scans)
        client.close()
        if app.relay is not None:
            app.relay.remote.close()
        app.record.close()


@pytest.fixture
def way(opened: Way) -> Iterator[Way]:
    """The same without scans."""
    yield opened
    for each in opened.scans.iterdir():
        shutil.rmtree(each)
    opened.app.look()


@pytest.mark.parametrize("kind", ["slices", "enhanced"])
@pytest.mark.parametrize("scan", SCANS)
def test_every_voxel_lies_where_its_header_says(way: Way, scan: str, kind: str) -> None:
    uid = put_scan(way.scans / "ct", scan, kind)
    way.app.look()

    values, places = places_of(way.image(uid))

    expected = places_by_hand(way.scans / "ct")
    assert sorted(values.ravel().tolist()) == sorted(expected)
    np.testing.assert_allclose(places.reshape(-1, 3), [expected[int(value)] for value in values.ravel()], atol=1e-3)


def drawn_by_highdicom(folder: Path, wanted: set[int]) -> bytes:
    """A segmentation of the pixels with these values."""
    images = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    pixels = np.concatenate([one.pixel_array.reshape(-1, one.Rows, one.Columns) for one in images]) - 1024
    segment = hd.seg.SegmentDescription(1, "Anterior", codes.SCT.Tissue, codes.SCT.Tissue, "MANUAL")
    written = hd.seg.Segmentation(
        images, np.isin(pixels, list(wanted)).astype(np.uint8), "BINARY", [segment], generate_uid(), 9, generate_uid(),
        1, "Somebody", "else", "1", "1",
    )  # fmt: skip
    content = io.BytesIO()
    written.save_as(content)
    return content.getvalue()


@pytest.mark.parametrize("kind", ["slices", "enhanced"])
@pytest.mark.parametrize("scan", SCANS)
def test_what_was_drawn_is_stored_on_the_voxels_it_was_drawn_on(way: Way, scan: str, kind: str) -> None:
    uid = put_scan(way.scans / "ct", scan, kind)
    way.app.look()
    expected = places_by_hand(way.scans / "ct")
    wanted = {value for value in expected if value % 7 == 0}

    reply = way.store(drawn_by_highdicom(way.scans / "ct", wanted))
    assert reply.status_code == 200, reply.text

    values, _ = places_of(way.image(uid))
    mask, places = places_of(way.label(uid))
    assert set(values[mask == 1].tolist()) == wanted
    inside = sorted(map(tuple, places[mask == 1].round(2).tolist()))
    np.testing.assert_allclose(inside, sorted(tuple(expected[value].round(2)) for value in wanted), atol=2e-2)


def missing(slices: list[Any]) -> None:
    """Lets one slice be missing: those behind it lie further on."""
    step = np.subtract(slices[1].ImagePositionPatient, slices[0].ImagePositionPatient)
    for one in slices[3:]:
        one.ImagePositionPatient = (np.array(one.ImagePositionPatient, float) + step).tolist()


def two_echoes(slices: list[Any]) -> None:
    for one, other in zip(slices[::2], slices[1::2], strict=True):
        other.ImagePositionPatient = one.ImagePositionPatient


def of_two_phases(slices: list[Any]) -> None:
    """Lies the slices of a second phase 0.5 mm beside those of the first."""
    for one, other in zip(slices[::2], slices[1::2], strict=True):
        other.ImagePositionPatient = [*one.ImagePositionPatient[:2], float(one.ImagePositionPatient[2]) + 0.5]


def sideways(slices: list[Any]) -> None:
    x, y, z = map(float, slices[2].ImagePositionPatient)
    slices[2].ImagePositionPatient = [x + 2, y, z]


@pytest.mark.parametrize("kind", ["slices", "enhanced"])
@pytest.mark.parametrize("scan", ["axial", "columns mirrored", "gantry"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [(missing, r"slices \d and \d are 1\d\.\d mm apart.* A slice is probably missing"),
     (two_echoes, "lie at the same place. Send one stack: one echo, time point or direction"),
     (of_two_phases, r"slices \d and \d are \d\.\d mm apart"),
     (sideways, r"slice 3 lies \d\.\d mm off the line of the others|slice 4 lies")],
)  # fmt: skip
def test_slices_that_are_no_stack_are_quarantined_with_the_reason(
    way: Way, scan: str, kind: str, change: Change, reason: str
) -> None:
    uid = put_scan(way.scans / "ct", scan, kind, change)

    way.app.look()

    assert way.client.get("/datastore/image", params={"image": uid}).status_code == 422
    assert list(way.reasons()) == [uid]
    assert re.search(reason, way.reasons()[uid])


def localiser(slices: list[Any]) -> None:
    slices[0].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def test_a_localiser_in_the_series_is_named_in_the_reason(way: Way) -> None:
    uid = put_scan(way.scans / "ct", "axial", change=localiser)

    way.app.look()

    assert "mixes slices of several directions or pixel sizes, like a localizer" in way.reasons()[uid]


# --- identity -------------------------------------------------------------------------------------------------------


def renamed(folder: Path, **attributes: Any) -> None:
    """Gives the slices of a folder other attributes; a value may depend on the number of the slice."""
    for k, path in enumerate(sorted(folder.iterdir())):
        one = pydicom.dcmread(path)
        for name, value in attributes.items():
            setattr(one, name, value(k) if callable(value) else value)
        one.save_as(path)


def test_slices_with_one_uid_are_quarantined_with_the_reason(way: Way) -> None:
    uid = put_scan(way.scans / "ct", "axial")
    renamed(way.scans / "ct", SOPInstanceUID="1.2.3")

    way.app.look()

    assert "6 slices at several places have one SOPInstanceUID" in way.reasons()[uid]


@pytest.mark.parametrize(
    ("attribute", "what"), [("PatientID", "patients"), ("FrameOfReferenceUID", "coordinate systems")]
)
def test_two_patients_or_coordinate_systems_under_one_series_uid_are_quarantined(
    way: Way, attribute: str, what: str
) -> None:
    uid = put_scan(way.scans / "ct", "axial")
    renamed(way.scans / "ct", **{attribute: lambda k: f"1.2.{k // 3}"})

    way.app.look()

    assert f"holds slices of 2 {what}" in way.reasons()[uid]


def test_two_studies_under_one_series_uid_are_quarantined_until_one_is_gone(way: Way) -> None:
    uid = put_scan(way.scans / "one", "axial")
    shutil.copytree(way.scans / "one", way.scans / "other")
    renamed(way.scans / "other", StudyInstanceUID="1.2.3", SOPInstanceUID=lambda k: f"1.2.3.{k}", PatientID="other")
    way.app.look()

    assert re.search(r"holds slices of 2 patients|is there in 2 studies: .*1\.2\.3", way.reasons()[uid])

    shutil.rmtree(way.scans / "other")
    way.app.look()

    assert way.reasons() == {}
    assert sorted(places_of(way.image(uid))[0].ravel()) == sorted(places_by_hand(way.scans / "one"))


def test_a_second_study_under_the_uid_of_a_known_series_takes_it_out_of_turn(way: Way) -> None:
    uid = put_scan(way.scans / "one", "axial")
    way.app.look()
    assert way.reasons() == {}
    shutil.copytree(way.scans / "one", way.scans / "other")
    renamed(way.scans / "other", StudyInstanceUID="1.2.3", SOPInstanceUID=lambda k: f"1.2.3.{k}", PatientID="other")

    way.app.look()

    assert list(way.reasons()) == [uid]


def test_a_stack_with_a_series_uid_for_each_slice_is_quarantined_with_a_hint(way: Way) -> None:
    put_scan(way.scans / "ct", "oblique")
    renamed(way.scans / "ct", SeriesInstanceUID=lambda k: f"1.2.{k}")
    away = (way.scans / "ct" / "slice_006.dcm").rename(way.scans.parent / "later.dcm")

    way.app.look()
    assert sorted(way.reasons()) == [f"1.2.{k}" for k in range(5)]
    away.rename(way.scans / "ct" / "slice_006.dcm")
    way.app.look()

    assert sorted(way.reasons()) == [f"1.2.{k}" for k in range(6)]
    assert "one of 6 such series of its study" in way.reasons()["1.2.0"]

    renamed(way.scans / "ct", SeriesInstanceUID="1.2.9")
    way.app.look()

    assert way.reasons() == {}
    assert places_of(way.image("1.2.9"))[0].size == 13 * 9 * 6


# --- objects that do not say all ------------------------------------------------------------------------------------


def without_series(dataset: Any) -> None:
    """Leaves only what the frames say of their slices."""
    del dataset.ReferencedSeriesSequence
    dataset.pop("SourceImageSequence", None)


def in_the_shared_groups(dataset: Any) -> None:
    """Says once for all frames of which slices they were drawn."""
    without_series(dataset)
    derivations = [groups.DerivationImageSequence[0] for groups in dataset.PerFrameFunctionalGroupsSequence]
    dataset.SharedFunctionalGroupsSequence[0].DerivationImageSequence = derivations
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        del groups.DerivationImageSequence


def in_another_study(dataset: Any) -> None:
    """Names the series as one of another study."""
    study = pydicom.Dataset()
    study.StudyInstanceUID, study.ReferencedSeriesSequence = dataset.StudyInstanceUID, dataset.ReferencedSeriesSequence
    dataset.StudiesContainingOtherReferencedInstancesSequence = [study]
    del dataset.ReferencedSeriesSequence


def of_the_object(dataset: Any) -> None:
    """Names the slices for the object as a whole."""
    images = dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    del dataset.ReferencedSeriesSequence
    dataset.SourceImageSequence = images
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        del groups.DerivationImageSequence


@pytest.mark.parametrize("kind", ["slices", "enhanced"])
@pytest.mark.parametrize("leave_out", [without_series, in_the_shared_groups, in_another_study, of_the_object])
def test_a_segmentation_that_names_no_series_is_found_by_the_slices_that_it_names(
    way: Way, kind: str, leave_out: Callable[[Any], None]
) -> None:
    uid = put_scan(way.scans / "ct", "oblique", kind)
    put_scan(way.scans / "beside", "oblique", kind)
    # Both lie in one study.
    study = pydicom.dcmread(next((way.scans / "ct").iterdir())).StudyInstanceUID
    renamed(way.scans / "beside", StudyInstanceUID=study)
    way.app.look()
    wanted = {value for value in places_by_hand(way.scans / "ct") if value % 7 == 0}
    dataset = pydicom.dcmread(io.BytesIO(drawn_by_highdicom(way.scans / "ct", wanted)))
    leave_out(dataset)

    reply = way.store(stored(dataset))

    assert reply.status_code == 200, reply.text
    assert set(places_of(way.image(uid))[0][places_of(way.label(uid))[0] == 1].tolist()) == wanted


def test_a_segmentation_that_names_slices_of_nobody_is_refused(way: Way) -> None:
    put_scan(way.scans / "ct", "axial")
    way.app.look()
    dataset = pydicom.dcmread(io.BytesIO(drawn_by_highdicom(way.scans / "ct", {-1000, 7, 14})))
    without_series(dataset)
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"

    reply = way.store(stored(dataset))

    assert reply.status_code == 409
    assert re.search(r"the series that it names: none, and of the \d+ images that its frames name none", reply.text)


def chunks(pixels: bytes) -> bytes:
    """Pixels cut into pieces and packed as OHIF 3.12 did before its release."""
    parts = [pixels[at : at + 20] for at in range(0, len(pixels), 20)]
    items = b"".join(b"\xfe\xff\x00\xe0" + len(part).to_bytes(4, "little") + part for part in parts)
    return b"\xfe\xff\x00\xe0\x04\0\0\0\0\0\0\0" + items


@pytest.mark.parametrize("pack", [lambda pixels: pydicom.encaps.encapsulate([pixels]), chunks])
@pytest.mark.parametrize("is_told", [True, False])
def test_a_segmentation_in_fragments_under_an_uncompressed_syntax_is_refused(
    way: Way, pack: Callable[[bytes], bytes], is_told: bool
) -> None:
    uid = put_scan(way.scans / "ct", "axial")
    way.app.look()
    dataset = pydicom.dcmread(io.BytesIO(drawn_by_highdicom(way.scans / "ct", set(range(-1000, 0, 3)))))
    packed = pack(dataset.PixelData + b"\0" * (len(dataset.PixelData) % 2))
    dataset.PixelData = packed
    dataset["PixelData"].is_undefined_length = not is_told
    content = io.BytesIO()
    pydicom.dcmwrite(content, dataset, implicit_vr=False, little_endian=True, force_encoding=True)

    reply = way.store(content.getvalue())

    assert reply.status_code == 422, reply.text
    assert (
        "says that its pixels are not compressed (Explicit VR Little Endian), but they lie in fragments" in reply.text
    )
    assert way.client.get("/datastore/label", params={"label": uid, "tag": "final"}).status_code == 404
