"""Commands: one thin file per job, run as ``python -m scripts.<name>``."""
