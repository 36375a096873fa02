"""Makes a new key for the viewer's short-lived tokens, which ends all of them at once; a server that runs goes on.

Whoever has the viewer open opens it again at /open. With --remove or --remove-all tokens of people end as well.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(prog="python -m scripts.rotate_keys", description=__doc__)
    options.add_argument("--data", type=Path, help="data folder of the server [that of --app]")
    options.add_argument("--app", default="segmentation", help="name of the app [%(default)s]")
    whose = options.add_mutually_exclusive_group()
    whose.add_argument("--remove", nargs="+", default=[], metavar="NAME", help="take back the tokens of these people")
    whose.add_argument("--remove-all", action="store_true", help="take back the tokens of all people")
    return options


def main(argv: list[str] | None = None) -> None:
    """Rotates, and says who has to do what."""
    chosen = parser().parse_args(argv)

    from lib.errors import SetupError
    from lib.serving.settings import default_data
    from lib.serving.tickets import Tickets
    from lib.serving.tokens import TokenFile
    from lib.store import layout
    from lib.store.private import make_private

    data = (chosen.data or default_data(chosen.app)).expanduser().absolute()
    if not data.is_dir():
        sys.exit(f"There is no {data}. Name the folder that the server prints at its start as Data.")
    try:
        make_private(data)
        people = TokenFile(data / layout.TOKENS)
        names = [holder.name for holder in people.holders()] if chosen.remove_all else chosen.remove
        people.remove(*names)
        Tickets(data / layout.TICKET_KEY).rotate()
    except (SetupError, OSError) as error:
        sys.exit(str(error))
    print(f"New key in {data}. Viewers that are open have ended: open them again at /open.")
    if names:
        print(f"These tokens no longer work: {', '.join(names)}. scripts.tokens add gives new ones.")


if __name__ == "__main__":
    main()
