"""NRRD files: one strict parser of their header, and their voxels read only as far as it claims.

Only files that hold their voxels themselves are read. Where an axis lies is understood as ITK understands it, so that
an image lies here where 3D Slicer shows it.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from lib.errors import UnreadableImage
from lib.geometry import LPS_FROM_RAS, plausible_affine, three_axes
from lib.metered import Reader, cut_off, gzip_tells, pieces, voxels_of
from lib.opened import OpenFile
from lib.room import refuse_too_large, room_for
from lib.signature import refuse_other_kind

MOST_HEADER_BYTES = 4 << 20
"""Room for the segments that 3D Slicer describes: hundreds of them take less than one MiB."""

PACKING = 4
"""How much gzip takes its time, from 1 to 9."""

MOST_AXES = 16
"""As teem has it, the library behind the format."""

LONGEST_NUMBER = 32
"""Characters of a voxel that is written as text, with the blank behind it."""

TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
"""Names of types in the format's definition, by numpy's."""

ENCODINGS = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "ascii": "text", "txt": "text", "text": "text"}
"""Those that ITK reads, by their names; but for hexadecimal digits, which nobody writes."""

ORDERS = {"little": "<", "big": ">"}

SPACES: dict[str, tuple[float, float, float]] = {
    "right-anterior-superior": (-1, -1, 1), "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1), "las": (1, -1, 1),
    "left-posterior-superior": (1, 1, 1), "lps": (1, 1, 1),
    "scanner-xyz": (1, 1, 1), "3d-right-handed": (1, 1, 1), "3d-left-handed": (1, 1, 1),
}  # fmt: skip
"""By how much the three numbers of a place are multiplied to get LPS; what is no anatomy counts as LPS, as in ITK."""

ALIASES = {
    "datafile": "data file", "blocksize": "block size", "spacedimension": "space dimension", "axismins": "axis mins",
    "axismaxs": "axis maxs", "spacedirections": "space directions", "centerings": "centers", "oldmin": "old min",
    "oldmax": "old max", "lineskip": "line skip", "byteskip": "byte skip", "sampleunits": "sample units",
    "spaceunits": "space units", "spaceorigin": "space origin", "measurementframe": "measurement frame",
}  # fmt: skip
"""Other spellings of fields."""

FIELDS = {
    "content", "number", "type", "dimension", "space", "sizes", "spacings", "thicknesses", "kinds", "labels", "units",
    "min", "max", "endian", "encoding", *ALIASES.values(),
}  # fmt: skip
"""All fields of the format's definition."""

MM_PER_UNIT = {
    "m": 1e3, "meter": 1e3, "meters": 1e3, "metre": 1e3, "metres": 1e3,
    "cm": 10.0, "centimeter": 10.0, "centimeters": 10.0, "centimetre": 10.0, "centimetres": 10.0,
    "um": 1e-3, "µm": 1e-3, "μm": 1e-3, "micron": 1e-3, "microns": 1e-3,
    "micrometer": 1e-3, "micrometers": 1e-3, "micrometre": 1e-3, "micrometres": 1e-3,
    "nm": 1e-6, "nanometer": 1e-6, "nanometers": 1e-6, "nanometre": 1e-6, "nanometres": 1e-6,
}  # fmt: skip
"""Millimetres of units of length, by their names in small letters; every other word is read as millimetres."""

DOMAIN = ("domain", "space", "time", "???", "none")
"""Kinds of axes along which voxels lie; the values of one voxel lie along all others."""


Place = tuple[float, float]
"""Edge and place of the first voxel along an axis."""


@dataclass(frozen=True)
class NrrdHeader:
    """What an NRRD file says of its voxels.

    Attributes:
        sizes: of all axes, the fastest first.
        layer_axis: the axis along which the values of one voxel lie; ``None`` if it has one.
        shape: voxels along I, J, K.
        affine: float64 (4, 4), from voxel indices to RAS millimetres.
        stored: type of the voxels in the file.
        encoding: ``raw``, ``gzip`` or ``text``.
        begin: how many bytes lie before the voxels.
        pairs: what programs wrote beside the fields, such as 3D Slicer about its segments.
        is_in_mm: whether its numbers are millimetres, for which ITK takes those in every unit.
    """

    sizes: tuple[int, ...]
    layer_axis: int | None
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    stored: np.dtype[Any]
    encoding: str
    begin: int
    pairs: Mapping[str, str]
    is_in_mm: bool

    @property
    def layers(self) -> int:
        """Values of one voxel."""
        return 1 if self.layer_axis is None else self.sizes[self.layer_axis]

    @property
    def values(self) -> int:
        """How many there are in all layers."""
        return int(np.prod(self.sizes, dtype=np.int64))

    @property
    def length(self) -> int:
        """Bytes of them, unpacked."""
        return self.values * self.stored.itemsize


