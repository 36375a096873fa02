"""Measurements; nothing here passes or fails on a time."""
