"""Scans drawn from code alone, with their true masks: sample data and test material without a download."""
