"""Which images belong to one person: the split must never cut through a patient."""

from __future__ import annotations

import csv
import hashlib
import hmac
import re
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
            return match.group(1) if match.groups() else match.group()
        return PurePosixPath(image_id).parts[0]

    def of_series(self, patient_id: str) -> str:
        """Key for a DICOM series: a keyed hash of PatientID and its issuer, so that the record holds no identity."""
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
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        if not {"image", "patient"} <= set(rows.fieldnames or ()):
            raise InvalidSetting(f"{PATIENTS_FILE} needs the columns image and patient, found {rows.fieldnames}.")
        return {row["image"]: row["patient"] for row in rows}
