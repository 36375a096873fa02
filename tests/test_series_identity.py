"""What slices say of themselves must fit together: one patient, one study, one coordinate system, each slice once."""

from __future__ import annotations

import shutil

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless

from lib.errors import UnreadableImage
from lib.series import lacks_preamble, looks_like_dicom, read_headers, read_series
from tests.test_multi_frame import write as write_enhanced
from tests.test_series import by_itk, changed, write


def refused(paths, reason, reader=read_series):
    with pytest.raises(UnreadableImage, match=reason) as error:
        reader(paths)
    return str(error.value)


@pytest.mark.parametrize(
    ("attributes", "what"),
    [({"PatientID": "p2"}, r"patients \(PatientID\)"),
     ({"IssuerOfPatientID": "another hospital"}, r"patients \(PatientID\)"),
     ({"StudyInstanceUID": "1.2.3"}, r"studies \(StudyInstanceUID\)"),
     ({"FrameOfReferenceUID": "1.2.3"}, r"coordinate systems \(FrameOfReferenceUID\)")],
)  # fmt: skip
def test_slices_of_two_patients_studies_or_coordinate_systems_under_one_uid_are_refused(tmp_path, attributes, what):
    paths, _, _ = write(tmp_path)
    for path in paths[2:]:
        changed(path, **attributes)

    told = refused(paths, rf"holds slices of 2 {what}, for example slice_\d+\.dcm and slice_\d+\.dcm\. .*send each")

    assert "p2" not in told


@pytest.mark.parametrize("attribute", ["PatientID", "FrameOfReferenceUID"])
def test_a_slice_that_does_not_say_whose_it_is_contradicts_nobody(tmp_path, attribute):
    paths, voxels, _ = write(tmp_path)
    changed(paths[1], **{attribute: ""})

    np.testing.assert_array_equal(read_series(paths).voxels, voxels)


def test_enhanced_files_of_two_patients_are_refused(tmp_path):
    one, _, _ = write_enhanced(tmp_path)
    other = changed(shutil.copy(one, tmp_path / "other.dcm"), PatientID="p2", SOPInstanceUID="1.2.3")

    refused([one, other], r"holds slices of 2 patients")


def test_slices_with_one_uid_at_several_places_are_refused(tmp_path):
    paths, _, _ = write(tmp_path)
    for path in paths:
        changed(path, SOPInstanceUID="1.2.3")

    refused(paths, r"4 slices at several places have one SOPInstanceUID, such as .* Segmentations name slices by it")


def test_of_a_copied_slice_it_is_told_that_it_is_one(tmp_path):
    paths, _, _ = write(tmp_path)
    copy = shutil.copy(paths[1], tmp_path / "slice_002 (1).dcm")

    refused([*paths, copy], r"1 of its slices are there more than once, such as slice_002.* Leave one copy of each")


def test_slices_without_a_uid_are_told_apart_by_their_places(tmp_path):
    paths, voxels, _ = write(tmp_path)
    for path in paths:
        changed(path, SOPInstanceUID="")

    np.testing.assert_array_equal(read_series(paths).voxels, voxels)


# --- pixels that are something else than the header says -------------------------------------------------------------


@pytest.mark.parametrize("kind", ["one for each frame", "many", "of a told length"])
@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian])
def test_pixels_in_fragments_under_an_uncompressed_syntax_are_refused_at_listing(tmp_path, kind, syntax):
    paths, _, _ = write(tmp_path)
    one = pydicom.dcmread(paths[1])
    raw = encapsulate([one.PixelData])
    one.PixelData = raw
    one["PixelData"].VR = "OW"
    one["PixelData"].is_undefined_length = kind != "of a told length"
    if kind == "many":
        one.PixelData = encapsulate([one.PixelData[:32], one.PixelData[32:]])
    if syntax is not None:
        one.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(paths[1], one, implicit_vr=syntax is not None, little_endian=True, force_encoding=True)

    refused(paths, r"slice_002.dcm says that its pixels are not compressed .* but they lie in fragments", read_headers)


def test_plain_pixels_under_a_compressed_syntax_are_refused_at_listing(tmp_path):
    paths, _, _ = write(tmp_path)
    content = paths[1].read_bytes()
    plain, packed = b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"
    assert content.count(plain) == 1
    paths[1].write_bytes(content.replace(plain, packed))

    refused(paths, r"says that its pixels are compressed \(RLE Lossless\), but they do not begin", read_headers)


