"""Folders of DICOM files as series, and a series as a volume; a radiograph is a volume of one slice."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import MediaStorageDirectoryStorage

from lib.dataset import read_dataset, reason_of
from lib.errors import NoImage, UnreadableImage
from lib.geometry import LPS_FROM_RAS, plausible_affine
from lib.multi_frame import PER_FRAME, is_enhanced, single_headers
from lib.opened import OpenFile, Source, opened
from lib.room import refuse_too_large, room_for
from lib.stored_pixels import refuse_lacking_pixels, stored_frames, stored_type
from lib.uids import USABLE_UID
from lib.volume import Array, Grid, Volume

# Others' files are read as they are: pydicom would tell of each odd value, thousands of times and not in which file.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

DICOM_SUFFIXES = ("", ".dcm", ".dicom", ".ima")
"""File names that may be DICOM; the content decides."""

FIRST_GROUPS, FIRST_ELEMENTS, FIRST_VRS = (2, 8), (0x0, 0x1, 0x5, 0x6, 0x8, 0x12, 0x16), (b"UL", b"CS", b"UI", b"DA")
"""With what a data set begins: its length, its character set, the type of the image or its class."""

NO_PREAMBLE = (
    "is DICOM without its preamble (128 bytes and the letters DICM), which says how the rest is encoded. Write it anew "
    "by dcmconv of DCMTK, for example."
)
"""What to say of such a file."""

LONGEST_MODALITY = 16
"""Letters of a code string (PS3.5 section 6.2)."""

SPACING_TOLERANCE = 0.02
"""How much the distance of two neighbouring slices may differ from the others, as a share."""

COSINE_TOLERANCE = 0.02
"""How far the directions of rows and columns may be from unit vectors at right angles; some programs round them."""

EDGE_TOLERANCE_MM = 1e-3
"""How much the pixel edges of two slices of one series may differ, in length or direction."""

SAME_PLACE_MM = 1e-3
"""Slices that lie nearer to each other are at one place."""

SIDEWAYS_TOLERANCE_MM = 0.1
"""How far a slice may lie beside the line through the first and the last one."""

NO_IMAGES = {
    "SEG": "a segmentation", "RTSTRUCT": "a set of contours", "RTDOSE": "a dose", "RTPLAN": "a treatment plan",
    "RTRECORD": "a treatment record", "SR": "a report", "PR": "a presentation state",
    "KO": "a selection of key images", "REG": "a registration", "FID": "a set of landmarks", "DOC": "a document",
    "PLAN": "a plan", "M3D": "a surface", "AU": "a sound", "ECG": "a curve",
    "HD": "a curve", "RWV": "a table of real-world values",
}  # fmt: skip
"""DICOM objects that are no images, by Modality (PS3.3 section C.7.3.1.1.1)."""


PROJECTIONS = ("CR", "DX", "MG", "RG")
"""Modalities whose images are radiographs: each stands by itself and has no place in the patient."""

GREY = ("MONOCHROME1", "MONOCHROME2")
"""PhotometricInterpretation of grey images; the lowest value is white in the first and black in the second."""


@dataclass(frozen=True)
class SliceHeader:
    """What a DICOM file says about the place of one slice; an enhanced file holds many.

    A radiograph has none: its columns run to the left and its rows to the back of the patient, from the origin on.

    Attributes:
        path: the file; only its name, if it came open.
        class_uid: SOPClassUID (0008,0016).
        instance_uid: SOPInstanceUID (0008,0018).
        series_uid: SeriesInstanceUID (0020,000E).
        study_uid: StudyInstanceUID (0020,000D).
        patient: PatientID with its issuer (0010,0020), (0010,0021).
        modality: Modality (0008,0060).
        shape: Columns, Rows.
        columns_mm: from one column to the next, in LPS mm.
        rows_mm: from one row to the next, in LPS mm.
        origin_mm: the first voxel, in LPS mm.
        thickness_mm: SliceThickness, 1 if unknown.
        rescale: slope and intercept, from stored values to those of the volume.
        stack: StackID of a frame.
        frame: number of the frame in an enhanced file, from 1; ``None``: the file is the slice.
        is_measured: whether the file tells the size of its pixels, which a radiograph may leave out.
        kind: numpy's name of the type of its values after the rescale; that of a radiograph may become float32.
        number: of its file among those that were read together, from 0.
        frame_of_reference_uid: FrameOfReferenceUID (0020,0052); empty if the file names none.
        series_number: SeriesNumber (0020,0011); empty if the file names none.
    """

    path: Path
    class_uid: str
    instance_uid: str
    series_uid: str
    study_uid: str
    patient: str
    modality: str
    shape: tuple[int, int]
    columns_mm: tuple[float, ...]
    rows_mm: tuple[float, ...]
    origin_mm: tuple[float, ...]
    thickness_mm: float
    rescale: tuple[float, float] = (1.0, 0.0)
    stack: str = ""
    frame: int | None = None
    is_measured: bool = True
    kind: str = "int16"
    number: int = 0
    frame_of_reference_uid: str = ""
    series_number: str = ""

    @property
    def is_projection(self) -> bool:
        """Whether it is a radiograph."""
        return self.modality in PROJECTIONS

    @property
    def image_id(self) -> str:
        """What the file is a part of: its series; of a radiograph series each file is an image of its own.

        It does not depend on the other files of the series, so that a view that arrives later renames none.
        """
        return f"{self.series_uid}/{self.instance_uid}" if self.is_projection else self.series_uid

    @property
    def stack_key(self) -> str:
        """What all slices of one stack say alike, whatever the UID of their series."""
        edges_mm = np.round([*self.columns_mm, *self.rows_mm], 2) + 0.0
        told = (self.study_uid, self.series_number, self.modality, self.frame_of_reference_uid, self.shape)
        return repr((*told, *edges_mm.tolist()))

    @property
    def normal(self) -> Array:
        """Unit vector at right angles to the plane of the slice, in LPS."""
        across = np.cross(self.columns_mm, self.rows_mm)
        return np.asarray(across / np.linalg.norm(across))

    @property
    def position_mm(self) -> float:
        """Distance of the slice along the normal of its plane."""
        return float(np.asarray(self.origin_mm) @ self.normal)


def looks_like_dicom(source: Source) -> bool:
    """Whether the file has DICOM's preamble (PS3.10 section 7.1)."""
    with opened(source) as file:
        return file.first(132)[128:] == b"DICM"


