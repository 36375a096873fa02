"""What is written as DICOM is checked here as strictly as pydicom can, which reading is not."""

from __future__ import annotations

import pydicom
import pytest


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets pydicom warn of each value that the standard does not allow; a warning is an error."""
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.WARN)