def read_nrrd_header(file: OpenFile, suffix: str) -> NrrdHeader:
    """Reads the header of ``.nrrd`` or ``.seg.nrrd``.

    Raises:
        UnreadableImage: if it is another kind of file, keeps its voxels in another one, is malformed, says impossible
            things of its lattice, or claims more than this machine can take.
    """
    refuse_other_kind(file, suffix, "NRRD")
    fields, pairs = _fields(_header_lines(file), file.name)
    return _header(fields, pairs, file)


def read_nrrd_layers(file: OpenFile, suffix: str) -> tuple[NrrdHeader, NDArray[Any]]:
    """Reads header and voxels: (layers, I, J, K).

    Raises:
        UnreadableImage: as ``read_nrrd_header``, and if the file does not hold just the voxels that it claims.
    """
    header = read_nrrd_header(file, suffix)
    file.file.seek(header.begin)
    if header.encoding == "text":
        flat = _written(file, header)
    else:
        room = room_for(header.values, header.stored.newbyteorder("="))
        reader = _unpacked(file, header)
        for where, stored in voxels_of(reader, header.values, header.stored, file.name):
            room.put(where.start, stored)
        _refuse_more(reader, header, file.name)
        flat = room.whole()
    stacked = flat.reshape(header.sizes, order="F")
    stacked = stacked[None] if header.layer_axis is None else np.moveaxis(stacked, header.layer_axis, 0)
    # Axes of one voxel come or go, nothing else.
    return header, stacked.reshape((header.layers, *header.shape))


def refuse_cut_nrrd(file: OpenFile, header: NrrdHeader) -> None:
    """Refuses a file that does not hold just the voxels that it claims, as far as that shows without keeping them.

    Raises:
        UnreadableImage: with what was found. What an unpacker raises about damaged bytes passes through.
    """
    file.file.seek(header.begin)
    if header.encoding == "raw":
        found = file.size - header.begin
        if found != header.length:
            raise _other_length(header, found, file.name)
    elif header.encoding == "text":
        _written(file, header)
    elif not gzip_tells(file, header.length):
        file.file.seek(header.begin)
        reader = _unpacked(file, header)
        for _ in pieces(reader, header.length, file.name):
            pass
        _refuse_more(reader, header, file.name)


def _header_lines(file: OpenFile) -> list[str]:
    """The lines up to the blank one, without their ends; the file stands behind it afterwards."""
    lines: list[bytes] = []
    left = MOST_HEADER_BYTES
    while line := file.file.readline(left):
        left -= len(line)
        if not line.endswith(b"\n") or left <= 0:
            break
        if line in (b"\n", b"\r\n"):
            return _decoded([*lines, line], file.name)
        lines.append(line)
    raise UnreadableImage(
        f"{file.name} has no end of its header: a blank line is wanted within {MOST_HEADER_BYTES >> 20} MiB. "
        "Export it again."
    )


def _decoded(lines: list[bytes], name: str) -> list[str]:
    """The lines without the last one, which is blank and ends as all others do."""
    end = lines[-1]
    for number, line in enumerate(lines, start=1):
        content = line.removesuffix(end)
        # Programs differ in what else ends a line for them, and so in what they take for a field.
        odd = re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", content)
        if odd or not line.endswith(end):
            found = odd.group() if odd else line[-2:]
            raise UnreadableImage(
                f"{name} has {found!r} in line {number} of its header; wanted are text, and lines that all end with "
                f"LF or all with CR and LF. Export it again."
            )
    return [line.removesuffix(end).decode("utf-8", "replace") for line in lines[:-1]]


