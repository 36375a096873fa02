"""Which images belong to one person: the split must never cut through a patient."""

from __future__ import annotations

import csv
import hashlib
import hmac
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from lib.errors import InvalidSetting

PATIENTS_FILE = "patients.csv"
"""Beside the images; columns ``image`` (path without extension) and ``patient``."""


@dataclass(frozen=True)
class PatientRule:
    """How a patient key is found.

    Attributes:
        named: patient by image id, from ``patients.csv``.
        pattern: a search in the image id; its first group, or the whole match, is the patient.
        secret: key of the hash that hides PatientID.
    """

    secret: bytes
    named: dict[str, str] = field(default_factory=dict)
    pattern: re.Pattern[str] | None = None

    def of_file(self, image_id: str) -> str:
        """Key for an image file: listed, matched, else the first-level folder, else the image itself."""
        if image_id in self.named:
            return self.named[image_id]
        if self.pattern is not None and (match := self.pattern.search(image_id)):
            found = match.group(1) if match.groups() else ""
            if found or match.group():
                return found or match.group()
        return PurePosixPath(image_id).parts[0]

    def of_series(self, patient_id: str) -> str:
        """Key for a DICOM series: a keyed hash of PatientID and its issuer, so that no key names anybody."""
        return hmac.new(self.secret, patient_id.encode(), hashlib.sha256).hexdigest()


def read_patient_rule(studies: Path | None, pattern: str, secret: bytes) -> PatientRule:
    """The rule for a folder of studies.

    Raises:
        InvalidSetting: if the pattern is no regular expression, or ``patients.csv`` lacks a column.
    """
    try:
        compiled = re.compile(pattern) if pattern else None
    except re.error as error:
        raise InvalidSetting(f"--conf patient {pattern!r} is no regular expression: {error}.") from error
    listed = studies / PATIENTS_FILE if studies else None
    named = _read_list(listed) if listed and listed.is_file() else {}
    return PatientRule(secret, named, compiled)


def _read_list(path: Path) -> dict[str, str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            columns = rows.fieldnames or []
            if not {"image", "patient"} <= set(columns):
                raise InvalidSetting(f"{PATIENTS_FILE} needs the columns image and patient, found {columns}.")
            pairs = [((row["image"] or "").strip(), (row["patient"] or "").strip()) for row in rows]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidSetting(f"{PATIENTS_FILE} is not UTF-8 text: {error}. Save it as UTF-8.") from error
    # A line without a patient says nothing: the image falls back to the other rules.
    return {unicodedata.normalize("NFC", image): patient for image, patient in pairs if image and patient}