def test_pixels_that_only_begin_as_a_fragment_does_are_pixels(tmp_path):
    paths, _, _ = write(tmp_path)
    one = pydicom.dcmread(paths[0])
    changed(paths[0], PixelData=b"\xfe\xff\x00\xe0" + one.PixelData[4:])

    np.testing.assert_array_equal(read_series(paths).voxels, by_itk(paths).voxels)


@pytest.mark.parametrize("sign", [0, 1])
def test_bits_beside_the_value_are_left_out_of_compressed_slices_too(tmp_path, sign):
    """Overlays in the bits above the value: of the decoders only that of JPEG leaves them there."""
    paths, _, _ = write(tmp_path)
    for path in paths:
        one = pydicom.dcmread(path)
        overlays = np.repeat(np.array([0, 0x1000, 0x9000, 0x4000, 0xF000], np.uint16), 7)
        one.PixelRepresentation, one.PixelData = sign, (np.arange(35, dtype=np.uint16) * 117 | overlays).tobytes()
        one.compress(JPEGLSLossless, generate_instance_uid=False)
        one.BitsStored, one.HighBit = 12, 11
        one.save_as(path)

    np.testing.assert_array_equal(read_series(paths).voxels, by_itk(paths).voxels)


@pytest.mark.parametrize(
    "attribute", ["SamplesPerPixel", "PhotometricInterpretation", "PixelRepresentation", "BitsStored", "HighBit"]
)
@pytest.mark.parametrize("syntax", ["plain", "big endian", "RLE", "JPEG-LS"])
def test_what_a_grey_image_leaves_out_means_the_same_in_every_transfer_syntax(tmp_path, attribute, syntax):
    paths, voxels, _ = write(tmp_path)
    for path in paths:
        one = pydicom.dcmread(path)
        one.PixelRepresentation = 0
        if syntax in ("RLE", "JPEG-LS"):
            one.compress({"RLE": RLELossless, "JPEG-LS": JPEGLSLossless}[syntax], generate_instance_uid=False)
        delattr(one, attribute)
        if syntax == "big endian":
            one.PixelData = np.frombuffer(one.PixelData, "<u2").astype(">u2").tobytes()
            one.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
            pydicom.dcmwrite(path, one, implicit_vr=False, little_endian=False, force_encoding=True)
        else:
            one.save_as(path)

    np.testing.assert_array_equal(read_series(paths).voxels, voxels)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_of_pixels_that_cannot_be_decoded_the_file_and_the_syntax_are_told_in_our_words(tmp_path, syntax):
    paths, _, _ = write(tmp_path)
    one = pydicom.dcmread(paths[2])
    one.compress(syntax, generate_instance_uid=False)
    (frame,) = pydicom.encaps.generate_frames(one.PixelData, number_of_frames=1)
    one.PixelData = encapsulate([frame[: len(frame) * 2 // 3]])
    one.save_as(paths[2])

    told = refused(paths, rf"slice_003.dcm has pixels that cannot be decoded as {syntax.name}")

    assert "plugin" not in told and "Unable" not in told


# --- no preamble -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("first", [None, "SpecificCharacterSet", "ImageType"])
def test_dicom_without_a_preamble_is_known_by_its_first_attribute(tmp_path, implicit, little, first):
    (path, *_), _, _ = write(tmp_path)
    one = pydicom.dcmread(path)
    for attribute in () if first is None else ("SpecificCharacterSet", "ImageType"):
        if attribute == first:
            break
        delattr(one, attribute)
    del one.file_meta
    one.preamble = None
    if not little:
        del one.PixelData
    bare = tmp_path / "bare"
    pydicom.dcmwrite(bare, one, implicit_vr=implicit, little_endian=little, force_encoding=True)

    assert lacks_preamble(bare) and not looks_like_dicom(bare)


@pytest.mark.parametrize("content", [b"", b"Apache", b"{}", b"\x08\0", b"\x08\0\x05\0{}", b"\0" * 300, b"\x89PNG"])
def test_other_files_do_not_pass_for_dicom_without_a_preamble(tmp_path, content):
    (tmp_path / "other").write_bytes(content)

    assert not lacks_preamble(tmp_path / "other")
