"""What a compressed object claims is looked at before a decoder makes room for it."""

from __future__ import annotations

import gdcm
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from lib.compressed import refuse_large_when_inflated, refuse_other_size
from lib.errors import TooLarge, UnreadableImage
from lib.series import read_series
from tests.test_series import compress, radiograph

KINDS = {
    JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    JPEGLSLossless: gdcm.TransferSyntax.JPEGLSLossless,
    JPEG2000Lossless: gdcm.TransferSyntax.JPEG2000Lossless,
    RLELossless: gdcm.TransferSyntax.RLELossless,
}


def compressed(folder, syntax):
    """A film of 45 rows and 67 columns of noise."""
    path = radiograph(folder, pixels=np.random.default_rng(0).integers(0, 4096, (67, 45), np.uint16))
    compress(path, KINDS[syntax])
    return pydicom.dcmread(path)


@pytest.mark.parametrize("syntax", KINDS)
def test_frames_of_the_size_that_the_object_tells_are_let_through(tmp_path, syntax):
    dataset = compressed(tmp_path, syntax)

    assert dataset.file_meta.TransferSyntaxUID == syntax
    refuse_other_size(dataset)


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless])
def test_a_frame_that_claims_another_size_is_refused_with_both(tmp_path, syntax):
    dataset = compressed(tmp_path, syntax)
    dataset.Rows = 44

    with pytest.raises(
        UnreadableImage, match=r"frame 1 has \d+ bytes for 67x45 pixels, the object .* has 67x44: it is"
    ):
        refuse_other_size(dataset)


def test_a_decoder_is_not_asked_to_make_room_for_what_a_damaged_frame_claims(tmp_path):
    dataset = compressed(tmp_path, JPEGLSLossless)
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    # gdcm ends the whole process when it is asked for this one.
    dataset.PixelData = encapsulate([frame.replace(b"\x00\x2d\x00\x43", b"\xff\xff\xff\xff", 1)])
    dataset.save_as(tmp_path / "damaged.dcm")

    with pytest.raises(UnreadableImage, match="for 65535x65535 pixels, the object says that it has 67x45"):
        read_series([tmp_path / "damaged.dcm"])


def test_a_frame_that_unfolds_to_more_than_its_pixels_is_refused(tmp_path):
    dataset = compressed(tmp_path, RLELossless)
    # Each two bytes are 128 times the same value.
    dataset.PixelData = encapsulate([b"\x01\0\0\0\x40\0\0\0" + bytes(56) + b"\x81\0" * 50_000])

    with pytest.raises(UnreadableImage, match="frame 1 has 100064 bytes for 67x45 pixels"):
        refuse_other_size(dataset)


def test_a_file_that_is_compressed_as_a_whole_may_have_so_many_bytes_and_no_more(tmp_path):
    path = radiograph(tmp_path, pixels=np.zeros((1024, 1024), np.uint16))
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(path)

    assert path.stat().st_size < 10_000
    refuse_large_when_inflated(path, 3 << 20)
    with pytest.raises(TooLarge, match="has more than 2 MiB when it is decompressed"):
        refuse_large_when_inflated(path, 2 << 20)


def test_other_files_are_not_unfolded(tmp_path):
    path = radiograph(tmp_path, pixels=np.zeros((64, 64), np.uint16))

    refuse_large_when_inflated(path, 100)

    assert path.stat().st_size > 100
