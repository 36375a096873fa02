"""NIfTI-1 and NIfTI-2 headers by grammar, packed and not: dimensions that lie, odd scaling, places of no space."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from scripts.benchmarks.hostile.packing import bomb, members
from scripts.benchmarks.hostile.reach import Chance, Reach, odd_count, some, spoiled

DATATYPES = (2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, 0, 1, 3, 255, -1, 9999)
"""As in nifti1.h, and some that are none."""

BITS = {2: 8, 4: 16, 8: 32, 16: 32, 32: 64, 64: 64, 128: 24, 256: 8, 512: 16, 768: 32, 1024: 64, 1280: 64, 1536: 128}

FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-30, 1e30, 3.4e38, math.nan, math.inf, -math.inf, 1e-45)


@dataclass
class Header:
    """The fields that are changed, as a sound header of a mask has them."""

    dim: list[int]
    datatype: int = 2
    bitpix: int = 8
    pixdim: list[float] = field(default_factory=lambda: [1.0] * 8)
    offset: int = 352
    slope: float = 1.0
    intercept: float = 0.0
    qform: int = 0
    sform: int = 1
    quatern: list[float] = field(default_factory=lambda: [0.0] * 6)
    rows: list[float] = field(default_factory=lambda: [1.0, 0, 0, 0, 0, 1.0, 0, 0, 0, 0, 1.0, 0])
    units: int = 2
    magic: bytes = b"n+1\0"
    size: int = 348
    extension: bytes = bytes(4)

    def packed(self, order: str) -> bytes:
        """The bytes of the header, NIfTI-2 if its size says so."""
        two = self.size == 540
        whole, real, most = ("q", "d", 2**63) if two else ("h", "f", 2**15)
        dim = [max(-most, min(most - 1, value)) for value in self.dim]
        real_numbers = [value if two or not math.isfinite(value) else max(-3.4e38, min(3.4e38, value))
                        for value in (*self.pixdim, self.slope, self.intercept, *self.quatern, *self.rows)]  # fmt: skip
        pixdim, (slope, intercept), place = real_numbers[:8], real_numbers[8:10], real_numbers[10:]
        pack, codes = struct.pack, (self.datatype & 0x7FFF, self.bitpix & 0x7FFF)
        if two:
            magic = (self.magic + b"\r\n\x1a\n")[:8].ljust(8, b"\0")
            return (
                pack(f"{order}i8s2h8q3d8d", 540, magic, *codes, *dim, 0, 0, 0, *pixdim)
                + pack(
                    f"{order}q2d4d2q80s24s2i", self.offset, slope, intercept, *[0] * 6, b"", b"", self.qform, self.sform
                )
                + pack(f"{order}18d3i16sB15s", *place, 0, self.units, 0, b"", 0, b"")
            )
        return (
            pack(f"{order}i35sB8{whole}3f3{whole}h8{real}", self.size, b"", 0, *dim, 0, 0, 0, 0, *codes, 0, *pixdim)
            + pack(f"{order}f2fhBB4f2i80s24s2h", min(self.offset, 1e38), slope, intercept, 0, 0, self.units, 0, 0, 0,
            0, 0, 0,
                   b"", b"", self.qform, self.sform)
            + pack(f"{order}18f16s4s", *place, b"", self.magic)
        )  # fmt: skip


def _sized(header: Header, chance: Chance) -> None:
    for axis in chance.sample(range(8), chance.choice([1, 2, 3])):
        header.dim[axis] = odd_count(chance, header.dim[axis])


def _huge(header: Header, chance: Chance) -> None:
    header.dim[1:4] = chance.choice([(16384, 16384, 16), (1300, 1300, 1300), (800, 800, 800), (32767, 32767, 32767)])


def _typed(header: Header, chance: Chance) -> None:
    header.datatype = chance.choice(DATATYPES)
    header.bitpix = chance.choice([BITS.get(header.datatype, 8), BITS.get(header.datatype, 8), 0, 1, 7, 255])


def _scaled(header: Header, chance: Chance) -> None:
    header.slope, header.intercept = chance.choice(FLOATS), chance.choice(FLOATS)


def _offset(header: Header, chance: Chance) -> None:
    header.offset = chance.choice([0, 1, 347, 348, 353, 10**6, 2**31 - 1, -1, -352, 2**40])


def _edged(header: Header, chance: Chance) -> None:
    header.pixdim = [chance.choice(FLOATS) if chance.random() < 0.5 else edge for edge in header.pixdim]
    header.sform = chance.choice([0, 0, 1])


def _turned(header: Header, chance: Chance) -> None:
    header.rows = [chance.choice(FLOATS) if chance.random() < 0.4 else number for number in header.rows]


def _nearly_flat(header: Header, chance: Chance) -> None:
    tiny = chance.choice([1e-3, 1e-4, 1e-6, 1e-10])
    header.rows = [1.0, 1.0, 0, 0, 1.0, 1.0 + tiny, 0, 0, 0, 0, chance.choice([1.0, 1e-3]), 0]


def _rotated(header: Header, chance: Chance) -> None:
    header.sform, header.qform = 0, chance.choice([1, 2, -1, 99])
    header.quatern = [chance.choice(FLOATS) for _ in range(6)]


def _coded(header: Header, chance: Chance) -> None:
    header.sform, header.qform = chance.choice([-1, 0, 5, 32767]), chance.choice([-1, 0, 5, 32767])
    header.units = chance.choice([0, 1, 3, 7, 255])


def _named(header: Header, chance: Chance) -> None:
    header.magic = chance.choice([b"ni1\0", b"n+2\0", b"n+1 ", b"\0\0\0\0", b"n+9\0"])


def _extended(header: Header, chance: Chance) -> None:
    size = chance.choice([0, 8, 16, -16, 2**31 - 1, 15])
    header.extension = b"\x01\0\0\0" + struct.pack("<2i", size, chance.choice([0, 2, 4, 44, -1])) + chance.randbytes(24)
    header.offset = chance.choice([352, 388, 384, 2**31 - 1])


def _sized_header(header: Header, chance: Chance) -> None:
    header.size = chance.choice([540, 0, 347, 2**31 - 1, -1])


CHANGES: tuple[Callable[[Header, Chance], None], ...] = (
    _sized, _huge, _huge, _typed, _scaled, _scaled, _offset, _edged, _turned, _nearly_flat, _nearly_flat, _rotated,
    _coded,
    _named, _extended, _sized_header,
)  # fmt: skip


def nifti(chance: Chance, reach: Reach) -> bytes:
    """A file whose header says something odd, and is sound otherwise."""
    header = Header([3, *reach.shape, 1, 1, 1, 1])
    if chance.random() < 0.25:
        header.size, header.magic, header.offset = 540, b"n+2\0", 544
    for change in some(chance, CHANGES):
        change(header, chance)
    begin = header.packed(chance.choice("<<<>")) + header.extension
    return begin + _voxels(chance, reach)


def _voxels(chance: Chance, reach: Reach) -> bytes:
    sound = bytes(reach.voxels)
    return chance.choice(
        [sound, sound, sound, b"", sound[: len(sound) // 2], sound * 8, chance.randbytes(reach.voxels)]
    )


def packed_nifti(chance: Chance, reach: Reach) -> bytes:
    """The same packed: as it should be, of many members, damaged, or with many more zeros than its size tells."""
    content = nifti(chance, reach)
    return chance.choice([
        lambda: members(content),
        lambda: members(content),
        lambda: members(content, chance.choice([2, 7, 300])),
        lambda: members(content)[:-8] + chance.randbytes(8),
        lambda: members(content) + chance.randbytes(50),
        lambda: spoiled(members(content), chance),
        lambda: members(members(content)),
        lambda: _large(chance, reach),
    ])()  # fmt: skip


def _large(chance: Chance, reach: Reach) -> bytes:
    """Zeros, as many as the header says or not."""
    header = Header([3, *reach.shape, 1, 1, 1, 1])
    if chance.random() < 0.7:
        _huge(header, chance)
    if chance.random() < 0.5:
        header.datatype, header.bitpix = chance.choice([(64, 64), (16, 32), (512, 16)])
    if chance.random() < 0.5:
        _scaled(header, chance)
    asked = math.prod(header.dim[1:4]) * header.bitpix // 8 >> 20
    return bomb(header.packed("<") + header.extension, min(asked + 1, chance.choice([64, 512, 2100])))
