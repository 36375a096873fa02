"""The repair for pydicom_seg is there as long as it is needed, and no longer."""

import subprocess
import sys

BARE = "import pydicom_seg"
REPAIRED = "from lib.serving.pydicom_seg_repair import repair; repair(); import pydicom_seg"


def imported(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_pydicom_seg_does_not_start_without_the_repair():
    # If this fails, pydicom_seg or monailabel has learned pydicom 3: delete pydicom_seg_repair.py and this file.
    assert "No module named 'pydicom._storage_sopclass_uids'" in imported(BARE).stderr


def test_pydicom_seg_starts_with_the_repair():
    assert imported(REPAIRED).returncode == 0
