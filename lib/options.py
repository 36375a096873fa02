"""The options of ``scripts/run``: nothing but Python is needed to list them, so that ``--help`` installs nothing."""

from __future__ import annotations

import argparse
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """The options of ``scripts/run``."""
    options = argparse.ArgumentParser(prog="./scripts/run", description="Starts the annotation server.")
    options.add_argument("--app", default="apps/segmentation", help="folder of the app [%(default)s]")
    options.add_argument(
        "--studies", help="folder of images, or root of a DICOMweb server; only read [sample-data/APP]"
    )
    options.add_argument("--data", type=Path, help="folder for everything that is written")
    options.add_argument("--host", default="127.0.0.1", help="address to listen on")
    options.add_argument("--port", type=int, default=8000, help="port to listen on")
    options.add_argument("--conf", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"), help="a setting")
    # Read by the shell script, before the server can run.
    options.add_argument("--no-viewer", action="store_true", help="do not fetch the viewer OHIF 3.12 (49 MB, by npm)")
    return options


if __name__ == "__main__":
    parser().print_help()
