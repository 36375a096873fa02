"""PNG, PGM, TIFF, BMP and JPEG by grammar: sizes that lie, loops of directories, chunks that unpack to much."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from scripts.benchmarks.hostile.packing import deflated
from scripts.benchmarks.hostile.reach import EXTREME, Chance, odd_count, spoiled

EDGE = 24
"""Pixels of a sound picture along each side."""


def _size(chance: Chance) -> tuple[int, int]:
    """Columns and rows that are claimed."""
    return chance.choice([
        (EDGE, EDGE), (EDGE, EDGE), (30000, 30000), (65535, 65535), (2**31 - 1, 1), (1, 2**31 - 1), (0, EDGE),
        (13000, 13000),
        (odd_count(chance, EDGE), odd_count(chance, EDGE)),
    ])  # fmt: skip


def png(chance: Chance) -> bytes:
    """A PNG file, see the module."""
    columns, rows = _size(chance)
    depth, colour = chance.choice([(8, 0), (8, 0), (16, 0), (1, 0), (8, 2), (8, 3), (8, 4), (8, 6), (7, 0), (255, 9)])
    header = struct.pack(">IIBBBBB", columns % 2**32, rows % 2**32, depth, colour, chance.choice([0, 0, 0, 1]), 0,
                         chance.choice([0, 0, 1, 7]))  # fmt: skip
    pixels = chance.choice([
        lambda: zlib.compress(bytes(EDGE * (EDGE + 1))),
        lambda: zlib.compress(bytes(EDGE * (EDGE + 1))),
        lambda: b"\x78\x9c" + deflated(b"", chance.choice([64, 400])),
        lambda: b"",
        lambda: chance.randbytes(200),
    ])()  # fmt: skip
    odd = chance.choice([
        lambda: b"",
        lambda: b"",
        lambda: _chunk(b"iCCP", b"x\0\0" + b"\x78\x9c" + deflated(b"", 100)),
        lambda: _chunk(b"zTXt", b"x\0\0" + b"\x78\x9c" + deflated(b"", 100)),
        lambda: _chunk(b"iTXt", b"x\0\x01\0\0\0" + b"\x78\x9c" + deflated(b"", 100)),
        lambda: _chunk(b"pHYs", struct.pack(">IIB", *chance.choices([0, 1, 2**31, 2**32 - 1], k=2), 1)),
        lambda: _chunk(b"acTL", struct.pack(">II", 2**31, 0)),
        lambda: _chunk(b"tEXt", b"a\0b") * 20000,
        lambda: struct.pack(">I", 2**31) + b"IDAT",
    ])()  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + odd + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def pgm(chance: Chance) -> bytes:
    """A PGM file, or one of its relatives."""
    sizes = [str(size) for size in _size(chance)]
    if chance.random() < 0.4:
        sizes = [chance.choice(["1000000000", "-24", "24.0", "9" * 400, "9" * 5000, "٣", ""]), sizes[0]]
    kind = chance.choice(["P5", "P5", "P2", "P1", "P4", "P6", "P7", "Pf", "P9"])
    most = chance.choice(["255", "255", "65535", "1", "0", "-1", "65536", str(chance.choice(EXTREME))])
    gap = chance.choice([" ", "\n", "\n# comment\n", "#" * 10**5 + "\n", "\r", "\t\t"])
    pixels = chance.choice([bytes(EDGE * EDGE), bytes(2 * EDGE * EDGE), b"", b"0 " * EDGE * EDGE, b"9" * 10**5])
    return gap.join([kind, *sizes, most]).encode() + b"\n" + pixels


TAGS: dict[int, int] = {256: EDGE, 257: EDGE, 258: 8, 259: 1, 262: 1, 273: 0, 277: 1, 278: EDGE, 279: EDGE * EDGE}
"""Of a sound grey TIFF picture in one strip (TIFF 6.0)."""

ODD_TAGS: dict[int, tuple[int, ...]] = {
    256: (0, 2**31, 30000), 257: (0, 2**31, 30000), 258: (0, 1, 16, 32, 64, 255),
    259: (2, 5, 6, 7, 8, 32773, 32946, 34925, 50001),
    262: (0, 2, 3, 6, 99), 273: (0, 4, 2**32 - 1), 277: (0, 3, 65535), 278: (0, 1, 2**32 - 1), 279: (0, 2**32 - 1),
    284: (2,),
    339: (2, 3, 6), 322: (16, 2**31), 323: (16, 2**31), 324: (8,), 325: (2**32 - 1,), 317: (2, 3), 34675: (2**31,),
    330: (8,),
    34665: (8,), 700: (2**31,),
}  # fmt: skip


def tiff(chance: Chance) -> bytes:
    """A TIFF file whose directories may lead back to themselves."""
    order = chance.choice("<<>")
    tags = dict(TAGS)
    for tag in chance.sample(sorted(ODD_TAGS), chance.choice([0, 1, 1, 2, 5])):
        tags[tag] = chance.choice(ODD_TAGS[tag])
    tags[273] = tags[273] or 8 + 2 + 12 * len(tags) + 4
    count = chance.choice([1, 1, 1, 1, 2, 10**6, 2**31])
    odd_one = chance.choice(list(tags))
    entries = b"".join(
        struct.pack(f"{order}HHII", tag, chance.choice([4, 4, 4, 4, 3, 0, 12, 99]) if tag == odd_one else 4,
                    count if tag == odd_one else 1, value)
        for tag, value in sorted(tags.items())
    )  # fmt: skip
    following = chance.choice([0, 0, 0, 8, 9, 2**32 - 1])
    directory = struct.pack(f"{order}H", chance.choice([len(tags)] * 4 + [65535])) + entries
    begin = b"II*\0" if order == "<" else b"MM\0*"
    content = begin + struct.pack(f"{order}I", 8) + directory + struct.pack(f"{order}I", following)
    if chance.random() < 0.1:
        content = content + _page(order, len(content)) * 3000
    pixels = chance.choice(
        [bytes(EDGE * EDGE), b"", zlib.compress(bytes(EDGE * EDGE)), b"\x78\x9c" + deflated(b"", 64)]
    )
    return content + pixels


def _page(order: str, at: int) -> bytes:
    return struct.pack(f"{order}H12sI", 1, b"", at)


def bmp(chance: Chance) -> bytes:
    """A BMP file."""
    columns, rows = (size % 2**31 for size in _size(chance))
    bits, packing = chance.choice([(8, 0), (8, 0), (1, 0), (4, 2), (8, 1), (24, 0), (16, 3), (32, 3), (0, 4), (255, 0)])
    head = struct.pack("<IiiHHIIiiII", chance.choice([40, 40, 12, 108, 124, 0, 2**31]), columns,
                       chance.choice([rows, -rows]), 1, bits, packing, 0, 0, 0, chance.choice([0, 256, 2**31]),
                       0)  # fmt: skip
    palette = bytes(4 * 256)
    at = chance.choice([54 + len(palette), 54 + len(palette), 0, 2**31])
    pixels = chance.choice([bytes(EDGE * EDGE), b"", b"\xff\0" * 10**5, b"\0\x02\xff\xff" * 10**4])
    return b"BM" + struct.pack("<IHHI", chance.choice([0, 10**4, 2**31]), 0, 0, at) + head + palette + pixels


def jpeg(chance: Chance) -> bytes:
    """A JPEG file as far as its header; its pixels are missing, cut off or repeated."""
    columns, rows = (min(size % 2**31, 65535) for size in _size(chance))
    marker = chance.choice([0xC0, 0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xF7])
    components = chance.choice([1, 1, 3, 4, 0, 255])
    frame = struct.pack(">BHHB", chance.choice([8, 8, 12, 16]), rows, columns, components)
    frame += b"".join(bytes([number % 256, 0x11, 0]) for number in range(components))
    table = bytes([0]) + bytes([1] * 64)
    codes = bytes([0x00]) + bytes([0, 1] + [0] * 14) + bytes([0])
    scan = bytes([1, 0, 0, 0, 63, 0])
    more = chance.choice([b"", _segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\x01\0" + bytes(12) + b"\x08\0\0\0"),
                          _segment(0xE2, b"ICC_PROFILE\0\x01\xff"), b"\xff" * 10**5])  # fmt: skip
    times = chance.choice([1, 1, 1, 2000])
    scans = (_segment(0xDA, scan) + chance.choice([b"", bytes(50), b"\xff\0" * 500])) * times
    begin = b"\xff\xd8" + more + _segment(0xDB, table) + _segment(marker, frame) + _segment(0xC4, codes)
    return begin + scans + chance.choice([b"\xff\xd9", b""])


def _segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


PICTURES: dict[str, Callable[[Chance], bytes]] = {
    ".png": png, ".pgm": pgm, ".tiff": tiff, ".tif": tiff, ".bmp": bmp, ".jpeg": jpeg, ".jpg": jpeg
}  # fmt: skip
"""By the suffix of their names."""


def picture(suffix: str, chance: Chance) -> bytes:
    """A picture file by its suffix, now and then damaged besides."""
    content = PICTURES[suffix](chance)
    return spoiled(content, chance) if chance.random() < 0.15 else content
