"""Writes a mammogram as a DICOM file, the way a mammography unit would send it."""

from pathlib import Path
from typing import Literal

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import DSfloat

from lib.phantoms.dicom_series import IMPLEMENTATION_UID
from lib.phantoms.scanner import Phantom

VIEW_CODES = {"CC": ("399162004", "cranio-caudal"), "MLO": ("399368009", "medio-lateral oblique")}
"""SNOMED CT, PS3.16 context group 4014."""

BITS = 12


def write_mammogram(
    folder: Path,
    phantom: Phantom,
    *,
    laterality: Literal["L", "R"],
    view: Literal["CC", "MLO"],
    patient_id: str,
    seed: int,
    photometric: Literal["MONOCHROME1", "MONOCHROME2"] = "MONOCHROME2",
) -> str:
    """Writes one view as ``L_CC.dcm`` or the like; views of one patient and seed make one series.

    The UIDs follow from patient, seed, side and view alone, so that equal input gives equal bytes.

    Args:
        folder: made if missing.
        phantom: image (I, J, 1) of whole numbers from 0 to 4095, columns along I.
        laterality: the side of the breast.
        view: its projection.
        patient_id: one for all views of a patient; the study belongs to patient and seed.
        seed: anything that tells this study from the patient's others.
        photometric: MONOCHROME1 stores 4095 minus the value, which a reader turns round again.

    Returns:
        The id of the image: SeriesInstanceUID, a stroke, and SOPInstanceUID.

    Raises:
        ValueError: if a value does not fit into 12 bits.
    """
    pixels = phantom.image[:, :, 0]
    if pixels.min() < 0 or pixels.max() >= 2**BITS:
        raise ValueError(
            f"The mammogram holds values from {pixels.min()} to {pixels.max()}; it is stored in {BITS} bits, from 0 to "
            f"{2**BITS - 1}. Rescale it first."
        )

    def uid(*names: str) -> str:
        return generate_uid(entropy_srcs=["Label Refinery mammogram", patient_id, str(seed), *names])

    one = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    one.SOPInstanceUID = uid("instance", laterality, view)
    one.StudyInstanceUID, one.SeriesInstanceUID = uid("study"), uid("series")
    _describe(one, patient_id, laterality, view)
    _set_pixels(one, phantom, photometric)
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.file_meta.ImplementationClassUID = IMPLEMENTATION_UID
    one.file_meta.ImplementationVersionName = "LABEL_REFINERY"
    folder.mkdir(parents=True, exist_ok=True)
    one.save_as(folder / f"{laterality}_{view}.dcm", enforce_file_format=True)
    return f"{one.SeriesInstanceUID}/{one.SOPInstanceUID}"


def _describe(one: Dataset, patient_id: str, laterality: str, view: str) -> None:
    """Everything but pixels and UIDs."""
    one.SpecificCharacterSet = "ISO_IR 192"
    one.ImageType = ["ORIGINAL", "PRIMARY", ""]
    one.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    one.StudyDate = one.SeriesDate = one.ContentDate = "20240101"
    one.StudyTime = one.SeriesTime = one.ContentTime = "120000"
    one.AccessionNumber = one.ReferringPhysicianName = one.StudyID = one.PatientBirthDate = ""
    one.Modality = "MG"
    one.PresentationIntentType = "FOR PRESENTATION"
    one.Manufacturer = "Label Refinery"
    one.StudyDescription = "Phantom"
    one.SeriesDescription = "Phantom MG"
    one.PatientName, one.PatientID, one.PatientSex = f"Phantom^{patient_id}", patient_id, "F"
    one.SeriesNumber = 1
    one.InstanceNumber = 1 + ["L_CC", "R_CC", "L_MLO", "R_MLO"].index(f"{laterality}_{view}")
    one.BodyPartExamined = "BREAST"
    one.ImageLaterality, one.ViewPosition = laterality, view
    # Along a row from the chest wall forwards or back to it; along a column to the feet, or seen from above inwards.
    forwards, inwards = ("A", "R") if laterality == "L" else ("P", "L")
    one.PatientOrientation = [forwards, "F" if view == "MLO" else inwards]
    code = Dataset()
    code.CodeValue, code.CodeMeaning = VIEW_CODES[view]
    code.CodingSchemeDesignator = "SCT"
    one.ViewCodeSequence = [code]


def _set_pixels(one: Dataset, phantom: Phantom, photometric: str) -> None:
    across, down = np.linalg.norm(phantom.affine[:3, :2], axis=0)
    one.ImagerPixelSpacing = [DSfloat(float(down), auto_format=True), DSfloat(float(across), auto_format=True)]
    stored = phantom.image[:, :, 0].astype("<u2")
    if photometric == "MONOCHROME1":
        stored = 2**BITS - 1 - stored
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, photometric
    one.Columns, one.Rows = stored.shape
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, BITS, BITS - 1, 0
    one.RescaleIntercept, one.RescaleSlope, one.RescaleType = 0, 1, "US"
    one.PresentationLUTShape = "INVERSE" if photometric == "MONOCHROME1" else "IDENTITY"
    one.PixelIntensityRelationship, one.PixelIntensityRelationshipSign = "LOG", -1
    one.BurnedInAnnotation, one.LossyImageCompression = "NO", "00"
    one.PixelData = stored.T.tobytes()
