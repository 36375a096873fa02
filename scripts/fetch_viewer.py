"""Fetches the viewer OHIF by npm, unless it is there: ``python -m scripts.fetch_viewer``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def parser() -> argparse.ArgumentParser:
    """The command line."""
    return argparse.ArgumentParser(prog="python -m scripts.fetch_viewer", description=__doc__)


def main(argv: Sequence[str] | None = None) -> None:
    parser().parse_args(argv)

    from lib.errors import NotFetched
    from lib.serving.fetching import VERSION, fetch, is_there
    from lib.serving.viewer import FETCHED

    if is_there(FETCHED):
        return
    try:
        fetch(FETCHED)
    except (OSError, NotFetched) as error:
        sys.exit(
            f"The viewer OHIF {VERSION} could not be fetched: {error}\nThe server works without it: /ohif/ then shows "
            "the viewer inside monailabel, which cannot store corrections. The next start tries again."
        )
    print(f"The viewer is in {FETCHED}.")


if __name__ == "__main__":
    main()
