"""Who sends a request."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from functools import cache
from typing import Any

from lib.errors import InvalidRequest
from lib.serving.one_form import nfc
from lib.stages import Role
from lib.store.schema import LONGEST_NAME


@dataclass(frozen=True)
class Annotator:
    """A person at a client.

    Attributes:
        name: author of what this person stores.
        role: what this person may do.
        client: program that sends the request.
    """

    name: str
    role: Role
    client: str = ""


@cache
def system_user() -> str:
    """The account that the server runs under."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "local"


def annotator_of(client_id: Any, role: Role, user_agent: str) -> Annotator:
    """The local person: named by the ``client_id`` that MONAI Label's clients send, else the system user.

    Raises:
        InvalidRequest: if the name is no printable text, or too long.
    """
    if client_id is not None and not isinstance(client_id, str):
        raise InvalidRequest(f"client_id must be a name, found {client_id!r}.")
    name = nfc(client_id or "").strip() or system_user()
    if not name.isprintable():
        raise InvalidRequest(f"client_id must be a name of printable characters, found {name[:50]!r}.")
    if len(name) > LONGEST_NAME:
        raise InvalidRequest(f"client_id must be at most {LONGEST_NAME} characters, found {len(name)}.")
    return Annotator(name, role, user_agent[:LONGEST_NAME])
