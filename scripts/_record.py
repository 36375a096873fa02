"""The options of commands that work on the record of a server."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lib.serving.library import Library
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
    from lib.errors import LabelRefineryError
    from lib.store.record import open_existing

    try:
        return open_existing(data_folder(chosen), chosen.store, chosen.task)
    except (LabelRefineryError, OSError) as error:
        raise SystemExit(str(error)) from error


ROOT = Path(__file__).resolve().parents[1]


def app_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Options of the server that say which images and which record are meant."""
    options = argparse.ArgumentParser(
        prog=f"python -m scripts.{name}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--app", default="apps/segmentation", help="folder of the app [%(default)s]")
    options.add_argument("--studies", help="folder of images; only read [sample-data/APP]")
    options.add_argument("--data", type=Path, help="data folder of the server [that of --app]")
    options.add_argument(
        "--conf", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"), help="a setting of the server"
    )
    return options


def opened_app(chosen: argparse.Namespace) -> Library:
    """All images of an app with their record, as its server has them; ends the command with a sentence if it cannot."""
    from tqdm import tqdm

    from lib.errors import LabelRefineryError
    from lib.serving.opening import open_app

    app_dir = Path(chosen.app) if Path(chosen.app).is_dir() else ROOT / chosen.app
    conf = {**dict(chosen.conf), **({"data": str(chosen.data)} if chosen.data else {})}
    with tqdm(desc="Reading headers of new images", unit=" files", disable=None, leave=False) as bar:
        try:
            studies = chosen.studies or str(ROOT / "sample-data" / app_dir.name)
            return open_app(app_dir.resolve(), studies, conf, on_bar(bar))
        except (LabelRefineryError, OSError) as error:
            raise SystemExit(str(error)) from error


def on_bar(bar: Any) -> Callable[[int, int], None]:
    """Shows on a progress bar how many of how many are done."""

    def report(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return report
