"""DICOMweb without HTTP (PS3.18): what a search asks for, files as DICOM JSON, frames, and replies of several parts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames, get_frame
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, ExplicitVRBigEndian

from lib.dataset import read_dataset
from lib.errors import InvalidRequest, NotFound, UnreadableImage
from lib.opened import opened
from lib.serving.one_form import nfc
from lib.serving.wildcards import is_like
from lib.stored_pixels import pixels_at

Json = dict[str, Any]
"""Attributes as DICOM JSON (PS3.18 annex F): by tag, each with ``vr`` and ``Value``."""

STUDY = (
    "SpecificCharacterSet", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "PatientName",
    "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID", "StudyDescription",
)  # fmt: skip
"""What is told of a study."""

SERIES = (
    "Modality", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "SeriesDate", "SeriesTime",
    "BodyPartExamined", "ProtocolName", "Manufacturer",
)  # fmt: skip
"""What is told of a series."""

INSTANCE = (
    "SOPClassUID", "SOPInstanceUID", "InstanceNumber", "Rows", "Columns", "BitsAllocated", "NumberOfFrames",
)  # fmt: skip
"""What is told of an instance."""

PIXEL_DATA = "7FE00010"

LONGEST_INLINE = 4096
"""Bytes of a binary attribute that metadata hold; longer ones are told as an address."""

BINARY = ("OB", "OW", "OF", "OD", "OL", "OV", "UN")

MOST = 1000
"""Results of one search, unless it stays within a study."""

MOST_PARAMETERS, MOST_TEXTS, LONGEST_TEXT = 64, 256, 256
"""Of one search: names with their texts, texts of a list such as UIDs, and letters of a text; no name or UID of DICOM
is longer than that."""

IMAGE_TYPES = {
    "1.2.840.10008.1.2.4.50": "image/jpeg", "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg", "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls", "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2", "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.201": "image/jphc", "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc", "1.2.840.10008.1.2.5": "image/dicom-rle",
}  # fmt: skip
"""Media types of compressed frames by transfer syntax (PS3.18 section 8.7.3)."""

PIECE_BYTES = 1 << 20

LINE_END = b"\r\n"


def tag_of(keyword: str) -> str:
    """``0020000D`` for ``StudyInstanceUID``."""
    return f"{tag_for_keyword(keyword):08X}"


def attribute(keyword: str, *values: Any) -> Json:
    """One attribute as DICOM JSON, without value if there is none."""
    told: Json = {"vr": dictionary_VR(tag_of_number(keyword))}
    if values:
        told["Value"] = list(values)
    return {tag_of(keyword): told}


def tag_of_number(keyword: str) -> int:
    """The tag as a number."""
    return int(tag_of(keyword), 16)


def value_of(told: Mapping[str, Any], keyword: str) -> Any:
    """The first value of an attribute, or an empty text."""
    values = told.get(tag_of(keyword), {}).get("Value") or [""]
    return "" if values[0] is None else values[0]


def selected(dataset: Dataset, keywords: Iterable[str]) -> Json:
    """Some attributes of a dataset as DICOM JSON; those that it lacks are left out, broken ones too."""
    part = Dataset()
    for keyword in keywords:
        if keyword in dataset:
            part.add(dataset[keyword])
    return _told(part)


# Searching.


@dataclass(frozen=True)
class Search:
    """What a client searches for (PS3.18 section 10.6).

    Attributes:
        wanted: texts by tag; one of each must fit.
        limit: most results; ``None``: the client names none.
        offset: results to leave out.
        more: tags that the reply shall hold too; ``all`` means every one.
    """

    wanted: dict[str, tuple[str, ...]]
    limit: int | None = None
    offset: int = 0
    more: frozenset[str] = frozenset()

    @classmethod
    def from_query(cls, parameters: Iterable[tuple[str, str]]) -> Search:
        """Reads the query of an address.

        Raises:
            InvalidRequest: if a name is no attribute, a number is none, or there is more of something than any viewer
                asks for.
        """
        wanted: dict[str, tuple[str, ...]] = {}
        numbers: dict[str, int] = {}
        more: set[str] = set()
        for name, text in _bounded(parameters):
            if name in ("limit", "offset"):
                numbers[name] = _whole(name, text)
            elif name == "includefield":
                more |= {field if field == "all" else _tag(field) for field in _texts(name, text) if field}
            elif name not in ("fuzzymatching", "emptyvaluematching", "client_id") and text.strip("*"):
                wanted[_tag(name)] = tuple(_texts(name, text))
        return cls(wanted, numbers.get("limit"), numbers.get("offset", 0), frozenset(more))

    def texts(self, keyword: str) -> tuple[str, ...]:
        """What is wanted of an attribute; empty: anything."""
        return self.wanted.get(tag_of(keyword), ())

    def fits(self, told: Json) -> bool:
        """Whether a result has all that is wanted."""
        return all(
            any(_fits(text, value, told.get(tag, {}).get("vr", "")) for text in texts for value in _values(told, tag))
            for tag, texts in self.wanted.items()
        )


def _bounded(parameters: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    found = list(parameters)
    if len(found) > MOST_PARAMETERS:
        raise InvalidRequest(f"A search has {len(found)} parameters, at most {MOST_PARAMETERS}.")
    return found


def _texts(name: str, text: str) -> list[str]:
    """The texts of a parameter: one, or those of a list."""
    texts = re.split(r"[\\,]", text) if name == "includefield" or _is_list(name) else [text]
    if len(texts) > MOST_TEXTS:
        raise InvalidRequest(f"{name[:80]} lists {len(texts)} texts, at most {MOST_TEXTS}. Ask for some at a time.")
    if (longest := max(map(len, texts))) > LONGEST_TEXT:
        raise InvalidRequest(f"{name[:80]} has a text of {longest} letters, at most {LONGEST_TEXT}.")
    return texts


def _whole(name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise InvalidRequest(f"{name} must be a whole number from 0 on, found {text[:40]!r}.")
    return int(text)


def _tag(name: str) -> str:
    if re.fullmatch(r"[0-9A-Fa-f]{8}", name) and keyword_for_tag(int(name, 16)):
        return name.upper()
    number = tag_for_keyword(name)
    if number is None:
        raise InvalidRequest(
            f"{name[:80]!r} is no attribute to search for. Name it by keyword (PatientID) or tag (00100020)."
        )
    return f"{number:08X}"


def _is_list(name: str) -> bool:
    return dictionary_VR(int(_tag(name), 16)) in ("UI", "CS")


def _values(told: Json, tag: str) -> list[Any]:
    return told.get(tag, {}).get("Value") or [""]


def _fits(text: str, value: Any, vr: str) -> bool:
    """Whether a value is the one wanted, within the range wanted, or like the pattern with ``*`` and ``?``."""
    found = str(value.get("Alphabetic", "")) if isinstance(value, dict) else str(value)
    if vr in ("DA", "TM", "DT") and "-" in text:
        begin, _, end = text.partition("-")
        return bool(found) and begin <= found and (not end or found[: len(end)] <= end)
    found, text = nfc(found), nfc(text)
    return is_like(found.casefold(), text.casefold()) if vr == "PN" else is_like(found, text)


# Files.


@dataclass(frozen=True)
class InstanceHeader:
    """What a DICOM file says but for its pixels; kept for a while, since viewers ask for it again and again.

    Attributes:
        path: the file.
        told: as DICOM JSON, without long binary attributes.
        long: VR of the binary attributes that are too long, by tag; the pixels are one of them.
        syntax: TransferSyntaxUID.
        pixels_at: where in the file the value of PixelData begins; ``None``: it is not simply there.
        size: bytes of the file when it was read.
        modified_ns: when the file had been changed then.
    """

    path: Path
    told: Json
    long: dict[str, str]
    syntax: str
    pixels_at: int | None
    size: int
    modified_ns: int

    @property
    def instance_uid(self) -> str:
        """SOPInstanceUID."""
        return str(value_of(self.told, "SOPInstanceUID"))

    def is_current(self) -> bool:
        """Whether the file is as it was."""
        try:
            status = self.path.stat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (self.size, self.modified_ns)

    def metadata(self, address: str) -> Json:
        """All of it, with addresses below that of the instance for what is too long."""
        return self.told | {
            tag: {"vr": vr, "BulkDataURI": f"{address}/bulkdata/{tag}"} for tag, vr in self.long.items()
        }

    @cached_property
    def frames(self) -> int:
        """How many frames it has."""
        return int(value_of(self.told, "NumberOfFrames") or 1)

    @property
    def values_of_frame(self) -> int:
        """How many values a frame has."""
        rows, columns, samples = (value_of(self.told, name) for name in ("Rows", "Columns", "SamplesPerPixel"))
        return int(rows or 0) * int(columns or 0) * int(samples or 1)


def header_of(path: Path) -> InstanceHeader:
    """The header of a file, read again only if the file has changed.

    Raises:
        UnreadableImage: if it is gone or damaged.
    """
    try:
        status = path.stat()
        return _header(path, status.st_size, status.st_mtime_ns)
    # The reader raises whatever a damaged header makes it stumble over.
    except Exception as error:
        raise UnreadableImage(f"{path.name} is no readable DICOM file: {error}.") from error


@lru_cache(maxsize=512)
def _header(path: Path, size: int, modified_ns: int) -> InstanceHeader:
    with opened(path) as source:
        file = source.file
        dataset = read_dataset(source, with_pixels=False)
        begin = pixels_at(file, dataset)
    long = {f"{tag:08X}": vr for tag in dataset.keys() if (vr := _long_binary(dataset.get_item(tag)))}
    for tag in long:
        del dataset[int(tag, 16)]
    told = _told(dataset)
    if tag_of("Rows") in told:
        long[PIXEL_DATA] = "OW"
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    return InstanceHeader(path, told, long, syntax, begin, size, modified_ns)


def _long_binary(element: Any) -> str:
    """VR of an element that metadata cannot hold, else empty; it is not decoded, since that may fail."""
    if not isinstance(element.value, bytes) or len(element.value) <= LONGEST_INLINE:
        return ""
    vr = str(element.VR or (dictionary_VR(element.tag) if dictionary_has_tag(element.tag) else "UN"))[-2:]
    return vr if vr in BINARY else ""


def _told(dataset: Dataset) -> Json:
    """A dataset, which is used up, as DICOM JSON: UTF-8 whatever its file was; broken attributes are left out."""
    told: Json = {}
    charset = dataset.original_character_set
    charsets = (charset,) if isinstance(charset, str) else tuple(charset or ())
    is_explicit = dataset.original_encoding == (False, True)
    for tag in list(dataset.keys()):
        raw = dataset.get_item(tag)
        if is_explicit and isinstance(raw, RawDataElement) and raw.VR not in NOT_ALONE and not tag.is_private:
            told |= _told_alone(tag, raw.VR or "", raw.value or b"", charsets)
            del dataset[tag]
    told |= _plain(dataset.to_json_dict(suppress_invalid_tags=True))
    told = dict(sorted(told.items()))
    if tag_of("SpecificCharacterSet") in told:
        told |= attribute("SpecificCharacterSet", "ISO_IR 192")
    return told


NOT_ALONE = (None, "SQ", "UN")
"""VRs of attributes that may only be understood beside others of their dataset; private ones are not either."""


@lru_cache(maxsize=1 << 14)
def _told_alone(tag: BaseTag, vr: str, value: bytes, charsets: tuple[str, ...]) -> Json:
    """One attribute as DICOM JSON; the files of a series share most of theirs."""
    alone = Dataset()
    alone.set_original_encoding(False, True, list(charsets))
    alone[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
    told: Json = _plain(alone.to_json_dict(suppress_invalid_tags=True))
    return told


def _plain(value: Any) -> Any:
    """The same without numbers that JSON does not know and signs that a database cannot keep."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, str):
        return value.replace("\0", "")
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class Part:
    """One part of a reply of several.

    Attributes:
        content: bytes, or the file that holds them.
        media_type: of the content.
    """

    content: bytes | Path
    media_type: str

    @property
    def length(self) -> int:
        """Bytes of the content."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


def frames_of(header: InstanceHeader, numbers: Iterable[int]) -> list[Part]:
    """Some frames of an instance as they are stored; single bits begin with a byte of their own.

    Args:
        header: of the instance.
        numbers: of the frames, from 1.

    Raises:
        NotFound: if the instance has no such frame.
    """
    numbers = list(numbers)
    if wrong := [number for number in numbers if not 1 <= number <= header.frames]:
        raise NotFound(f"The instance {header.instance_uid} has {header.frames} frames, no frame {wrong[0]}.")
    with _pixels(header) as pixels:
        if not UID(header.syntax).is_encapsulated:
            media_type = "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"
            begin = pixels.tell()
            return [Part(_native_frame(header, pixels, begin, number - 1), media_type) for number in numbers]
        media_type = f"{IMAGE_TYPES.get(header.syntax, 'application/octet-stream')}; transfer-syntax={header.syntax}"
        if len(numbers) == 1:
            one = get_frame(pixels, numbers[0] - 1, number_of_frames=header.frames)
            return [Part(one, media_type)]
        every = list(islice(generate_frames(pixels, number_of_frames=header.frames), max(numbers)))
        return [Part(every[number - 1], media_type) for number in numbers]


@contextmanager
def _pixels(header: InstanceHeader) -> Iterator[IO[bytes]]:
    """A stream that stands at the first byte of PixelData.

    Raises:
        NotFound: if the instance has none.
    """
    if header.pixels_at is not None:
        with opened(header.path) as source:
            source.file.seek(header.pixels_at)
            yield source.file
        return
    dataset = read_dataset(header.path)
    if "PixelData" not in dataset:
        raise NotFound(f"The instance {header.instance_uid} has no pixels.")
    yield BytesIO(dataset.PixelData)


def _native_frame(header: InstanceHeader, pixels: IO[bytes], begin: int, index: int) -> bytes:
    """The stored bytes of one frame, in little endian."""
    values, bits = header.values_of_frame, int(value_of(header.told, "BitsAllocated") or 0)
    first, last = index * values * bits // 8, ((index + 1) * values * bits + 7) // 8
    pixels.seek(begin + first)
    frame = pixels.read(last - first)
    if len(frame) < last - first or not frame:
        raise UnreadableImage(f"{header.path.name} ends within its frame {index + 1}.")
    if bits == 1:
        unpacked = np.unpackbits(np.frombuffer(frame, np.uint8), bitorder="little")
        return np.packbits(unpacked[index * values % 8 :][:values], bitorder="little").tobytes()
    if header.syntax == ExplicitVRBigEndian and bits > 8:
        return np.frombuffer(frame, f">u{bits // 8}").byteswap().tobytes()
    return frame


def bulk_of(header: InstanceHeader, tag: str) -> list[Part]:
    """A long binary attribute; compressed pixels come frame by frame.

    Raises:
        NotFound: if the instance has no such attribute.
    """
    if tag not in header.long:
        raise NotFound(f"The instance {header.instance_uid} has no long attribute {tag[:40]!r}.")
    if tag == PIXEL_DATA:
        if UID(header.syntax).is_encapsulated:
            return frames_of(header, range(1, header.frames + 1))
        dataset = read_dataset(header.path)
        if "PixelData" not in dataset:
            raise NotFound(f"The instance {header.instance_uid} has no pixels.")
    else:
        dataset = read_dataset(header.path, with_pixels=False)
    return [Part(bytes(dataset[Tag(int(tag, 16))].value), "application/octet-stream")]


# Replies of several parts.


def multipart(parts: Iterable[Part], boundary: str) -> Iterator[bytes]:
    """The body of a reply of the type ``multipart/related``; each piece of a file takes a turn of a thread."""
    yield from multipart_begin(parts, boundary)
    yield _end(boundary)


def multipart_length(parts: Iterable[Part], boundary: str) -> int:
    """Bytes of such a body, so that a client reads it in one go and knows when a part of it is missing."""
    return sum(len(_head(part, boundary)) + part.length + len(LINE_END) for part in parts) + len(_end(boundary))


def multipart_begin(parts: Iterable[Part], boundary: str) -> Iterator[bytes]:
    """The same but for its end: other parts may follow."""
    for part in parts:
        head = _head(part, boundary)
        if isinstance(part.content, bytes):
            yield from (head, part.content, LINE_END)
            continue
        with opened(part.content) as source:
            piece = head + source.file.read(PIECE_BYTES)
            while following := source.file.read(PIECE_BYTES):
                yield piece
                piece = following
        yield piece + LINE_END


def _head(part: Part, boundary: str) -> bytes:
    return f"--{boundary}\r\nContent-Type: {part.media_type}\r\n\r\n".encode()


def _end(boundary: str) -> bytes:
    return f"--{boundary}--\r\n".encode()