def lacks_preamble(source: Source) -> bool:
    """Whether the file is DICOM that begins with its first attribute, as old programs wrote it.

    Without what stands in front nothing says for certain how it is encoded, and most programs do not open it.
    """
    with opened(source) as file:
        first = file.first(8)
    return any(
        int.from_bytes(first[:2], order) in FIRST_GROUPS
        and int.from_bytes(first[2:4], order) in FIRST_ELEMENTS
        and (first[4:6] in FIRST_VRS or int.from_bytes(first[4:8], order) in range(2, 1 << 10, 2))
        for order in ("little", "big")
    )


def read_header(source: Source) -> SliceHeader:
    """Reads the header of one image file; of an enhanced one, what it says of its first frame.

    Raises:
        NoImage: if it is another DICOM object, such as a report.
        UnreadableImage: if it is no grey DICOM image, or has frames that do not say where they lie.
    """
    return _headers(source, only_first=True)[0]


def read_headers(sources: Sequence[Source]) -> list[SliceHeader]:
    """The headers of all slices in these files.

    Raises:
        NoImage, UnreadableImage: as ``read_header``, and if a file's pixels are not all there or cannot be decoded, as
            far as that shows before they are.
    """
    return [
        replace(header, number=number) if number else header
        for number, source in enumerate(sources)
        for header in _headers(source)
    ]


