"""DICOM objects that lie: about their size, place, frames, syntax and names; nested, inflated and cut off."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.encaps import encapsulate
from pydicom.tag import Tag

from scripts.benchmarks.hostile.packing import deflated
from scripts.benchmarks.hostile.pictures import jpeg
from scripts.benchmarks.hostile.reach import EXTREME, Chance, Reach, odd_number, some, spoiled

UIDS = ("..", "../../evil", "/etc/passwd", "1.2.3/../..", "", " ", "1" * 65, "1." * 2000 + "1", "1.2.3\\4.5.6",
"1.2.3\0x", "*", "?",
        "1.2.*", "..\\evil", "CON", "\u202e1.2", "1.2.840.10008.1.2", "%2e%2e", "a b")  # fmt: skip

NAMES = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "SOPClassUID", "FrameOfReferenceUID")

COUNTS = ("Rows", "Columns", "NumberOfFrames", "BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel",
          "PixelRepresentation", "PlanarConfiguration", "InstanceNumber", "SeriesNumber")  # fmt: skip

PLACES = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "ImagerPixelSpacing",
          "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "SpacingBetweenSlices")  # fmt: skip

TEXTS = ("PatientName", "PatientID", "SeriesDescription", "StudyDate", "StudyTime", "Modality", "SpecificCharacterSet",
         "PhotometricInterpretation", "ImageType", "PatientOrientation", "ContentLabel",
         "SegmentationType")  # fmt: skip

SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.4.50",
            "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90",
            "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.5",
            "1.2.840.10008.1.2.99", "9.9.9", "..")  # fmt: skip
"""Transfer syntaxes: plain, swapped, JPEG and its relatives, video, RLE, and none."""

DERIVED = ("seg.dcm", "rt.dcm")
"""What belongs to the images of a series and is no part of it."""

ENCAPSULATED = SYNTAXES[3:12]
DEFLATED = "1.2.840.10008.1.2.1.99"


def _put(dataset: Any, keyword: str, text: str) -> None:
    """Gives an attribute this text, whatever its kind allows."""
    tag = Tag(keyword)
    element = dataset[keyword] if keyword in dataset else None
    if element is not None and element.VR in ("US", "SS"):
        number = int(text) if text.lstrip("-").isdecimal() and len(text) < 20 else 0
        value = struct.pack("<H", number % 2**16)
    else:
        value = text.encode("utf-8", "surrogatepass") + b" " * (len(text.encode("utf-8", "surrogatepass")) % 2)
    kind = element.VR if element is not None else "LO"
    dataset[tag] = RawDataElement(tag, kind, len(value), value, 0, False, True)


def _named(dataset: Any, chance: Chance) -> None:
    _put(dataset, chance.choice(NAMES), chance.choice(UIDS))


def _counted(dataset: Any, chance: Chance) -> None:
    _put(dataset, chance.choice(COUNTS), chance.choice([*map(str, EXTREME), "many", "1\\2", "", "0x10"]))


def _placed(dataset: Any, chance: Chance) -> None:
    count = chance.choice([0, 1, 2, 3, 6, 7, 500])
    numbers = [chance.choice(["0", "1", "-1", odd_number(chance)[:60]]) for _ in range(count)]
    _put(dataset, chance.choice(PLACES), "\\".join(numbers))


def _told(dataset: Any, chance: Chance) -> None:
    texts = ["", "\0", "<script>alert(1)</script>", "x" * 60000, "a\\b\\c", "\x1b$B\x1b(J", "ISO 2022 IR 87\\x",
    "\r\nX: y",
             "../../x", "^" * 100, "99999999", "\ud800", "RGB", "PALETTE COLOR", "YBR_FULL_422"]  # fmt: skip
    _put(dataset, chance.choice(TEXTS), chance.choice(texts))


def _lacking(dataset: Any, chance: Chance) -> None:
    del dataset[chance.choice(list(dataset.keys()))]


def _inner(dataset: Any, chance: Chance) -> None:
    """Spoils something in a sequence: frames, segments, references, contours."""
    inside = [item for element in dataset if element.VR == "SQ" for item in element.value]
    for _ in range(chance.choice([0, 1, 2, 3])):
        inside = [item for one in inside for element in one if element.VR == "SQ" for item in element.value] or inside
    if not inside:
        return _counted(dataset, chance)
    item = chance.choice(inside)
    elements = [element for element in item if element.keyword]
    if not elements:
        return _counted(dataset, chance)
    element = chance.choice(elements)
    if element.VR == "SQ":
        element.value = chance.choice([[], list(element.value) * 3, list(element.value)[:1]])
    elif chance.random() < 0.3:
        del item[element.tag]
    else:
        text = chance.choice([odd_number(chance)[:60], chance.choice(UIDS), "\\".join(["nan"] * 3), "1e308\\1e308\\0"])
        _put(item, element.keyword, text)
    return None


def _pixels(dataset: Any, chance: Chance) -> None:
    length = chance.choice([0, 1, 2, 1000, len(dataset.get("PixelData", b"")) // 2])
    dataset.PixelData = bytes(length + length % 2)


def _encapsulated(dataset: Any, chance: Chance) -> None:
    """Its frames are of another syntax: junk, a picture of another size, or nothing."""
    dataset.file_meta.TransferSyntaxUID = chance.choice(ENCAPSULATED)
    rle = struct.pack("<16I", chance.choice([1, 2, 15, 2**31]), 64, *[chance.choice(EXTREME[:10]) % 2**32] * 14)
    edge = chance.choice([24, 40000, 2**31])
    codestream = struct.pack(">H8IH3B", 0, edge, edge, 0, 0, edge, edge, 0, 0, 1, 7, 1, 1)
    frame = chance.choice([
        b"garbage!", b"\0" * 64, jpeg(chance)[:60000], rle + b"\x81\0" * 20000,
        bytes.fromhex("ffd8fff7000b08ffffffff01011100ffda00080101000000000000ffd9"),
        b"\xff\x4f\xff\x51" + struct.pack(">H", len(codestream) + 2) + codestream + chance.randbytes(40),
    ])  # fmt: skip
    dataset.PixelData = encapsulate([frame] * chance.choice([1, 1, 2, 200]))
    dataset["PixelData"].is_undefined_length = True


def _other_syntax(dataset: Any, chance: Chance) -> None:
    dataset.file_meta.TransferSyntaxUID = chance.choice(SYNTAXES)


CHANGES: tuple[Callable[[Any, Chance], None], ...] = (
    _named, _named, _counted, _counted, _placed, _placed, _told, _lacking, _inner, _inner, _inner, _pixels,
    _encapsulated,
    _encapsulated, _other_syntax,
)  # fmt: skip


def dicom(kind: str, chance: Chance, reach: Reach) -> bytes:
    """One of the sound objects, spoiled."""
    content = reach.objects[kind.removesuffix(".dcm")]
    if chance.random() < 0.2:
        return _whole(content, chance)
    dataset = pydicom.dcmread(io.BytesIO(content))
    # A new object each time: one with a known UID is compared and not read.
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"2.25.{chance.getrandbits(100)}"
    if kind in DERIVED:
        dataset.SeriesInstanceUID = f"2.25.{chance.getrandbits(100)}"
    file = io.BytesIO()
    try:
        for change in some(chance, CHANGES):
            change(dataset, chance)
        pydicom.dcmwrite(file, dataset, enforce_file_format=False)
    # Some of this pydicom neither reads nor writes; then it is spoiled as bytes.
    except Exception:
        return spoiled(content, chance)
    return file.getvalue()


def _whole(content: bytes, chance: Chance) -> bytes:
    """What is done to a file as a whole."""
    return chance.choice([
        lambda: spoiled(content, chance),
        lambda: content[: chance.choice([128, 131, 132, 140, 300, len(content) // 2, len(content) - 1])],
        lambda: content[132:],
        lambda: content + nested(chance.choice([20, 300, 3000])),
        lambda: content + endless(),
        lambda: _inflated(content, chance.choice([16, 600, 1100])),
        lambda: bytes(128) + b"DICM",
        lambda: content[:132] + struct.pack("<HH2sHI", 2, 0, b"UL", 4,
        chance.choice([0, 2**31, 2**32 - 1])) + content[144:],
    ])()  # fmt: skip


def nested(levels: int) -> bytes:
    """A private sequence in a sequence in a sequence, without an end to any."""
    open_sequence = struct.pack("<HH2sHI", 0x0099, 0x1001, b"SQ", 0, 0xFFFFFFFF)
    open_item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    close = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return (open_sequence + open_item) * levels + close * levels


def endless() -> bytes:
    """An attribute that is longer than the file."""
    return struct.pack("<HH2sHI", 0x0099, 0x1002, b"OB", 0, 0x7FFFFFFE)


def _inflated(content: bytes, mib: int) -> bytes:
    """The object packed as a whole, with a private attribute of so many MiB of zeros at its end."""
    dataset = pydicom.dcmread(io.BytesIO(content))
    dataset.file_meta.TransferSyntaxUID = DEFLATED
    meta = io.BytesIO()
    pydicom.dcmwrite(meta, dataset, enforce_file_format=False)
    plain = io.BytesIO()
    pydicom.filewriter.write_dataset(_little(plain), dataset)
    last = struct.pack("<HH2sHI", 0x7FE1, 0x1001, b"OB", 0, mib << 20)
    head = meta.getvalue()
    length = 132 + 12 + struct.unpack_from("<I", head, 140)[0]
    return head[:length] + deflated(plain.getvalue() + last, mib)


def _little(file: io.BytesIO) -> Any:
    """The file as pydicom writes to it: explicit VRs, low bytes first."""
    written = pydicom.filebase.DicomIO(file)
    written.is_little_endian, written.is_implicit_VR = True, False
    return written
