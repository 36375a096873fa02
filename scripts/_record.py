"""The options of commands that work on the record of a server."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lib.store.record import Record


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Options that say which record is meant."""
    options = argparse.ArgumentParser(prog=f"python -m scripts.{name}", description=description)
    options.add_argument("--data", type=Path, help="data folder of the server [that of --app]")
    options.add_argument("--app", default="segmentation", help="name of the app [%(default)s]")
    options.add_argument("--store", default="", help="address of the record, as in --conf store")
    options.add_argument("--task", default="", help="name of the task, if the record holds several")
    return options


def data_folder(chosen: argparse.Namespace) -> Path:
    """The data folder that is meant."""
    from lib.serving.settings import default_data

    return (chosen.data or default_data(chosen.app)).expanduser().absolute()


def opened(chosen: argparse.Namespace) -> Record:
    """The record that is meant; ends the command with a sentence if there is none."""
    from lib.errors import SetupError
    from lib.store.record import open_existing

    try:
        return open_existing(data_folder(chosen), chosen.store, chosen.task)
    except SetupError as error:
        raise SystemExit(str(error)) from error
