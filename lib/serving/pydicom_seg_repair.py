"""Lets ``pydicom_seg`` 0.4, which monailabel imports, start with pydicom 3.

pydicom 3 no longer has the module ``_storage_sopclass_uids``; one name of it is all that is wanted.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

from pydicom.uid import SegmentationStorage

MISSING = "pydicom._storage_sopclass_uids"


def repair() -> None:
    """Puts the missing module in place unless pydicom has it."""
    if MISSING not in sys.modules and importlib.util.find_spec(MISSING) is None:
        module = ModuleType(MISSING)
        module.SegmentationStorage = SegmentationStorage  # type: ignore[attr-defined]
        sys.modules[MISSING] = module