def _headers(source: Source, *, only_first: bool = False) -> list[SliceHeader]:
    try:
        with opened(source) as file:
            header = read_dataset(file, with_pixels=False)
            path = Path(source.name) if isinstance(source, OpenFile) else source
            found = headers_of(header, path, only_first=only_first)
            # A slice that lacks pixels still belongs to its series, which would otherwise pass for a shorter one.
            if not only_first:
                refuse_lacking_pixels(file.file, header, file.name)
        return found
    except (UnreadableImage, MemoryError):
        raise
    # The reader raises whatever a damaged header makes it stumble over.
    except Exception as error:
        raise UnreadableImage(f"{source.name} is no readable DICOM file: {reason_of(error)}.") from error


def headers_of(header: Any, path: Path, *, only_first: bool = False) -> list[SliceHeader]:
    """The headers of all slices in a file that is already read but for its pixels; raises as ``read_header``.

    Of what is missing or malformed beside that, it raises whatever the reader of the attribute does.
    """
    _refuse_no_image(header, path.name)
    if not is_enhanced(header):
        return [_slice_header(header, path)]
    frames = [1] if only_first else range(1, len(header[PER_FRAME].value) + 1)
    return [_slice_header(one, path, k) for k, one in zip(frames, single_headers(header, frames), strict=True)]


def _refuse_no_image(header: Any, name: str) -> None:
    modality = str(header.get("Modality", ""))
    if modality in NO_IMAGES:
        raise NoImage(f"{name} is no image but {NO_IMAGES[modality]} (DICOM {modality}).")
    if header.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        raise NoImage(f"{name} is no image but the list of files on a disc (DICOMDIR).")
    wanted = ("SeriesInstanceUID", "StudyInstanceUID", "Rows", "Columns")
    missing = [attribute for attribute in wanted if header.get(attribute) in (None, "")]
    if missing:
        raise UnreadableImage(f"{name} is no DICOM image: {', '.join(missing)} missing.")
    if not (int(header.Rows) and int(header.Columns)):
        raise UnreadableImage(f"{name} has {header.Columns}x{header.Rows} pixels, which is none. Export it again.")
    _refuse_unusable_uids(header, name)
    if int(header.get("SamplesPerPixel") or 1) != 1 or header.get("PhotometricInterpretation", GREY[1]) not in GREY:
        raise UnreadableImage(
            f"{name} is a colour image ({header.get('SamplesPerPixel') or 1} samples a pixel, "
            f"{header.get('PhotometricInterpretation')}); wanted is one grey value a pixel."
        )
    _refuse_frames(header, name)


def _refuse_frames(header: Any, name: str) -> None:
    """Refuses several frames in a file unless each says where it lies; views of a breast at several angles do not."""
    frames = int(header.get("NumberOfFrames") or 1)
    if is_enhanced(header) and header.get("Modality") not in PROJECTIONS:
        groups = len(header[PER_FRAME].value)
        if frames != groups:
            raise UnreadableImage(f"{name} says that it has {frames} frames and describes {groups}. Send it again.")
    elif frames != 1 or is_enhanced(header):
        raise UnreadableImage(
            f"{name} holds {frames} frames in one file; wanted is one slice a file or an enhanced image that says "
            "where each frame lies, no tomosynthesis. Convert it to single frames."
        )


def _refuse_unusable_uids(header: Any, name: str) -> None:
    """Refuses UIDs that could not name the image, its study, its files and their addresses."""
    used = ["SeriesInstanceUID", "StudyInstanceUID"]
    # Files of a series that lack one are told by their order, each radiograph by this one.
    if header.get("Modality") in PROJECTIONS or header.get("SOPInstanceUID"):
        used.append("SOPInstanceUID")
    for attribute in used:
        uid = str(header.get(attribute, ""))
        if not USABLE_UID.fullmatch(uid):
            raise UnreadableImage(f"{name} has no usable {attribute}, found {uid[:80]!r}.")


