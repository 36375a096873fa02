"""Readers take files that are open already, and then open nothing by themselves."""

from __future__ import annotations

import io
import os
import socket
import sys

import numpy as np
import pytest
from PIL import Image

from lib.dicom.source import read_source
from lib.errors import UnreadableImage
from lib.labels import mask_on_image, read_mask
from lib.opened import OpenFile, opened
from lib.series import looks_like_dicom, read_header, read_headers, read_series, series_grid
from lib.task import Task, numbered
from lib.volume import Volume, read_grid, read_volume, write_volume
from tests.test_series import compress, radiograph, write

TASK = Task("t", "", numbered(["liver"]))


@pytest.fixture
def opening():
    """Paths that are opened while it is on; one hook serves all tests, since none can be taken off."""
    return _opening


class _Opening:
    def __init__(self):
        self.paths = None
        sys.addaudithook(self.hear)

    def hear(self, event, arguments):
        if event == "open" and self.paths is not None:
            self.paths.append(arguments[0])

    def __enter__(self):
        self.paths = []
        return self.paths

    def __exit__(self, *error):
        self.paths = None


_opening = _Opening()


def in_memory(path):
    """The same file as it may come from elsewhere, standing at its end."""
    file = OpenFile(io.BytesIO(path.read_bytes()), path.name)
    file.file.seek(0, io.SEEK_END)
    return file


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.seg.nrrd", "a.bin"])
def test_images_and_masks_are_read_from_open_files_alone(tmp_path, opening, name):
    volume = Volume(np.eye(4, dtype=np.uint8)[:, :, None].repeat(2, 2), np.eye(4))
    if name == "a.bin":
        (tmp_path / name).write_bytes(volume.voxels.tobytes(order="F"))
    else:
        write_volume(tmp_path / name, volume)
    file = in_memory(tmp_path / name)

    with opening as paths:
        mask = mask_on_image(file, volume.grid, (), TASK, "case")
        read = [] if name == "a.bin" else [read_volume(file).voxels, read_volume(file).voxels]
        assert name == "a.bin" or read_grid(file).is_same_as(volume.grid)

    for found in (mask, *read):
        np.testing.assert_array_equal(found, volume.voxels)
    assert paths == [] and not file.file.closed


@pytest.mark.parametrize("suffix", [".png", ".pgm", ".tif", ".bmp", ".jpg"])
def test_pictures_are_read_from_open_files_alone(tmp_path, opening, suffix):
    path = tmp_path / f"film{suffix}"
    Image.fromarray(np.full((8, 16), 90, np.uint8)).save(path)
    file = in_memory(path)

    with opening as paths:
        read = read_volume(file), read_volume(file)

    assert [volume.voxels.max() for volume in read] == [90, 90] and read_grid(file).shape == (16, 8, 1)
    assert paths == [] and not file.file.closed


@pytest.mark.parametrize(
    "syntax", [None, "JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless", "RLELossless"]
)
def test_a_series_is_read_from_open_files_alone(tmp_path, opening, syntax):
    import gdcm

    paths, voxels, affine = write(tmp_path, shape=(17, 15, 4))
    for path in paths if syntax else ():
        compress(path, getattr(gdcm.TransferSyntax, syntax))
    read_series(paths)
    files = [in_memory(paths[k]) for k in (2, 0, 3, 1)]

    with opening as found:
        volume = read_series(files)
        grid, source = series_grid(read_headers(files)), read_source(files)
        assert looks_like_dicom(files[0]) and read_header(files[0]).image_id == source.name

    np.testing.assert_array_equal(volume.voxels, voxels)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)
    assert grid.is_same_as(volume.grid) and source.grid.is_same_as(volume.grid)
    assert found == []


def test_open_files_of_one_name_are_told_apart(tmp_path):
    paths, voxels, _ = write(tmp_path)

    volume = read_series([OpenFile(in_memory(path).file, "slice.dcm") for path in paths])

    np.testing.assert_array_equal(volume.voxels, voxels)


def test_a_radiograph_is_read_from_an_open_file(tmp_path):
    path = radiograph(tmp_path)

    np.testing.assert_array_equal(read_series([in_memory(path)]).voxels, read_series([path]).voxels)


def test_an_open_file_is_named_without_folders_in_messages(tmp_path):
    with pytest.raises(UnreadableImage, match=r"^a\.nii is empty \(0 bytes\)"):
        read_grid(OpenFile(io.BytesIO(), "a.nii"))


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket"])
@pytest.mark.parametrize("read", [read_grid, read_volume, lambda path: read_mask(path, None, "case")])
def test_what_is_no_file_is_refused_and_nobody_waits_for_it(tmp_path, monkeypatch, kind, read):
    path = tmp_path / "a.nii"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        monkeypatch.chdir(tmp_path)
        server = socket.socket(socket.AF_UNIX)
        server.bind("a.nii")
        server.close()

    with pytest.raises((UnreadableImage, OSError), match=r"is no file but a folder|No such device"):
        read(path)


def test_a_path_is_closed_when_it_has_been_read(tmp_path):
    (tmp_path / "a.nii").write_bytes(b"x" * 10)

    with opened(tmp_path / "a.nii") as file:
        assert (file.size, file.first(3), file.file.tell(), file.name) == (10, b"xxx", 0, "a.nii")

    assert file.file.closed
