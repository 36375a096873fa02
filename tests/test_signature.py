"""A file is what it is called, or it is not read: no reader is ever chosen by what a file holds."""

from __future__ import annotations

import gzip
import io

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from lib.errors import UnreadableImage
from lib.labels import read_mask
from lib.opened import OpenFile
from lib.volume import IMAGE_SUFFIXES, read_grid, read_volume
from tests.test_nrrd import BASIC, CONTENT, header
from tests.test_series import write

GREY = np.full((16, 16), 90, np.uint8)


def picture(kind):
    content = io.BytesIO()
    Image.fromarray(GREY).save(content, kind)
    return content.getvalue()


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """One sound file of each kind."""
    folder = tmp_path_factory.mktemp("kinds")
    nifti = nib.Nifti1Image(GREY[:, :, None], np.eye(4)).to_bytes()
    for suffix in (".mha", ".hdf5", ".lsm.tif", ".mrc", ".vtk"):
        sitk.WriteImage(sitk.GetImageFromArray(GREY[None]), str(folder / f"a{suffix}"))
    return {
        "NIfTI": nifti, "gzip": gzip.compress(nifti), "NRRD": header(*BASIC) + CONTENT,
        "DICOM": write(folder / "dicom")[0][0].read_bytes(), "MetaImage": (folder / "a.mha").read_bytes(),
        "HDF5": (folder / "a.hdf5").read_bytes(), "TIFF": picture("TIFF"), "PNG": picture("PNG"), "BMP": picture("BMP"),
        "JPEG": picture("JPEG"), "PGM": picture("PPM"), "MRC": (folder / "a.mrc").read_bytes(),
        "VTK": (folder / "a.vtk").read_bytes(), "GIF": picture("GIF"), "letter": b"a letter" * 100,
    }  # fmt: skip


OWN = {".nii": "NIfTI", ".nii.gz": "gzip", ".nrrd": "NRRD", ".seg.nrrd": "NRRD", ".png": "PNG", ".pgm": "PGM",
       ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP", ".jpg": "JPEG", ".jpeg": "JPEG"}  # fmt: skip


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_only_a_file_of_its_own_kind_is_read_under_a_name(contents, suffix):
    read, refused = [], []
    for kind, content in contents.items():
        for reader in (read_grid, read_volume):
            try:
                reader(OpenFile(io.BytesIO(content), f"a{suffix}"))
                read.append(kind)
            except UnreadableImage as error:
                assert "called" in str(error) or "is no readable" in str(error)
                refused.append(kind)

    assert set(read) == {OWN[suffix]}
    assert len(refused) == 2 * (len(contents) - 1)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".seg.nrrd"])
def test_a_mask_is_of_the_kind_that_it_is_called_too(contents, suffix):
    for kind in contents.keys() - {OWN[suffix]}:
        with pytest.raises(UnreadableImage, match=rf"a{suffix} is no readable image: it is called {suffix}, which is"):
            read_mask(OpenFile(io.BytesIO(contents[kind]), f"a{suffix}"), None, "case")


@pytest.mark.parametrize("kind", ["HDF5", "DICOM", "TIFF", "PNG"])
def test_the_message_names_what_was_found(contents, kind):
    with pytest.raises(
        UnreadableImage, match=rf"called \.nrrd, which is NRRD, but begins like a {kind} file\. Call it"
    ):
        read_grid(OpenFile(io.BytesIO(contents[kind]), "a.nrrd"))


def test_a_file_of_two_kinds_is_neither(contents):
    """DICOM leaves its first 128 bytes to others."""
    both = contents["NRRD"][:128].ljust(128, b"\n") + contents["DICOM"][128:]

    with pytest.raises(UnreadableImage, match="begins like a DICOM file"):
        read_grid(OpenFile(io.BytesIO(both), "a.nrrd"))


def test_a_name_without_a_known_suffix_is_read_by_nobody(contents):
    with pytest.raises(UnreadableImage, match=r"a\.dat is no readable image: it is called none of \.nii\.gz, "):
        read_volume(OpenFile(io.BytesIO(contents["NIfTI"]), "a.dat"))


def test_sizes_of_pictures_do_not_depend_on_what_pillow_was_set_to(monkeypatch, contents):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    assert read_volume(OpenFile(io.BytesIO(contents["PNG"]), "a.png")).voxels.shape == (16, 16, 1)

    monkeypatch.setattr("lib.room.MOST_VOXEL_BYTES", 1000)
    for name in ("a.png", "a.tif", "a.bmp", "a.jpg", "a.pgm"):
        for reader in (read_grid, read_volume):
            with pytest.raises(UnreadableImage, match=rf"{name} has 16x16 voxels, which take .* this machine takes"):
                reader(OpenFile(io.BytesIO(contents[OWN[name[1:]]]), name))
