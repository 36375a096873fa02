"""Gives people tokens, lists them and takes them back: ``python -m scripts.tokens add kim --role expert``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROLES = ("viewer", "annotator", "expert", "admin")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(prog="python -m scripts.tokens", description=__doc__, parents=[_place()])
    options.set_defaults(data=None, app="segmentation")
    commands = options.add_subparsers(dest="command", required=True)
    add = commands.add_parser("add", help="give a person a token; it is shown once", parents=[_place()])
    add.add_argument("name", help="author of what this person stores")
    add.add_argument("--role", choices=ROLES, default="annotator", help="what this person may do [%(default)s]")
    commands.add_parser("list", help="who has a token", parents=[_place()])
    remove = commands.add_parser("remove", help="take a token back", parents=[_place()])
    remove.add_argument("name", help="whose")
    return options


def _place() -> argparse.ArgumentParser:
    """Options that stand before a command or after it; without a default, which would undo what was said before."""
    place = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    place.add_argument("--data", type=Path, help="data folder of the server [that of --app]")
    place.add_argument("--app", help="name of the app [segmentation]")
    return place


def main(argv: list[str] | None = None) -> None:
    """Does one command on the token file."""
    chosen = parser().parse_args(argv)

    from lib.errors import SetupError
    from lib.serving.settings import default_data
    from lib.serving.tokens import TokenFile
    from lib.stages import Role
    from lib.store import layout
    from lib.store.private import make_private

    data = (chosen.data or default_data(chosen.app)).expanduser().absolute()
    file = TokenFile(data / layout.TOKENS)
    try:
        make_private(data)
        if chosen.command == "add":
            token = file.add(chosen.name, Role(chosen.role))
            print(f"{chosen.name} is {chosen.role} of the server with the data folder {data}. The token, shown once:")
            print(token)
        elif chosen.command == "remove":
            file.remove(chosen.name)
            print(f"The token of {chosen.name} no longer works.")
        else:
            for holder in file.holders():
                print(f"{holder.name}\t{holder.role}\tsince {holder.created}")
    except (SetupError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