def _slice_header(header: Any, path: Path, frame: int | None = None) -> SliceHeader:
    modality = str(header.get("Modality") or "")[:LONGEST_MODALITY]
    name = path.name if frame is None else f"Frame {frame} of {path.name}"
    direction, origin_mm, (rows_mm, columns_mm) = _place(header, modality in PROJECTIONS, name)
    thickness_mm = float(header.get("SliceThickness") or 1)
    edges_mm = np.array([np.multiply(direction[:3], columns_mm), np.multiply(direction[3:], rows_mm)])
    if not (min(rows_mm, columns_mm, thickness_mm) > 0 and _is_rectangular(direction)):
        raise UnreadableImage(
            f"{name} has no usable pixel size or orientation in its header: wanted are edges above 0 mm, and unit "
            f"vectors at right angles, found {[rows_mm, columns_mm, thickness_mm]} mm along {direction}."
        )
    lps = np.eye(4)
    lps[:3, :2], lps[:3, 2], lps[:3, 3] = edges_mm.T, np.cross(direction[:3], direction[3:]), origin_mm
    plausible_affine(lps, name)
    slope, intercept = float(header.get("RescaleSlope") or 1), float(header.get("RescaleIntercept") or 0)
    if not np.isfinite([slope, intercept]).all():
        raise UnreadableImage(f"{name} has the rescale {slope} and {intercept}; wanted are numbers. Send it again.")
    issuer = str(header.get("IssuerOfPatientID") or "")
    patient = f"{header.PatientID}@{issuer}" if header.get("PatientID") else str(header.StudyInstanceUID)
    return SliceHeader(
        path=path,
        class_uid=str(header.get("SOPClassUID", "")),
        instance_uid=str(header.get("SOPInstanceUID", "")),
        series_uid=str(header.SeriesInstanceUID),
        study_uid=str(header.StudyInstanceUID),
        patient=patient,
        modality=modality,
        shape=(int(header.Columns), int(header.Rows)),
        columns_mm=tuple(edges_mm[0].tolist()),
        rows_mm=tuple(edges_mm[1].tolist()),
        origin_mm=tuple(origin_mm),
        thickness_mm=thickness_mm,
        rescale=(slope, intercept),
        stack=str(header.get("StackID") or ""),
        frame=frame,
        is_measured=bool(header.get("PixelSpacing") or header.get("ImagerPixelSpacing")),
        kind=_rescaled_type(header, slope, intercept),
        frame_of_reference_uid=str(header.get("FrameOfReferenceUID") or ""),
        series_number=str(header.get("SeriesNumber") or ""),
    )


def _is_rectangular(direction: Sequence[float]) -> bool:
    along_row, along_column = np.reshape(direction, (2, 3))
    cosines = np.array([along_row @ along_row - 1, along_column @ along_column - 1, along_row @ along_column])
    return bool(np.abs(cosines).max() <= 2 * COSINE_TOLERANCE)


def _rescaled_type(header: Any, slope: float, intercept: float) -> str:
    """The smallest type that holds all values of a slice without loss; whole numbers stay whole, as in GDCM."""
    stored = stored_type(header)
    if (slope, intercept) == (1, 0):
        return str(stored)
    bits = min(int(header.get("BitsStored") or 64), 8 * stored.itemsize)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if stored.kind == "i" else (0, 2**bits - 1)
    ends = sorted(end * slope + intercept for end in (low, high))
    if slope.is_integer() and intercept.is_integer():
        for kind in (np.uint8, np.uint16, np.uint32) if ends[0] >= 0 else (np.int8, np.int16, np.int32):
            if np.iinfo(kind).min <= ends[0] and ends[1] <= np.iinfo(kind).max:
                return str(np.dtype(kind))
    return "float64"


