"""The edge: HTTP, MONAI Label's interfaces, and the processes that compute."""

from lib.serving.pydicom_seg_repair import repair

# Before any module below imports monailabel.
repair()
