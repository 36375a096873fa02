"""Annotations as DICOM objects: segmentations are written and read, contours of radiotherapy are read."""
