"""What is decoded apart is what is decoded here: nothing is missing in the process that can open no file."""

from __future__ import annotations

import datetime as dt

import gdcm
import numpy as np
import pydicom
import pytest
from PIL import Image

from lib.decoder import foreign
from lib.decoder.readings import MOST_ATTRIBUTES
from lib.dicom.derived import DerivedSeries
from lib.dicom.provenance import Provenance
from lib.dicom.segmentation import write_segmentation
from lib.dicom.source import read_source
from lib.dicom.structure_set import write_structure_set
from lib.errors import GridMismatch, TooLarge, UnknownStructure, UnreadableImage
from lib.label_table import NamedValue
from lib.phantoms.dicom_series import write_dicom_series
from lib.series import read_series
from lib.task import Task, numbered
from lib.volume import Volume, read_doubt, read_volume, write_volume
from tests import headers
from tests.compressing import compress

TASK = Task("blocks", "", numbered(("first", "second")))
AFFINE = np.array([[-0.7, 0, 0, 12], [0, -0.7, 0, 34], [0, 0, 2.5, -56], [0, 0, 0, 1.0]])
NOON = dt.datetime(2026, 1, 2, 12, 0, tzinfo=dt.UTC)


def image(shape=(13, 9, 6), kind=np.int16):
    return Volume(np.arange(np.prod(shape)).reshape(shape).astype(kind), AFFINE)


def series(folder):
    voxels = np.random.default_rng(1).integers(-1000, 1000, (33, 29, 4)).astype(np.int16)
    write_dicom_series(folder, voxels, AFFINE, patient_id="p", seed=1)
    return sorted(folder.iterdir())


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd"])
@pytest.mark.parametrize("kind", [np.int16, np.float32, np.uint8])
def test_volumes_of_every_format_and_type(tmp_path, name, kind):
    write_volume(tmp_path / name, image(kind=kind))

    found = foreign.volume([tmp_path / name], is_series=False)

    wanted = read_volume(tmp_path / name)
    assert found.voxels.dtype == wanted.voxels.dtype
    np.testing.assert_array_equal(found.voxels, wanted.voxels)
    np.testing.assert_array_equal(found.affine, wanted.affine)
    assert foreign.grid(tmp_path / name).is_same_as(wanted.grid)


@pytest.mark.parametrize("name", ["a.png", "a.tiff", "a.bmp", "a.jpg", "a.pgm"])
def test_pictures_of_every_format(tmp_path, name):
    Image.fromarray(np.arange(120, dtype=np.uint8).reshape(10, 12)).save(tmp_path / name)

    found = foreign.volume([tmp_path / name], is_series=False)

    wanted = read_volume(tmp_path / name)
    np.testing.assert_array_equal(found.voxels, wanted.voxels)
    assert found.is_measured == wanted.is_measured


@pytest.mark.parametrize("kind", [
    None, gdcm.TransferSyntax.RLELossless, gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    gdcm.TransferSyntax.JPEGLSLossless, gdcm.TransferSyntax.JPEG2000Lossless,
    gdcm.TransferSyntax.DeflatedExplicitVRLittleEndian, gdcm.TransferSyntax.ExplicitVRBigEndian,
], ids=str)  # fmt: skip
def test_series_in_every_transfer_syntax(tmp_path, kind):
    paths = series(tmp_path / "ct")
    for path in paths if kind is not None else ():
        compress(path, kind)

    found = foreign.volume(paths, is_series=True)

    np.testing.assert_array_equal(found.voxels, read_series(paths).voxels)
    np.testing.assert_array_equal(found.affine, read_series(paths).affine)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd"])
def test_a_series_as_a_file(tmp_path, suffix):
    paths = series(tmp_path / "ct")
    (tmp_path / f"a{suffix}").write_bytes(foreign.sent(paths, suffix, is_series=True).data)

    np.testing.assert_array_equal(read_volume(tmp_path / f"a{suffix}").voxels, read_series(paths).voxels)


def test_what_other_programs_read_otherwise(tmp_path):
    path = headers.write(tmp_path / "a.nii", headers.phantom((4, 3, 2)), headers.mirrored(np.diag([-1.0, -1, 2, 1])))

    assert foreign.doubt(path) == read_doubt(path) != ""
    assert not foreign.has_one_meaning(path)


