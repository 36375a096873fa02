"""NRRD: a header says what ITK understands by it, or is refused; no other file is ever opened for it."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lib.errors import UnreadableImage
from lib.labels import read_mask
from lib.nrrd import TYPES, write_nrrd
from lib.volume import has_one_meaning, read_doubt, read_grid, read_volume
from tests.itk import volume_of_sitk

SPELLINGS = [(kind, spelling) for kind, spellings in TYPES.items() for spelling in spellings]

BASIC = ("type: short", "dimension: 3", "sizes: 4 3 2", "endian: little", "encoding: raw")

COUNTED = np.arange(24, dtype="<i2").reshape(4, 3, 2, order="F")
CONTENT = COUNTED.tobytes(order="F")


def header(*lines, magic="NRRD0004", end="\n"):
    return end.join((magic, *lines, "", "")).encode()


def write(path, *lines, data=CONTENT, **options):
    path.write_bytes(header(*lines, **options) + data)
    return path


def refused(path, message):
    """Each reader refuses it: for listing, of images and of masks."""
    for read in (read_grid, read_volume, lambda source: read_mask(source, None, "case")):
        with pytest.raises(UnreadableImage, match=message):
            read(path)


# --- as ITK reads it -------------------------------------------------------------------------------------------------

numbers = st.floats(-50, 50, allow_nan=False).map(lambda number: round(number, 3))
edges = st.floats(0.1, 20).map(lambda number: round(number, 3))


def vector(values):
    return f"({','.join(map(repr, values))})"


@st.composite
def spaces(draw, axes):
    """Lines about the place of a file of two or three axes."""
    kind = draw(st.sampled_from(("nothing", "spacings", "mins", "space", "dimension")))
    if kind == "nothing":
        return []
    if kind in ("spacings", "mins"):
        lines = ["spacings: " + " ".join(repr(draw(edges)) for _ in range(axes))]
        if kind == "mins":
            lines.append("axis mins: " + " ".join(repr(draw(numbers)) for _ in range(axes)))
            if draw(st.booleans()):
                lines.append(
                    "centers: " + " ".join(draw(st.sampled_from(("cell", "node", "???"))) for _ in range(axes))
                )
        return lines
    name = draw(st.sampled_from((
        "right-anterior-superior", "RAS", "left-anterior-superior", "LAS", "left-posterior-superior", "LPS",
        "scanner-xyz", "3D-right-handed", "3D-left-handed", "Left-Posterior-Superior",
    )))  # fmt: skip
    lines = [f"space: {name}" if kind == "space" and axes == 3 else f"space dimension: {axes}"]
    if draw(st.booleans()):
        matrix = np.array([[draw(numbers) for _ in range(axes)] for _ in range(axes)])
        norms = np.linalg.norm(matrix, axis=1)
        assume(norms.min() > 0.01 and abs(np.linalg.det(matrix / norms[:, None])) > 0.1)
        lines.append("space directions: " + " ".join(vector(row) for row in matrix.tolist()))
    if draw(st.booleans()):
        lines.append(f"space origin: {vector([draw(numbers) for _ in range(axes)])}")
    return lines


@st.composite
def files(draw):
    axes = draw(st.sampled_from((2, 3, 3, 3)))
    sizes = [draw(st.integers(1, 4)) for _ in range(axes)]
    kind, spelling = draw(st.sampled_from(SPELLINGS))
    order = draw(st.sampled_from("<>"))
    voxels = np.arange(np.prod(sizes)).astype(order + kind)
    encoding = draw(st.sampled_from(("raw", "gzip", "gz", "ascii", "text", "txt")))
    packed = {"r": voxels.tobytes(), "g": gzip.compress(voxels.tobytes())}
    data = packed.get(encoding[0]) or "\n".join(map(str, voxels.tolist())).encode() + b"\n"
    lines = [f"type: {spelling}", f"dimension: {axes}", *draw(spaces(axes)), f"sizes: {' '.join(map(str, sizes))}",
             f"endian: {'little' if order == '<' else 'big'}", f"encoding: {encoding}"]  # fmt: skip
    if draw(st.booleans()):
        lines += ["kinds: " + " ".join(["domain"] * axes), "# seen by two", "a key:=a value", "line skip: 0"]
    return header(*lines, end=draw(st.sampled_from(("\n", "\r\n")))) + data


@given(content=files())
@settings(max_examples=150, deadline=None)
def test_voxels_and_place_are_those_that_itk_finds(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "drawn.nrrd"
    path.write_bytes(content)

    volume, expected = read_volume(path), volume_of_sitk(sitk.ReadImage(str(path), imageIO="NrrdImageIO"))

    np.testing.assert_array_equal(volume.voxels, expected.voxels)
    assert volume.voxels.dtype == expected.voxels.dtype
    np.testing.assert_allclose(volume.affine, expected.affine, rtol=1e-9, atol=1e-9)
    assert read_grid(path).is_same_as(volume.grid)


@pytest.mark.parametrize("lines", [
    ("space: RAS",), ("space: LAS", "space origin: (1,2,3)"), ("spacings: -2 3 4",), ("spacings: nan 3 4",),
    ("axis mins: 1 2 3", "axis maxs: 5 6 7"), ("spacings: 1 2 3", "axis mins: 1 nan 3"),
    ("space: LPS", "space directions: ( 1 , 0 , 0 )  (0, 2, 0) (0,0,3)"),
    ("space:LPS:=a pair, whatever it looks like",), ("content: data file", "labels: \"x\" \"y\" \"z\""),
])  # fmt: skip
def test_a_place_told_by_halves_is_what_itk_makes_of_it(tmp_path, lines):
    path = write(tmp_path / "odd.nrrd", *BASIC, *lines)

    expected = volume_of_sitk(sitk.ReadImage(str(path), imageIO="NrrdImageIO")).affine

    if np.isfinite(expected).all():
        np.testing.assert_allclose(read_volume(path).affine, expected)
    else:
        np.testing.assert_allclose(read_volume(path).affine[:, 3], [0, 0, 0, 1])


@pytest.mark.parametrize("at", [0, 3], ids=["first", "last"])
@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_layers_lie_in_the_first_axis_or_the_last(tmp_path, at, encoding):
    """Two layers of 4x3x2; the second one holds the segment."""
    layers = np.stack([np.zeros((4, 3, 2), np.uint8), np.eye(4, 3, dtype=np.uint8)[:, :, None].repeat(2, 2)], at)
    sizes, kinds, vectors = ["4", "3", "2"], ["domain"] * 3, ["(-1,0,0)", "(0,-1,0)", "(0,0,1)"]
    for words, word in ((sizes, "2"), (kinds, "list"), (vectors, "none")):
        words.insert(at, word)
    content = layers.tobytes(order="F")
    path = write(
        tmp_path / "m.seg.nrrd", "type: uint8", "dimension: 4", "space: LPS", f"sizes: {' '.join(sizes)}",
        f"space directions: {' '.join(vectors)}", f"kinds: {' '.join(kinds)}", f"encoding: {encoding}",
        "Segment0_Name:=Leber – Höhle", "Segment0_LabelValue:=1", "Segment0_Layer:=1",
        data=gzip.compress(content) if encoding == "gzip" else content,
    )  # fmt: skip

    mask = read_mask(path, None, "case")

    assert mask.named[0].name == "Leber – Höhle"
    np.testing.assert_array_equal(mask.volume.voxels, np.eye(4, 3)[:, :, None].repeat(2, 2))
    np.testing.assert_array_equal(mask.volume.affine, np.eye(4))


# --- no other file ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("field", [
    "data file: {}", "datafile: {}", "DATA FILE: {}", "DataFile: {}", "data file: LIST\n{}", "datafile: {}%03d 1 1 1",
    "data file: ./../secret.raw",
])  # fmt: skip
def test_voxels_in_another_file_are_refused_however_it_is_named(tmp_path, field, end):
    (tmp_path / "secret.raw").write_bytes(bytes(48))
    lines = field.format(tmp_path / "secret.raw").splitlines()

    path = write(tmp_path / "a.nrrd", *BASIC, *lines, end=end)

    refused(path, r"a\.nrrd keeps its voxels in another file\. Save it as one \.nrrd file")


@pytest.mark.parametrize("separator", ["\r", "\n\r", "\x0b", "\x0c", "\0", "\x1c", "\x85", "\u2028"])
def test_nothing_but_lf_or_crlf_ends_a_line(tmp_path, separator):
    """ITK takes a bare CR for an end: what stands behind it would be a field for it and a part of one for others."""
    (tmp_path / "secret.raw").write_bytes(bytes(48))
    hidden = f"content: x{separator}data file: {tmp_path / 'secret.raw'}"
    path = write(tmp_path / "a.nrrd", *BASIC, hidden)

    if separator in "\x85\u2028":
        np.testing.assert_array_equal(read_volume(path).voxels, COUNTED)
    else:
        refused(path, r"a\.nrrd has b'.*' in line \d of its header; wanted are text, and lines that all end")


def test_a_header_whose_lines_all_end_with_cr_is_refused(tmp_path):
    path = tmp_path / "a.nrrd"
    path.write_bytes(header(*BASIC, f"data file: {tmp_path / 'secret.raw'}", end="\r") + bytes(48))

    refused(path, r"a\.nrrd has (no end of its header|b'\\r')")


def test_ends_of_lines_are_not_mixed(tmp_path):
    content = header(*BASIC).replace(b"4 3 2\n", b"4 3 2\r\n") + CONTENT
    (tmp_path / "a.nrrd").write_bytes(content)

    refused(tmp_path / "a.nrrd", r"has b'\\r' in line 4 of its header; wanted are text, and lines that all end with LF")


@pytest.mark.parametrize("lines", [("byte skip: 40",), ("line skip: 1",), ("byteskip: -1",), ("BYTE SKIP: 0x10",)])
def test_nothing_is_skipped(tmp_path, lines):
    refused(write(tmp_path / "a.nrrd", *BASIC, *lines), r"has the (line|byte) skip '.*'; wanted is none")


@pytest.mark.parametrize(("lines", "message"), [
    (("sizes:4 3 2",), "none of NRRD"),
    (("encoding : raw",), "none of NRRD"),
    (("execute: rm",), "none of NRRD"),
    (("sizes: 4 3 2",), "field 'sizes' twice"),
    (("space: LPS", "Space: RAS"), "field 'space' twice"),
    (("spacedirections: (1,0,0) (0,1,0) (0,0,1)", "space: LPS", "space directions: (2,0,0) (0,1,0) (0,0,1)"), "twice"),
    (("space: LPS", "space directions: (1,0) (0,1) (0,0)"), "wanted are 3 numbers each"),
    (("space: LPS", "space directions: (1,0,0) (0,1,0)"), "wanted is one for each axis"),
    (("space: LPS", "space directions: none (1,0,0) (0,1,0)"), "wanted is one for each axis"),
    (("space: LPS", "space directions: 1,0,0"), "no vectors"),
    (("space: LPS", "spacings: 1 1 1"), "spacings and a space"),
    (("space: right-anterior-superior-time",), "axes along which voxels lie, in the space"),
    (("kinds: domain domain",), "2 kinds and 3 axes"),
    (("kinds: list vector domain",), "one axis of values at most"),
    (("spacings: 1 1",), "2 spacings and 3 axes"),
])  # fmt: skip
def test_a_header_that_is_no_nrrd_is_refused_with_what_is_wrong(tmp_path, lines, message):
    refused(write(tmp_path / "a.nrrd", *BASIC, *lines), rf"a\.nrrd has .*{message}")


@pytest.mark.parametrize(("old", "new", "message"), [
    ("type: short", "type: block", "has the type 'block'; wanted is one of"),
    ("type: short", "type: unsigned long", "has the type 'unsigned long'"),
    ("dimension: 3", "dimension: 4", "dimension '4' and 3 sizes"),
    ("sizes: 4 3 2", "sizes: 4 3 -2", "holds no voxels"),
    ("sizes: 4 3 2", "sizes: 4 3 0", "holds no voxels"),
    ("sizes: 4 3 2", "sizes: 4 3 9999999999999999999999", "holds no voxels"),
    ("endian: little", "endian: middle", "has the endian 'middle'"),
    ("endian: little\n", "", "has the endian ''"),
    ("encoding: raw", "encoding: hex", "has the encoding 'hex'; wanted is one of raw, gzip"),
    ("encoding: raw", "encoding: zrl", "has the encoding 'zrl'"),
    ("NRRD0004", "NRRD0009", "begins with 'NRRD0009'; wanted is NRRD0001 to NRRD0005"),
    ("sizes: 4 3 2\n", "", "has no sizes in its header"),
])  # fmt: skip
def test_a_field_of_another_value_is_refused_with_it(tmp_path, old, new, message):
    content = header(*BASIC).decode().replace(old, new, 1).encode()
    (tmp_path / "a.nrrd").write_bytes(content + CONTENT)

    refused(tmp_path / "a.nrrd", message)


def test_a_header_without_an_end_is_refused_within_bounds(tmp_path):
    (tmp_path / "a.nrrd").write_bytes(header(*BASIC)[:-1] + b"# long\n" * 700_000)

    refused(tmp_path / "a.nrrd", r"has no end of its header: a blank line is wanted within 4 MiB")


# --- just the voxels that it claims ----------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["raw", "gzip", "text"])
@pytest.mark.parametrize(("voxels", "found"), [(23, "cut off"), (25, "more")])
def test_a_file_holds_just_the_voxels_that_it_claims(tmp_path, encoding, voxels, found):
    content = np.arange(voxels, dtype="<i2")
    data = {"raw": content.tobytes(), "gzip": gzip.compress(content.tobytes()),
            "text": " ".join(map(str, content.tolist())).encode()}[encoding]  # fmt: skip
    lines = [line.replace("raw", encoding) for line in BASIC]

    refused(write(tmp_path / "a.nrrd", *lines, data=data), found)


def test_a_gzip_of_several_members_is_whole(tmp_path):
    content = CONTENT
    path = write(tmp_path / "a.nrrd", *(line.replace("raw", "gzip") for line in BASIC),
                 data=gzip.compress(content[:20]) + gzip.compress(content[20:]))  # fmt: skip

    assert read_grid(path).shape == (4, 3, 2)
    np.testing.assert_array_equal(read_volume(path).voxels, COUNTED)


def test_numbers_as_text_that_do_not_fit_their_type_are_refused(tmp_path):
    lines = [line.replace("raw", "ascii") for line in BASIC]

    with pytest.raises(UnreadableImage, match=r"a\.nrrd cannot be read"):
        read_volume(write(tmp_path / "a.nrrd", *lines, data=b"x " * 24))


@pytest.mark.parametrize(("unit", "factor"), [
    ("mm", 1), ("um", 1e-3), ("µm", 1e-3), ("microns", 1e-3), ("cm", 10), ("m", 1e3), ("Metre", 1e3), ("nm", 1e-6),
    ("", 1), ("pixels", 1), ("???", 1),
])  # fmt: skip
@pytest.mark.parametrize("has_space", [True, False])
def test_lengths_are_millimetres_whatever_the_units_of_the_space_are(tmp_path, has_space, unit, factor):
    if has_space:
        where = ["space: LPS", "space directions: (2,0,0) (0,3,0) (0,0,4)", "space origin: (5,6,7)"]
        where.append("space units: " + " ".join(f'"{unit}"' for _ in "IJK"))
    else:
        where = ["spacings: 2 3 4", "units: " + " ".join(f'"{unit}"' for _ in "IJK")]

    path = write(tmp_path / "a.nrrd", *BASIC, *where)

    assert read_grid(path).spacing_mm == pytest.approx((2 * factor, 3 * factor, 4 * factor))
    if has_space:
        np.testing.assert_allclose(read_grid(path).affine[:3, 3], np.array([-5, -6, 7]) * factor)
    assert has_one_meaning(path) == (factor == 1)
    assert bool(read_doubt(path)) == (factor != 1)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int32, np.uint64, np.float32, np.float64])
def test_what_is_written_is_what_itk_reads_also_of_oblique_axes(tmp_path, kind, compressed):
    affine = np.array([[-0.8, 0.1, 0, 90], [0, -0.9, 0.8, 110], [0, 0, 2.5, -60], [0, 0, 0, 1.0]])
    voxels = np.arange(24).reshape(4, 3, 2).astype(kind)
    with (tmp_path / "a.nrrd").open("wb") as file:
        write_nrrd(file, voxels, affine, compressed=compressed)

    for found in (read_volume(tmp_path / "a.nrrd"), volume_of_sitk(sitk.ReadImage(str(tmp_path / "a.nrrd")))):
        np.testing.assert_array_equal(found.voxels, voxels)
        np.testing.assert_allclose(found.affine, affine, atol=1e-9)
        assert found.voxels.dtype == kind
