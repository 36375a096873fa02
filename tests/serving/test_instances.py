"""Headers and frames come out of files as they are, and only what is asked for is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)

from lib.errors import NotFound, UnreadableImage
from lib.serving.dicomweb import PIECE_BYTES, Part, bulk_of, frames_of, header_of, multipart

ROWS, COLUMNS, FRAMES = 5, 7, 4  # 35 pixels a frame: frames of single bits begin within bytes
VALUES = np.arange(FRAMES * ROWS * COLUMNS, dtype=np.uint16).reshape(FRAMES, ROWS, COLUMNS) * 3


def image(pixels: bytes, bits: int = 16, syntax: UID = ExplicitVRLittleEndian, frames: int = FRAMES) -> Dataset:
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = syntax
    one.SOPClassUID, one.SOPInstanceUID = CTImageStorage, "1.2.3"
    one.Rows, one.Columns, one.NumberOfFrames = ROWS, COLUMNS, frames
    one.SamplesPerPixel, one.BitsAllocated, one.BitsStored, one.HighBit = 1, bits, bits, bits - 1
    one.PhotometricInterpretation, one.PixelRepresentation = "MONOCHROME2", 0
    one.PixelData = pixels
    one["PixelData"].VR = "OB" if syntax.is_encapsulated or bits == 8 else "OW"
    return one


def written(path: Path, dataset: Dataset) -> Path:
    dataset.save_as(path, enforce_file_format=True)
    return path


def sent(path: Path, *numbers: int) -> list[bytes]:
    return [part.content for part in frames_of(header_of(path), numbers) if isinstance(part.content, bytes)]


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_a_frame_is_its_bytes_in_little_endian_in_any_syntax(tmp_path: Path, syntax: UID) -> None:
    pixels = (VALUES.astype(">u2") if syntax == ExplicitVRBigEndian else VALUES.astype("<u2")).tobytes()
    path = written(tmp_path / "a.dcm", image(pixels, syntax=syntax))

    assert sent(path, 3, 1) == [VALUES[2].astype("<u2").tobytes(), VALUES[0].astype("<u2").tobytes()]


def test_frames_of_single_bits_begin_with_a_byte_of_their_own(tmp_path: Path) -> None:
    inside = VALUES % 2 == 0
    packed = np.packbits(inside.ravel(), bitorder="little").tobytes()
    path = written(tmp_path / "a.dcm", image(packed, bits=1))

    assert sent(path, *range(1, FRAMES + 1)) == [
        np.packbits(one.ravel(), bitorder="little").tobytes() for one in inside
    ]


@pytest.mark.parametrize("has_table", [True, False], ids=["with offsets", "without"])
def test_compressed_frames_are_sent_as_they_are(tmp_path: Path, has_table: bool) -> None:
    frames = [bytes([number]) * (10 + 2 * number) for number in range(FRAMES)]
    pixels = encapsulate(frames, has_bot=has_table)
    path = written(tmp_path / "a.dcm", image(pixels, syntax=JPEG2000Lossless))

    assert [sent(path, number) for number in range(1, FRAMES + 1)] == [[frame] for frame in frames]
    assert sent(path, 4, 2) == [frames[3], frames[1]]
    (part, *_) = frames_of(header_of(path), [1])
    assert part.media_type == f"image/jp2; transfer-syntax={JPEG2000Lossless}"
    assert [part.content for part in bulk_of(header_of(path), "7FE00010")] == frames


def test_only_the_bytes_of_the_frame_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = header_of(written(tmp_path / "a.dcm", image(VALUES.tobytes())))

    def whole(*_: object, **__: object) -> Any:
        raise AssertionError("the whole file was read")

    monkeypatch.setattr(pydicom, "dcmread", whole)

    assert frames_of(header, [2])[0].content == VALUES[1].tobytes()


def test_a_file_that_ends_within_a_frame_is_told(tmp_path: Path) -> None:
    path = written(tmp_path / "a.dcm", image(VALUES.tobytes()))
    path.write_bytes(path.read_bytes()[:-2])

    assert len(sent(path, 3)) == 1
    with pytest.raises(UnreadableImage, match=r"a\.dcm ends within its frame 4"):
        sent(path, 4)


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, 2 * PIECE_BYTES + 1])
def test_parts_are_put_together_with_their_heads(tmp_path: Path, size: int) -> None:
    content = bytes(number % 251 for number in range(size))
    (tmp_path / "file").write_bytes(content)

    whole = b"".join(multipart([Part(tmp_path / "file", "a/b"), Part(content, "c/d")], "xx"))

    end = content + b"\r\n--xx"
    assert whole == (b"--xx\r\nContent-Type: a/b\r\n\r\n" + end + b"\r\nContent-Type: c/d\r\n\r\n" + end + b"--\r\n")


def test_an_instance_without_pixels_has_no_frame(tmp_path: Path) -> None:
    dataset = image(VALUES.tobytes())
    del dataset.PixelData

    with pytest.raises(NotFound, match=r"1\.2\.3 has no pixels"):
        sent(written(tmp_path / "a.dcm", dataset), 1)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_header_tells_all_that_pydicom_reads(tmp_path: Path, syntax: UID) -> None:
    dataset = image(VALUES.tobytes(), syntax=syntax)
    dataset.SpecificCharacterSet, dataset.PatientName = "ISO_IR 192", "Müller^Jörg"
    dataset.SmallestImagePixelValue, dataset.WindowCenter = 7, [40, 600]
    inside = Dataset()
    inside.CodeMeaning = "Schädel"
    dataset.AnatomicRegionSequence = Sequence([inside])
    dataset.private_block(0x0019, "MAKER", create=True).add_new(1, "LO", "secret")
    path = written(tmp_path / "a.dcm", dataset)

    told = header_of(path).told

    expected = pydicom.dcmread(path, stop_before_pixels=True).to_json_dict()
    assert told == expected
    assert list(told) == sorted(told)
    json.dumps(told, allow_nan=False)


def test_equal_bytes_in_another_character_set_are_other_letters(tmp_path: Path) -> None:
    names = {}
    for charset in ("ISO_IR 100", "ISO_IR 144"):
        dataset = image(VALUES.tobytes())
        dataset.SpecificCharacterSet = charset
        dataset.PatientName = "\u00d6" if charset == "ISO_IR 100" else "\u0436"
        path = written(tmp_path / f"{charset}.dcm", dataset)
        names[charset] = header_of(path).told["00100010"]["Value"][0]["Alphabetic"]

    assert names == {"ISO_IR 100": "\u00d6", "ISO_IR 144": "\u0436"}
