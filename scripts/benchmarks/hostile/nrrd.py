"""NRRD headers by grammar: detached data in every spelling, sizes that lie, odd line ends."""

from __future__ import annotations

import bz2
from collections.abc import Callable

from scripts.benchmarks.hostile.packing import bomb, members
from scripts.benchmarks.hostile.reach import Chance, Reach, odd_count, odd_number, some

Fields = list[tuple[str, str]]

ENDS = ("\n", "\r\n", "\r", "\n\r", "\x0b", "\x0c", "\u0085", "\u2028")
"""What some reader takes for the end of a line."""

DATA_FILE = ("data file", "data file", "data file", "datafile", "datafile", "Data File", "DATAFILE", "dataFile",
"data  file", " data file", "data file ",
             "data\tfile", "DATA FILE", "\ufeffdata file", "data\u00a0file")  # fmt: skip
SEPARATORS = (": ", ":", ":\t", " : ", ":=", ":  ")

TYPES = ("uchar", "uint8", "unsigned char", "short", "int16", "ushort", "int", "uint", "longlong", "uint64", "float",
         "double", "block", "half", "UCHAR", "complex", "", "signed  char")  # fmt: skip
ENCODINGS = ("raw", "RAW", "gzip", "gz", "bzip2", "bz2", "txt", "text", "ascii", "hex", "zrl", "lz4", "", "gzip bzip2")


def _fields(reach: Reach) -> Fields:
    return [
        ("type", "uchar"),
        ("dimension", "3"),
        ("space", "left-posterior-superior"),
        ("sizes", " ".join(map(str, reach.shape))),
        ("space directions", "(-1,0,0) (0,-1,0) (0,0,1)"),
        ("kinds", "domain domain domain"),
        ("endian", "little"),
        ("encoding", "raw"),
        ("space origin", "(0,0,0)"),
    ]


def _put(fields: Fields, key: str, value: str) -> None:
    fields[:] = [(name, value if name == key else old) for name, old in fields]


def _detached(fields: Fields, chance: Chance, reach: Reach) -> None:
    path = reach.path(chance)
    value = chance.choice([path, path, path, path, "LIST", "LIST 2", f"{path} 1 3 1", path.replace("1", "%d"),
                           path.replace(".raw", "%03d.raw") + " 1 3 1", f'"{path}"', f"{path}\0",
                           f" {path} "])  # fmt: skip
    where = chance.choice([0, chance.randrange(len(fields) + 1), len(fields)])
    fields.insert(where, (chance.choice(DATA_FILE), value))
    if value.startswith("LIST"):
        fields.append(("", path))


def _skipped(fields: Fields, chance: Chance, reach: Reach) -> None:
    key = chance.choice(["byte skip", "byteskip", "line skip", "lineskip", "Byte Skip"])
    fields.insert(
        chance.randrange(len(fields)), (key, chance.choice(["-1", "1", "10000000", "-2", odd_number(chance)]))
    )


def _sized(fields: Fields, chance: Chance, reach: Reach) -> None:
    sizes = [odd_count(chance, size) if chance.random() < 0.5 else size for size in reach.shape]
    sizes += [1] * chance.choice([0, 0, 0, 1, 13])
    _put(fields, "sizes", " ".join(map(str, sizes[: chance.choice([1, 2, 3, 16])])))
    if chance.random() < 0.6:
        _put(fields, "dimension", str(len(sizes)))


def _huge(fields: Fields, chance: Chance, reach: Reach) -> None:
    sizes = chance.choice([(16384, 16384, 16), (1300, 1300, 1300), (40000, 40000, 1), (2**31 - 1, 1, 1), (65536,) * 3])
    _put(fields, "sizes", " ".join(map(str, sizes)))
    _put(fields, "type", chance.choice(TYPES))


def _typed(fields: Fields, chance: Chance, reach: Reach) -> None:
    _put(fields, "type", chance.choice(TYPES))


def _encoded(fields: Fields, chance: Chance, reach: Reach) -> None:
    _put(fields, "encoding", chance.choice(ENCODINGS))


