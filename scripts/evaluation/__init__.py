"""Compares a folder of predicted masks with a folder of true ones."""
