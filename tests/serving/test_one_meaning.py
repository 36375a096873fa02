"""An image means one thing on every path, whatever two things its header says: as ITK, nibabel and viewers read it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from lib.decoder import foreign
from lib.series import read_series
from lib.serving.library import Library
from lib.volume import Grid, Volume, suffix_of, view_on
from tests.headers import HEADERS, ORIENTATIONS, grid_of, phantom, write
from tests.itk import volume_of_sitk
from tests.serving.conftest import Here
from tests.serving.places import LABEL_INFO, put_label, voxels

DOUBTFUL = ("mirrored", "tilted", "without_form", "other_edges", "negative_edges", "micrometres", "metres", "gantry")
NRRD = ("gantry",)


def some_orientations(kind: str) -> list[str]:
    """Every twelfth of all 48, others for each kind of header, so that all have their turn."""
    return ORIENTATIONS[list(HEADERS).index(kind) :: len(HEADERS)]


@pytest.fixture
def told(open_app: Callable[..., Here]) -> Callable[[str], tuple[Here, dict[str, Grid]]]:
    """Opens the app on images with one kind of header; by id what is meant."""

    def open_it(kind: str) -> tuple[Here, dict[str, Grid]]:
        here, meant = open_app(0), {}
        for orientation in some_orientations(kind):
            shape = grid_of(orientation).shape
            header = HEADERS[kind](grid_of(orientation).affine)
            if kind == "without_form":
                header.reads[:3, 3] = -header.reads[:3, :3] @ (np.array(shape) - 1) / 2
            write(here.studies / f"{orientation}.nii", phantom(shape), header)
            meant[orientation] = Grid(shape, header.reads)
        here.look()
        return here, meant

    return open_it


def sent(here: Here, image_id: str, folder: Path) -> Path:
    """What a client gets, under the name that it is given."""
    reply = here.client.get("/datastore/image", params={"image": image_id})
    assert reply.status_code == 200, reply.text
    path = folder / f"sent{suffix_of(reply.headers['content-disposition'].strip(chr(34)))}"
    path.write_bytes(reply.content)
    return path


def assert_same(found: Volume, meant: Grid) -> None:
    np.testing.assert_array_equal(found.voxels, phantom(meant.shape))
    np.testing.assert_allclose(found.affine, meant.affine, atol=0.02)


@pytest.mark.parametrize("kind", HEADERS)
def test_what_is_sent_means_the_same_to_itk_and_to_nibabel(told: Any, kind: str, tmp_path: Path) -> None:
    here, meant = told(kind)

    for image_id, grid in meant.items():
        path = sent(here, image_id, tmp_path)
        assert_same(here.app.library.volume(here.app.library.readable(image_id)), grid)
        assert_same(volume_of_sitk(sitk.ReadImage(str(path))), grid)
        assert path.suffix == (".nrrd" if kind in NRRD else ".nii")
        if kind not in NRRD:
            by_nibabel: Any = nib.load(path)
            assert_same(Volume(np.asarray(by_nibabel.dataobj), by_nibabel.affine), grid)
            assert_same(Volume(np.asarray(by_nibabel.dataobj), by_nibabel.get_qform()), grid)


@pytest.mark.parametrize("kind", HEADERS)
def test_a_mask_drawn_in_itk_is_stored_on_the_voxels_that_were_drawn(told: Any, kind: str, tmp_path: Path) -> None:
    here, meant = told(kind)

    for image_id, grid in meant.items():
        image = sitk.ReadImage(str(sent(here, image_id, tmp_path)))
        drawn = sitk.Cast(image > 200, sitk.sitkUInt8)
        path = tmp_path / f"mask{'.nrrd' if kind in NRRD else '.nii.gz'}"
        sitk.WriteImage(drawn, str(path))
        put_label(here.client, image_id, path.read_bytes(), path.name, label_info=LABEL_INFO)
        label = here.client.get("/datastore/label", params={"label": image_id, "tag": "final"})
        np.testing.assert_array_equal(voxels(label.content), phantom(grid.shape) > 200)


@pytest.mark.parametrize("kind", sorted(set(HEADERS) - {"rounded_cosines"}))
def test_viewers_show_the_same_voxels_at_the_same_place(told: Any, kind: str) -> None:
    here, meant = told(kind)

    for image_id, grid in meant.items():
        paths = here.app.dicom.files.of_image(here.app.library.readable(image_id))
        read = read_series(paths)
        if kind not in NRRD:
            reader = sitk.ImageSeriesReader()
            reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(paths[0].parent)))
            read = volume_of_sitk(reader.Execute())
        np.testing.assert_array_equal(view_on(read, grid, image_id, within_mm=0.02), phantom(grid.shape))


@pytest.mark.parametrize("kind", HEADERS)
def test_a_file_that_readers_put_more_than_half_a_voxel_apart_is_named_with_what_each_does(
    told: Any, kind: str
) -> None:
    here, meant = told(kind)

    images = here.client.get("/datastore/", params={"output": "all"}).json()["objects"]
    doubts = {image_id: about["image"]["info"].get("doubt", "") for image_id, about in images.items()}
    assert doubts.keys() == meant.keys()
    for image_id, doubt in doubts.items():
        assert bool(doubt) == (kind in DOUBTFUL)
        assert not doubt or (f"{image_id}.nii is read in several ways: this server reads" in doubt)
        reader = "what knows no units" if kind in ("micrometres", "metres") else "ITK (3D Slicer, ITK-SNAP)"
        assert not doubt or (reader in doubt and "GET /datastore/image sends it" in doubt)


def test_a_file_that_all_read_alike_is_sent_as_it_is_and_its_header_read_once(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    read = foreign.has_one_meaning
    monkeypatch.setattr(foreign, "has_one_meaning", lambda path: asked.append(path) or read(path))

    replies = [here.client.get("/datastore/image", params={"image": "case_00"}).content for _ in range(3)]

    assert replies == [(here.studies / "case_00.nii.gz").read_bytes()] * 3
    assert len(asked) == 1


def test_an_image_that_is_written_anew_is_made_once_until_its_file_changes(told: Any) -> None:
    here, meant = told("mirrored")
    library: Library = here.app.library
    image_id, grid = next(iter(meant.items()))
    first = library.image_file(library.readable(image_id))
    assert library.image_file(library.readable(image_id)) == first

    write(here.studies / f"{image_id}.nii", phantom(grid.shape) + np.int16(1), HEADERS["mirrored"](grid.affine))
    here.look()

    second = library.image_file(library.readable(image_id))
    assert second != first
    assert np.asarray(nib.load(second).dataobj).min() == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["gantry", "rounded_cosines"])
def test_a_stored_mask_of_an_oblique_image_never_lies_elsewhere_for_itk(told: Any, kind: str, tmp_path: Path) -> None:
    """As NIfTI it is opened at its place, or not at all; as NRRD always."""
    here, meant = told(kind)
    image_id, grid = next(iter(meant.items()))
    image = sitk.ReadImage(str(sent(here, image_id, tmp_path)))
    sitk.WriteImage(sitk.Cast(image > 200, sitk.sitkUInt8), str(tmp_path / "mask.nrrd"))
    put_label(here.client, image_id, (tmp_path / "mask.nrrd").read_bytes(), "mask.nrrd", label_info=LABEL_INFO)

    label = here.client.get("/datastore/label", params={"label": image_id, "tag": "final"})
    (tmp_path / "label.nii.gz").write_bytes(label.content)

    if kind == "gantry":
        with pytest.raises(RuntimeError, match="ITK only supports orthonormal direction cosines"):
            sitk.ReadImage(str(tmp_path / "label.nii.gz"))
    else:
        found = volume_of_sitk(sitk.ReadImage(str(tmp_path / "label.nii.gz")))
        np.testing.assert_allclose(found.affine, grid.affine, atol=0.02)


@pytest.mark.parametrize("kind", ["gantry", "rounded_cosines", "plain", "mirrored"])
@pytest.mark.parametrize("asked", [".nii.gz", ".nrrd"])
def test_a_draft_of_any_image_is_opened_by_itk_on_the_image_that_was_sent(
    told: Any, weights: bytes, kind: str, asked: str, tmp_path: Path
) -> None:
    here, meant = told(kind)
    here.put_weights(weights)
    image_id = next(iter(meant))

    params = json.dumps({"result_extension": asked})
    reply = here.client.post(
        "/infer/segmentation", params={"image": image_id, "output": "image"}, data={"params": params}
    )

    assert reply.status_code == 200, reply.text
    suffix = ".nrrd" if kind in NRRD else asked
    assert suffix_of(reply.headers["content-disposition"].strip(chr(34))) == suffix
    (tmp_path / f"draft{suffix}").write_bytes(reply.content)
    draft = volume_of_sitk(sitk.ReadImage(str(tmp_path / f"draft{suffix}")))
    image = volume_of_sitk(sitk.ReadImage(str(sent(here, image_id, tmp_path))))
    np.testing.assert_allclose(draft.affine, image.affine, atol=0.02)