def _placed(fields: Fields, chance: Chance, reach: Reach) -> None:
    key = chance.choice(["space directions", "space origin", "spacings", "measurement frame", "axis mins"])
    vectors = [f"({','.join(chance.choice(['0', '1', '-1', odd_number(chance)]) for _ in range(3))})" for _ in range(3)]
    value = chance.choice([" ".join(vectors), "none none none", "(1,0,0) (1,0,0) (1,0,0)", "(0,0,0)", "nan nan nan",
                           " ".join(vectors[:1])])  # fmt: skip
    _put(fields, key, value)
    if all(name != key for name, _ in fields):
        fields.append((key, value))


def _segmented(fields: Fields, chance: Chance, reach: Reach) -> None:
    for number in range(chance.choice([1, 2, 300])):
        fields.append((f"Segment{number}_LabelValue", odd_number(chance)))
        fields.append((f"Segment{number}_Layer", chance.choice(["0", "1", odd_number(chance)])))
        fields.append((f"Segment{number}_Name", chance.choice(["Bright", "", "x" * 10**5, "\u202e", "<b>"])))
    numbers = ";".join(odd_number(chance) for _ in range(22))
    fields.append(("Segmentation_ConversionParameters", f"Reference image geometry|{numbers};|&"))


def _repeated(fields: Fields, chance: Chance, reach: Reach) -> None:
    fields.append((chance.choice(fields)[0], odd_number(chance)))


def _lacking(fields: Fields, chance: Chance, reach: Reach) -> None:
    fields.pop(chance.randrange(len(fields)))


def _long(fields: Fields, chance: Chance, reach: Reach) -> None:
    fields.append(("content", "x" * chance.choice([10**4, 10**6])))
    fields.extend((f"key{number}", "y") for number in range(chance.choice([0, 1000, 20000])))


CHANGES: tuple[Callable[[Fields, Chance, Reach], None], ...] = (
    _detached, _detached, _detached, _detached, _skipped, _sized, _huge, _typed, _encoded, _placed, _segmented,
    _repeated, _lacking, _long,
)  # fmt: skip


def nrrd(chance: Chance, reach: Reach) -> bytes:
    """A file whose header says something odd, and is sound otherwise."""
    fields = _fields(reach)
    for change in some(chance, CHANGES):
        change(fields, chance, reach)
    return _header(fields, chance).encode() + _voxels(dict(fields), chance, reach)


def _header(fields: Fields, chance: Chance) -> str:
    """All lines; bare CRs may hide a line from who splits at LF, or the other way round."""
    ends = chance.choice([("\n",), ("\n",), ("\r",), ("\r",), ("\r\n",), ("\n", "\r"), ("\n", "\r\n"), ENDS])
    odd = ["NRRD0001", "NRRD0009", "NRRD0004 ", "NRRD00.01", "nrrd0004", "\ufeffNRRD0004"]
    lines = [chance.choice(odd) if chance.random() < 0.1 else chance.choice(["NRRD0004", "NRRD0005"])]
    odd_separators = SEPARATORS if chance.random() < 0.1 else (": ",)
    comments = 0.05 if chance.random() < 0.2 else 0.0
    for key, value in fields:
        separator = ":=" if key.startswith("Segment") else chance.choice(odd_separators)
        lines.append(f"{key}{separator}{value}" if key else value)
        if chance.random() < comments:
            lines.append(chance.choice(["# comment", "#", f"# data file: {value}", "   "]))
    header = "".join(each + chance.choice(ends) for each in lines)
    return header + chance.choice([ends[-1], ends[-1], ends[-1], "\n", "\r\n\r\n", ""])


def _voxels(fields: dict[str, str], chance: Chance, reach: Reach) -> bytes:
    """What stands behind the header, as it says or otherwise."""
    plain = bytes(reach.voxels)
    sound = {"gzip": lambda: members(plain), "gz": lambda: members(plain), "bzip2": lambda: bz2.compress(plain),
             "hex": lambda: plain.hex().encode(), "ascii": lambda: b"0 " * len(plain)}  # fmt: skip
    made = sound.get(fields.get("encoding", "").lower(), lambda: plain)
    return chance.choice([
        made, made, made, lambda: b"", lambda: made()[: len(plain) // 2], lambda: members(plain, chance.randrange(9)),
        lambda: bomb(b"", chance.choice([64, 300])), lambda: chance.randbytes(1000),
    ])()  # fmt: skip
