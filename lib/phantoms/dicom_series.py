"""Writes a volume as a DICOM series, one file per slice or one of many frames, the way a scanner would send it."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)
from pydicom.valuerep import DSfloat

STORAGE = {"CT": CTImageStorage, "MR": MRImageStorage}
ENHANCED_STORAGE = {"CT": EnhancedCTImageStorage, "MR": EnhancedMRImageStorage}
CT_INTERCEPT_HU = -1024
LPS_FROM_RAS = np.array([-1.0, -1.0, 1.0])
IMPLEMENTATION_UID = generate_uid(entropy_srcs=["Label Refinery", "phantoms"])


def write_dicom_series(
    folder: Path,
    volume: NDArray[np.generic],
    affine: NDArray[np.float64],
    *,
    modality: Literal["CT", "MR"] = "CT",
    patient_id: str,
    seed: int,
) -> str:
    """Writes one file per slice along K; rows run along J, columns along I.

    The UIDs follow from modality, patient and seed alone, so that equal input gives equal bytes.

    Args:
        folder: made if missing; receives ``slice_001.dcm`` and so on.
        volume: (I, J, K) of whole numbers; HU for CT.
        affine: (4, 4) from voxel index to RAS mm. A left-handed one is written as it is, but readers stack
            slices along the normal of the image plane and so give it back with K reversed, at the same place.
        modality: CT stores HU + 1024 and says so by its intercept, MR stores the values themselves.
        patient_id: one for all series of a patient; the study belongs to patient and seed.
        seed: anything that tells this series from the patient's others.

    Returns:
        The SeriesInstanceUID.

    Raises:
        ValueError: if the axes are not at right angles, which DICOM images cannot say, or if a value
            is broken or does not fit into 16 bits.
    """
    shared = _series_attributes(modality, patient_id, seed)
    _set_plane(shared, affine)
    stored = _stored_values(volume, modality)
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(stored.shape[2]):
        one = _slice(shared, k, affine @ np.array([0.0, 0.0, k, 1.0]), stored[:, :, k])
        one.save_as(folder / f"slice_{k + 1:03d}.dcm", enforce_file_format=True)
    return str(shared.SeriesInstanceUID)


def write_enhanced_series(
    path: Path,
    volume: NDArray[np.generic],
    affine: NDArray[np.float64],
    *,
    modality: Literal["CT", "MR"] = "CT",
    patient_id: str,
    seed: int,
) -> str:
    """Writes all slices as the frames of one enhanced file, in the order of K; all else as ``write_dicom_series``.

    Place and stack are told frame by frame, direction, pixel size and rescale once for all.
    """
    shared = _series_attributes(modality, patient_id, seed)
    _set_plane(shared, affine)
    stored = _stored_values(volume, modality)
    shared.SharedFunctionalGroupsSequence = Sequence([_moved_to_groups(shared)])
    frames = [_frame_groups(k, affine @ np.array([0.0, 0.0, k, 1.0])) for k in range(stored.shape[2])]
    shared.PerFrameFunctionalGroupsSequence = Sequence(frames)
    shared.SOPClassUID, shared.NumberOfFrames = ENHANCED_STORAGE[modality], stored.shape[2]
    one = _instance(shared, 0, stored)
    path.parent.mkdir(parents=True, exist_ok=True)
    one.save_as(path, enforce_file_format=True)
    return str(shared.SeriesInstanceUID)


SHARED_GROUPS = {
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    "PixelValueTransformationSequence": ("RescaleIntercept", "RescaleSlope", "RescaleType"),
}


def _moved_to_groups(shared: Dataset) -> Dataset:
    """What an enhanced image says in functional groups, taken out of the header."""
    groups = Dataset()
    for sequence, keywords in SHARED_GROUPS.items():
        item = Dataset()
        for keyword in filter(shared.__contains__, keywords):
            setattr(item, keyword, shared[keyword].value)
            del shared[keyword]
        if len(item):
            setattr(groups, sequence, Sequence([item]))
    return groups


def _frame_groups(k: int, position_mm: NDArray[np.float64]) -> Dataset:
    groups, content, place = Dataset(), Dataset(), Dataset()
    content.StackID, content.InStackPositionNumber, content.DimensionIndexValues = "1", k + 1, [1, k + 1]
    place.ImagePositionPatient = [_decimal(value) for value in position_mm[:3] * LPS_FROM_RAS]
    groups.FrameContentSequence, groups.PlanePositionSequence = Sequence([content]), Sequence([place])
    return groups


def _stored_values(volume: NDArray[np.generic], modality: str) -> NDArray[np.int16]:
    wanted = volume.astype(np.float64) - (CT_INTERCEPT_HU if modality == "CT" else 0)
    bounds = np.iinfo(np.int16)
    if not np.array_equal(wanted, np.rint(wanted)) or wanted.min() < bounds.min or wanted.max() > bounds.max:
        raise ValueError(
            f"The {modality} volume holds values from {volume.min()} to {volume.max()}, stored as {wanted.min():g} to "
            f"{wanted.max():g}; DICOM stores whole numbers from {bounds.min} to {bounds.max}. Rescale it first."
        )
    return wanted.astype(np.int16)


def _series_attributes(modality: str, patient_id: str, seed: int) -> Dataset:
    """What all slices share, but for the geometry."""

    def uid(name: str, *more: str) -> str:
        return generate_uid(entropy_srcs=["Label Refinery phantom", patient_id, str(seed), name, *more])

    shared = Dataset()
    shared.SpecificCharacterSet = "ISO_IR 192"
    shared.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"] if modality == "CT" else ["ORIGINAL", "PRIMARY", "OTHER"]
    shared.SOPClassUID = STORAGE[modality]
    shared.StudyDate = shared.SeriesDate = shared.ContentDate = "20240101"
    shared.StudyTime = shared.SeriesTime = shared.ContentTime = "120000"
    shared.AccessionNumber = ""
    shared.Modality = modality
    shared.Manufacturer = "Label Refinery"
    shared.ReferringPhysicianName = ""
    shared.StudyDescription = "Phantom"
    shared.SeriesDescription = f"Phantom {modality}"
    shared.PatientName = f"Phantom^{patient_id}"
    shared.PatientID = patient_id
    shared.PatientBirthDate = ""
    shared.PatientSex = "O"
    shared.StudyInstanceUID = uid("study")
    shared.SeriesInstanceUID = uid("series", modality)
    shared.FrameOfReferenceUID = uid("frame of reference")
    shared.PositionReferenceIndicator = ""
    shared.PatientPosition = "HFS"
    shared.StudyID = str(seed)[:16]
    shared.SeriesNumber = 1
    shared.AcquisitionNumber = 1
    shared.Laterality = ""
    for name, value in _modality_attributes(modality).items():
        setattr(shared, name, value)
    return shared


def _modality_attributes(modality: str) -> dict[str, Any]:
    if modality == "CT":
        return {"KVP": 120, "RescaleIntercept": CT_INTERCEPT_HU, "RescaleSlope": 1, "RescaleType": "HU"}
    return {
        "ScanningSequence": "GR",
        "SequenceVariant": "SP",
        "ScanOptions": "",
        "MRAcquisitionType": "3D",
        "RepetitionTime": 8,
        "EchoTime": 3,
        "EchoTrainLength": 1,
    }


def _set_plane(shared: Dataset, affine: NDArray[np.float64]) -> None:
    """Orientation, spacing and thickness; DICOM names the distance between rows first."""
    edges_mm = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / edges_mm * LPS_FROM_RAS[:, None]
    skew = np.abs(directions.T @ directions - np.eye(3)).max()
    if skew > 1e-5:
        raise ValueError(
            f"The axes of the affine are not at right angles (largest cosine between two: {skew:.4f}). "
            "Resample the volume to a rectangular grid first."
        )
    shared.ImageOrientationPatient = [_decimal(value) for value in (*directions[:, 0], *directions[:, 1])]
    shared.PixelSpacing = [_decimal(edges_mm[1]), _decimal(edges_mm[0])]
    shared.SliceThickness = _decimal(edges_mm[2])
    shared.SpacingBetweenSlices = _decimal(edges_mm[2])


def _slice(shared: Dataset, k: int, position_mm: NDArray[np.float64], pixels: NDArray[np.int16]) -> FileDataset:
    one = _instance(shared, k, pixels)
    one.ImagePositionPatient = [_decimal(value) for value in position_mm[:3] * LPS_FROM_RAS]
    return one


def _instance(shared: Dataset, k: int, pixels: NDArray[np.int16]) -> FileDataset:
    """A file with pixels (I, J), or frames (I, J, K)."""
    one = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    one.update(shared)
    one.SOPInstanceUID = generate_uid(entropy_srcs=[str(shared.SeriesInstanceUID), "slice", str(k)])
    one.InstanceNumber = k + 1
    one.Columns, one.Rows = pixels.shape[:2]
    one.SamplesPerPixel = 1
    one.PhotometricInterpretation = "MONOCHROME2"
    one.BitsAllocated = one.BitsStored = 16
    one.HighBit = 15
    one.PixelRepresentation = 1
    one.PixelData = pixels.T.astype("<i2").tobytes()
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.file_meta.ImplementationClassUID = IMPLEMENTATION_UID
    one.file_meta.ImplementationVersionName = "LABEL_REFINERY"
    return one


def _decimal(value: float) -> DSfloat:
    """A number in the sixteen characters that DICOM allows for it."""
    return DSfloat(float(value) + 0.0, auto_format=True)
