"""What was stored on derived series before these were turned for readers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from lib.dicom.provenance import Provenance
from lib.dicom.segmentation import write_segmentation
from lib.dicom.source import read_source
from lib.serving.studies import derived_series
from lib.volume import Array, Volume, view_on
from tests.dicom.drawing import Unturned, ohif, stored
from tests.serving.conftest import Here
from tests.serving.drawn_series import NOON
from tests.serving.places import voxels

OpenApp = Callable[..., Here]


def store(here: Here, content: bytes) -> Any:
    body = b"--xx\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--xx--\r\n"
    kind = 'multipart/related; type="application/dicom"; boundary="xx"'
    response = here.client.post("/dicomweb/studies", content=body, headers={"Content-Type": kind})
    assert response.status_code == 200, response.text
    return response


def drawn_on(here: Here, folder: Path, series: type[Unturned] | None) -> tuple[pydicom.Dataset, Array]:
    """Two different blocks in OHIF, on the series of ``case_00`` as it is or as it was; and their mask on the file."""
    image = here.app.library.readable("case_00")
    now = derived_series(image)
    folder.mkdir()
    drawn = now if series is None else series(now.image_id, now.patient, now.modality, now.grid, now.made_at)
    drawn.write(folder, here.app.library.volume(image))
    source = read_source(sorted(folder.iterdir()))
    mask = np.zeros(now.grid.shape, np.uint8)
    mask[2:5, 3:9, 1:3], mask[10:12, 1:3, 5] = 1, 2
    on_series = view_on(Volume(mask, now.grid.affine), source.grid, "case_00")
    return ohif(write_segmentation(on_series, here.app.record.task, source, Provenance("x", "a", NOON, "b"))), mask


def segmentations(here: Here) -> list[str]:
    """SeriesInstanceUIDs that viewers find."""
    return [one["0020000E"]["Value"][0] for one in here.client.get("/dicomweb/series?Modality=SEG").json()]


def test_a_drawing_on_the_series_as_it_was_is_shown_by_ours_and_kept_as_it_came(
    open_app: OpenApp, tmp_path: Path
) -> None:
    here = open_app()
    drawn, mask = drawn_on(here, tmp_path / "before", Unturned)
    store(here, stored(drawn))

    (shown,) = segmentations(here)

    assert shown != drawn.SeriesInstanceUID
    (study,) = here.client.get("/dicomweb/studies", params={"ModalitiesInStudy": "SEG"}).json()
    assert study["00201206"]["Value"] == [2], "the image and one segmentation"
    (case,) = here.client.get("/cases/", params={"study": drawn.StudyInstanceUID}).json()["cases"]
    assert case["current"]["series_uid"] == shown
    kept = (
        f"/dicomweb/studies/{drawn.StudyInstanceUID}/series/{drawn.SeriesInstanceUID}/instances/{drawn.SOPInstanceUID}"
    )
    assert stored(drawn) in here.client.get(kept).content
    label = here.client.get("/datastore/label", params={"image": "case_00", "tag": "final"})
    np.testing.assert_array_equal(voxels(label.content), mask)


def test_a_drawing_on_the_series_as_it_is_is_shown_as_it_came(open_app: OpenApp, tmp_path: Path) -> None:
    here = open_app()
    drawn, _ = drawn_on(here, tmp_path / "now", None)
    store(here, stored(drawn))

    assert segmentations(here) == [drawn.SeriesInstanceUID]


def test_a_drawing_that_does_not_say_how_it_lies_is_shown_as_it_came(open_app: OpenApp, tmp_path: Path) -> None:
    here = open_app()
    drawn, _ = drawn_on(here, tmp_path / "now", None)
    del drawn.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    store(here, stored(drawn))

    assert segmentations(here) == [drawn.SeriesInstanceUID]