def test_masks_with_the_task_s_values(tmp_path):
    mask = np.zeros((13, 9, 6), np.uint8)
    mask[2:5], mask[6:8] = 7, 9
    write_volume(tmp_path / "m.nii.gz", Volume(mask, AFFINE))
    named = [NamedValue("second", 7), NamedValue("first", 9)]

    found, remarks = foreign.mask(tmp_path / "m.nii.gz", image().grid, named, TASK, "case")

    np.testing.assert_array_equal(found, np.where(mask == 7, 2, np.where(mask == 9, 1, 0)))
    assert remarks == ()


def test_what_was_not_taken_as_it_came_is_told_with_the_mask(tmp_path):
    mask = np.zeros((13, 9, 6), np.float32)
    mask[2:5] = 1.0004
    write_volume(tmp_path / "m.nii.gz", Volume(mask, AFFINE))

    found, (remark,) = foreign.mask(tmp_path / "m.nii.gz", image().grid, (), TASK, "case")

    np.testing.assert_array_equal(found, np.rint(mask))
    assert remark == "162 voxels of the mask were up to 0.0004 away from whole numbers, and were rounded."


def test_a_mask_that_does_not_fit_is_refused_in_the_reader_s_words(tmp_path):
    write_volume(tmp_path / "m.nii.gz", Volume(np.full((13, 9, 6), 5, np.uint8), AFFINE))

    with pytest.raises(UnknownStructure, match=r"holds the label values \[5\]"):
        foreign.mask(tmp_path / "m.nii.gz", image().grid, (), TASK, "case")
    with pytest.raises(GridMismatch, match=r"The mask of case is 13x9x6"):
        foreign.mask(tmp_path / "m.nii.gz", image((13, 9, 7)).grid, (), TASK, "case")


@pytest.mark.parametrize("write", [write_segmentation, write_structure_set])
def test_what_people_drew_as_dicom(tmp_path, write):
    source = read_source(series(tmp_path / "ct"))
    mask = np.zeros(source.grid.shape, np.uint8)
    mask[4:12, 5:14, 1:3] = 2
    object_file = tmp_path / "object.dcm"
    write(mask, TASK, source, Provenance("Seg", "a", NOON, "theirs")).save_as(object_file, enforce_file_format=True)

    about = foreign.drawing(object_file, 1 << 20, "It")
    found, looked_at, _ = foreign.drawn(object_file, source, TASK)

    assert list(about.references) == [source.name]
    assert set(about.references[source.name]) <= source.instance_uids
    np.testing.assert_array_equal(found, mask)
    assert looked_at == ("first", "second")


def test_what_is_no_dicom_is_told_by_the_name_given(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"no DICOM" * 100)

    with pytest.raises(UnreadableImage, match=r"^A part of the body is no DICOM file"):
        foreign.drawing(tmp_path / "a.dcm", 1 << 20, "A part of the body")


def test_an_object_that_inflates_too_far_is_too_large(tmp_path):
    (path,) = series(tmp_path / "ct")[:1]
    compress(path, gdcm.TransferSyntax.DeflatedExplicitVRLittleEndian)

    with pytest.raises(TooLarge, match="when it is decompressed"):
        foreign.drawing(path, 100, "It")


@pytest.mark.parametrize("window", [None, (-100.0, 300.0)])
def test_the_series_that_stands_for_a_file(tmp_path, window):
    write_volume(tmp_path / "a.nii.gz", image(kind=np.float32))
    derived = DerivedSeries("a", "p", "MR", image().grid, NOON)
    here, apart = tmp_path / "here", tmp_path / "apart"
    here.mkdir()
    apart.mkdir()

    derived.write(here, read_volume(tmp_path / "a.nii.gz"), window)
    foreign.derived_files(tmp_path / "a.nii.gz", derived, window, apart)

    assert [path.name for path in sorted(apart.iterdir())] == [f"{k:04d}.dcm" for k in range(6)]
    for path in here.iterdir():
        assert (apart / path.name).read_bytes() == path.read_bytes()


def test_an_object_of_more_attributes_than_viewers_can_be_told_is_refused(tmp_path):
    dataset = pydicom.dcmread(series(tmp_path)[0])
    for number in range(MOST_ATTRIBUTES):
        dataset.add_new((0x0011, 0x1000 + number), "LO", "")
    path = tmp_path / "object.dcm"
    dataset.save_as(path)

    with pytest.raises(UnreadableImage, match=r"It has \d+ attributes of its own, at most 2000 are taken"):
        foreign.drawing(path, 1 << 20, "It")
