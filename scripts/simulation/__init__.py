"""A robot that annotates like a person at 3D Slicer, and measures what the model learns from it."""