def _fields(lines: list[str], name: str) -> tuple[dict[str, str], dict[str, str]]:
    """Fields by their names in the definition, and key/value pairs."""
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    if not re.fullmatch(r"NRRD000[1-5]", lines[0]):
        raise UnreadableImage(f"{name} begins with {lines[0][:20]!r}; wanted is NRRD0001 to NRRD0005.")
    for line in lines[1:]:
        if line.startswith("#"):
            continue
        key, found, value = _parted(line)
        if found == ":=":
            pairs[_unescaped(key)] = _unescaped(value)
            continue
        field = ALIASES.get(key.lower(), key.lower())
        if field == "data file":
            raise UnreadableImage(f"{name} keeps its voxels in another file. Save it as one .nrrd file.")
        if field not in FIELDS:
            raise UnreadableImage(
                f"{name} has the line {line[:60]!r} in its header, which is none of NRRD. Export it again."
            )
        if field in fields:
            raise UnreadableImage(f"{name} has the field {field!r} twice in its header. Export it again.")
        fields[field] = value.strip()
    return fields, pairs


def _parted(line: str) -> tuple[str, str, str]:
    """A line's key, what stands behind it, and its value: the first sign decides whether it is a field or a pair."""
    match = re.search(r":=|: ", line)
    if match is None:
        return line, "", ""
    return line[: match.start()], match.group(), line[match.end() :]


def _unescaped(text: str) -> str:
    return re.sub(r"\\([\\n])", lambda found: "\n" if found.group(1) == "n" else "\\", text)


def _header(fields: Mapping[str, str], pairs: Mapping[str, str], file: OpenFile) -> NrrdHeader:
    name = file.name
    missing = [field for field in ("type", "dimension", "sizes", "encoding") if field not in fields]
    if missing:
        raise UnreadableImage(f"{name} has no {', '.join(missing)} in its header. Export it again.")
    for field in ("line skip", "byte skip"):
        if fields.get(field, "0") != "0":
            raise UnreadableImage(f"{name} has the {field} {fields[field]!r}; wanted is none. Export it again.")
    encoding = _one_of(fields["encoding"], ENCODINGS, "encoding", name)
    stored = _stored_type(fields, encoding, name)
    sizes = _sizes(fields, name)
    layer_axis = _layer_axis(fields, sizes, name)
    domain = [axis for axis in range(len(sizes)) if axis != layer_axis]
    shape = three_axes(tuple(sizes[axis] for axis in domain), name)
    refuse_too_large(shape, stored.itemsize * (1 if layer_axis is None else sizes[layer_axis]), name)
    mm = _mm(fields, domain, name)
    affine = LPS_FROM_RAS @ plausible_affine(_lps(fields, sizes, domain, name) * np.array([[*mm, 1.0]]).T, name)
    is_in_mm = bool((mm == 1).all())
    return NrrdHeader(sizes, layer_axis, shape, affine, stored, encoding, file.file.tell(), pairs, is_in_mm)


def _mm(fields: Mapping[str, str], domain: list[int], name: str) -> NDArray[np.float64]:
    """Float64 (3,): millimetres of the unit along each axis of the space or, without a space, of the voxels."""
    field = "space units" if "space" in fields or "space dimension" in fields else "units"
    words = re.findall(r'"([^"]*)"', fields.get(field, "")) or fields.get(field, "").split()
    if field == "units" and words:
        if len(words) <= max(domain):
            raise UnreadableImage(f"{name} has {len(words)} units; wanted is one for each axis. Export it again.")
        words = [words[axis] for axis in domain]
    found = [MM_PER_UNIT.get(word.strip().lower(), 1.0) for word in words[:3]]
    return np.array([*found, *[1.0] * (3 - len(found))])


def _one_of(text: str, known: Mapping[str, str], field: str, name: str) -> str:
    found = known.get(text.lower())
    if found is None:
        raise UnreadableImage(f"{name} has the {field} {text[:40]!r}; wanted is one of {', '.join(known)}.")
    return found


def _stored_type(fields: Mapping[str, str], encoding: str, name: str) -> np.dtype[Any]:
    by_name = {spelling: kind for kind, spellings in TYPES.items() for spelling in spellings}
    kind = np.dtype(_one_of(fields["type"], by_name, "type", name))
    if kind.itemsize == 1 or encoding == "text":
        return kind
    return np.dtype(_one_of(fields.get("endian", ""), ORDERS, "endian", name) + kind.str[1:])