def _place(header: Any, is_projection: bool, name: str) -> tuple[list[float], list[float], list[float]]:
    """Direction cosines of rows and columns, the first voxel in LPS mm, and the distances of rows and of columns."""
    wanted: dict[str, tuple[float, ...]] = {
        "ImageOrientationPatient": (1, 0, 0, 0, 1, 0), "ImagePositionPatient": (0, 0, 0), "PixelSpacing": (1, 1),
    }  # fmt: skip
    missing = [attribute for attribute in wanted if header.get(attribute) in (None, "", [])]
    if missing and not is_projection:
        raise UnreadableImage(
            f"{name} does not say where its slice lies: {', '.join(missing)} missing (modality "
            f"{header.get('Modality') or 'unknown'}). Send the slices as the scanner wrote them."
        )
    numbers = [_numbers(header, attribute, otherwise, name) for attribute, otherwise in wanted.items()]
    if "PixelSpacing" in missing:
        numbers[2] = _numbers(header, "ImagerPixelSpacing", (1, 1), name)
    return numbers[0], numbers[1], numbers[2]


def _numbers(header: Any, attribute: str, otherwise: Sequence[float], name: str) -> list[float]:
    """The numbers of an attribute; others if it is missing or empty, as in radiographs."""
    values = [float(value) for value in header.get(attribute) or otherwise]
    if len(values) != len(otherwise) or not np.isfinite(values).all():
        raise UnreadableImage(f"{name}: {attribute} is {values}, wanted are {len(otherwise)} numbers.")
    return values


def ordered(slices: Sequence[SliceHeader]) -> list[SliceHeader]:
    """The slices of one series by their place, evenly spaced.

    Raises:
        UnreadableImage: if they differ in size or direction, two lie at one place, one is missing, they are several
            stacks or several radiographs, or do not belong together by what they say of themselves.
    """
    if len(slices) > 1 and slices[0].is_projection:
        raise UnreadableImage(
            f"Series {slices[0].series_uid} holds {len(slices)} radiographs ({slices[0].modality}), each an image of "
            "its own. Send one at a time."
        )
    in_place = sorted(slices, key=lambda header: header.position_mm)
    uid = in_place[0].series_uid
    _refuse_strangers(in_place)
    _refuse_several_stacks(in_place)
    _refuse_other_planes(in_place)
    _refuse_copies(in_place)
    gaps = np.diff([header.position_mm for header in in_place])
    if len(gaps) and gaps.min() < SAME_PLACE_MM:
        number = int(np.argmin(gaps)) + 1
        raise UnreadableImage(
            f"Series {uid}: slices {number} and {number + 1} lie at the same place. Send one stack: one echo, time "
            "point or direction."
        )
    if len(gaps) > 1 and np.abs(gaps - np.median(gaps)).max() > SPACING_TOLERANCE * np.median(gaps):
        number = int(np.argmax(np.abs(gaps - np.median(gaps)))) + 1
        raise UnreadableImage(
            f"Series {uid}: slices {number} and {number + 1} are {gaps[number - 1]:.1f} mm apart, the others "
            f"{np.median(gaps):.1f} mm. A slice is probably missing; send the series again."
        )
    _refuse_sideways(in_place)
    return in_place


def _refuse_strangers(slices: Sequence[SliceHeader]) -> None:
    """Refuses slices of several patients, studies or coordinate systems that are said to be one series.

    Who tells nothing of a patient or a frame of reference contradicts nobody.
    """
    kinds: dict[str, Callable[[SliceHeader], str]] = {
        "patients (PatientID)": lambda one: "" if one.patient == one.study_uid else one.patient,
        "studies (StudyInstanceUID)": lambda one: one.study_uid,
        "coordinate systems (FrameOfReferenceUID)": lambda one: one.frame_of_reference_uid,
    }
    for what, told in kinds.items():
        # An identifier of a patient is not repeated: reasons are logged.
        examples = {told(one): one for one in slices if told(one)}
        if len(examples) > 1:
            raise UnreadableImage(
                f"Series {slices[0].series_uid} holds slices of {len(examples)} {what}, for example "
                f"{_files(list(examples.values())[:2])}. Images that do not belong together have been given one "
                "SeriesInstanceUID: send each under its own."
            )