def _sizes(fields: Mapping[str, str], name: str) -> tuple[int, ...]:
    words = fields["sizes"].split()
    if fields["dimension"] != str(len(words)) or not 1 <= len(words) <= MOST_AXES:
        raise UnreadableImage(
            f"{name} has the dimension {fields['dimension'][:20]!r} and {len(words)} sizes; wanted is one for each "
            f"axis, at most {MOST_AXES}. Export it again."
        )
    if not all(re.fullmatch(r"[0-9]{1,18}", word) and int(word) > 0 for word in words):
        raise UnreadableImage(f"{name} holds no voxels (sizes {fields['sizes'][:80]!r}).")
    return tuple(int(word) for word in words)


def _layer_axis(fields: Mapping[str, str], sizes: tuple[int, ...], name: str) -> int | None:
    kinds = fields.get("kinds", "").lower().split() or ["???"] * len(sizes)
    if len(kinds) != len(sizes):
        raise UnreadableImage(f"{name} has {len(kinds)} kinds and {len(sizes)} axes. Export it again.")
    others = [axis for axis, kind in enumerate(kinds) if kind not in DOMAIN]
    if len(others) > 1:
        raise UnreadableImage(f"{name} has the kinds {' '.join(kinds)}; wanted is one axis of values at most.")
    return others[0] if others else None


def _lps(fields: Mapping[str, str], sizes: tuple[int, ...], domain: list[int], name: str) -> NDArray[np.float64]:
    """Float64 (4, 4), from voxel indices to LPS millimetres; axes behind the third one have one voxel."""
    lps = np.eye(4)
    if "space" not in fields and "space dimension" not in fields:
        for axis, (edge_mm, origin_mm) in enumerate(_edges_and_origins(fields, sizes, domain, name)[:3]):
            lps[axis, axis], lps[axis, 3] = edge_mm, origin_mm
        return lps
    signs = _signs(fields, len(domain), name)
    if "space directions" in fields:
        vectors = _vectors(fields, "space directions", signs.size, name)
        if [axis for axis, vector in enumerate(vectors) if vector is not None] != domain or len(vectors) != len(sizes):
            raise UnreadableImage(
                f"{name} has the space directions {fields['space directions'][:120]!r}; wanted is one for each axis "
                "along which voxels lie, and 'none' for another. Export it again."
            )
        lps[: signs.size, : signs.size] = np.array([vectors[axis] for axis in domain]).T * signs[:, None]
    elif "spacings" in fields:
        raise UnreadableImage(f"{name} has spacings and a space; wanted are its space directions. Export it again.")
    if "space origin" in fields:
        vectors = _vectors(fields, "space origin", signs.size, name)
        if len(vectors) != 1 or vectors[0] is None:
            raise UnreadableImage(f"{name} has the space origin {fields['space origin'][:80]!r}; wanted is one place.")
        lps[: signs.size, 3] = vectors[0] * signs
    return lps


def _signs(fields: Mapping[str, str], axes: int, name: str) -> NDArray[np.float64]:
    """By how much the numbers of a place are multiplied to get LPS."""
    space, dimension = fields.get("space"), fields.get("space dimension")
    if space is not None and dimension is not None:
        raise UnreadableImage(f"{name} has a space and a space dimension; wanted is one of them. Export it again.")
    if space is None:
        signs: tuple[float, ...] = (1.0,) * axes if dimension == str(axes) else ()
    else:
        signs = SPACES.get(space.lower(), ())
    if len(signs) != axes or axes > 3:
        raise UnreadableImage(
            f"{name} has {axes} axes along which voxels lie, in the space {space or dimension!r}; wanted are 3 of "
            f"{', '.join(SPACES)}. Export it again."
        )
    return np.array(signs)


def _vectors(fields: Mapping[str, str], field: str, count: int, name: str) -> list[NDArray[np.float64] | None]:
    """Vectors such as ``none (1,0,0) (0,1,0)``, each of so many numbers; ``None`` for none."""
    text = fields[field]
    if not re.fullmatch(r"(\s*(none|\([^()]*\)))*\s*", text):
        raise UnreadableImage(f"{name} has the {field} {text[:120]!r}, which are no vectors. Export it again.")
    found = [
        None if word == "none" else np.array([float(number) for number in word[1:-1].split(",")])
        for word in re.findall(r"none|\([^()]*\)", text)
    ]
    if any(vector is not None and vector.size != count for vector in found):
        raise UnreadableImage(f"{name} has the {field} {text[:120]!r}; wanted are {count} numbers each.")
    return found