def _refuse_copies(slices: Sequence[SliceHeader]) -> None:
    """Refuses slices with one UID: whoever names one of them, as segmentations do, would name the other too."""
    same: dict[tuple[str, int | None], list[SliceHeader]] = {}
    for one in slices:
        if one.instance_uid:
            same.setdefault((one.instance_uid, one.frame), []).append(one)
    several = [found for found in same.values() if len(found) > 1]
    if not several:
        return
    name, most = f"Series {slices[0].series_uid}", max(several, key=len)
    places_mm = [one.position_mm for one in most]
    if max(places_mm) - min(places_mm) < SAME_PLACE_MM:
        raise UnreadableImage(
            f"{name}: {len(several)} of its slices are there more than once, such as {_files(most[:2])}, which have "
            "one SOPInstanceUID and one place. Leave one copy of each."
        )
    raise UnreadableImage(
        f"{name}: {len(most)} slices at several places have one SOPInstanceUID, such as {_files(most[:2])}. "
        "Segmentations name slices by it: give each its own."
    )


def _files(slices: Sequence[SliceHeader]) -> str:
    """The names of their files, with folders where they have one name."""
    names = [one.path.name for one in slices]
    if len(set(names)) < len(names):
        names = ["/".join(one.path.parts[-2:]) for one in slices]
    return " and ".join(names)


def _refuse_several_stacks(slices: Sequence[SliceHeader]) -> None:
    stacks = sorted({header.stack for header in slices})
    if len(stacks) > 1:
        raise UnreadableImage(
            f"Series {slices[0].series_uid} holds {len(stacks)} stacks of frames (StackID {', '.join(stacks)}). "
            "Send each stack as a series of its own."
        )


def _refuse_other_planes(slices: Sequence[SliceHeader]) -> None:
    uid = slices[0].series_uid
    shapes = {header.shape for header in slices}
    if len(shapes) > 1:
        raise UnreadableImage(f"Series {uid} mixes slices of {sorted(shapes)} pixels. Send one series at a time.")
    edges_mm = np.array([(header.columns_mm, header.rows_mm) for header in slices])
    if np.abs(edges_mm - edges_mm[0]).max() > EDGE_TOLERANCE_MM:
        raise UnreadableImage(
            f"Series {uid} mixes slices of several directions or pixel sizes, like a localizer. "
            "Send one stack of parallel slices."
        )


def _refuse_sideways(slices: Sequence[SliceHeader]) -> None:
    """Slices may drift sideways evenly, as a tilted gantry makes them, but must lie on one line."""
    origins = np.array([header.origin_mm for header in slices])
    line = np.linspace(origins[0], origins[-1], len(slices))
    off_line, normal = origins - line, slices[0].normal
    off_mm = np.linalg.norm(off_line - np.outer(off_line @ normal, normal), axis=1)
    if off_mm.max() > SIDEWAYS_TOLERANCE_MM:
        number = int(np.argmax(off_mm)) + 1
        raise UnreadableImage(
            f"Series {slices[0].series_uid}: slice {number} lies {off_mm.max():.1f} mm off the line of the others. "
            "Send one stack of slices at a time."
        )