def _edges_and_origins(fields: Mapping[str, str], sizes: tuple[int, ...], domain: list[int], name: str) -> list[Place]:
    """Edge and place of the first voxel along each axis of a file that knows no space, as ITK takes them."""
    axes = len(sizes)
    spacings, low, high = (_by_axis(fields, field, axes, name) for field in ("spacings", "axis mins", "axis maxs"))
    centers = fields.get("centers", "").lower().split() or ["???"] * axes
    if len(centers) != axes:
        raise UnreadableImage(f"{name} has {len(centers)} centers and {axes} axes. Export it again.")
    found: list[Place] = []
    for axis in domain:
        is_node = centers[axis] == "node"
        step = spacings[axis]
        if np.isnan(step):
            step = (high[axis] - low[axis]) / max(sizes[axis] - is_node, 1)
        found.append((1.0 if np.isnan(spacings[axis]) else spacings[axis], low[axis] + (0 if is_node else step / 2)))
    is_placed = all(np.isfinite(origin) for _, origin in found)
    return found if is_placed else [(edge, 0.0) for edge, _ in found]


def _by_axis(fields: Mapping[str, str], field: str, axes: int, name: str) -> list[float]:
    """One number for each axis, NaN where the file tells none."""
    numbers = [float(word) for word in fields.get(field, "").split()] or [np.nan] * axes
    if len(numbers) != axes:
        raise UnreadableImage(f"{name} has {len(numbers)} {field} and {axes} axes. Export it again.")
    return numbers


def _unpacked(file: OpenFile, header: NrrdHeader) -> Reader:
    return gzip.GzipFile(fileobj=file.file, mode="rb") if header.encoding == "gzip" else file.file


def _refuse_more(reader: Reader, header: NrrdHeader, name: str) -> None:
    if reader.read(1):
        raise _other_length(header, header.length + 1, name)


def _other_length(header: NrrdHeader, found: int, name: str) -> UnreadableImage:
    if found < header.length:
        return cut_off(name, header.length, found)
    return UnreadableImage(
        f"{name} holds more voxels than it says: its header promises {header.length} bytes of them, at least {found} "
        "are there. Export it again."
    )


def _written(file: OpenFile, header: NrrdHeader) -> NDArray[Any]:
    """Voxels that are written as text."""
    most = header.values * LONGEST_NUMBER
    words = file.file.read(most + 1).split()
    if len(words) != header.values:
        raise UnreadableImage(
            f"{file.name} is cut off or holds more than it says: its header promises {header.values} numbers, "
            f"{len(words)} are there. Export it again."
        )
    return np.array(words).astype(header.stored)


def write_nrrd(file: IO[bytes], voxels: NDArray[Any], affine: NDArray[np.float64], *, compressed: bool = True) -> None:
    """Writes voxels so that ITK opens them, also where axes are not at right angles; equal ones give equal bytes.

    Args:
        file: what is written to; the voxels are written slice by slice.
        voxels: (I, J, K) of a type that NRRD has.
        affine: from voxel indices to RAS millimetres.
        compressed: whether the voxels are packed by gzip.
    """
    lps = LPS_FROM_RAS @ affine
    kind = voxels.dtype.newbyteorder("<")
    vectors = " ".join(_vector(column) for column in lps[:3, :3].T)
    lines = (
        "NRRD0004",
        f"type: {TYPES[kind.str[1:]][-1]}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, voxels.shape))}",
        f"space directions: {vectors}",
        "kinds: domain domain domain",
        "endian: little",
        f"encoding: {'gzip' if compressed else 'raw'}",
        f"space origin: {_vector(lps[:3, 3])}",
    )
    file.write(("\n".join(lines) + "\n\n").encode())
    with gzip.GzipFile("", "wb", PACKING, file, mtime=0) if compressed else nullcontext(file) as content:
        for k in range(voxels.shape[2]):
            content.write(voxels[:, :, k].astype(kind, copy=False).tobytes(order="F"))


def _vector(numbers: NDArray[np.float64]) -> str:
    return f"({','.join(repr(float(number) + 0.0) for number in numbers)})"