def read_series(sources: Sequence[Source]) -> Volume:
    """Reads the files of one series, in the order of their places.

    Returns:
        Voxels in stored units after the rescale (HU for CT), on the lattice that ``series_grid`` tells. The slices of
        a tilted gantry keep their drift: the affine is sheared then. A radiograph has the values that a viewer shows
        at first: see ``as_shown``.

    Raises:
        UnreadableImage: if the slices do not make one volume, or one that is too large for this machine.
    """
    slices = ordered(read_headers(sources))
    grid = series_grid(slices)
    try:
        voxels = _voxels(slices, sources)
    # Too little memory is no fault of the files.
    except (UnreadableImage, MemoryError):
        raise
    # The decoders raise whatever damaged pixels or tables make them stumble over.
    except Exception as error:
        raise UnreadableImage(f"Series {slices[0].series_uid} cannot be read: {reason_of(error)}.") from error
    return Volume(voxels, grid.affine, slices[0].is_measured)


def _voxels(slices: Sequence[SliceHeader], sources: Sequence[Source]) -> Array:
    if slices[0].is_projection:
        return _radiograph(sources[slices[0].number])
    in_file: dict[int, list[int]] = {}
    for k, header in enumerate(slices):
        in_file.setdefault(header.number, []).append(k)
    room = room_for(math.prod(slices[0].shape) * len(slices), _common_type(slices))
    for number, places in in_file.items():
        with opened(sources[number]) as file:
            _, frames = stored_frames(file, [slices[k].frame or 1 for k in places])
            for k, pixels in zip(places, frames, strict=True):
                slope, intercept = slices[k].rescale
                scaled = pixels if (slope, intercept) == (1, 0) else pixels * slope + intercept
                room.put(k * pixels.size, scaled.ravel())
    return room.whole().reshape((*slices[0].shape, len(slices)), order="F")


def _common_type(slices: Sequence[SliceHeader]) -> np.dtype[Any]:
    """A type that holds the values of all slices."""
    return np.result_type(*{header.kind for header in slices})


def _radiograph(source: Source) -> Array:
    with opened(source) as file:
        header, frames = stored_frames(file, [1])
        (pixels,) = frames
    return as_shown(pixels.T[:, :, None], header)


def as_shown(pixels: Array, header: Any) -> Array:
    """The grey values of a radiograph as its maker wants them shown.

    Vendors and film scanners store other curves; the tables that come with an image make them alike. They are applied
    in the order of PS3.4 annex N: rescale or modality table, then the first VOI table or else the first window, then
    the inversion of MONOCHROME1, about the middle between the lowest and the highest value that occur.

    Args:
        pixels: stored values, of any shape.
        header: the dataset, its pixels are not needed.

    Returns:
        The same shape, as it came if there is nothing to apply, else float32; bright is dense in a mammogram.
    """
    rescale = header.get("RescaleSlope", 1), header.get("RescaleIntercept", 0)
    shown = pixels
    if header.get("ModalityLUTSequence") or rescale != (1, 0):
        shown = apply_modality_lut(shown, header)
    shown = apply_voi_lut(shown, header)
    if header.get("PhotometricInterpretation") == "MONOCHROME1":
        shown = float(shown.min()) + float(shown.max()) - shown
    return shown if shown is pixels else shown.astype(np.float32)


def series_grid(slices: Sequence[SliceHeader]) -> Grid:
    """The lattice of a series, read from its headers.

    Raises:
        UnreadableImage: as ``ordered``, and if it would take more memory than this machine has for one image.
    """
    in_place = ordered(slices)
    name = f"Series {in_place[0].series_uid}"
    refuse_too_large((*in_place[0].shape, len(in_place)), _common_type(in_place).itemsize, name)
    first, last = in_place[0], in_place[-1]
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1], lps[:3, 3] = first.columns_mm, first.rows_mm, first.origin_mm
    if len(in_place) > 1:
        lps[:3, 2] = (np.array(last.origin_mm) - first.origin_mm) / (len(in_place) - 1)
    else:
        lps[:3, 2] = first.normal * first.thickness_mm
    width, height = first.shape
    return Grid((width, height, len(in_place)), plausible_affine(LPS_FROM_RAS @ lps, name))
